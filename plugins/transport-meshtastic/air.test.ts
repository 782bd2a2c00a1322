/** The transport between radios that a test plays: what it takes, what it drops and counts, and where it must be silent. */
import { afterEach, describe, expect, test } from "bun:test";
import type { Medium, Urgency } from "@godwit/sdk";
import { FakeServices, ManualClock, Observer, seededRandom, TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { BROADCAST, FakeAir, FakeDoor } from "./testing.ts";
import { encodePacket } from "./wire.ts";

const [NEAR, FAR] = [0x0a1b2c00, 0x0a1b2c01] as const;
const PORT = 413;
const RECORD = Uint8Array.of(0x81, 1, 2, 3);
const FIRST = Uint8Array.of(0x13, 1);

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function bench(config: object = {}) {
  const services = new FakeServices();
  const air = new FakeAir();
  const stop = new AbortController();
  ends.push(() => stop.abort());
  const door = new FakeDoor(air, services, "pi", NEAR, stop.signal);
  const clock = new ManualClock();
  const host = new TestHost(plugin, { services, clock, random: seededRandom(5), instance: "lora" });
  ends.push(() => host.stop());
  await host.start({ radio: "pi", ...config });
  const turns = async (stepMs = 1) => {
    for (let i = 0; i < 20; i++) {
      clock.advance(stepMs);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await turns();
  let ids = 1;
  const hear = (payload: Uint8Array, more: object = {}) =>
    door.hear({ from: FAR, to: NEAR, id: ids++, port: PORT, rank: 1, hopLimit: 0, payload, ...more }, more);
  const medium = (): Medium => host.driver!.medium!;
  const dropped = (reason: string) => host.counters.get(`dropped{reason=${reason}}`) ?? 0;
  const dial = async () => {
    const pipe = await host.driver!.dial(`meshtastic://0a1b2c01/5f21`, new AbortController().signal);
    return { pipe, seen: new Observer(pipe) };
  };
  return { air, door, clock, host, turns, hear, medium, dropped, dial };
}

const pipeHead = (isFromDialler: boolean, number: number) =>
  ({ kind: "pipe", isFromDialler, number }) as const;

describe("packets", () => {
  test("are the golden vector", () => {
    expect(Buffer.from(encodePacket(pipeHead(true, 5), FIRST)).toString("hex")).toBe("d1851301");
    expect(Buffer.from(encodePacket({ kind: "all" }, FIRST)).toString("hex")).toBe("d17f1301");
  });

  test("of others, of another channel, by MQTT, of one's own number and copies are dropped and counted", async () => {
    const { host, hear, turns, dropped } = await bench();
    const first = encodePacket(pipeHead(true, 5), FIRST);
    hear(Uint8Array.of(0xd2, 0x85, 0x13));
    hear(new Uint8Array(0));
    hear(new Uint8Array(233).fill(0xd1));
    hear(first, { channel: 3 });
    hear(first, { viaMqtt: true });
    hear(first, { from: NEAR });
    hear(first, { to: BROADCAST });
    hear(encodePacket({ kind: "all" }, FIRST));
    hear(encodePacket(pipeHead(false, 5), FIRST));
    hear(encodePacket(pipeHead(true, 5), new Uint8Array(0)));
    await turns();
    expect(host.accepted).toEqual([]);
    expect([
      dropped("foreign"),
      dropped("channel"),
      dropped("mqtt"),
      dropped("own"),
      dropped("not_ours"),
    ]).toEqual([3, 1, 1, 1, 4]);
    hear(first, { id: 900 });
    hear(first, { id: 900 });
    // Sealed for this radio: of no channel.
    hear(encodePacket(pipeHead(true, 6), FIRST), { channel: 7, isPki: true });
    await turns();
    expect(host.accepted.length).toBe(2);
    expect(dropped("copy")).toBe(1);
  });

  test("with a record of a connection that is not known are answered by one reset a minute", async () => {
    const { air, hear, turns, dropped } = await bench();
    for (let i = 0; i < 50; i++) hear(encodePacket(pipeHead(true, i), RECORD));
    await turns();
    expect(air.sent.map(({ payload }) => Buffer.from(payload).toString("hex"))).toEqual(["d1ff80"]);
    expect(dropped("reset")).toBe(50);
  });

  test("a reset ends the connection that it names, and no other", async () => {
    const { air, hear, turns, dial } = await bench();
    const [one, two] = [await dial(), await dial()];
    one.pipe.write(FIRST);
    two.pipe.write(FIRST);
    await turns();
    hear(Uint8Array.of(0xd1, 0xff, air.sent[0]!.payload[1]!));
    await turns();
    expect([one.seen.closes, two.seen.closes]).toEqual([1, 0]);
  });

  test("of strangers fill no more than 256 connections", async () => {
    const { host, hear, turns, dropped } = await bench();
    for (let i = 0; i < 400; i++) {
      hear(encodePacket(pipeHead(true, i % 127), FIRST), { from: FAR + 1 + i });
      if (i % 100 === 99) await turns();
    }
    expect(host.accepted.length).toBe(256);
    expect(dropped("full")).toBe(144);
  });

  test("random ones change nothing", async () => {
    const { host, hear, turns, dial } = await bench();
    const { seen } = await dial();
    const random = seededRandom(11);
    for (let i = 0; i < 2_000; i++) hear(Uint8Array.of(0xd1, ...random.bytes(random.below(12))));
    await turns();
    expect(host.violations).toEqual([]);
    expect(seen.pieces.length).toBeLessThan(10);
  });
});

describe("a radio that", () => {
  test("may not send closes what there is, and nothing is sent", async () => {
    const { air, door, host, turns, dial, medium } = await bench();
    const { pipe, seen } = await dial();
    pipe.write(FIRST);
    await turns();
    const before = air.sent.length;
    const held = medium();
    door.mayNotSend = "the radio is in licensed (amateur) mode, where nothing encrypted may be sent";
    door.tell();
    await turns();
    expect(seen.closes).toBe(1);
    pipe.write(FIRST);
    expect(held.broadcast(new Uint8Array(22))).toBe(false);
    expect(host.endpoints).toEqual([]);
    expect(host.health.at(-1)).toMatchObject({ state: "degraded", reason: door.mayNotSend });
    const dialling = host.driver!.dial("meshtastic://0a1b2c01", new AbortController().signal);
    dialling.catch(() => {});
    await turns(1_000);
    await expect(dialling).rejects.toMatchObject({ code: "GODWIT_DIAL_FAILED" });
    expect(air.sent.length).toBe(before);
  });

  test("became another one ends the links of the one before", async () => {
    const { door, host, turns, dial, medium } = await bench();
    const { seen } = await dial();
    const before = medium();
    door.number = 0x77;
    door.tell();
    await turns();
    expect(seen.closes).toBe(1);
    expect(host.endpoints).toEqual(["meshtastic://00000077/5f21"]);
    expect(medium()).not.toBe(before);
  });

  test("restarts keeps its links for five minutes, and no longer", async () => {
    const { door, clock, host, turns, dial } = await bench();
    const { seen } = await dial();
    door.isReady = false;
    door.tell();
    await turns();
    expect(host.endpoints).toEqual([]);
    clock.advance(250_000);
    door.isReady = true;
    door.tell();
    await turns();
    expect([seen.closes, host.endpoints]).toEqual([0, ["meshtastic://0a1b2c00/5f21"]]);
    door.isReady = false;
    door.tell();
    await turns();
    clock.advance(300_001);
    await turns();
    expect(seen.closes).toBe(1);
  });

  test("is busy gets no presence", async () => {
    const { air, door, turns, medium } = await bench();
    expect(medium().broadcast(new Uint8Array(22))).toBe(true);
    await turns();
    expect(air.sent.map(({ to, rank, hopLimit }) => ({ to, rank, hopLimit }))).toEqual([
      { to: BROADCAST, rank: 3, hopLimit: 0 },
    ]);
    door.utilisation = 0.26;
    door.tell();
    await turns();
    expect(medium().broadcast(new Uint8Array(22))).toBe(false);
  });

  test("is busy gets what mail says to all", async () => {
    const { air, door, turns, medium } = await bench();
    door.utilisation = 0.41;
    door.tell();
    await turns();
    expect(medium().admits).toBe(0);
    expect([1, 0].map((urgency) => medium().broadcast(new Uint8Array(28), urgency as Urgency))).toEqual([
      false,
      true,
    ]);
    await turns();
    expect(air.sent.map(({ to, rank }) => ({ to, rank }))).toEqual([{ to: BROADCAST, rank: 0 }]);
  });

  test("has presence that has not left takes what mail says to all beside it", async () => {
    const { door, turns, medium } = await bench();
    const say = (urgency?: Urgency) => medium().broadcast(new Uint8Array(28), urgency);
    door.answers = false;
    expect([say(), say(), say(0), say(0)]).toEqual([true, false, true, false]);
    door.answers = true;
    await turns();
    expect([say(), say(0)]).toEqual([true, true]);
  });

  test("is busier still gets alarms alone: mail waits in its pipe, is told of in any order, and none is lost", async () => {
    const { air, door, host, turns, dial, medium } = await bench();
    const { pipe, seen } = await dial();
    const sent = () => air.sent.map(({ payload }) => payload[3]);
    expect(medium().admits).toBe(4);
    door.utilisation = 0.25;
    door.tell();
    await turns();
    expect(medium().admits).toBe(2);
    door.utilisation = 0.4;
    door.tell();
    await turns();
    expect(medium().admits).toBe(0);
    expect(host.health.at(-1)).toEqual({
      state: "degraded",
      reason: "the channel is busy (40 %): mail waits, alarms go",
    });
    pipe.write(Uint8Array.of(0x81, 1), 1);
    pipe.write(Uint8Array.of(0x81, 2), 2);
    pipe.write(Uint8Array.of(0x81, 3), 0);
    await turns();
    expect([sent(), seen.leftAt]).toEqual([[3], [2]]);
    door.utilisation = 0.39;
    door.tell();
    await turns();
    expect([sent(), seen.leftAt]).toEqual([
      [3, 1, 2],
      [2, 0, 0],
    ]);
    expect(host.health.at(-1)).toEqual({ state: "running" });
  });

  test("answers nothing holds up its pipes, and bounds what waits", async () => {
    const { door, turns, dial } = await bench();
    door.answers = false;
    const { pipe, seen } = await dial();
    let written = 0;
    while (pipe.write(FIRST) && written < 1_000) written++;
    expect(written).toBeLessThan(8);
    await turns();
    expect(seen.lefts).toBe(0);
  });
});

test("hops cost as much again each, and are said to the radio", async () => {
  const { air, turns, medium } = await bench({ hops: 2 });
  expect(medium().airtimeMs(100, "one")).toBe(30);
  medium().broadcast(new Uint8Array(22));
  await turns();
  expect(air.sent[0]?.hopLimit).toBe(2);
});
