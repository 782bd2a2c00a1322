import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decideVerdict,
  OFFENCES_FORGOTTEN_MS,
  planImmunity,
  planQuarantine,
  planTests,
  QUARANTINE_CAP_MS,
  QUARANTINE_FIRST_MS,
  receiptDueMs,
} from "./verdict.ts";

const liar = { isOffered: true, taken: 2, answered: 0, witnesses: 1 };

test("lost: it took mail, offers the way still, and another way delivers", () => {
  expect(decideVerdict(liar)).toBe("lost");
  expect(decideVerdict({ ...liar, answered: 1 })).toBe("lost");
});

test("honest: everything that it took arrived, whatever others do", () => {
  expect(decideVerdict({ ...liar, answered: 2 })).toBe("honest");
  expect(decideVerdict({ isOffered: false, taken: 2, answered: 2, witnesses: 0 })).toBe("honest");
});

test("unknown: no witness, no offer any more, or nothing taken", () => {
  expect(decideVerdict({ ...liar, witnesses: 0 })).toBe("unknown");
  expect(decideVerdict({ ...liar, isOffered: false })).toBe("unknown");
  expect(decideVerdict({ ...liar, taken: 0 })).toBe("unknown");
});

test("nobody is guilty without a witness, nor when all that it took arrived", () => {
  const evidence = fc.record({
    isOffered: fc.boolean(),
    taken: fc.nat(8),
    answered: fc.nat(8),
    witnesses: fc.nat(2),
  });
  fc.assert(
    fc.property(evidence, (one) => {
      if (decideVerdict(one) !== "lost") return;
      expect(one.witnesses).toBeGreaterThan(0);
      expect(one.isOffered).toBe(true);
      expect(one.answered).toBeLessThan(one.taken);
    }),
  );
});

test("each repeat doubles the time, up to a day; a good day makes it the first again", () => {
  let offence = planQuarantine(undefined, 0);
  expect(offence).toEqual({ count: 1, untilMs: QUARANTINE_FIRST_MS });
  offence = planQuarantine(offence, 1_000_000);
  expect(offence).toEqual({ count: 2, untilMs: 1_000_000 + 2 * QUARANTINE_FIRST_MS });
  for (let i = 0; i < 20; i++) offence = planQuarantine(offence, offence.untilMs);
  expect(planQuarantine(offence, 0).untilMs).toBe(QUARANTINE_CAP_MS);
  expect(planQuarantine(offence, offence.untilMs + OFFENCES_FORGOTTEN_MS).count).toBe(1);
});

test("bounds", () => {
  expect(planTests(0)).toBe(2);
  expect(planTests(100)).toBe(8);
  expect(planImmunity(0)).toBe(5_000);
  expect(planImmunity(100)).toBe(300_000);
  expect(receiptDueMs(0)).toBe(3_000);
  expect(receiptDueMs(2 ** 31)).toBe(63_000);
});
