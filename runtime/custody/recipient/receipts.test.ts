/** What is kept of receipts in a flood; how they travel is tested in custody.test.ts. */
import { expect, test } from "bun:test";
import type { BundleId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { doorId, DoorRegard, stranger } from "../../kernel/testing.ts";
import type { StoreOp } from "../../store/types.ts";
import type { CustodyContext } from "../context.ts";
import { RECEIPTS_KEPT_MAX } from "./receipts.ts";
import { Receipts } from "./receipts.ts";
import { message, open } from "./testing-receipts.ts";

test("receipts of a release that noted no sender are all there after the update", async () => {
  const { store, start, settle } = await open();
  const ops: StoreOp[] = Array.from({ length: RECEIPTS_KEPT_MAX }, (_, n) => ({
    op: "put",
    in: "receipt",
    key: message(n),
    meta: `${n} ${message(n)}`,
  }));
  await settle(store.commit(ops));
  const receipts = start();
  await settle(receipts.load());
  for (let n = 0; n < RECEIPTS_KEPT_MAX; n++) expect(receipts.has(message(n))).toBe(true);
});

test("a receipt is sent again once a second, however often its message comes", async () => {
  const { clock, store } = await open();
  let sent = 0;
  const seams = {
    clock,
    store,
    self: doorId(1),
    network: "test",
    sign: () => new Uint8Array(64),
    carrier: { isSlow: () => false },
    regard: new DoorRegard(),
    log: silentLog,
    metrics: new Metrics(),
  } as unknown as CustodyContext;
  const receipts = new Receipts(seams, { ready: () => void sent++ });
  const again = async () => {
    for (let n = 0; n < 20; n++)
      await receipts.resend(doorId(2), message(1), message(9) as string as BundleId, 60_000, stranger("a"));
    await clock.advance(500);
  };
  await again();
  expect(sent).toBe(1);
  await again();
  await again();
  expect(sent).toBe(2);
});
