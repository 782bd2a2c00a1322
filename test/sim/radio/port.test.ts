/** Pipes over a radio, with and without the link over them: the contract of `Pipe` and `Medium` as this transport keeps it. */
import { describe, expect, test } from "bun:test";
import type { Pipe } from "@godwit/sdk";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import { SimTime } from "../time.ts";
import { Channel } from "./channel.ts";
import { meshtastic, presets } from "./lora.ts";
import { RadioPort, type RadioPipe } from "./port.ts";

const MTU = 200;
/** A first message of a link has bit 7 clear, a record has it set. */
const first = (length: number) => new Uint8Array(length).fill(0x11);
const record = (length: number) => new Uint8Array(length).fill(0x81);

interface End {
  readonly port: RadioPort;
  readonly accepted: RadioPipe[];
  setVerdict(verdict: "open" | Uint8Array | undefined): void;
}

function ends(queueFramesMax = 16) {
  const time = new SimTime();
  const channel = new Channel({
    time,
    random: seededRandom(1),
    lora: presets.shortFast,
    overhead: meshtastic,
    loss: 0,
  });
  const end = (address: number): End => {
    const accepted: RadioPipe[] = [];
    let verdict: "open" | Uint8Array | undefined = "open";
    const radio = channel.add({
      address,
      random: seededRandom(address),
      queueFramesMax,
      ownShare: 1,
      burstMs: 3_600_000,
      dutyCycle: 1,
    });
    const port = new RadioPort({
      radio,
      time,
      random: seededRandom(address + 100),
      mtu: MTU,
      watcher: { written: () => ({ shares: [{ kind: "other", part: 1 }], left() {} }) },
      dispatch: (fn) => fn(),
      screen: () => verdict,
      accept: (pipe: Pipe) => void accepted.push(pipe as RadioPipe),
    });
    return { port, accepted, setVerdict: (next) => void (verdict = next) };
  };
  const [a, b] = [end(0x0a1b2c3d), end(2)];
  channel.join(a.port.options.radio, b.port.options.radio, 20);
  return { time, channel, a, b };
}

function listen(pipe: Pipe) {
  const events: string[] = [];
  pipe.open({
    data: (bytes) => void events.push(`data ${bytes.length}`),
    drain: () => void events.push("drain"),
    left: () => void events.push("left"),
    closed: (error) => void events.push(`closed ${error?.message ?? "politely"}`),
  });
  return events;
}

describe("pipes", () => {
  test("a first message of somebody unknown makes one, and both ends talk", () => {
    const { time, a, b } = ends();
    expect(a.port.endpoint).toBe("radio://0a1b2c3d");
    const dialled = a.port.dial(b.port.endpoint);
    const atA = listen(dialled);
    dialled.write(first(90));
    time.run(5_000);
    expect(b.accepted.length).toBe(1);
    const inbound = b.accepted[0]!;
    expect([inbound.direction, inbound.remote, inbound.linkClass, inbound.kind]).toEqual([
      "inbound",
      a.port.endpoint,
      "slow",
      "datagram",
    ]);
    const atB = listen(inbound);
    inbound.write(record(60));
    time.run(10_000);
    expect(atB).toEqual(["data 90", "left"]);
    expect(atA).toEqual(["left", "data 60"]);
    // The same connection, not another one.
    dialled.write(first(90));
    time.run(15_000);
    expect(b.accepted.length).toBe(1);
  });

  test("both may dial each other, and nobody takes one for the other", () => {
    const { time, a, b } = ends();
    const [ab, ba] = [a.port.dial(b.port.endpoint), b.port.dial(a.port.endpoint)];
    const [atAb, atBa] = [listen(ab), listen(ba)];
    ab.write(first(50));
    time.run(2_000);
    ba.write(first(60));
    time.run(4_000);
    const [atA, atB] = [listen(a.accepted[0]!), listen(b.accepted[0]!)];
    a.accepted[0]!.write(record(20));
    time.run(6_000);
    b.accepted[0]!.write(record(30));
    time.run(10_000);
    expect([atB, atA]).toEqual([
      ["data 50", "left"],
      ["data 60", "left"],
    ]);
    expect([atAb, atBa]).toEqual([
      ["left", "data 30"],
      ["left", "data 20"],
    ]);
  });

  test("left is told once for each datagram, dropped ones among them, in order and not within write", () => {
    const { time, a, b } = ends(3);
    const pipe = a.port.dial(b.port.endpoint);
    let isWriting = false;
    let left = 0;
    pipe.open({
      data() {},
      drain() {},
      left() {
        expect(isWriting).toBe(false);
        left++;
      },
      closed() {},
    });
    isWriting = true;
    const results = Array.from({ length: 10 }, (_, i) => pipe.write(first(20 + i)));
    isWriting = false;
    expect(left).toBe(0);
    expect(pipe.bufferedBytes).toBe(245);
    // What another pipe writes has no room either, and hears of it later.
    const refused = listen(a.port.dial(b.port.endpoint));
    a.port.pipes.at(-1)!.write(first(20));
    expect(refused).toEqual([]);
    time.run(0);
    expect(refused).toEqual(["left"]);
    time.run(a.port.medium.airtimeMs(20, "one") * 1.5);
    expect(left).toBeLessThan(2);
    // It says stop before the radio has to refuse.
    expect(results.slice(0, 3)).toEqual([true, true, false]);
    time.run(20_000);
    expect(left).toBe(10);
    expect(pipe.bufferedBytes).toBe(0);
    expect(a.port.options.radio.refused).toBe(8);
  });

  test("there is room again after a stop", () => {
    const { time, a, b } = ends();
    const pipe = a.port.dial(b.port.endpoint);
    const events = listen(pipe);
    let written = 0;
    while (pipe.write(first(100))) written++;
    expect(written).toBeLessThan(8);
    time.run(10_000);
    expect(events.filter((event) => event === "drain")).toEqual(["drain"]);
  });

  test("a stranger that is not let in leaves nothing, and may be answered", () => {
    const { time, a, b } = ends();
    b.setVerdict(undefined);
    const pipe = a.port.dial(b.port.endpoint);
    const events = listen(pipe);
    pipe.write(first(50));
    time.run(5_000);
    expect([b.accepted.length, b.port.pipes.length]).toEqual([0, 0]);
    b.setVerdict(first(33));
    pipe.write(first(50));
    time.run(10_000);
    expect(b.port.pipes.length).toBe(0);
    expect(events).toEqual(["left", "left", "data 33"]);
  });

  test("a record of a connection that was before a restart ends it at the far end", () => {
    const { time, a, b } = ends();
    const pipe = a.port.dial(b.port.endpoint);
    const events = listen(pipe);
    pipe.write(record(40));
    time.run(5_000);
    expect(b.accepted).toEqual([]);
    expect(events).toEqual(["left", "closed the far end has forgotten this connection"]);
    expect(a.port.pipes).toEqual([]);
  });

  test("a far end that is heard no more ends it, and only after something was sent to it", () => {
    const { time, a, b, channel } = ends();
    const pipe = a.port.dial(b.port.endpoint);
    const events = listen(pipe);
    pipe.write(first(40));
    time.run(3_000);
    listen(b.accepted[0]!);
    b.accepted[0]!.write(first(40));
    time.run(100 * 3_600_000);
    expect(events).toEqual(["left", "data 40"]);
    channel.setStrength(b.port.options.radio, a.port.options.radio, undefined);
    pipe.write(record(40));
    time.run(123 * 3_600_000);
    expect(events.at(-1)).toBe("left");
    time.run(125 * 3_600_000);
    expect(events.at(-1)).toBe("closed nothing is heard of the far end");
  });

  test("a pipe that was closed before it was opened tells so", () => {
    const { time, a, b } = ends();
    const pipe = a.port.dial(b.port.endpoint);
    pipe.close();
    time.run(10);
    const events = listen(pipe);
    time.run(20);
    expect(events).toEqual(["closed politely"]);
    expect(a.port.pipes).toEqual([]);
  });

  test("a datagram beyond the mtu is a bug of its writer", () => {
    const { a, b } = ends();
    const pipe = a.port.dial(b.port.endpoint);
    expect(() => pipe.write(first(MTU + 1))).toThrow();
    expect(pipe.mtu).toBe(MTU);
  });
});

describe("the medium", () => {
  test("is one for all pipes, and says what a datagram costs", () => {
    const { channel, a, b } = ends();
    const { medium } = a.port;
    expect(a.port.dial(b.port.endpoint).medium).toBe(medium);
    expect(medium.airtimeMs(100, "one")).toBe(channel.airtimeOf(101, "one"));
    expect(medium.airtimeMs(100, "all")).toBeGreaterThan(medium.airtimeMs(100, "one"));
    expect(a.port.dial(b.port.endpoint).answerMs).toBeGreaterThan(medium.airtimeMs(12, "one"));
  });

  test("a broadcast is heard with its sender's endpoint, one at a time", () => {
    const { time, a, b } = ends();
    const heard: string[] = [];
    b.port.medium.listen((from, bytes) => void heard.push(`${from} ${bytes.length}`));
    expect(a.port.medium.broadcast(new Uint8Array(30))).toBe(true);
    expect(a.port.medium.broadcast(new Uint8Array(31))).toBe(false);
    expect(a.port.medium.broadcast(new Uint8Array(MTU + 1))).toBe(false);
    time.run(5_000);
    expect(heard).toEqual(["radio://0a1b2c3d 30"]);
    expect(a.port.medium.broadcast(new Uint8Array(31))).toBe(true);
    expect(b.port.pipes).toEqual([]);
  });

  test("its utilisation is what is heard here", () => {
    const { time, a, b } = ends();
    for (let i = 0; i < 100; i++)
      time.after(i * 1_000, () => void a.port.medium.broadcast(new Uint8Array(100)));
    time.run(100_000);
    const airMs = 100 * a.port.medium.airtimeMs(100, "all");
    expect(b.port.medium.utilisation).toBeCloseTo(airMs / 300_000, 2);
  });
});
