import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { Waiting } from "./waiting.ts";

const [one, two, three] = ["1", "2", "3"].map((digit) => digit.repeat(32) as MessageId) as [
  MessageId,
  MessageId,
  MessageId,
];

function rig() {
  const clock = new ManualClock();
  const expired: MessageId[] = [];
  const waiting: Waiting = new Waiting(clock, (id) => {
    expired.push(id);
    waiting.delete("LON-B", id);
  });
  return { clock, expired, waiting };
}

test("messages are found by what they wait for, in the order they came", () => {
  const { waiting } = rig();
  waiting.add("LON-B", two, 9);
  waiting.add("LON-B", one, 9);
  waiting.add("NYC", three, 9);
  expect([waiting.addresses, waiting.under("LON-B"), waiting.under("PAR")]).toEqual([
    ["LON-B", "NYC"],
    [two, one],
    [],
  ]);
  expect(["LON-B", "NYC", "PAR"].map((address) => waiting.has(address))).toEqual([true, true, false]);
  expect([waiting.has("LON-B", one), waiting.has("LON-B", three)]).toEqual([true, false]);
  waiting.delete("NYC", three);
  waiting.delete("NYC", one);
  expect(waiting.addresses).toEqual(["LON-B"]);
  expect(waiting.has("NYC")).toBe(false);
  waiting.stop();
});

test("each life ends at its time, not at that of the first to wait, and not once it waits no more", async () => {
  const { clock, expired, waiting } = rig();
  waiting.add("LON-B", one, 5_000);
  waiting.add("LON-B", two, 1_000);
  waiting.add("LON-B", three, 3_000);
  await clock.advance(1_000);
  expect(expired).toEqual([two]);
  waiting.delete("LON-B", three);
  await clock.advance(3_000);
  expect(expired).toEqual([two]);
  await clock.advance(1_000);
  expect([expired, waiting.addresses]).toEqual([[two, one], []]);
});

test("a stopped one ends nobody's life", async () => {
  const { clock, expired, waiting } = rig();
  waiting.add("LON-B", one, 1_000);
  waiting.stop();
  await clock.advance(2_000);
  expect(expired).toEqual([]);
});
