/** Nobody silences a name, whatever number he says in it; and what was said once says nothing more. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { BeaconNumbers, FORGOTTEN_MS, NUMBERS_MAX } from "./numbers.ts";
import { HEARD_FOR_MS } from "./presence.ts";

const HOUR_MS = 3_600_000;
const HIGHEST = 2 ** 48 - 1;
const numberOf = (epoch: number, counter: number): number => epoch * 2 ** 24 + counter;

test("the highest number that there is, once or every hour, shuts out none of those that the owner says", () => {
  const numbers = new BeaconNumbers();
  for (let hour = 0; hour < 500; hour++) {
    // A boot of the owner's in between.
    const own = hour < 300 ? numberOf(7, hour + 1) : numberOf(8, hour - 299);
    expect(numbers.take(own, hour * HOUR_MS)).toBe(true);
    numbers.take(HIGHEST - hour, hour * HOUR_MS + 1);
  }
});

test("an owner that was away for days is heard again, though forged numbers came all the while", () => {
  const numbers = new BeaconNumbers();
  let counter = 0;
  for (let hour = 0; hour < 10; hour++) numbers.take(numberOf(7, ++counter), hour * HOUR_MS);
  for (let hour = 10; hour < 100; hour++) numbers.take(HIGHEST - 1_000 + hour, hour * HOUR_MS);
  for (let hour = 100; hour < 200; hour++) expect(numbers.take(numberOf(9, hour), hour * HOUR_MS)).toBe(true);
});

test("what was heard, and what is older, counts no more, however often and long after it is repeated", () => {
  const numbers = new BeaconNumbers();
  const said: number[] = [];
  for (let hour = 0; hour < 200; hour++) {
    // Some are lost.
    const number = numberOf(7, hour + 1);
    if (hour % 5 !== 0 && numbers.take(number, hour * HOUR_MS)) said.push(number);
    for (const old of said) expect(numbers.take(old, hour * HOUR_MS)).toBe(false);
    // Of those that were lost an hour or two may be late, no more.
    const lost = numberOf(7, hour - 24 - (hour % 5));
    if (hour > 40) expect(numbers.take(lost, hour * HOUR_MS)).toBe(false);
  }
});

test("of an older disk the numbers count after a day of silence, or once a session is made", () => {
  const numbers = new BeaconNumbers();
  numbers.take(numberOf(9, 4), 0);
  expect(numbers.take(numberOf(3, 1), FORGOTTEN_MS - 1)).toBe(false);
  expect(numbers.take(numberOf(3, 1), FORGOTTEN_MS)).toBe(true);
  numbers.take(numberOf(9, 5), FORGOTTEN_MS + 1);
  numbers.forget();
  expect(numbers.take(numberOf(2, 1), FORGOTTEN_MS + 2)).toBe(true);
});

test("whatever others say, what the owner says counts, unless they said the very number first", () => {
  const forged = fc.array(
    fc.record({ number: fc.oneof(fc.nat(2_000), fc.nat(HIGHEST)), after: fc.nat(HEARD_FOR_MS) }),
    { maxLength: 4 * NUMBERS_MAX },
  );
  fc.assert(
    fc.property(forged, fc.nat(900), (others, first) => {
      const numbers = new BeaconNumbers();
      const taken = new Set<number>();
      let own = first + 1;
      let [nowMs, dueMs] = [0, HOUR_MS];
      numbers.take(own, nowMs);
      for (const { number, after } of others) {
        nowMs += after;
        // The owner speaks every hour.
        for (; dueMs <= nowMs; dueMs += HOUR_MS) {
          own++;
          expect(numbers.take(own, dueMs)).toBe(!taken.has(own));
        }
        if (numbers.take(number, nowMs)) taken.add(number);
      }
    }),
    { numRuns: 300 },
  );
});
