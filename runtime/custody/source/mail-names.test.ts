import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { formatBundleId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { noBundleId } from "../../wire/message.ts";
import { testId } from "../testing.ts";
import type { OutboxEntry } from "./entry.ts";
import { idOf, MailNaming, RENAMES_BURST, RENEWALS_BURST } from "./mail-names.ts";

const self = testId("self");
const bundle = (n: number) => formatBundleId(new Uint8Array(16).fill(n));
function open(seed = 1, addressesMax?: number) {
  const clock = new ManualClock();
  const ctx = { self, log: silentLog, random: seededRandom(seed), clock, metrics: new Metrics() };
  const names = new MailNaming(ctx, addressesMax);
  const entry = (to = "DUN-A") => {
    const name = names.next(to);
    const targets = [{ node: testId("a"), bundle: bundle(1), sealedBytes: 1, key: null }];
    return { id: idOf(self, to, name), to, ...name, targets } as unknown as OutboxEntry;
  };
  return { clock, names, entry };
}

test("counters run for each address; more addresses than an epoch counts begin another, and no name comes twice", () => {
  const { names } = open(1, 3);
  const given = ["a", "a", "b", "c", "a", "d", "a", "b"].map((to) => ({ to, ...names.next(to) }));
  expect(given.map(({ counter }) => counter)).toEqual([0, 1, 0, 0, 2, 0, 0, 0]);
  expect(new Set(given.map(({ epoch }) => epoch)).size).toBe(2);
  expect(new Set(given.map(({ to, epoch, counter }) => `${to} ${epoch} ${counter}`)).size).toBe(given.length);
});

test("only a bundle that was never sealed here proves a double, and only for what this start named", () => {
  const { names, entry } = open();
  const one = entry();
  expect(names.isOfDouble(one, bundle(1))).toBe(false);
  expect(names.isOfDouble(one, bundle(2))).toBe(true);
  expect(names.isOfDouble({ ...one, formerBundles: [bundle(2)] }, bundle(2))).toBe(false);
  // A receipt that was made anew no longer knows the bundle.
  expect(names.isOfDouble(one, noBundleId)).toBe(false);
  expect(open(2).names.isOfDouble(one, bundle(2))).toBe(false);
});

test("a renamed message is found under both names, after a restart as well", () => {
  const { names, entry } = open();
  const one = entry();
  const { epoch, id } = { ...one };
  expect(names.rename(one)).toBe(true);
  expect([one.id, one.isRenamed, one.epoch === epoch, names.next("x").epoch === one.epoch]).toEqual([
    id,
    true,
    false,
    true,
  ]);
  const inside = idOf(self, one.to, one);
  const later = open(2).names;
  expect(later.toldAs(inside)).toBe(inside);
  later.restore(one);
  expect([names.toldAs(inside), later.toldAs(inside), names.toldAs(id)]).toEqual([id, id, id]);
});

test("a recipient that signs for bundles nobody sealed does not make this node rename without end", async () => {
  const { clock, names, entry } = open();
  const waiting = Array.from({ length: RENAMES_BURST + 2 }, () => entry());
  const renamed = waiting.filter((one) => names.rename(one)).length;
  expect(renamed).toBe(RENAMES_BURST);
  await clock.advance(10_000);
  expect(waiting.slice(RENAMES_BURST).map((one) => names.rename(one))).toEqual([true, false]);
});

test("a recipient that signs false receipts does not use up what others remember of this node", async () => {
  const { clock, names, entry } = open();
  const epochs = new Set<string>();
  for (let day = 0; day < 30; day++) {
    for (let i = 0; i < 200; i++) {
      names.rename(entry("EVIL-A"));
      epochs.add(names.next("LON-B").epoch);
    }
    await clock.advance(86_400_000);
  }
  // A recipient refuses a sender with more than some 2,300 epochs in a year.
  expect(epochs.size).toBeLessThan(RENEWALS_BURST + 2 * 30 + 1);
  expect(epochs.size).toBeGreaterThan(RENEWALS_BURST);
});
