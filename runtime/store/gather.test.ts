import { expect, test } from "bun:test";
import { nextTurn } from "../kernel/clock.ts";
import { gather, GATHER_MS } from "./gather.ts";

const stopped = () => 0;

/** One more in each of so many turns. */
async function crowd(turns: number, add: () => void): Promise<void> {
  for (let i = 0; i < turns; i++) {
    add();
    await nextTurn();
  }
}

test("one that is alone waits for one turn", async () => {
  let turns = 0;
  const counting = crowd(10, () => turns++);
  await gather(() => 1, 100, stopped);
  expect(turns).toBeLessThanOrEqual(3);
  await counting;
});

test("what comes in turns that follow each other goes together", async () => {
  let waiting = 1;
  const coming = crowd(50, () => waiting++);
  await gather(() => waiting, 1_000, stopped);
  expect(waiting).toBe(51);
  await coming;
});

test("enough of them go at once, and the first waits for so long at most", async () => {
  let waiting = 1;
  let nowMs = 0;
  const coming = crowd(50, () => waiting++);
  await gather(() => waiting, 10, stopped);
  expect(waiting).toBeLessThanOrEqual(11);
  const before = waiting;
  await gather(
    () => waiting,
    1_000,
    () => nowMs++ * (GATHER_MS / 8),
  );
  expect(waiting - before).toBeLessThanOrEqual(10);
  await coming;
});
