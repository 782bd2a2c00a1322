/** What both stores demand of a commit before they take it, and the order of keys. */
import { assert } from "../kernel/errors.ts";
import {
  collections,
  isSlotted,
  PAGE_ROWS_MAX,
  slotted,
  type Collection,
  type RowPage,
  type Slot,
  type Slotted,
  type StoreOp,
} from "./types.ts";

/** Longest key in UTF-16 units. Keys are ids and short names; the bound keeps an index page from degenerating. */
export const KEY_CHARS_MAX = 1_024;
/** Largest body of one row, in bytes: a message of 16 MiB with its headers and seal fits with room to spare. */
export const ROW_BODY_BYTES_MAX = 64 * 1024 * 1024;
export const COMMIT_OPS_MAX = 65_536;

const known = new Set<string>(collections);

export function assertCollection(collection: Collection): void {
  assert(known.has(collection), `there is no collection ${collection}`);
}

function assertSlot(collection: Collection, { order, group }: Slot): void {
  assert(isSlotted(collection), `rows of ${collection} have no slots`);
  assert(Number.isSafeInteger(order) && order > 0, "a place is a whole number from 1 on");
  assert(group.length <= KEY_CHARS_MAX, `a group has at most ${KEY_CHARS_MAX} characters`);
  assert(group.isWellFormed(), "a group is well-formed text");
}

/** Throws GODWIT_BUG. */
export function assertPage(collection: Slotted, { limit }: RowPage): void {
  assert(slotted.includes(collection), `rows of ${collection} have no slots`);
  assert(Number.isSafeInteger(limit) && limit >= 1 && limit <= PAGE_ROWS_MAX, "a page has 1 to 1,024 rows");
}

/** Throws GODWIT_BUG. */
export function assertKeys(collection: Collection, keys: readonly string[]): void {
  assertCollection(collection);
  assert(keys.length <= PAGE_ROWS_MAX, `at most ${PAGE_ROWS_MAX} keys are asked for at once`);
}

/** Throws GODWIT_BUG: no caller may let unchecked bytes from outside become a key. */
export function assertOps(ops: readonly StoreOp[]): void {
  assert(ops.length <= COMMIT_OPS_MAX, `a commit has at most ${COMMIT_OPS_MAX} ops`);
  for (const op of ops) {
    assertCollection(op.in);
    assert(op.key.length <= KEY_CHARS_MAX, `a store key has at most ${KEY_CHARS_MAX} characters`);
    // A lone surrogate has no UTF-8 form: two such keys would become one row.
    assert(op.key.isWellFormed(), "a store key is well-formed text");
    if (op.op !== "put") continue;
    assert(op.meta.isWellFormed(), "meta is well-formed text");
    if (op.slot !== undefined) assertSlot(op.in, op.slot);
    assert(
      (op.body?.length ?? 0) + (op.head?.bytes ?? 0) <= ROW_BODY_BYTES_MAX,
      `a body has at most ${ROW_BODY_BYTES_MAX} bytes`,
    );
  }
}

/** The order of `load`: by UTF-8 bytes, which is by code point and not the order of JavaScript's `<`. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA === unitB) continue;
    // Surrogates stand for code points above all single units, although their own value is below some.
    const surrogateA = (unitA & 0xf800) === 0xd800;
    const surrogateB = (unitB & 0xf800) === 0xd800;
    return surrogateA === surrogateB ? unitA - unitB : surrogateA ? 1 : -1;
  }
  return a.length - b.length;
}
