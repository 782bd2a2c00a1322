/**
 * Rows as an earlier release wrote them: what the owners of rows answer, and what the converter of files (going-back.ts) asks. Types and
 * nothing else.
 */
import type { Collection, StoreRow } from "./types.ts";

/** A row of the earlier store. Its body is that of the row it is made of. */
export interface EarlierRow {
  readonly in: Collection;
  readonly key: string;
  readonly meta: string;
  readonly hasBody: boolean;
}

/** What becomes of a row. */
export interface Judged {
  readonly row: StoreRow;
  /** None: the earlier release has no use for it. */
  readonly rows: readonly EarlierRow[];
  /** Kept as it is in a file beside the store, for a release that can read it. */
  readonly isAside: boolean;
  /** What an operator should know of it, in words. */
  readonly why?: string;
  /** The body as the earlier release has it, of what lies here; undefined: that is not what it ought to be. Absent: the same bytes. */
  body?(stored: Uint8Array): Promise<Uint8Array | undefined>;
}

/** All rows of a collection in the order of their keys, each judged once. The same rows give the same answers. */
export type JudgeRows = (rows: readonly StoreRow[]) => Iterable<Judged>;
