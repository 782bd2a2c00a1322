/** What is kept of receipts in a flood; how they travel is tested in custody.test.ts. */
import { expect, test } from "bun:test";
import type { StoreOp } from "../../store/types.ts";
import { RECEIPTS_KEPT_MAX } from "./receipts.ts";
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
