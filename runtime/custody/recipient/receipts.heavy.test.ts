/** Receipts in a flood of free identities. */
import { expect, test } from "bun:test";
import type { BundleId } from "../../kernel/ids.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS, doorId, FLOOD } from "../../kernel/testing.ts";
import type { StoreOp } from "../../store/types.ts";
import { RECEIPTS_KEPT_MAX } from "./receipts.ts";
import { friend, message, open } from "./testing-receipts.ts";

const newcomer = doorId(2);

test(
  "mail of free identities does not make a node forget that it delivered what a friend sent, nor after a restart",
  async () => {
    const { disk, store, start, settle, keep } = await open();
    const receipts = start();
    const count = Math.max(DOOR_IDENTITIES, 2 * RECEIPTS_KEPT_MAX);
    const commit = (ops: StoreOp[]) => settle(store.commit(ops));
    for (let n = 1; n <= 500; n++) await commit(keep(receipts, n, friend, friend));
    for (let n = 501; n <= 600; n++) await commit(keep(receipts, n, newcomer, "10.0.0.7"));
    let ops: StoreOp[] = [];
    for (let n = 0; n < count; n++) {
      ops.push(...keep(receipts, 1_000 + n, doorId(1_000 + n), FLOOD));
      if (ops.length >= 10_000) await commit(ops.splice(0));
    }
    await commit(ops);
    for (let life = receipts, starts = 0; starts < 2; starts++, life = start()) {
      if (starts > 0) await settle(life.load());
      for (let n = 1; n <= 600; n++) expect([n, life.has(message(n))]).toEqual([n, true]);
      expect(life.messageOf(message(1) as string as BundleId)).toBe(message(1));
      expect(life.has(message(1_000))).toBe(false);
      expect([...disk.rows("receipt")].length).toBe(RECEIPTS_KEPT_MAX);
      // Whoever comes now has a place at once, and known ones press strangers together as far as need be.
      ops = keep(life, 999_000 + starts, newcomer, "10.0.0.8");
      for (let n = 0; n < 100; n++) ops.push(...keep(life, 700 + 100 * starts + n, friend, friend));
      await commit(ops);
      expect([life.has(message(999_000 + starts)), life.has(message(1))]).toEqual([true, true]);
    }
  },
  DOOR_TEST_MS,
);

test("a friend whose receipts take most places loses none to strangers after a restart", async () => {
  const { store, start, settle, keep } = await open();
  const receipts = start();
  const ops: StoreOp[] = [];
  for (let n = 0; n < 12_000; n++) ops.push(...keep(receipts, n, friend, friend));
  for (let n = 0; n < 8_000; n++) ops.push(...keep(receipts, 20_000 + n, newcomer, FLOOD));
  await settle(store.commit(ops));
  const again = start();
  await settle(again.load());
  for (let n = 0; n < 10_000; n++) keep(again, 40_000 + n, newcomer, "10.0.0.7");
  for (let n = 0; n < 12_000; n++) expect(again.has(message(n))).toBe(true);
});
