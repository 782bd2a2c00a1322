/** A shared channel behind frames: what the node sees of it is what the plugin has, within bounds that no plugin talks it out of. */
import { describe, expect, test } from "bun:test";
import type { Medium, Pipe, TransportDriver, Urgency } from "@godwit/sdk";
import { FrameBed } from "../frames/testing.ts";
import { PluginFrame, decodeParts } from "../frames/frames.ts";
import { factsOf } from "../frames/medium.ts";
import { createMedium } from "../guest/medium.ts";
import { pipeProperties } from "../guest/pipe.ts";
import type { ContextParts } from "../guest/parts.ts";
import { Scope } from "../../kernel/scope.ts";
import type { RemoteContext } from "./parts.ts";
import { RemoteTransport } from "./transport.ts";

/** As LoRa has it: in steps, and what repeats it is dearer. */
const airtimeMs = (bytes: number, to: "one" | "all") =>
  (400 + 60 * Math.ceil(bytes / 7)) * (to === "all" ? 4 : 1);

class FakeMedium implements Medium {
  readonly name = "what the plugin says";
  readonly rateBitsPerSecond = 1_074;
  readonly broadcastBytesMax = 233;
  utilisation = 0.125;
  ownShare?: number;
  admits?: Urgency;
  readonly airtimeMs = airtimeMs;
  readonly sent: Uint8Array[] = [];
  readonly urgencies: (Urgency | undefined)[] = [];
  hear: (from: string, bytes: Uint8Array) => void = () => {};

  broadcast(bytes: Uint8Array, urgency?: Urgency): boolean {
    this.urgencies.push(urgency);
    this.sent.push(bytes.slice());
    return true;
  }

  listen(heard: typeof this.hear): void {
    this.hear = heard;
  }
}

function rig() {
  const bed = new FrameBed();
  const drivers: TransportDriver[] = [];
  const pipes: Pipe[] = [];
  const counted: string[] = [];
  const ctx = {
    instance: "lora",
    clock: bed.clock,
    counter: (name: string) => ({ add: () => void counted.push(name) }),
    transport: {
      register: (driver: TransportDriver) => void drivers.push(driver),
      accept: (pipe: Pipe) => void pipes.push(pipe),
    },
  } as unknown as RemoteContext;
  const transport = new RemoteTransport({ ...bed.node, ctx }, (error) => error);
  const errors: unknown[] = [];
  bed.onOther = (end, type, id, body) => {
    if (end !== "node") return;
    const { json, bytes } = decodeParts(body);
    try {
      if (type === PluginFrame.event) transport.onEvent(json, bytes);
      else transport.onOpen(id, json);
    } catch (error) {
      errors.push((error as Error).message);
    }
  };
  const scope = new Scope("plugin", { onFailure: () => {} });
  const guest = createMedium({ ...bed.plugin, scope } as unknown as ContextParts, bed.clock);
  const event = (json: object, bytes?: Uint8Array) =>
    bed.plugin.port.sendParts(PluginFrame.event, 0, json, bytes);
  const medium = new FakeMedium();
  return { bed, drivers, pipes, counted, errors, guest, event, medium, transport };
}
type Rig = ReturnType<typeof rig>;

async function registered() {
  const all = rig();
  all.event({ event: "register", schemes: ["lora"], medium: all.guest.use(all.medium) });
  await all.bed.settle();
  expect(all.errors).toEqual([]);
  return { ...all, far: all.drivers[0]!.medium! };
}

test("the node knows of each size what it costs, under the name of the table", async () => {
  const { far, medium } = await registered();
  expect(far.name).toBe("lora");
  expect(far.rateBitsPerSecond).toBe(1_074);
  expect(far.broadcastBytesMax).toBe(233);
  expect(far.utilisation).toBe(0.125);
  for (const to of ["one", "all"] as const)
    for (let bytes = 1; bytes <= 233; bytes++)
      expect(far.airtimeMs(bytes, to)).toBe(medium.airtimeMs(bytes, to));
  expect(far.airtimeMs(466, "one")).toBe(2 * airtimeMs(233, "one"));
  expect(far.airtimeMs(476, "one")).toBe(2 * airtimeMs(233, "one") + airtimeMs(10, "one"));
});

test("of a wide channel the next step is told, never less than it costs", () => {
  const wide: Medium = Object.assign(new FakeMedium(), { broadcastBytesMax: 5_000 });
  const { one, stepBytes } = factsOf(wide);
  expect(one.length).toBeLessThanOrEqual(256);
  for (let bytes = 1; bytes <= 5_000; bytes++)
    expect(one[Math.ceil(bytes / stepBytes) - 1]!).toBeGreaterThanOrEqual(airtimeMs(bytes, "one"));
});

test("how busy it is arrives when it has changed, and not otherwise", async () => {
  const { bed, far, medium } = await registered();
  const before = bed.others.length;
  await bed.clock.advance(60_000);
  await bed.settle();
  expect(bed.others.length).toBe(before);
  medium.utilisation = 0.5;
  await bed.clock.advance(10_000);
  await bed.settle();
  expect([far.utilisation, far.ownShare]).toEqual([0.5, 1]);
  medium.ownShare = 0.1;
  await bed.clock.advance(10_000);
  await bed.settle();
  expect([far.utilisation, far.ownShare, far.admits]).toEqual([0.5, 0.1, 4]);
  medium.admits = 0;
  await bed.clock.advance(10_000);
  await bed.settle();
  expect([far.utilisation, far.ownShare, far.admits]).toEqual([0.5, 0.1, 0]);
});

test("what is sent to all goes one at a time, and what is heard comes with its place", async () => {
  const { bed, far, medium } = await registered();
  const heard: [string, string][] = [];
  far.listen((from, bytes) => void heard.push([from, Buffer.from(bytes).toString()]));
  const lent = Buffer.from("one");
  expect(far.broadcast(lent)).toBe(true);
  lent.fill(0);
  expect(far.broadcast(Buffer.from("two"))).toBe(false);
  expect(far.broadcast(new Uint8Array(234))).toBe(false);
  await bed.settle();
  expect(far.broadcast(Buffer.from("three"))).toBe(true);
  await bed.settle();
  expect(medium.sent.map((bytes) => Buffer.from(bytes).toString())).toEqual(["one", "three"]);
  medium.hear("lora://b", Buffer.from("hello"));
  await bed.settle();
  expect(heard).toEqual([["lora://b", "hello"]]);
});

test("what is said to all comes with what it is for, and what the channel does not admit is not taken", async () => {
  const { bed, far, medium } = await registered();
  medium.admits = 2;
  await bed.clock.advance(10_000);
  await bed.settle();
  expect([far.broadcast(Buffer.from("one")), far.broadcast(Buffer.from("two"), 3)]).toEqual([false, false]);
  expect(far.broadcast(Buffer.from("three"), 0)).toBe(true);
  await bed.settle();
  expect([medium.sent.map((bytes) => Buffer.from(bytes).toString()), medium.urgencies]).toEqual([
    ["three"],
    [0],
  ]);
});

test("a plugin that never answers takes one broadcast a minute, and the node none of its own accord", async () => {
  const { bed, drivers, event, medium } = rig();
  event({ event: "register", schemes: ["lora"], medium: { ...factsOf(medium), utilisation: 0 } });
  let asked = 0;
  bed.plugin.calls.close(new Error("deaf") as never);
  await bed.settle();
  const far = drivers[0]!.medium!;
  for (let i = 0; i < 10; i++) if (far.broadcast(new Uint8Array(22))) asked++;
  expect(asked).toBe(1);
  await bed.clock.advance(60_000);
  await Promise.resolve();
  await bed.settle();
  expect(far.broadcast(new Uint8Array(22))).toBe(true);
});

test("pipes that are on it have the driver's own object, and others none", async () => {
  const { bed, drivers, medium, pipes, errors } = await registered();
  const pipe = (on?: Medium): Pipe =>
    ({
      kind: "datagram",
      direction: "inbound",
      remote: "lora://b",
      local: "lora://a",
      linkClass: "slow",
      rateBitsPerSecond: 1_074,
      mtu: 233,
      ...(on === undefined ? {} : { medium: on }),
    }) as unknown as Pipe;
  for (const one of [pipe(medium), pipe(), pipe(new FakeMedium())])
    bed.plugin.port.sendParts(PluginFrame.open, bed.plugin.flows.newId(), {
      what: "pipe",
      pipe: pipeProperties(one, medium),
    });
  await bed.settle();
  expect(errors).toEqual([]);
  expect(pipes.map((one) => one.medium)).toEqual([drivers[0]!.medium, undefined, undefined]);
});

test("more to all than a channel could carry is dropped, counted, and costs the node nothing", async () => {
  const { bed, counted, event, far } = await registered();
  let heard = 0;
  far.listen(() => void heard++);
  for (let i = 0; i < 1_000; i++) event({ event: "heard", from: "lora://b" }, new Uint8Array(22));
  await bed.settle();
  expect(heard).toBe(64);
  expect(counted).toEqual(Array.from({ length: 936 }, () => "heard_dropped"));
  await bed.clock.advance(1_000);
  event({ event: "heard", from: "lora://b" }, new Uint8Array(22));
  await bed.settle();
  expect(heard).toBe(65);
});

describe("what a plugin may not claim ends it", () => {
  const facts = { ...factsOf(new FakeMedium()), utilisation: 0 };
  const claims: readonly (readonly [string, object])[] = [
    ["airtime of nothing", { one: facts.one.map(() => 0) }],
    ["less airtime than its rate allows", { all: facts.all.map(() => 1) }],
    ["airtime without an end", { one: facts.one.map(() => 1e9) }],
    ["more that takes less", { one: facts.one.toReversed() }],
    ["fewer airtimes than steps", { one: facts.one.slice(1) }],
    [
      "more airtimes than are held",
      { stepBytes: 1, broadcastBytesMax: 300, one: Array(300).fill(9e3), all: Array(300).fill(9e3) },
    ],
    ["no room for a beacon", { broadcastBytesMax: 1, one: [500], all: [500] }],
    ["a rate of nothing", { rateBitsPerSecond: 0 }],
    ["a channel that is more than full", { utilisation: 1.1 }],
    ["a share that is none", { ownShare: 2 }],
    ["an urgency that is none", { admits: 5 }],
    ["a channel that is less than empty", { utilisation: -0.1 }],
  ];
  test.each(claims)("%s", async (_what, wrong) => {
    const { bed, drivers, errors, event }: Rig = rig();
    event({ event: "register", schemes: ["lora"], medium: { ...facts, ...wrong } });
    await bed.settle();
    expect(errors).toHaveLength(1);
    expect(drivers).toEqual([]);
  });
  test.each([
    ["a place of another transport", { event: "heard", from: "tcp://192.0.2.1:22" }, 22],
    ["more than fits", { event: "heard", from: "lora://b" }, 234],
    ["utilisation that is none", { event: "medium", utilisation: 7 }, 0],
  ] as const)("%s that it heard", async (_what, told, length) => {
    const { bed, errors, event, far } = await registered();
    let heard = 0;
    far.listen(() => void heard++);
    event(told, new Uint8Array(length));
    await bed.settle();
    expect(errors).toHaveLength(1);
    expect([heard, far.utilisation]).toEqual([0, 0.125]);
  });
  test("a channel that it did not register", async () => {
    for (const told of [
      { event: "heard", from: "lora://b" },
      { event: "medium", utilisation: 0 },
    ]) {
      const { bed, errors, event } = rig();
      event({ event: "register", schemes: ["lora"] });
      event(told);
      await bed.settle();
      expect(errors).toEqual(["plugin frame: no channel is registered"]);
    }
  });
});
