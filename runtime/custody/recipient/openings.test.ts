import { expect, test } from "bun:test";
import { ManualClock, nextTurn } from "../../kernel/clock.ts";
import { testId } from "../testing.ts";
import { Openings } from "./openings.ts";

const [a, b] = [testId("a"), testId("b")];

/** What takes `ms` to open, noted when it is. */
function crowd() {
  const clock = new ManualClock();
  const openings = new Openings(clock);
  const opened: string[] = [];
  const add = (from: typeof a, name: string, ms: number) =>
    openings.run(from, () => {
      opened.push(name);
      clock.jumpTo(clock.monotonicMs() + ms);
      return name;
    });
  return { clock, opened, add };
}

test("a lone message is opened at once", () => {
  const { opened, add } = crowd();
  void add(a, "one", 1);
  expect(opened).toEqual(["one"]);
});

test("a turn opens for some milliseconds, and what one neighbour brought at once does not keep another's waiting", async () => {
  const { opened, add } = crowd();
  const all = Array.from({ length: 100 }, (_, n) => add(a, `a${n}`, 1));
  expect(opened.length).toBe(4);
  all.push(add(b, "b", 1));
  await nextTurn();
  await nextTurn();
  expect(opened.length).toBeLessThanOrEqual(12);
  expect(opened.slice(0, 8)).toContain("b");
  expect(await Promise.all(all)).toHaveLength(101);
  expect(opened.filter((name) => name !== "b")).toEqual(Array.from({ length: 100 }, (_, n) => `a${n}`));
});

test("what takes longer than a turn is opened all the same, and what throws rejects", async () => {
  const { opened, add } = crowd();
  await Promise.all([add(a, "long", 50), add(a, "longer", 50), add(b, "other", 50)]);
  expect(opened.sort()).toEqual(["long", "longer", "other"]);
  const openings = new Openings(new ManualClock());
  const failing = openings.run(a, () => {
    throw new Error("forged");
  });
  expect(failing).rejects.toThrow("forged");
  expect(await openings.run(a, () => 1)).toBe(1);
});

test("where all else takes long, as in a flood that is read, what is opened has as much of a turn", async () => {
  const { clock, opened, add } = crowd();
  const all = Array.from({ length: 100 }, (_, n) => add(a, `a${n}`, 1));
  for (let turn = 0; turn < 3; turn++) {
    clock.jumpTo(clock.monotonicMs() + 20);
    await nextTurn();
  }
  expect(opened.length).toBeGreaterThan(30);
  await Promise.all(all);
});
