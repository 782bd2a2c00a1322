import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { Asks, ASKS_FOR_MS, ASKS_MAX } from "./asks.ts";

const id = (index: number): NodeId => formatNodeId(new Uint8Array(32).fill(index));
const anybody = () => true;

test("each is asked for sixteen times in a day, whatever brings its mail up again, those first that were least", () => {
  const clock = new ManualClock();
  const asks = new Asks(clock);
  const times = new Map<NodeId, number>();
  const ask = (count: number) => {
    for (let i = 0; i < count; i++) {
      for (const one of [id(1), id(2)]) asks.add(one);
      const least = asks.least(anybody);
      if (least === undefined) continue;
      asks.note(least);
      times.set(least, (times.get(least) ?? 0) + 1);
    }
  };
  ask(4);
  expect([...times.values()]).toEqual([2, 2]);
  ask(100);
  expect([...times.values()]).toEqual([ASKS_MAX, ASKS_MAX]);
  expect(asks.areLeft).toBe(false);
  clock.jumpTo(ASKS_FOR_MS - 1);
  ask(100);
  expect([...times.values()]).toEqual([ASKS_MAX, ASKS_MAX]);
  clock.jumpTo(ASKS_FOR_MS);
  ask(100);
  expect([...times.values()]).toEqual([2 * ASKS_MAX, 2 * ASKS_MAX]);
});

test("who may not be asked for now, and who is there, is passed over", () => {
  const asks = new Asks(new ManualClock());
  for (const one of [id(1), id(2)]) asks.add(one);
  expect(asks.least((one) => one === id(2))).toBe(id(2));
  asks.delete(id(2));
  expect(asks.least(anybody)).toBe(id(1));
  asks.delete(id(1));
  expect([asks.areLeft, asks.ids]).toEqual([false, []]);
});
