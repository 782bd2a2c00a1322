import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { NodeId } from "../kernel/ids.ts";
import { Backlog, type Parked } from "./backlog.ts";

const A = "a".repeat(52) as NodeId;
const B = "b".repeat(52) as NodeId;
const parked = (order: number, more: Partial<Parked> = {}): Parked => ({
  order,
  remainingMs: 60_000,
  atRunMs: 0,
  size: 10 * order,
  ...more,
});
const relayed = (order: number, via: NodeId, wakeAtMs: number): Parked =>
  parked(order, { relayed: { via, relays: 1, wakeAtMs } });
const orders = (list: readonly Parked[]) => list.map(({ order }) => order);

describe("backlog", () => {
  test("a lane gives in order of arrival, and one that came back stands where it stood", () => {
    const backlog = new Backlog();
    for (const order of [1, 2, 3, 5, 8]) backlog.add("2 x", parked(order));
    backlog.add("1 x", parked(4));
    expect(orders(backlog.takeReady("2 x", 2))).toEqual([1, 2]);
    backlog.add("2 x", parked(2));
    backlog.add("2 x", parked(4));
    expect(orders(backlog.takeReady("2 x", 9))).toEqual([2, 3, 4, 5, 8]);
    expect([backlog.count, [...backlog.lanes]]).toEqual([1, ["1 x"]]);
  });

  test("what was relayed waits for its time, or for its neighbour", () => {
    const backlog = new Backlog();
    backlog.add("x", relayed(1, A, 5_000));
    backlog.add("x", relayed(2, B, 9_000));
    backlog.add("x", parked(3));
    expect(orders(backlog.takeReady("x", 9))).toEqual([3]);
    const left = () => 60_000;
    expect(backlog.sweep(4_999, left, 9)).toEqual({ swept: new Map(), nextMs: 5_000 });
    expect(backlog.sweep(5_000, left, 9).swept.get("x")).toMatchObject({ over: [], hasReady: true });
    expect(backlog.takeReady("x", 9)).toEqual([
      { ...relayed(1, A, 0), relayed: { via: A, relays: 1, wakeAtMs: 0 } },
    ]);
    expect([backlog.giveBack("x", A), backlog.giveBack("x", B)]).toEqual([false, true]);
    expect(orders(backlog.takeReady("x", 9))).toEqual([2]);
    expect([backlog.count, backlog.has("x")]).toEqual([0, false]);
  });

  test("lives end, so many at a time", () => {
    const backlog = new Backlog();
    for (let order = 1; order <= 10; order++) backlog.add("x", parked(order, { remainingMs: order * 100 }));
    const at = (nowMs: number) =>
      backlog.sweep(nowMs, (remainingMs, atRunMs) => remainingMs - (nowMs - atRunMs), 3);
    expect(at(99).nextMs).toBe(100);
    expect(
      at(500)
        .swept.get("x")!
        .over.map(({ order }) => order),
    ).toEqual([1, 2, 3]);
    expect(at(500)).toMatchObject({ nextMs: 600 });
    expect(at(5_000).nextMs).toBe(5_000);
    expect([
      at(5_000)
        .swept.get("x")!
        .over.map(({ order }) => order),
      backlog.count,
    ]).toEqual([[9, 10], 0]);
  });

  test("is what a plain list would be, whatever happens", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("add" as const), order: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ do: fc.constant("relayed" as const), order: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ do: fc.constant("take" as const), order: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ do: fc.constant("ready" as const), order: fc.integer({ min: 1, max: 90 }) }),
      fc.record({ do: fc.constant("back" as const), order: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
        const backlog = new Backlog();
        const model = new Map<number, boolean>();
        for (const { do: what, order } of steps) {
          if (what === "add" || what === "relayed") {
            if (model.has(order)) continue;
            backlog.add("x", what === "add" ? parked(order) : relayed(order, A, 9));
            model.set(order, what === "add");
          } else if (what === "take") {
            expect(backlog.take("x", order)?.order).toBe(model.has(order) ? order : undefined);
            model.delete(order);
          } else if (what === "back") {
            backlog.giveBack("x", A);
            for (const key of model.keys()) model.set(key, true);
          } else {
            const ready = [...model].filter(([, isReady]) => isReady).map(([key]) => key);
            const expected = ready.sort((a, b) => a - b).slice(0, order);
            expect(orders(backlog.takeReady("x", order))).toEqual(expected);
            for (const key of expected) model.delete(key);
          }
          expect(backlog.hasReady("x")).toBe([...model.values()].includes(true));
          expect(backlog.count).toBe(model.size);
        }
      }),
    );
  });
});
