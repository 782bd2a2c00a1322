/**
 * What hostile radios and neighbours may do to a node, each by its promise: counted by reason, bounded, one clear reason in its health, never a crash, never a
 * transmission where none may be. Two nodes with emulated radios, service.radio and transport.meshtastic as they are, in virtual time. What bytes on the cable
 * alone can do is in plugins/service-radio/frames.test.ts and session.test.ts, what strangers' packets on our port can in plugins/transport-meshtastic/air.test.ts.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { RadioLife } from "../sim/radio/life.ts";
import { line } from "../sim/radio/scenarios.ts";
import type { SimNode } from "../sim/node.ts";
import { RadioWorld } from "../sim/radio/world.ts";
import { encodeLoraFrame, decodeLoraFrame } from "./lora-frame.ts";
import { type FirmwareAir, firmwareAir } from "./mesh-air.ts";
import type { MeshPort } from "./mesh-port.ts";
import type { EmulatedRadio, RadioOptions } from "./radio.ts";

setDefaultTimeout(120_000);

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const BROADCAST = 0xffff_ffff;
const random = () => seededRandom(21);

interface Hostile {
  readonly world: RadioWorld;
  readonly air: FirmwareAir;
  /** Hears both, and is heard. */
  readonly attacker: EmulatedRadio;
  /** As it is on the air, from the attacker. */
  say(frame: Uint8Array): void;
  /** The plugins of a node, while it lives. */
  portOf(node: number): MeshPort;
}

/** Two nodes that write to each other for an hour, or so many minutes, from two hours after the start on. */
function hostile(radioOf: (node: number) => RadioOptions = () => ({}), minutes = 60): Hostile {
  const world = new RadioWorld({
    ...line(1, 2),
    ...{ loss: 0, hears: () => 20, mailPerHour: 8, lifetimeMs: 3 * HOUR_MS },
    ...{ warmUpMinutes: 120, minutes, drainMinutes: 200, newAir: firmwareAir(radioOf) },
  });
  const air = world.air as FirmwareAir;
  const attacker = air.ether.radio({
    region: "US",
    neighbours: air.radios.map((one) => one!.radio),
    beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 },
  });
  const portOf = (node: number) =>
    ((world.nodes[node] as SimNode).life!.transport as RadioLife).port as MeshPort;
  const say = (frame: Uint8Array) => {
    // Longer than any frame is: what comes is cut off by the chip.
    air.ether.medium.transmit(attacker, frame, 300, () => {});
  };
  return { world, air, attacker, say, portOf };
}

/** All mail arrived, once, by the oracles of the world; nobody had more of the air than is his. */
function demandCalm({ world }: Hostile): void {
  const result = world.run();
  expect(result.faults).toEqual([]);
  expect(result.sent).toBeGreaterThan(3);
  expect(result.outcomes).toEqual({ delivered: result.sent });
}

describe("on the air", () => {
  test("noise of any length costs nothing but the air", () => {
    const it = hostile();
    const source = random();
    const speak = () => {
      it.say(source.bytes(source.below(256)));
      it.world.time.after(10_000, speak);
    };
    it.world.time.after(HOUR_MS, speak);
    demandCalm(it);
  });

  test("each frame again after an hour is delivered to nobody twice, and is counted", () => {
    const it = hostile(() => ({}), 180);
    const { onSent } = it.air.ether.medium;
    let repeated = 0;
    it.air.ether.medium.onSent = (sent) => {
      onSent(sent);
      if (sent.radio === it.attacker) return;
      const again = sent.frame.slice();
      it.world.time.after(HOUR_MS, () => {
        repeated++;
        it.say(again);
      });
    };
    // A radio that has restarted knows no packet of before: what it hears again it hands over.
    for (let hours = 2.9; hours < 6; hours += 0.9)
      it.world.time.after(hours * HOUR_MS, () => it.air.radios.forEach((one) => one!.radio.reboot()));
    demandCalm(it);
    expect(repeated).toBeGreaterThan(60);
    for (const node of [0, 1]) {
      const { counters, accepted } = it.portOf(node).transport;
      expect(counters.get("dropped{reason=copy}")).toBeGreaterThan(10);
      expect(accepted.length).toBeLessThan(5);
    }
  });

  test("genuine frames with another sender, another receiver or another id prove nothing and open no door", () => {
    const it = hostile();
    const { onSent } = it.air.ether.medium;
    const source = random();
    const numbers = it.air.radios.map((one) => one!.address);
    let forged = 0;
    it.air.ether.medium.onSent = (sent) => {
      onSent(sent);
      const frame = sent.radio === it.attacker ? undefined : decodeLoraFrame(sent.frame);
      if (frame === undefined) return;
      for (const change of [
        { from: numbers[0]! },
        { from: numbers[1]!, to: numbers[0]! },
        { from: 0 },
        { from: BROADCAST },
        { id: source.below(2 ** 32) },
        { to: BROADCAST, id: source.below(2 ** 32) },
      ])
        it.world.time.after(5_000 + 25_000 * source.float(), () => {
          forged++;
          it.say(encodeLoraFrame({ ...frame, encrypted: frame.encrypted.slice(), ...change }));
        });
    };
    demandCalm(it);
    expect(forged).toBeGreaterThan(300);
    for (const node of [0, 1]) expect(it.portOf(node).transport.violations).toEqual([]);
  });
});

describe("on the cable", () => {
  test("a log between messages, cuts right after 0x94, halves of messages and lengths that lie cost no mail", () => {
    const it = hostile(() => ({ faults: { logNoise: true, rubbish: true, split: "afterStart" } }));
    demandCalm(it);
    expect(it.portOf(0).service.counters.get("ignored{reason=noise}")).toBeGreaterThan(0);
  });

  test("messages of other kinds, fields within fields and protobufs of others are counted or passed over, never thrown", () => {
    const it = hostile();
    const source = random();
    it.world.time.after(HOUR_MS, () => {
      const { inject } = it.portOf(0);
      for (let depth = 1; depth <= 200; depth++) inject(nested(depth));
      for (let i = 0; i < 500; i++) inject(source.bytes(1 + source.below(500)));
      // Another program's message with field numbers that are ours.
      for (let field = 1; field < 64; field++) inject(Uint8Array.of((field << 3) | 2, 3, 0x08, 0x96, 0x01));
    });
    demandCalm(it);
    const { counters } = it.portOf(0).service;
    expect(counters.get("ignored{reason=malformed}")).toBeGreaterThan(100);
  });

  test("a queue that is always full gets nothing more and is said to be full in one reason; when it is honest again mail goes on", () => {
    const it = hostile((node) => (node === 0 ? { faults: { queue: "full" } } : {}));
    const reasons = new Set<string>();
    it.world.time.after(2 * HOUR_MS + 50 * MINUTE_MS, () => {
      const own = it.air.radios[0]!;
      reasons.add(it.portOf(0).service.health.at(-1)!.reason ?? "");
      // One packet, before it has said anything of its queue.
      expect(own.airtimeMs).toBeLessThan(1_000);
      own.radio.faults.queue = "honest";
    });
    demandCalm(it);
    expect([...reasons]).toEqual(["the radio's queue has had no room for ten minutes"]);
    expect(it.portOf(0).service.health.at(-1)).toEqual({ state: "running" });
  });

  test("a queue that is always free gets no more than the budget", () => {
    const it = hostile(() => ({ faults: { queue: "free" } }));
    demandCalm(it);
    expect(it.portOf(0).service.counters.get("airtime_ms")).toBeGreaterThan(0);
  });
});

describe("where nothing may be sent nothing is", () => {
  for (const [what, options, reason] of [
    ["no region", { region: "UNSET" }, "the radio has no region yet: set the one you are in"],
    [
      "licensed (amateur) mode",
      { isLicensed: true },
      "the radio is in licensed (amateur) mode, where nothing encrypted may be sent",
    ],
    ["a lock", { passphrase: "open sesame" }, "the radio is locked"],
  ] as const)
    test(`${what}: no frame of the node leaves in two hours, its health has one reason, and mail waits`, () => {
      const it = hostile((node) => (node === 0 ? options : {}));
      const seen: { own: number; handed: number; health: readonly string[]; mail: string[] }[] = [];
      it.world.time.after(2 * HOUR_MS + 59 * MINUTE_MS, () => {
        const port = it.portOf(0);
        const said = [port.service, port.transport].map(({ health }) => health.at(-1)!.reason ?? "");
        seen.push({
          own: it.air.radios[0]!.airtimeMs,
          handed: port.service.counters.get("airtime_ms") ?? 0,
          health: said,
          mail: [...it.world.ledger.messages.values()]
            .filter(({ id }) => id !== undefined && it.world.nodes[0]!.sent(id) !== undefined)
            .map(({ id }) => it.world.nodes[0]!.sent(id!)!.state),
        });
      });
      it.world.run();
      const [{ own, handed, health, mail }] = seen as [(typeof seen)[0]];
      expect([own, handed]).toEqual([0, 0]);
      for (const said of health) expect(said).toContain(reason);
      expect(mail.length).toBeGreaterThan(0);
      expect(new Set(mail)).toEqual(new Set(["queued"]));
    });
});

/** A message within a message within ... */
function nested(depth: number): Uint8Array {
  let bytes: Uint8Array = Uint8Array.of(0x08, 1);
  for (let i = 0; i < depth && bytes.length < 120; i++) bytes = Uint8Array.of(0x12, bytes.length, ...bytes);
  return bytes;
}
