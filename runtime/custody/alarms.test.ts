import { expect, test } from "bun:test";
import fc from "fast-check";
import { Alarms } from "./alarms.ts";

const step = fc.oneof(
  fc.record({ op: fc.constant("set"), key: fc.nat(20), atMs: fc.nat(100) }),
  fc.record({ op: fc.constant("delete"), key: fc.nat(20), atMs: fc.constant(0) }),
  fc.record({ op: fc.constant("take"), key: fc.constant(0), atMs: fc.nat(100) }),
);

test("it answers what a plain table of times answers", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const alarms = new Alarms<number>();
      const table = new Map<number, { atMs: number; sequence: number }>();
      steps.forEach(({ op, key, atMs }, sequence) => {
        if (op === "set") {
          alarms.set(key, atMs);
          if (atMs < (table.get(key)?.atMs ?? Number.POSITIVE_INFINITY)) table.set(key, { atMs, sequence });
        } else if (op === "delete") {
          alarms.delete(key);
          table.delete(key);
        } else {
          const due = [...table].filter(([, alarm]) => alarm.atMs <= atMs);
          due.sort(([, a], [, b]) => a.atMs - b.atMs || a.sequence - b.sequence);
          for (const [dueKey] of due) table.delete(dueKey);
          expect(alarms.takeDue(atMs)).toEqual(due.map(([dueKey]) => dueKey));
        }
        expect(alarms.size).toBe(table.size);
        expect(alarms.nextMs).toBe(Math.min(...[...table.values()].map((alarm) => alarm.atMs)));
      });
    }),
  );
});

test("a time that never comes is none", () => {
  const alarms = new Alarms<string>();
  alarms.set("a", Number.POSITIVE_INFINITY);
  expect([alarms.size, alarms.nextMs]).toEqual([0, Number.POSITIVE_INFINITY]);
});

test("a hundred thousand keys that come and go leave nothing behind", () => {
  const alarms = new Alarms<number>();
  for (let i = 0; i < 100; i++) alarms.set(-1 - i, 1_000_000 + i);
  for (let i = 0; i < 100_000; i++) {
    alarms.set(i, 2_000_000 + i);
    alarms.delete(i);
  }
  // One key set earlier and earlier, too.
  for (let i = 100_000; i > 0; i--) alarms.set(7, 3_000_000 + i);
  expect(alarms.size).toBe(101);
  expect(alarms.heapLength).toBeLessThan(400);
});
