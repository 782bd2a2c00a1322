import { afterEach, describe, expect, test } from "bun:test";
import type { Log } from "@godwit/sdk";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { create } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { Mesh } from "@meshtastic/protobufs";
import { BROADCAST, FakeEther, FakeRadio, type FakeRadioOptions, packetOf, quiet, until } from "./testing.ts";
import { type Ignored, RadioSession, type SendRequest } from "./session.ts";
import type { Outcome } from "./outbox.ts";
import { encodeFrame } from "./frames.ts";
import { encodeWantConfig } from "./protocol.ts";
import { openTcp } from "./wire.ts";

const ends: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

function bench(options: FakeRadioOptions = {}, ether = new FakeEther()) {
  const radio = new FakeRadio(ether, options);
  ends.push(() => radio.close());
  const clock = new ManualClock();
  const packets: Mesh.MeshPacket[] = [];
  const ignored: Ignored[] = [];
  const session = new RadioSession({
    clock,
    random: seededRandom(3),
    log: silent,
    open: openTcp("127.0.0.1", radio.port, clock),
    wake: new Uint8Array(0),
    changed: () => {},
    packet: (packet) => void packets.push(packet),
    ignored: (reason) => void ignored.push(reason),
    keyed: () => {},
  });
  const abort = new AbortController();
  const running = session.run(abort.signal);
  const stop = async () => {
    abort.abort();
    await running;
  };
  ends.push(stop);
  const phase = (wanted: string, stepMs = 0) =>
    until(
      () => session.phase === wanted,
      () => `it is ${session.phase}: ${session.trouble}`,
      () => clock.advance(stepMs),
    );
  return { radio, ether, clock, session, packets, ignored, phase, stop };
}

const request = (more: Partial<SendRequest> = {}): SendRequest => ({
  port: 413,
  to: BROADCAST,
  channel: 0,
  payload: new Uint8Array(24),
  hopLimit: 0,
  wantAck: false,
  isSealed: true,
  rank: 1,
  lifetimeMs: 600_000,
  ...more,
});

describe("a handshake", () => {
  test("says what the radio is, and that it may send", async () => {
    const { session, phase } = bench();
    await phase("ready");
    expect(session.trouble).toBeUndefined();
    expect(session.facts).toMatchObject({
      longName: "a radio",
      firmware: "2.8.0.7754068",
      isLicensed: false,
      additions: { hasSignatures: true, hasPkc: true },
      modem: { name: "LongFast" },
      region: { name: "EU_868" },
      channels: [{ index: 0, name: "godwit", isPublic: false }],
    });
    expect(session.hourMaxMs).toBe(0.05 * 3_600_000);
  });

  test("a radio of 2.7 does not sign", async () => {
    const { session, phase } = bench({ firmware: "2.7.15.567b8ea" });
    await phase("ready");
    expect(session.facts?.additions).toEqual({ hasSignatures: false, hasPkc: true });
  });

  for (const [what, options, word] of [
    ["no region", { region: 0 }, "no region"],
    ["a region that is not known", { region: 99 }, "region 99"],
    ["licensed mode", { isLicensed: true }, "licensed"],
    ["a band of amateurs", { region: 27 }, "licensed"],
    ["sending switched off", { isTxEnabled: false }, "switched off"],
    ["a preset that is not known", { preset: 99 }, "preset"],
  ] as const)
    test(`a radio with ${what} sends nothing, and says why`, async () => {
      const { session, phase, ether } = bench(options);
      await phase("ready");
      expect(session.trouble).toContain(word);
      const outcomes: Outcome[] = [];
      expect(typeof session.send(request(), (outcome) => outcomes.push(outcome))).toBe("string");
      await quiet();
      expect(ether.sent).toEqual([]);
    });

  test("what is plain may be sent in licensed mode", async () => {
    const { session, phase, ether } = bench({ isLicensed: true });
    await phase("ready");
    expect(session.send(request({ isSealed: false }), () => {})).toMatchObject({ id: expect.any(Number) });
    await until(() => ether.sent.length === 1, "it is sent");
  });

  test("one that answers with another's nonce is none", async () => {
    const { radio, ignored, session, phase } = bench();
    radio.faults.nonceOffset = 1;
    await until(() => ignored.includes("nonce"), "the nonce is refused");
    expect(session.facts).toBeUndefined();
    radio.faults.nonceOffset = 0;
    await phase("ready", 5_000);
  });

  for (const leavesOut of ["myInfo", "metadata", "lora", "self"] as const)
    test(`one without ${leavesOut} is none, and another follows`, async () => {
      const { radio, ignored, session, phase } = bench();
      radio.faults.leavesOut = leavesOut;
      await until(() => ignored.includes("incomplete"), "it is incomplete");
      expect(session.trouble).toContain("did not say");
      radio.faults.leavesOut = undefined;
      await phase("ready", 100);
    });

  test("a locked radio is said to be locked, and is asked again when it is unlocked", async () => {
    const { radio, session, phase } = bench();
    radio.faults.isLocked = true;
    await phase("locked");
    expect(session.trouble).toContain("locked");
    expect(session.facts).toBeUndefined();
    radio.faults.isLocked = false;
    radio.sayBytes(Uint8Array.of(0x92, 0x01, 0x02, 0x08, 0x03));
    await phase("ready");
  });
});

describe("a session", () => {
  test("comes back after the cable was pulled, and after the radio restarted", async () => {
    const { radio, session, phase } = bench();
    await phase("ready");
    radio.cut();
    await phase("connecting");
    await phase("ready", 100);
    radio.number = 0x1234;
    radio.restart();
    await until(() => session.facts?.number === 0x1234, "it is known under its new number");
    expect(session.restarts).toBe(1);
    expect(radio.handshakes).toBe(3);
  });

  test("beats without a nonce, and gives up a radio that answers no more", async () => {
    const { radio, clock, phase } = bench();
    await phase("ready");
    clock.advance(120_000);
    await until(() => radio.heartbeatNonces.length === 1, "the heart beats");
    clock.advance(120_000);
    await until(() => radio.heartbeatNonces.length === 2, "the heart beats");
    expect(radio.heartbeatNonces).toEqual([0, 0]);
    radio.faults.isMute = true;
    await phase("connecting", 60_000);
  });

  test("ends politely", async () => {
    const { radio, phase, stop } = bench();
    await phase("ready");
    await stop();
    await until(() => radio.disconnects === 1, "the radio hears of it");
  });

  test("a packet with fields that are not known yet keeps them", async () => {
    const { radio, packets, phase } = bench();
    await phase("ready");
    const packet = packetOf(5, BROADCAST, 413, Uint8Array.of(1));
    // Field 22, as 2.8 marks what was signed.
    packet.$unknown = [{ no: 22, wireType: WireType.Varint, data: Uint8Array.of(1) }];
    radio.deliver(packet);
    await until(() => packets.length === 1, "it comes");
    expect(packets[0]?.$unknown).toMatchObject([{ no: 22 }]);
  });

  test("hostile bytes are counted, cost nothing, and what is genuine between them arrives", async () => {
    const { radio, packets, ignored, phase } = bench();
    radio.faults.noise = Buffer.from("INFO  | 12:00:00 \x94 [Router] text\n\x94\xc3\xff\xff", "latin1");
    await phase("ready");
    const random = seededRandom(9);
    for (let i = 0; i < 200; i++) {
      radio.write(random.bytes(1 + random.below(600)));
      // What is inside is a message of another kind, or none, within the right frame.
      radio.write(Buffer.concat([Uint8Array.of(0x94, 0xc3, 0, 40), random.bytes(40)]));
      radio.deliver(packetOf(7, BROADCAST, 413, Uint8Array.of(i), i + 1));
    }
    radio.deliver(packetOf(7, BROADCAST, 413, Uint8Array.of(0xee), 1_000));
    await until(() => packets.some(({ id }) => id === 1_000), "the last one comes");
    const genuine = packets.filter(({ from }) => from === 7);
    expect(genuine.length).toBeGreaterThan(190);
    expect(ignored).toContain("noise");
    expect(ignored).toContain("malformed");
  });

  test("it believes the device about the channel only where that silences it more", async () => {
    const { radio, session, phase } = bench();
    await phase("ready");
    radio.sayUtilisation(30, 2);
    await until(() => session.airtime.utilisation === 0.3, "the channel is busy");
    expect(session.airtime.hourMs).toBeCloseTo(0.02 * 3_600_000, 0);
    radio.sayUtilisation(Number.NaN);
    radio.sayUtilisation(-5);
    radio.sayUtilisation(4_000);
    await quiet();
    expect(session.airtime.utilisation).toBe(0.3);
    for (let i = 0; i < 200; i++) radio.deliver(packetOf(9, BROADCAST, 1, new Uint8Array(200), i + 1));
    radio.sayUtilisation(0);
    await until(() => session.airtime.utilisation > 0.9, "what is heard counts");
  });
});

describe("sending", () => {
  test("a packet arrives, and is told to have left when the queue is empty", async () => {
    const { ether, clock, session, phase } = bench();
    const other = new FakeRadio(ether);
    ends.push(() => other.close());
    await phase("ready");
    const outcomes: Outcome[] = [];
    session.send(request({ payload: Uint8Array.of(1, 2, 3) }), (outcome) => outcomes.push(outcome));
    await until(() => ether.sent.length === 1, "it is sent");
    expect(outcomes).toEqual([]);
    await until(
      () => outcomes.length === 1,
      "it has left",
      () => clock.advance(50),
    );
    expect(outcomes).toEqual(["left"]);
    expect(ether.sent[0]?.packet).toMatchObject({ to: BROADCAST, hopLimit: 0, wantAck: false });
    expect(session.airtime.totalMs).toBeCloseTo(session.airtimeOf(3, 413, BROADCAST), 6);
  });

  test("at most two are in the radio's hands, the urgent first", async () => {
    const { ether, clock, session, phase } = bench();
    await phase("ready");
    const left: number[] = [];
    for (const [at, rank] of [4, 4, 4, 3, 0].entries())
      session.send(request({ rank, payload: Uint8Array.of(at) }), () => void left.push(at));
    await until(() => ether.sent.length === 2, "two are sent");
    await quiet();
    expect(ether.sent.length).toBe(2);
    await until(
      () => left.length === 5,
      "all have left",
      () => clock.advance(100),
    );
    const order = ether.sent.map(
      ({ packet }) => packet.payloadVariant.case === "decoded" && packet.payloadVariant.value.payload[0],
    );
    // The first goes alone: how long the queue is nobody has said yet.
    expect(order).toEqual([0, 4, 3, 1, 2]);
  });

  test("a queue that is always full gets nothing, is said to be stuck, and what waited ends", async () => {
    const { radio, ether, clock, session, phase } = bench();
    radio.faults.queue = "always full";
    await phase("ready");
    radio.say({ case: "queueStatus", value: create(Mesh.QueueStatusSchema, { free: 0, maxlen: 16 }) });
    await quiet();
    const outcomes: Outcome[] = [];
    session.send(request({ lifetimeMs: 3_600_000 }), (outcome) => outcomes.push(outcome));
    await until(
      () => outcomes.length === 1,
      "it ends",
      () => clock.advance(5_000),
    );
    expect(outcomes).toEqual(["stuck"]);
    expect(session.trouble).toContain("no room");
    expect(ether.sent).toEqual([]);
    radio.faults.queue = "honest";
    await until(
      () => session.trouble === undefined,
      "it is not stuck any more",
      () => clock.advance(1_000),
    );
    session.send(request(), () => {});
    await until(
      () => ether.sent.length === 1,
      "it goes on",
      () => clock.advance(100),
    );
  }, 20_000);

  test("a queue that says it is always free is held to half of the region's duty cycle", async () => {
    const { ether, clock, session, phase } = bench({ region: 29 });
    await phase("ready");
    expect(session.hourMaxMs).toBe(0.0125 * 3_600_000);
    let done = 0;
    const startMs = clock.monotonicMs();
    while (clock.monotonicMs() - startMs < 3_500_000) {
      session.send(request({ payload: new Uint8Array(200), lifetimeMs: 60_000 }), () => void done++);
      clock.advance(2_000);
      await quiet();
    }
    const each = session.airtimeOf(200, 413, BROADCAST);
    expect(ether.sent.length * each).toBeLessThanOrEqual(session.hourMaxMs);
    expect(ether.sent.length * each).toBeGreaterThan(session.hourMaxMs - 2 * each);
    expect(done).toBeGreaterThan(ether.sent.length);
  }, 20_000);

  test("a radio that answers nothing, or nonsense, holds up no packet for ever", async () => {
    for (const queue of ["no answer", "nonsense"] as const) {
      const { radio, clock, session, phase } = bench();
      radio.faults.queue = queue;
      await phase("ready");
      const outcomes: Outcome[] = [];
      session.send(request(), (outcome) => outcomes.push(outcome));
      await until(
        () => outcomes.length === 1,
        "it ends",
        () => clock.advance(1_000),
      );
      expect(outcomes).toEqual(["unanswered"]);
    }
  });

  test("a radio whose duty cycle is used up is left alone for a while", async () => {
    const { radio, clock, session, phase } = bench();
    radio.faults.queue = "refuses";
    await phase("ready");
    const outcomes: Outcome[] = [];
    session.send(request(), (outcome) => outcomes.push(outcome));
    await until(() => outcomes.length === 1, "it is refused");
    expect(outcomes).toEqual(["refused"]);
    expect(session.hourMaxMs).toBe(0);
    clock.advance(300_001);
    expect(session.hourMaxMs).toBeGreaterThan(0);
  });

  test("the firmware's limits are kept here, because it drops and says nothing", async () => {
    const { clock, session, phase } = bench();
    await phase("ready");
    const send = (port: number, to = 77) => session.send(request({ port, to, isSealed: false }), () => {});
    for (const [port, pauseMs] of [
      [70, 30_000],
      [3, 10_000],
      [8, 10_000],
      [67, 10_000],
      [11, 10_000],
      [1, 2_000],
    ] as const) {
      expect(typeof send(port)).toBe("object");
      clock.advance(pauseMs);
      expect(send(port)).toBe("too_early");
      clock.advance(1_500);
      expect(typeof send(port)).toBe("object");
    }
    // The device's own matters, and what it refuses without a word.
    for (const port of [4, 5, 6]) expect(send(port)).toBe("port");
    expect(send(70, BROADCAST)).toBe("port");
    expect(session.send(request({ payload: new Uint8Array(234) }), () => {})).toBe("too_long");
    expect(session.send(request({ channel: 5 }), () => {})).toBe("channel");
  });

  test("what the radio had when it went is told as gone", async () => {
    const { radio, session, phase } = bench();
    await phase("ready");
    const outcomes: Outcome[] = [];
    for (let i = 0; i < 4; i++) session.send(request(), (outcome) => outcomes.push(outcome));
    radio.cut();
    await until(() => outcomes.length === 4, "all are told");
    expect(outcomes).toEqual(["gone", "gone", "gone", "gone"]);
    expect(session.send(request(), () => {})).toBe("not_ready");
  });
});

test("a handshake never asks by a number that means something of its own to the firmware, 1 above all", async () => {
  const written: Uint8Array[] = [];
  const abort = new AbortController();
  const session = new RadioSession({
    clock: new ManualClock(),
    // The least that chance may give.
    random: { ...seededRandom(1), below: () => 0, float: () => 0, bytes: (length) => new Uint8Array(length) },
    log: silent,
    open: () =>
      Promise.resolve({ write: (bytes: Uint8Array) => void written.push(bytes.slice()), close() {} }),
    wake: new Uint8Array(0),
    changed() {},
    keyed() {},
    packet() {},
    ignored() {},
  });
  const running = session.run(abort.signal);
  await until(() => written.length > 0, "it asks");
  expect(written[0]).toEqual(encodeFrame(encodeWantConfig(100_000)));
  abort.abort();
  await running;
});

test("a radio that does not answer any more is connected anew", async () => {
  const { session, radio, phase, clock } = bench();
  await phase("ready");
  radio.faults.isMute = true;
  // Two heartbeats go unanswered; the third is not waited for.
  for (let n = 0; n < 3; n++) {
    expect(session.phase).toBe("ready");
    await clock.advance(120_000);
    await quiet();
  }
  expect(session.phase).not.toBe("ready");
  radio.faults.isMute = false;
  await phase("ready", 1_000);
});
