import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { encodePacket, PacketKind, type PacketHeader } from "../wire/packet.ts";
import { Packets } from "./packets.ts";

const id = (fill: number): NodeId => formatNodeId(new Uint8Array(32).fill(fill));
const names = { a: id(1), b: id(2), c: id(3), x: id(9) };

/** a - b - c in a line over wires without time. */
function line() {
  const clock = new ManualClock();
  const order = [names.a, names.b, names.c];
  const delivered: { at: NodeId; header: PacketHeader; text: string }[] = [];
  const room = { isFull: false };
  const all = new Map<NodeId, { packets: Packets; metrics: Metrics }>();
  order.forEach((self, i) => {
    const metrics = new Metrics();
    const packets = new Packets({
      self,
      clock,
      random: seededRandom(i),
      metrics,
      nextHops: (destination) => {
        const to = order.indexOf(destination);
        if (to < 0 || to === i) return [];
        const neighbour = order[to > i ? i + 1 : i - 1]!;
        return [{ neighbour, metric: 10, mtu: 61_440, bottleneck: 0 }] as never;
      },
      queueDelay: () => 0,
      send: (to, _priority, frame) => {
        if (room.isFull) return false;
        const copy = frame.slice();
        clock.after(1, () => all.get(to)!.packets.onFrame(self, copy));
        return true;
      },
      deliver: (header, payload) => {
        delivered.push({ at: self, header, text: Buffer.from(payload).toString() });
        return undefined;
      },
    });
    all.set(self, { packets, metrics });
  });
  const of = (self: NodeId) => all.get(self)!.packets;
  const drops = async (self: NodeId) =>
    (await all.get(self)!.metrics.render())
      .split("\n")
      .filter((text) => text.startsWith("godwit_packets_dropped_total{"));
  return { clock, delivered, room, of, drops };
}

describe("forwarding", () => {
  test("hop by hop to the destination, each spending one", async () => {
    const { clock, delivered, of } = line();
    expect(of(names.a).send(names.c, 1, Buffer.from("hi"), { priority: 2 })).toBe(true);
    await clock.advance(5);
    expect(delivered.map(({ at, text, header }) => [at, text, header.hopsLeft])).toEqual([
      [names.c, "hi", 63],
    ]);
  });

  test("no route, no room and no hops left are each dropped once with their reason", async () => {
    const { clock, delivered, room, of, drops } = line();
    expect(of(names.a).send(names.x, 1, Buffer.from("1"), { priority: 2 })).toBe(false);
    room.isFull = true;
    expect(of(names.a).send(names.c, 1, Buffer.from("2"), { priority: 2 })).toBe(false);
    room.isFull = false;
    of(names.a).send(names.c, 1, Buffer.from("3"), { priority: 2, hops: 1 });
    await clock.advance(5);
    expect(delivered).toEqual([]);
    expect((await drops(names.a)).length).toBe(2);
    expect(await drops(names.b)).toEqual(['godwit_packets_dropped_total{reason="hop_limit"} 1']);
  });

  test("a payload that makes no sense is its source's fault, not that of the neighbour who passed it on", async () => {
    const { of, drops } = line();
    const send = (kind: number, hopsLeft: number, destination: NodeId) => {
      const header = { priority: 0, plane: "any", hopsLeft, kind, destination, source: names.x } as const;
      of(names.c).onFrame(names.b, encodePacket(header, new Uint8Array(2)));
    };
    send(PacketKind.traceRequest, 9, names.c);
    send(PacketKind.traceReply, 9, names.c);
    send(PacketKind.traceRequest, 1, names.a);
    expect(await drops(names.c)).toEqual(['godwit_packets_dropped_total{reason="malformed"} 3']);
    // A header that is too short is the neighbour's own.
    expect(() => of(names.c).onFrame(names.b, new Uint8Array(67).fill(0x20))).toThrow(
      "shorter than its header",
    );
  });
});

describe("trace", () => {
  test("names every hop in order", async () => {
    const { clock, of } = line();
    const tracing = of(names.a).trace(names.c, new AbortController().signal);
    await clock.advance(10);
    const { reached, hops } = await tracing;
    expect([reached, hops.map(({ node, stage }) => [node, stage])]).toEqual([
      true,
      [
        [names.b, "hop"],
        [names.c, "reached"],
      ],
    ]);
    await clock.advance(3_000);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("of this very node is reached at once; of nobody ends; an abort leaves no timer", async () => {
    const { clock, of } = line();
    const { signal } = new AbortController();
    expect(await of(names.a).trace(names.a, signal)).toMatchObject({ reached: true });
    expect(await of(names.a).trace(names.x, signal)).toEqual({ reached: false, hops: [] });
    const abort = new AbortController();
    const tracing = of(names.a).trace(names.c, abort.signal);
    abort.abort();
    expect((await tracing).reached).toBe(false);
    await clock.advance(10);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("a flood of requests is answered at most 200 times a second", async () => {
    const { clock, of, drops } = line();
    const payload = new Uint8Array(4);
    const header = {
      priority: 0,
      plane: "any",
      hopsLeft: 9,
      kind: 2,
      destination: names.c,
      source: names.x,
    } as const;
    for (let i = 0; i < 500; i++) of(names.c).onFrame(names.b, encodePacket(header, payload));
    await clock.advance(1);
    expect(await drops(names.c)).toContain('godwit_packets_dropped_total{reason="trace_rate"} 300');
  });
});
