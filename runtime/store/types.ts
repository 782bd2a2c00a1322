/**
 * The seam between what must survive and where it lies. `sqlite.ts` is the real one (bun:sqlite in a Worker),
 * `memory.ts` the simulated one, whose unsynced writes a crash loses; both pass `suite.ts`.
 */

/** Append-only. Each is a table `key TEXT PRIMARY KEY, meta TEXT, body BLOB`. */
export const collections = [
  "setting", // one row per named value of the node: epochs, counters, prekeys
  "outbox", // messages of this node as their source, by message id
  "transit", // bundles of others in custody, by bundle id
  "partial", // bundles whose chunks are still arriving, by bundle id
  "chunk", // their chunks, by `<bundle id>/<index as 6 digits>`
  "inbox", // delivered messages, by message id
  "seen", // what was ever delivered, run-length, by `<sender>/<store epoch>`
  "receipt", // receipts this node signed, by message id
  "idempotency", // by key
  "peer", // endpoints and trust of nodes, by node id
  "name", // pinned name bindings, by name
  "record", // newest node record known of others, by node id
  "token", // API tokens, by token id
  "plugin", // key space of plugins, by `<namespace>.<id>/<key>`
  "member", // newest signed statement of each node about itself, by node id
  "damaged", // rows that were found damaged, for an operator to look at, by `<when>/<collection>/<key>`
  "proof", // hashes and signatures that prove receipts of several messages of the outbox, by a digest of themselves
  "session", // roots that mail of others is opened with, by `<sender> <session id>`
] as const;
export type Collection = (typeof collections)[number];

/** Rows that have to be gone soon once they are deleted: private halves of prekeys, granted secrets, tokens, what plugins keep, roots of sessions. */
export const secret: readonly Collection[] = ["setting", "token", "plugin", "session"];
export const isSecret = (collection: Collection): boolean => secret.includes(collection);

/** Mail: their rows have slots. */
export const slotted = ["inbox", "outbox", "transit"] as const;
export type Slotted = (typeof slotted)[number];
export const isSlotted = (collection: Collection): collection is Slotted =>
  (slotted as readonly string[]).includes(collection);

/** Where a row of mail stands. Its owner gives it with the first put, and the row keeps it. */
export interface Slot {
  /** Place in the order of arrival, 1 to 2^53 - 1: above `last` of the totals, and above all given since. */
  readonly order: number;
  /** What its owner wants counted together; "" in rows of releases that counted nothing. */
  readonly group: string;
}

export interface StoreRow {
  readonly key: string;
  /** JSON text; its owner skips fields it does not know. */
  readonly meta: string;
  readonly bodyBytes: number;
}

/** A row with its slot; of what is no mail 0 and "". */
export interface SlottedRow extends StoreRow, Slot {}

export interface RowPage {
  readonly order: "oldest-first" | "newest-first";
  /** Rows on it, 1 to `PAGE_ROWS_MAX`. */
  readonly limit: number;
  /** The page begins behind this place, in its order, whether a row is there or not; absent: the first page. */
  readonly after?: number | undefined;
  /** Rows of this group alone: costs a few bytes for each of the others that it passes. */
  readonly group?: string | undefined;
}

/** Rows that one call may ask for. */
export const PAGE_ROWS_MAX = 1_024;

export interface GroupTotal {
  readonly group: string;
  readonly count: number;
  /** Of bodies. */
  readonly bytes: number;
}

export interface Totals {
  /** Each group that has rows. */
  readonly groups: readonly GroupTotal[];
  /** No row has a later place; 0: there is none. */
  readonly last: number;
}

/** A body that begins with what rows of "chunk" hold: those of `of`, in order, `bytes` of them together, all durable. */
export interface BodyHead {
  readonly of: string;
  readonly bytes: number;
}

/**
 * `put` inserts or replaces; without `body` an existing row keeps its body. With a `head` the body is that and then `body`; it lies there
 * without a sum, because nobody held all of it at once: whoever put it must know by other means whether it is sound. `set-aside` moves a row that its owner cannot
 * read to `damaged` and tells of it; a row that is not there is none of its business. A row of mail whose first put gave no slot
 * gets one behind all others when it comes to the medium, and is on no page until then.
 */
export type StoreOp =
  | {
      readonly op: "put";
      readonly in: Collection;
      readonly key: string;
      readonly meta: string;
      readonly body?: Uint8Array;
      /** Of a row of mail, with the first put; with a later one it moves there. */
      readonly slot?: Slot | undefined;
      readonly head?: BodyHead;
    }
  | { readonly op: "delete"; readonly in: Collection; readonly key: string }
  | { readonly op: "set-aside"; readonly in: Collection; readonly key: string };

/** A row that was damaged on the medium: it is in its collection no more. */
export interface Damage {
  readonly in: Collection;
  readonly key: string;
}

/** Damaged rows that are named; more are counted. */
export const DAMAGE_NAMED_MAX = 64;
/** What `damaged` holds at most; the oldest goes first. */
export const DAMAGED_ROWS_MAX = 256;
export const DAMAGED_BYTES_MAX = 16 * 1024 * 1024;

export interface StoreState {
  /** Bytes that have to become free before the medium takes the next message; 0 while there is room. */
  readonly missingBytes: number;
  /** Found since the store was opened, the opening included: the first `DAMAGE_NAMED_MAX`. */
  readonly damage: readonly Damage[];
  readonly damageCount: number;
  /** The damaged file whose readable rows were taken into a new one, if there was one: where it is kept, null for want of room. */
  readonly asideFile: string | null | undefined;
  /** How often places and groups of mail were found damaged and made anew since it was opened: totals told before may be wrong. */
  readonly recounts: number;
}

/** A store that has room and lost nothing. */
export const soundState: StoreState = {
  missingBytes: 0,
  damage: [],
  damageCount: 0,
  asideFile: undefined,
  recounts: 0,
};

export interface Store {
  /** How the medium is. Never goes back from damage, but room comes and goes. */
  readonly state: StoreState;
  /** Calls back after each change of `state`, with the rows that were found damaged by it. One listener. */
  onState(changed: (found: readonly Damage[]) => void): void;
  /** All sound rows of a collection ordered by key, without bodies; damaged ones are set aside. Sees every commit called before. */
  load(collection: Collection): Promise<StoreRow[]>;
  /** Those of these keys that there are, in the order asked for, without bodies; at most `PAGE_ROWS_MAX` keys. Damaged ones are set aside. Sees every commit called before. */
  rows(collection: Collection, keys: readonly string[]): Promise<SlottedRow[]>;
  /** A page of mail in the order of arrival: costs what is on it, whatever the collection holds. Otherwise as `load`. */
  page(collection: Slotted, page: RowPage): Promise<SlottedRow[]>;
  /** What a collection of mail holds, by group, at the cost of its groups. Sees every commit called before. */
  totals(collection: Slotted): Promise<Totals>;
  /**
   * Bytes owned by the caller; undefined when the row is missing, has no body, or its bytes are not those that were
   * committed: then it is set aside. Sees every commit called before.
   */
  body(collection: Collection, key: string): Promise<Uint8Array | undefined>;
  /**
   * `length` bytes of a body from `offset` on, fewer at its end, owned by the caller; not judged by the sum. Undefined when the row is missing
   * or cannot be read. Sees every commit called before.
   */
  piece(collection: Collection, key: string, offset: number, length: number): Promise<Uint8Array | undefined>;
  /**
   * Applies the ops in order and atomically, and resolves only when they are durable (fsync). Commits become durable
   * in call order; those called while one is being written share the next fsync. Bodies are borrowed until it settles.
   * Rejects with GODWIT_STORE_FAILED (disk full, damaged) and then nothing of it was applied; later commits may succeed.
   * Deletes, and puts without bodies that need little, find room on a full medium as well.
   */
  commit(ops: readonly StoreOp[]): Promise<void>;
  /** Size of all rows' bodies and metas in bytes, and room left on the medium if known. */
  usage(): Promise<{ readonly bytes: number; readonly freeBytes: number | undefined }>;
  /** Finishes what was called, then releases the file. Later calls reject with GODWIT_STOPPED. */
  close(): Promise<void>;
}
