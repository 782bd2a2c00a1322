/** Queues of ten and a hundred thousand bundles. */
import { beforeEach, describe, expect, test } from "bun:test";
import type { BundleId } from "../../kernel/ids.ts";
import { RefuseReason } from "../../wire/bundle.ts";
import { type Holding } from "../context.ts";
import { testId } from "../testing.ts";
import type { Forwarder } from "./forwarder.ts";
import { DAY_MS, near, far, b, c, Bench } from "./testing-forwarder.ts";

const OTHERS = 10_000;
const destinations = Array.from({ length: 100 }, (_, i) => testId(`other ${i}`));
const neighbours = Array.from({ length: 20 }, (_, i) => testId(`neighbour ${i}`));

describe("beside ten thousand bundles for others", () => {
  let bench: Bench;
  let forwarder: Forwarder;

  /** A third waits for a route, a third for a receipt, a third for an acknowledgement; to a hundred destinations. */
  beforeEach(() => {
    bench = new Bench();
    ({ forwarder } = bench);
    for (let i = 0; i < OTHERS; i++) {
      const destination = destinations[i % 100]!;
      if (i % 3 === 1) bench.add(destination);
      else {
        const neighbour = neighbours[i % 20]!;
        const more = i % 3 === 0 ? {} : ({ role: "relay", arrivedFrom: far } as const);
        bench.routes.set(destination, neighbour);
        const { id } = bench.add(destination, more);
        if (i % 3 === 0) forwarder.onAck(neighbour, [id]);
        bench.routes.delete(destination);
      }
    }
    expect(forwarder.count).toBe(OTHERS);
  });

  test("a new bundle, its acknowledgement and its end look at nothing else", async () => {
    bench.routes.set(b, near);
    let id: BundleId | undefined;
    expect(await bench.cost(() => ({ id } = bench.add(b)))).toBe(1);
    expect(await bench.cost(() => forwarder.onAck(near, [id!]))).toBe(1);
    expect(forwarder.get(id!)!.state).toBe("relayed");
    expect(await bench.cost(() => forwarder.retry(id!))).toBe(1);
    expect(await bench.cost(() => forwarder.remove(id!))).toBe(1);
  });

  test("a refusal, and the pause after it, look at what was refused", async () => {
    bench.routes.set(b, near);
    const { id } = bench.add(b);
    expect(await bench.cost(() => forwarder.onRefuse(near, id, RefuseReason.full, 5_000))).toBe(1);
    expect(forwarder.get(id)!.state).toBe("paused");
    const before = bench.sent.length;
    expect(await bench.cost(() => bench.clock.advance(6_000))).toBe(1);
    expect(bench.sent.length).toBe(before + 1);
  });

  test("a route that appears looks at what is for its destination", async () => {
    for (let i = 0; i < 5; i++) bench.add(b);
    bench.routes.set(b, near);
    expect(await bench.cost(() => forwarder.onRoute(b))).toBe(5);
    expect(await bench.cost(() => forwarder.onRoute(c))).toBe(0);
  });

  test("a neighbour that goes looks at what was under way to it", async () => {
    bench.routes.set(b, near);
    for (let i = 0; i < 5; i++) bench.add(b);
    bench.routes.delete(b);
    expect(await bench.cost(() => forwarder.onNeighbourDown(near))).toBe(5);
    expect(await bench.cost(() => forwarder.onNeighbourDown(far))).toBe(0);
  });

  test("a neighbour that comes back, or lost its store, looks at what it had acknowledged", async () => {
    bench.routes.set(near, near).set(b, near);
    const toIt = bench.add(near);
    const overIt = bench.add(b);
    forwarder.onAck(near, [toIt.id, overIt.id]);
    expect(await bench.cost(() => forwarder.onDestinationUp(near))).toBe(1);
    expect([toIt.state, overIt.state]).toEqual(["inflight", "relayed"]);
    expect(await bench.cost(() => forwarder.onStoreLost(near))).toBe(1);
    expect(overIt.state).toBe("inflight");
    expect(await bench.cost(() => forwarder.onStoreLost(far))).toBe(0);
  });

  test("a trial looks at what the suspect acknowledged for that destination", async () => {
    bench.routes.set(b, near);
    const waiting = [bench.add(b), bench.add(b)];
    const pinned = bench.add(b, { via: near });
    forwarder.onAck(
      near,
      [...waiting, pinned].map(({ id }) => id),
    );
    let found: Holding[] = [];
    expect(await bench.cost(() => (found = [...forwarder.awaiting(near, b)]))).toBe(3);
    expect(found).toEqual(waiting);
    expect([...forwarder.awaiting(near, c), ...forwarder.awaiting(far, b)]).toEqual([]);
  });

  test("time that passes looks at what it ends: a life, a pause, an answer overdue", async () => {
    bench.routes.set(b, near);
    bench.add(c, { deadlineMs: bench.clock.monotonicMs() + 1_000 });
    bench.add(b, { state: "paused", wakeAtMs: bench.clock.monotonicMs() + 2_000 });
    const sent = bench.sent.length;
    expect(await bench.cost(() => bench.clock.advance(900))).toBe(0);
    expect(await bench.cost(() => bench.clock.advance(200))).toBe(1);
    expect(bench.expired).toHaveLength(1);
    expect(await bench.cost(() => bench.clock.advance(1_000))).toBe(1);
    expect(bench.sent.length).toBe(sent + 1);
  });

  test("what is for a revoked node is found by its name", () => {
    const [first, second] = [bench.add(b), bench.add(b)];
    bench.looked.clear();
    expect([...forwarder.toward(b)]).toEqual([first, second]);
    expect(bench.looked.size).toBeLessThanOrEqual(2);
  });
});

describe("what waits for no event", () => {
  test("a bundle that goes takes its time along: nothing of a hundred thousand stays behind", async () => {
    const bench = new Bench();
    for (let i = 0; i < 100_000; i++) bench.forwarder.remove(bench.add(b).id);
    expect([bench.forwarder.count, bench.forwarder.bytes]).toEqual([0, 0]);
    await bench.clock.advance(2 * DAY_MS);
    expect(bench.expired).toEqual([]);
  });
});
