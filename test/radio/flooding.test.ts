/** What many radios make of one packet: flooding with cancel, next hops, hop limits, and fifty of them for a day. In virtual time. */
import { describe, expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { decodeLoraFrame, lastByte, type LoraFrame } from "./lora-frame.ts";
import { Port, unlisted, type PortNumber } from "./packet.ts";
import type { EmulatedRadio, RadioOptions } from "./radio.ts";
import { BROADCAST, TestEther } from "./testing.ts";

const PRIVATE: PortNumber = unlisted(258);
const SECOND_MS = 1_000;
/** They say nothing of their own accord. */
const quiet: RadioOptions = { beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 } };

interface OnAir {
  readonly radio: EmulatedRadio;
  readonly frame: LoraFrame;
  readonly startMs: number;
}

function watched(ether: TestEther): OnAir[] {
  const sent: OnAir[] = [];
  ether.medium.onSent = ({ radio, frame, startMs }) =>
    void sent.push({ radio, frame: decodeLoraFrame(frame)!, startMs });
  return sent;
}

/** Each hears the one before and the one behind. */
function line(ether: TestEther, count: number, options: RadioOptions = {}): EmulatedRadio[] {
  const radios: EmulatedRadio[] = [];
  for (let i = 0; i < count; i++)
    radios.push(ether.radio({ ...quiet, ...options, neighbours: radios.slice(-1) }));
  return radios;
}

/** In a square of so many metres, from one seed. */
function field(ether: TestEther, count: number, metres: number, options: RadioOptions = {}): EmulatedRadio[] {
  const random = seededRandom(count);
  return Array.from({ length: count }, () =>
    ether.radio({ ...quiet, ...options, position: [metres * random.float(), metres * random.float()] }),
  );
}

describe("flooding", () => {
  test("each repeats a packet once at most, most not at all, and nearly all have it", () => {
    const ether = new TestEther({ preset: "mediumFast" });
    const sent = watched(ether);
    const radios = field(ether, 50, 10_000);
    const heard = new Map<number, Set<EmulatedRadio>>();
    for (const radio of radios)
      radio.onHeard = ({ id }) => void heard.set(id, (heard.get(id) ?? new Set()).add(radio));
    for (let id = 1; id <= 10; id++) {
      ether.client(radios[5 * (id - 1)]!).send(PRIVATE, "to all", { id, hopLimit: 5 });
      ether.run(60 * SECOND_MS);
    }
    for (let id = 1; id <= 10; id++) {
      const own = sent.filter(({ frame }) => frame.id === id);
      expect(new Set(own.map(({ radio }) => radio)).size).toBe(own.length);
      expect(own.length).toBeLessThan(35);
      for (const { frame, radio } of own) {
        expect([frame.hopStart, frame.relayNode]).toEqual([5, lastByte(radio.number)]);
        expect(frame.hopLimit === 5).toBe(radio.number === frame.from);
      }
    }
    const reached = [...heard.values()].reduce((sum, { size }) => sum + size, 0);
    expect(reached / 10).toBeGreaterThan(40);
    expect(sent.length / 10).toBeGreaterThan(3);
    expect(radios.reduce((sum, { transmitter }) => sum + transmitter.cancelled, 0)).toBeGreaterThan(100);
  });

  test("who hears another repeat it keeps silent; a router does not, and a mute one never speaks", () => {
    const speakers = (role: RadioOptions["role"]) => {
      const ether = new TestEther();
      const sent = watched(ether);
      const a = ether.radio(quiet);
      const others = [1, 2, 3].map(() => ether.radio({ ...quiet, role: role! }));
      ether.client(a).send(PRIVATE, "x");
      ether.run(60 * SECOND_MS);
      return others.filter((other) => sent.some(({ radio }) => radio === other)).length;
    };
    expect(speakers("client")).toBe(1);
    expect(speakers("router")).toBe(3);
    expect(speakers("routerLate")).toBe(3);
    expect(speakers("clientMute")).toBe(0);
  });

  test("who heard it worst repeats it first, and a router before all", () => {
    let [farFirst, routerFirst] = [0, 0];
    for (let seed = 1; seed <= 20; seed++) {
      const order = (far: RadioOptions) => {
        const ether = new TestEther({ seed });
        const sent = watched(ether);
        const a = ether.radio(quiet);
        const near = ether.radio({ ...quiet, neighbours: [[a, 29]] });
        const other = ether.radio({
          ...quiet,
          ...far,
          neighbours: [
            [a, far.role === "router" ? 29 : 0.5],
            [near, 20],
          ],
        });
        ether.client(a).send(PRIVATE, "x");
        ether.run(60 * SECOND_MS);
        return sent[1]?.radio === other;
      };
      if (order({})) farFirst++;
      if (order({ role: "router" })) routerFirst++;
    }
    expect(farFirst).toBeGreaterThan(16);
    expect(routerFirst).toBe(20);
  });

  test("goes so many hops as it was given, and none further", () => {
    for (const hopLimit of [0, 1, 3, 7]) {
      const ether = new TestEther({ preset: "shortTurbo" });
      const radios = line(ether, 10);
      const reached = new Set<number>();
      for (const [at, radio] of radios.entries()) radio.onHeard = () => void reached.add(at);
      ether.client(radios[0]!).send(PRIVATE, "x", { hopLimit });
      ether.run(60 * SECOND_MS);
      expect(Math.max(...reached)).toBe(hopLimit + 1);
    }
  });

  test("with an acknowledgement wanted is sent again until somebody is heard to repeat it", () => {
    const ether = new TestEther();
    const [a, b] = line(ether, 2) as [EmulatedRadio, EmulatedRadio];
    b.isShielded = true;
    const client = ether.client(a);
    client.send(PRIVATE, "x", { id: 3, wantAck: true });
    ether.run(5 * SECOND_MS);
    b.isShielded = false;
    ether.run(60 * SECOND_MS);
    expect(a.transmitter.sent).toBe(2);
    const acks = client.packets(Port.ROUTING_APP);
    expect(acks.map(({ from, data }) => [from, data.requestId])).toEqual([[a.number, 3]]);
  });

  test("of a channel that nobody else has: 2.7 repeats it once, 2.8 each time that it hears it", () => {
    const frames = (firmware: "2.7" | "2.8") => {
      const ether = new TestEther({ preset: "shortTurbo" });
      const sent = watched(ether);
      const a = ether.radio({ ...quiet, channels: [{ name: "Telex", psk: new Uint8Array(32).fill(7) }] });
      for (let i = 0; i < 3; i++) ether.radio({ ...quiet, firmware });
      ether.client(a).send(PRIVATE, "x", { hopLimit: 3 });
      ether.run(120 * SECOND_MS);
      return sent.length;
    };
    expect(frames("2.7")).toBeLessThanOrEqual(4);
    expect(frames("2.8")).toBeGreaterThan(6);
  });

  test("that does not say where it started is dropped by 2.8 alone", () => {
    for (const [firmware, isHeard] of [
      ["2.7", true],
      ["2.8", false],
    ] as const) {
      const ether = new TestEther();
      const [a, b] = [ether.radio(quiet), ether.radio({ ...quiet, firmware })];
      const to = ether.client(b);
      const transmit = ether.medium.transmit.bind(ether.medium);
      // As something older says it.
      ether.medium.transmit = (radio, frame, ms, left) => {
        const old = frame.slice();
        old[12]! &= 0x1f;
        transmit(radio, old, ms, left);
      };
      ether.client(a).send(PRIVATE, "old", { hopLimit: 3 });
      ether.run(10 * SECOND_MS);
      expect(to.packets(PRIVATE).length > 0).toBe(isHeard);
      expect(b.router.drops.get("pre-hop") ?? 0).toBe(isHeard ? 0 : 1);
    }
  });
});

describe("the next hop", () => {
  /** Two ways from end to end, and the end has learned of one of them. */
  function diamond(ether: TestEther) {
    const old = { ...quiet, firmware: "2.7" } as const;
    const a = ether.radio(old);
    const first = ether.radio({ ...old, neighbours: [a] });
    const relays = [first, ether.radio({ ...old, neighbours: [a, first] })];
    const b = ether.radio({ ...old, neighbours: relays });
    const client = ether.client(a);
    // Whoever carries the answer has to be the one who carried the question.
    for (let i = 0; i < 20 && a.nodes.get(b.number)!.nextHop === 0; i++) {
      client.send(PRIVATE, "anybody", { to: b.number, wantAck: true });
      ether.run(30 * SECOND_MS);
    }
    return { a, b, client, relays, learned: a.nodes.get(b.number)!.nextHop };
  }

  test("is learned from an answer, and then one alone carries", () => {
    const ether = new TestEther();
    const sent = watched(ether);
    const { b, client, relays, learned } = diamond(ether);
    expect(relays.map(({ number }) => lastByte(number))).toContain(learned);
    sent.length = 0;
    client.send(PRIVATE, "directed", { id: 4, to: b.number, wantAck: true });
    ether.run(60 * SECOND_MS);
    const mine = sent.filter(({ frame }) => frame.id === 4);
    expect(mine[0]!.frame.nextHop).toBe(learned);
    expect(new Set(mine.slice(1).map(({ radio }) => lastByte(radio.number)))).toEqual(new Set([learned]));
  });

  test("that is gone is given up at the last attempt, which floods", () => {
    const ether = new TestEther();
    const sent = watched(ether);
    const { a, b, client, relays, learned } = diamond(ether);
    const to = ether.client(b);
    relays.find(({ number }) => lastByte(number) === learned)!.unplug();
    sent.length = 0;
    client.send(PRIVATE, "again", { id: 4, to: b.number, wantAck: true });
    ether.run(120 * SECOND_MS);
    const own = sent.filter(({ radio, frame }) => radio === a && frame.id === 4);
    expect(own.map(({ frame }) => frame.nextHop)).toEqual([learned, learned, 0]);
    expect(to.packets(PRIVATE).length).toBe(1);
    expect(a.nodes.get(b.number)!.nextHop).not.toBe(learned);
  });
});

test("a trace tells each station of the way and how well it was heard", () => {
  const ether = new TestEther({ preset: "shortTurbo" });
  const radios = line(ether, 4);
  const client = ether.client(radios[0]!);
  client.send(Port.TRACEROUTE_APP, "", { id: 2, to: radios[3]!.number }, { wantResponse: true });
  ether.run(30 * SECOND_MS);
  const answer = client.packets(Port.TRACEROUTE_APP).find(({ data }) => data.requestId === 2);
  const { route, snrTowards, routeBack, snrBack } = fromBinary(
    Mesh.RouteDiscoverySchema,
    answer!.data.payload,
  );
  const [, first, second] = radios.map(({ number }) => number);
  expect([route, routeBack]).toEqual([
    [first!, second!],
    [second!, first!],
  ]);
  expect([snrTowards.length, snrBack.length]).toEqual([3, 3]);
  expect(new Set([...snrTowards, ...snrBack]).size).toBe(1);
});

test("one who was never heard of before is asked who he is, and both know each other's keys", () => {
  const ether = new TestEther({ isIntroduced: false });
  const [a, b] = [ether.radio(quiet), ether.radio(quiet)];
  ether.client(a).send(PRIVATE, "hello");
  ether.run(30 * SECOND_MS);
  expect(b.nodes.keyOf(a.number)).toEqual(a.keys.publicKey);
  expect(a.nodes.keyOf(b.number)).toEqual(b.keys.publicKey);
});

test("fifty radios for three hours are the same twice, and keep to what the air allows", () => {
  const threeHours = () => {
    const ether = new TestEther({ seed: 5, loss: 0.02 });
    const radios = field(ether, 50, 12_000, { firmware: "2.7", beacons: {} });
    for (let hour = 0; hour < 3; hour++) {
      const from = radios[(7 * hour) % 50]!;
      ether.client(from).send(Port.TEXT_MESSAGE_APP, `TELEX ${hour}`, { to: BROADCAST, wantAck: true });
      ether.run(3_600 * SECOND_MS);
    }
    return {
      airtimeMs: ether.medium.airtimeMs,
      misses: ether.medium.misses,
      sent: radios.map(({ transmitter }) => transmitter.sent),
      most: Math.max(...radios.map(({ airtime }) => airtime.ownPercent)),
      known: radios.map(({ nodes }) => nodes.size),
    };
  };
  const [first, second] = [threeHours(), threeHours()];
  expect(second).toEqual(first);
  expect(first.most).toBeLessThan(10);
  expect(first.airtimeMs).toBeGreaterThan(1_000_000);
  expect(first.misses.collision).toBeGreaterThan(0);
});
