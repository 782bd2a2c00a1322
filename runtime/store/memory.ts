/**
 * The simulated store. A `SimDisk` outlives its node: it holds what is durable, and it forgets at `crash` what was not.
 * Passes the same suite as the real store (suite.ts); differs in that time comes from the clock it is given and that a
 * crash is a call. Deterministic: uses nothing but clock timers, the given randomness and microtasks.
 */
import type { Clock, Random } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import { SimTable, type SimRow } from "./memory-table.ts";
import { assertCollection, assertKeys, assertOps, assertPage, compareKeys } from "./ops.ts";
import {
  collections,
  DAMAGE_NAMED_MAX,
  DAMAGED_ROWS_MAX,
  isSlotted,
  soundState,
  type Collection,
  type Damage,
  type RowPage,
  type Slotted,
  type SlottedRow,
  type Store,
  type StoreOp,
  type StoreRow,
  type StoreState,
  type Totals,
} from "./types.ts";

/** What a full simulated disk says is missing. */
const MISSING_BYTES = 1_048_576;

type Tables = Map<Collection, SimTable>;

const emptyTables = (): Tables =>
  new Map(collections.map((collection) => [collection, new SimTable(isSlotted(collection))]));

/** Medium of one simulated node. At most one store is open on it at a time. */
export class SimDisk {
  #tables = emptyTables();
  #open: MemoryStore | undefined;
  #fault: "full" | undefined;

  /**
   * The power goes. Of the commits called but not yet resolved a random prefix is durable after all (the fsync may
   * have happened and only its answer was lost), the others never happened. Promises of the dead store never settle,
   * because a process without power runs no handler; only its `close` resolves, so that a simulator can tidy up.
   */
  crash(): void {
    this.#open?.die();
    this.#open = undefined;
  }

  /** The medium is replaced by an empty one; an open store dies as in `crash`. */
  destroy(): void {
    this.crash();
    this.#tables = emptyTables();
  }

  /** Until cleared, nothing that is put becomes durable; reading and deleting work. */
  fail(fault: "full" | undefined): void {
    this.#fault = fault;
    this.#open?.onMedium([]);
  }

  get missingBytes(): number {
    return this.#fault === "full" ? MISSING_BYTES : 0;
  }

  /** A bit of the row flips, its meta and its body alike: no reader is shown either again. */
  rot(collection: Collection, key: string): void {
    const row = this.rows(collection).get(key);
    if (row !== undefined) this.#tables.get(collection)!.set(key, { ...row, isRotten: true });
  }

  /** Damage takes up to `count` rows out of `from` while no store is open; answers which, as `<collection>/<key>`. */
  lose(from: readonly Collection[], count: number, random: Random): string[] {
    const taken: string[] = [];
    for (let i = 0; i < count; i++) {
      const all = from.flatMap((collection) =>
        [...this.rows(collection).keys()].map((key) => ({ collection, key })),
      );
      const { collection, key } = all[random.below(Math.max(1, all.length))] ?? {};
      if (collection === undefined || key === undefined) break;
      this.#tables.get(collection)!.delete(key);
      taken.push(`${collection}/${key}`);
    }
    return taken;
  }

  /** Damage takes those rows of one collection while no store is open. */
  forget(from: Collection, isTaken: (key: string) => boolean): void {
    const table = this.#tables.get(from);
    for (const key of [...this.rows(from).keys()]) if (isTaken(key)) table!.delete(key);
  }

  /** What is durable now, as another disk: a backup. */
  copy(): SimDisk {
    const copy = new SimDisk();
    copy.#tables = new Map([...this.#tables].map(([collection, table]) => [collection, table.copy()]));
    return copy;
  }

  /** Called by the store alone. */
  attach(store: MemoryStore): void {
    if (this.#open !== undefined)
      throw godwitError("GODWIT_STATE_UNUSABLE", "another node uses this disk; stop it first");
    this.#open = store;
  }

  /** Called by the store alone. */
  detach(store: MemoryStore): void {
    if (this.#open === store) this.#open = undefined;
  }

  /** Called by the store alone. Atomic. Throws GODWIT_STORE_FAILED. */
  apply(ops: readonly StoreOp[]): void {
    if (this.#fault === "full" && ops.some((op) => op.op === "put"))
      throw godwitError("GODWIT_STORE_FAILED", "no room for the commit: the disk is full; free some space");
    const headed = new Map(ops.map((op) => [op, this.#headed(op)]));
    for (const op of ops) {
      const table = this.#tables.get(op.in)!;
      if (op.op === "delete") table.delete(op.key);
      else if (op.op === "set-aside") {
        if (table.rows.has(op.key)) this.#open?.onMedium([{ in: op.in, key: op.key }]);
      } else {
        const body = headed.get(op) ?? op.body ?? table.rows.get(op.key)?.body;
        table.set(op.key, { meta: op.meta, body, slot: op.slot });
      }
    }
  }

  #headed(op: StoreOp): Uint8Array | undefined {
    if (op.op !== "put" || op.head === undefined) return undefined;
    const { of, bytes } = op.head;
    const chunks = [...this.rows("chunk")]
      .filter(([key]) => key.startsWith(`${of}/`))
      .sort(([a], [b]) => compareKeys(a, b));
    const head = Buffer.concat(chunks.map(([, { body }]) => body!)).subarray(0, bytes);
    if (head.length < bytes) throw godwitError("GODWIT_STORE_FAILED", "the chunks of the body are not here");
    return new Uint8Array(Buffer.concat([head, op.body ?? new Uint8Array(0)]));
  }

  /** Called by the store alone. */
  setAside(found: readonly Damage[]): void {
    const aside = this.#tables.get("damaged")!;
    for (const { in: collection, key } of found) {
      const row = this.rows(collection).get(key);
      if (row === undefined || collection === "damaged") continue;
      aside.set(`${String(aside.rows.size).padStart(6, "0")}/${collection}/${key}`, {
        meta: row.meta,
        body: row.body,
      });
      this.#tables.get(collection)!.delete(key);
      if (aside.rows.size > DAMAGED_ROWS_MAX) aside.delete(aside.rows.keys().next().value!);
    }
  }

  /** Called by the store alone. */
  rows(collection: Collection): ReadonlyMap<string, SimRow> {
    return this.#tables.get(collection)!.rows;
  }

  /** Called by the store alone. */
  table(collection: Slotted): SimTable {
    return this.#tables.get(collection)!;
  }

  usageBytes(): number {
    let bytes = 0;
    for (const table of this.#tables.values())
      for (const { meta, body } of table.rows.values())
        bytes += Buffer.byteLength(meta) + (body?.length ?? 0);
    return bytes;
  }
}

export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** How long one simulated fsync takes, ms. */
  readonly commitDelayMs: number;
}

/** Rejects with GODWIT_STATE_UNUSABLE while another store is open on the disk. */
export async function openMemoryStore(disk: SimDisk, options: MemoryStoreOptions): Promise<MemoryStore> {
  const store = new MemoryStore(disk, options);
  disk.attach(store);
  return store;
}

const rowOf = ([key, { meta, body }]: [string, SimRow]): StoreRow => ({
  key,
  meta,
  bodyBytes: body?.length ?? 0,
});

const slottedRowOf = (one: [string, SimRow]): SlottedRow => ({
  ...rowOf(one),
  ...(one[1].slot ?? { order: 0, group: "" }),
});

/** A read or a commit in the order of their calls. `ops` undefined: a read, which waits for the commits before it. */
interface Entry {
  readonly ops: readonly StoreOp[] | undefined;
  settle(): void;
  reject(error: unknown): void;
}

export class MemoryStore implements Store {
  readonly #disk: SimDisk;
  readonly #options: MemoryStoreOptions;
  /** What the running fsync covers, and what waits for the next. */
  #syncing: Entry[] = [];
  #waiting: Entry[] = [];
  #state: "open" | "closing" | "closed" | "dead" = "open";
  readonly #closed = Promise.withResolvers<void>();

  #damage: readonly Damage[] = soundState.damage;
  #damageCount = 0;
  #changed: (found: readonly Damage[]) => void = () => {};

  constructor(disk: SimDisk, options: MemoryStoreOptions) {
    this.#disk = disk;
    this.#options = options;
  }

  get state(): StoreState {
    const { missingBytes } = this.#disk;
    return { ...soundState, missingBytes, damage: this.#damage, damageCount: this.#damageCount };
  }

  onState(changed: (found: readonly Damage[]) => void): void {
    this.#changed = changed;
  }

  /** Called by the disk and the store alone. */
  onMedium(found: readonly Damage[]): void {
    this.#damage = [...this.#damage, ...found].slice(0, DAMAGE_NAMED_MAX);
    this.#damageCount += found.length;
    this.#disk.setAside(found);
    this.#changed(found);
  }

  /** Those that are not rotten; the others are set aside. */
  #sound(collection: Collection, rows: readonly [string, SimRow][]): [string, SimRow][] {
    const rotten = rows.filter(([, row]) => row.isRotten === true);
    if (rotten.length > 0) this.onMedium(rotten.map(([key]) => ({ in: collection, key })));
    return rows.filter(([, row]) => row.isRotten !== true);
  }

  /** Ops of commits that have not settled. */
  get pendingOps(): number {
    return [...this.#syncing, ...this.#waiting].reduce((total, { ops }) => total + (ops?.length ?? 0), 0);
  }

  async load(collection: Collection): Promise<StoreRow[]> {
    assertCollection(collection);
    return this.#enqueue(undefined, () =>
      this.#sound(collection, [...this.#disk.rows(collection)])
        .map(rowOf)
        .sort((a, b) => compareKeys(a.key, b.key)),
    );
  }

  async rows(collection: Collection, keys: readonly string[]): Promise<SlottedRow[]> {
    assertKeys(collection, keys);
    return this.#enqueue(undefined, () => {
      const rows = this.#disk.rows(collection);
      const found = keys.flatMap((key): [string, SimRow][] => {
        const row = rows.get(key);
        return row === undefined ? [] : [[key, row]];
      });
      return this.#sound(collection, found).map(slottedRowOf);
    });
  }

  async page(collection: Slotted, page: RowPage): Promise<SlottedRow[]> {
    assertPage(collection, page);
    return this.#enqueue(undefined, () => {
      const found: [string, SimRow][] = [];
      let sound = 0;
      for (const one of this.#disk.table(collection).page(page)) {
        found.push(one);
        if (one[1].isRotten !== true && ++sound === page.limit) break;
      }
      return this.#sound(collection, found).map(slottedRowOf);
    });
  }

  async totals(collection: Slotted): Promise<Totals> {
    assertCollection(collection);
    return this.#enqueue(undefined, () => this.#disk.table(collection).totals);
  }

  async body(collection: Collection, key: string): Promise<Uint8Array | undefined> {
    assertCollection(collection);
    return this.#enqueue(undefined, () => {
      const row = this.#disk.rows(collection).get(key);
      if (row?.isRotten !== true) return row?.body?.slice();
      this.onMedium([{ in: collection, key }]);
      return undefined;
    });
  }

  async piece(
    collection: Collection,
    key: string,
    offset: number,
    length: number,
  ): Promise<Uint8Array | undefined> {
    assertCollection(collection);
    return this.#enqueue(undefined, () => {
      const row = this.#disk.rows(collection).get(key);
      const piece = row?.body?.slice(offset, offset + length);
      // What is rotten reads as something else, and nobody says so.
      if (row?.isRotten === true && piece !== undefined && piece.length > 0) piece[0]! ^= 1;
      return piece;
    });
  }

  async usage(): Promise<{ readonly bytes: number; readonly freeBytes: number | undefined }> {
    return this.#enqueue(undefined, () => ({ bytes: this.#disk.usageBytes(), freeBytes: undefined }));
  }

  async commit(ops: readonly StoreOp[]): Promise<void> {
    assertOps(ops);
    // Bodies are only borrowed, and the simulated fsync takes time.
    const owned = ops.map((op) =>
      op.op === "put" && op.body !== undefined ? { ...op, body: new Uint8Array(op.body) } : { ...op },
    );
    return this.#enqueue(owned, () => {});
  }

  close(): Promise<void> {
    if (this.#state === "open") {
      this.#state = "closing";
      this.#finishClosing();
    }
    return this.#closed.promise;
  }

  /** Called by the disk alone. */
  die(): void {
    const unsynced = [...this.#syncing, ...this.#waiting].filter(({ ops }) => ops !== undefined);
    const kept = this.#options.random.below(unsynced.length + 1);
    for (const { ops } of unsynced.slice(0, kept)) {
      try {
        this.#disk.apply(ops!);
      } catch {
        // The disk was full as well.
      }
    }
    this.#state = "dead";
    this.#syncing = [];
    this.#waiting = [];
    this.#closed.resolve();
  }

  #enqueue<T>(ops: readonly StoreOp[] | undefined, result: () => T): Promise<T> {
    if (this.#state === "dead") return new Promise<T>(() => {});
    if (this.#state !== "open")
      return Promise.reject(godwitError("GODWIT_STOPPED", "the store is closed; start the node again"));
    return new Promise<T>((resolve, reject) => {
      const entry: Entry = { ops, settle: () => resolve(result()), reject };
      if (ops === undefined && this.#syncing.length === 0) return entry.settle();
      this.#waiting.push(entry);
      if (this.#syncing.length === 0) this.#sync();
    });
  }

  #sync(): void {
    this.#syncing = this.#waiting;
    this.#waiting = [];
    this.#options.clock.after(this.#options.commitDelayMs, () => {
      if (this.#state === "dead") return;
      const done = this.#syncing;
      this.#syncing = [];
      for (const entry of done) {
        try {
          if (entry.ops !== undefined) this.#disk.apply(entry.ops);
          entry.settle();
        } catch (error) {
          entry.reject(error);
        }
      }
      if (this.#waiting.length > 0) this.#sync();
      this.#finishClosing();
    });
  }

  #finishClosing(): void {
    if (this.#state !== "closing" || this.#syncing.length > 0 || this.#waiting.length > 0) return;
    this.#state = "closed";
    this.#disk.detach(this);
    this.#closed.resolve();
  }
}
