/** Rows as their owner reads them. What it cannot read is set aside, which costs that row and nothing else. */
import { COMMIT_OPS_MAX } from "./ops.ts";
import type { Collection, Store, StoreOp, StoreRow } from "./types.ts";

/** `read` answers undefined for a damaged row. Rejects with GODWIT_STORE_FAILED when the collection cannot be read at all. */
export async function loadSound<T>(
  store: Store,
  collection: Collection,
  read: (row: StoreRow) => T | undefined,
): Promise<T[]> {
  const sound: T[] = [];
  const damaged: StoreOp[] = [];
  for (const row of await store.load(collection)) {
    const value = read(row);
    if (value !== undefined) sound.push(value);
    else damaged.push({ op: "set-aside", in: collection, key: row.key });
  }
  // Nobody waits for it: without room they stay where they are, and are found again at the next start.
  if (damaged.length > 0) store.commit(damaged.slice(0, COMMIT_OPS_MAX)).catch(() => {});
  return sound;
}

/** Of one of several commits: others get their turn in between. */
const SLICE_OPS = 1_024;

/** Ops that need not be durable together, however many: each for itself may be tried again. Rejects with GODWIT_STORE_FAILED, and those before are durable. */
export async function commitSlices(store: Pick<Store, "commit">, ops: readonly StoreOp[]): Promise<void> {
  for (let at = 0; at < ops.length; at += SLICE_OPS) await store.commit(ops.slice(at, at + SLICE_OPS));
}
