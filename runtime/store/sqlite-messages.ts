/** What the main thread and the store's worker say to each other. Types, but for one number: nothing of either side may leak into the other. */
import type { BodyPlace } from "./body-files.ts";
import type { LogMark, OpenPlan } from "./commit-log.ts";
import type { Collection, Damage, RowPage, Slotted, Totals } from "./types.ts";

/**
 * `[collection, key, meta, offset, length]`: meta null deletes, offset -1 puts without body, -2 sets the row aside; offset and
 * length are those of the body in the batch's pack. With a place the body lies there. The last two are the slot of a row of mail.
 */
export type WireOp = readonly [
  Collection,
  string,
  string | null,
  number,
  number,
  (BodyPlace | undefined)?,
  (number | undefined)?,
  (string | undefined)?,
];

/** Offset of an op that sets its row aside. */
export const SET_ASIDE = -2;

export type WireEntry =
  | { readonly kind: "commit"; readonly ops: readonly WireOp[] }
  /** With more than `rowsMax` rows the answer is undefined. */
  | { readonly kind: "load"; readonly in: Collection; readonly rowsMax?: number }
  | { readonly kind: "body"; readonly in: Collection; readonly key: string }
  | { readonly kind: "rows"; readonly in: Collection; readonly keys: readonly string[] }
  | { readonly kind: "page"; readonly in: Slotted; readonly page: RowPage }
  /** With the rows of these keys, as they count in it. */
  | { readonly kind: "totals"; readonly in: Slotted; readonly keys: readonly string[] }
  /** With the rows of these keys, as they stand in it. */
  | {
      readonly kind: "piece";
      readonly in: Collection;
      readonly key: string;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly kind: "usage" }
  /** Every place in files that a row names. */
  | { readonly kind: "places" }
  /** Writes (sqlite-restate.ts). */
  | { readonly kind: "restate"; readonly in: Collection; readonly after: number }
  | { readonly kind: "stays" };

/** What a slice of old rows came to. */
export interface RestateValue {
  /** Number of the last row that was looked at. */
  readonly after: number;
  readonly rows: number;
  readonly isThrough: boolean;
}

export type ToWorker =
  | { readonly kind: "open"; readonly path: string; readonly bytesMax: number | undefined }
  /** One transaction and one fsync. `pack` holds all bodies, transferred. */
  | {
      readonly kind: "batch";
      readonly entries: readonly WireEntry[];
      readonly pack: Uint8Array;
      /** What the database says of its log once this batch is in it. */
      readonly mark: LogMark | undefined;
      /** What it holds is in the log already: room for it was kept. */
      readonly isFold: boolean;
    }
  | { readonly kind: "close" };

/** What the commit log is opened with (commit-log.ts). */
export interface LogPlan extends OpenPlan {
  readonly grantBytes: number;
  /** Of one transaction that writes to the database what is in the log. */
  readonly sliceBytes: number;
  /** With less free on the medium a body is the database's to take or to refuse. */
  readonly reserveBytes: number;
}

/** Columns, because one object a row costs ten times as much to clone. `bodyBytes` 0 where there is no body. */
export interface LoadColumns {
  readonly keys: string[];
  readonly metas: string[];
  readonly bodyBytes: Float64Array;
}

export interface RowColumns extends LoadColumns {
  /** Their slots, where they are mail. */
  readonly orders: Float64Array;
  readonly groups: string[];
}

export interface PageColumns extends RowColumns {
  /** Place of the last row that was looked at; undefined: there are no more. */
  readonly reached: number | undefined;
}

export interface TotalsValue {
  readonly totals: Totals;
  readonly rows: RowColumns;
}

export interface UsageValue {
  readonly bytes: number;
  readonly freeBytes: number | undefined;
}

export type WireValue =
  | LoadColumns
  | RowColumns
  | PageColumns
  | TotalsValue
  | UsageValue
  | RestateValue
  | number
  | Uint8Array
  | Float64Array
  | undefined;

export interface WireFailure {
  readonly index: number;
  /** The medium has no room, which may change. */
  readonly isFull: boolean;
  readonly message: string;
}

/** Errors that the worker can find at opening; each is a code of the table. */
export type OpenFailureCode =
  "GODWIT_STATE_UNUSABLE" | "GODWIT_STORE_VERSION" | "GODWIT_STORE_CORRUPT" | "GODWIT_STORE_FAILED";

export type FromWorker =
  /** `log` undefined: there is no room for one, and every commit is one of the database. */
  | { readonly kind: "opened"; readonly log?: LogPlan | undefined }
  | { readonly kind: "refused"; readonly code: OpenFailureCode; readonly message: string }
  /** Answers the oldest batch. Entries without a failure succeeded; `values` are those of the reads, by index. */
  | {
      readonly kind: "batch";
      readonly failures: readonly WireFailure[];
      readonly values: readonly (readonly [number, WireValue])[];
      /** So many bytes may be in the log and not in the database: for them there is room in it, whoever fills the medium. */
      readonly grantBytes: number;
    }
  /** Before the answer in which damaged rows are missing, and whenever room came or went. */
  | StoreNews
  | { readonly kind: "closed" };

export interface StoreNews {
  readonly kind: "news";
  readonly missingBytes: number;
  /** Found since the last news. Those beyond a bound are counted only. */
  readonly found: readonly Damage[];
  readonly foundCount: number;
  /** Set by a salvage: see `StoreState`. */
  readonly asideFile: string | null | undefined;
  readonly recounts: number;
}
