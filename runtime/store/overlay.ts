/**
 * Rows that are durable in the commit log and not yet in the database: the last state of each, and nothing of what it was before. Two
 * layers, the upper one for what comes while the lower one is being written. Reads look here first. Bounded by the log, whose frames hold
 * the bodies. Never touches a file.
 */
import type { BodyPlace } from "./body-files.ts";
import type { LogOp } from "./log-frame.ts";
import { compareKeys } from "./ops.ts";
import type { LoadColumns, PageColumns, RowColumns, TotalsValue, WireOp } from "./sqlite-messages.ts";
import {
  collections,
  isSlotted,
  type Collection,
  type RowPage,
  type Slot,
  type SlottedRow,
  type StoreRow,
  type Totals,
} from "./types.ts";

/** `meta` null: deleted. `body` undefined: that of the row below, null: none. `slot` undefined: that of the row below. */
interface Held {
  readonly meta: string | null;
  readonly body: Uint8Array | BodyPlace | null | undefined;
  readonly slot?: Slot | undefined;
}

const lengthOf = (body: Held["body"]): number =>
  body instanceof Uint8Array ? body.length : (body?.bytes ?? 0);

type Row = [key: string, held: Held];
type Layer = Map<Collection, Map<string, Held>>;

export class Overlay {
  #upper: Layer = new Map();
  #lower: Layer = new Map();

  get isEmpty(): boolean {
    return this.#upper.size === 0 && this.#lower.size === 0;
  }

  /** Bodies are copied. */
  apply(ops: readonly LogOp[]): void {
    for (const op of ops) {
      let rows = this.#upper.get(op.in);
      if (rows === undefined) this.#upper.set(op.in, (rows = new Map()));
      if (op.op === "delete") rows.set(op.key, { meta: null, body: null });
      else {
        const held = rows.get(op.key);
        const slot = op.slot ?? held?.slot;
        if (op.op === "put-place") rows.set(op.key, { meta: op.meta, body: op.place, slot });
        else {
          const body = op.body === undefined ? held?.body : new Uint8Array(op.body);
          rows.set(op.key, { meta: op.meta, body, slot });
        }
      }
    }
  }

  /** What is held so far goes to the database: see `slices`. */
  seal(): void {
    this.#lower = this.#upper;
    this.#upper = new Map();
  }

  /** It is in the database. */
  drop(): void {
    this.#lower = new Map();
  }

  /** It could not be written: as if it had not been tried. */
  unseal(): void {
    const upper = this.#upper;
    this.#upper = this.#lower;
    this.#lower = new Map();
    for (const [collection, rows] of upper) {
      const below = this.#upper.get(collection) ?? new Map<string, Held>();
      this.#upper.set(collection, below);
      for (const [key, { meta, body, slot }] of rows) {
        const held = below.get(key);
        below.set(key, {
          meta,
          body: body === undefined ? held?.body : body,
          slot: meta === null ? undefined : (slot ?? held?.slot),
        });
      }
    }
  }

  /**
   * The sealed rows as ops for the database, cut after `opsMax` ops or `bytesMax` bytes; at least one slice. Bodies in the pack. What is deleted comes
   * first with `deletesFirst`: it makes room for the others, where each page of an index is written twice for that.
   */
  *slices(
    opsMax: number,
    bytesMax: number,
    deletesFirst: boolean,
  ): Generator<{ ops: WireOp[]; pack: Uint8Array; isLast: boolean }> {
    let ops: WireOp[] = [];
    let bodies: Uint8Array[] = [];
    let bodyBytes = 0;
    let bytes = 0;
    for (const [collection, [key, { meta, body, slot }]] of this.#sealed(deletesFirst)) {
      if (ops.length >= opsMax || bytes >= bytesMax) {
        yield { ops, pack: packOf(bodies, bodyBytes), isLast: false };
        [ops, bodies, bodyBytes, bytes] = [[], [], 0, 0];
      }
      bytes += key.length + (meta?.length ?? 0);
      if (meta === null || body === null) ops.push([collection, key, null, -1, 0]);
      if (meta === null) continue;
      const at = slot === undefined ? ([] as const) : ([slot.order, slot.group] as const);
      bytes += slot?.group.length ?? 0;
      if (!(body instanceof Uint8Array)) {
        ops.push([collection, key, meta, -1, 0, body ?? undefined, ...at]);
        continue;
      }
      ops.push([collection, key, meta, bodyBytes, body.length, undefined, ...at]);
      bytes += body.length;
      bodies.push(body);
      bodyBytes += body.length;
    }
    yield { ops, pack: packOf(bodies, bodyBytes), isLast: true };
  }

  *#sealed(deletesFirst: boolean): Generator<[Collection, Row]> {
    // Chunks first: a body that begins with one has its place, which must not go with a chunk that is deleted.
    const names = new Set<Collection>(["chunk", ...collections, ...this.#lower.keys()]);
    for (const wanted of deletesFirst ? [true, false] : [undefined])
      for (const collection of names)
        for (const row of inPlace([...(this.#lower.get(collection) ?? [])]))
          if (wanted === undefined || (row[1].meta === null) === wanted) yield [collection, row];
  }

  /** `undefined`: the database has it, if it is anywhere; null: none. */
  body(collection: Collection, key: string): Uint8Array | BodyPlace | null | undefined {
    for (const layer of [this.#upper, this.#lower]) {
      const held = layer.get(collection)?.get(key);
      if (held !== undefined && held.body !== undefined) return held.body;
    }
    return undefined;
  }

  /** Every place in files that a row names. */
  *places(): Generator<number> {
    for (const layer of [this.#upper, this.#lower])
      for (const rows of layer.values())
        for (const { body } of rows.values())
          if (body !== null && body !== undefined && !(body instanceof Uint8Array)) yield body.id;
  }

  /** What the database answered, as it is with what is held here. */
  rows(collection: Collection, { keys, metas, bodyBytes }: LoadColumns): StoreRow[] {
    const layers = [this.#lower, this.#upper].flatMap((layer) => layer.get(collection) ?? []);
    if (layers.length === 0)
      return keys.map((key, i) => ({ key, meta: metas[i]!, bodyBytes: bodyBytes[i]! }));
    const rows = new Map<string, StoreRow>();
    for (const [i, key] of keys.entries()) rows.set(key, { key, meta: metas[i]!, bodyBytes: bodyBytes[i]! });
    let isSorted = true;
    for (const layer of layers)
      for (const [key, { meta, body }] of layer) {
        const below = rows.get(key);
        if (meta === null) rows.delete(key);
        else {
          isSorted &&= below !== undefined;
          rows.set(key, {
            key,
            meta,
            bodyBytes: body === undefined ? (below?.bodyBytes ?? 0) : lengthOf(body),
          });
        }
      }
    const all = [...rows.values()];
    return isSorted ? all : all.sort((a, b) => compareKeys(a.key, b.key));
  }

  /** The last state of each row of a collection that is held here, as of now. */
  states(collection: Collection): ReadonlyMap<string, Held> {
    const [lower, upper] = [this.#lower.get(collection), this.#upper.get(collection)];
    if (upper === undefined) return new Map(lower);
    const states = new Map(lower);
    for (const [key, held] of upper) {
      const below = held.meta === null ? undefined : states.get(key);
      states.set(key, {
        ...held,
        body: held.body === undefined ? below?.body : held.body,
        slot: held.slot ?? below?.slot,
      });
    }
    return states;
  }

  /** Whether the rows of these keys, as they are by now, are held here with all that `rowsOf` says of them. */
  hasWhole(collection: Collection, keys: readonly string[]): boolean {
    const [upper, lower] = [this.#upper.get(collection), this.#lower.get(collection)];
    return keys.every((key) => {
      const [above, below] = [upper?.get(key), lower?.get(key)];
      const held = above ?? below;
      if (held === undefined || held.meta === null) return held !== undefined;
      const hasSlot = !isSlotted(collection) || (above?.slot ?? below?.slot) !== undefined;
      return hasSlot && (above?.body !== undefined || below?.body !== undefined);
    });
  }

  /** Of these keys, what the database answered as it is with what is held here, in the order of the keys. */
  rowsOf(collection: Collection, wanted: readonly string[], columns: RowColumns): SlottedRow[] {
    const below = new Map(rowsOfColumns(columns).map((row) => [row.key, row]));
    const layers = [this.#upper.get(collection), this.#lower.get(collection)];
    return wanted.flatMap((key) => {
      const row = below.get(key);
      const [upper, lower] = layers.map((layer) => layer?.get(key));
      const held = upper ?? lower;
      if (held === undefined) return row ?? [];
      if (held.meta === null) return [];
      const body = upper?.body === undefined ? lower?.body : upper.body;
      const { order, group } = upper?.slot ?? lower?.slot ?? row ?? { order: 0, group: "" };
      const bodyBytes = body === undefined ? (row?.bodyBytes ?? 0) : lengthOf(body);
      return { key, meta: held.meta, bodyBytes, order, group };
    });
  }

  /** A page of the database, as it is with what is held here: up to where it reached, or, where it was the last, to the end. */
  page(collection: Collection, page: RowPage, columns: PageColumns): SlottedRow[] {
    const states = this.states(collection);
    const rows = rowsOfColumns(columns);
    if (states.size === 0) return rows;
    const isNewestFirst = page.order === "newest-first";
    const sign = isNewestFirst ? -1 : 1;
    const start = page.after ?? (isNewestFirst ? Number.POSITIVE_INFINITY : 0);
    const isOn = (order: number): boolean =>
      (order - start) * sign > 0 && (columns.reached === undefined || (order - columns.reached) * sign <= 0);
    const found = rows.filter(({ key }) => states.get(key)?.slot === undefined);
    const shown = found.flatMap((row) => {
      const held = states.get(row.key);
      if (held === undefined) return row;
      if (held.meta === null) return [];
      return {
        ...row,
        meta: held.meta,
        bodyBytes: held.body === undefined ? row.bodyBytes : lengthOf(held.body),
      };
    });
    const below = new Map(rows.map((row) => [row.key, row]));
    let isMixed = false;
    for (const [key, { meta, body, slot }] of states) {
      if (meta === null || slot === undefined || !isOn(slot.order)) continue;
      if (page.group !== undefined && slot.group !== page.group) continue;
      isMixed = true;
      const bodyBytes = body === undefined ? (below.get(key)?.bodyBytes ?? 0) : lengthOf(body);
      shown.push({ key, meta, bodyBytes, ...slot });
    }
    return isMixed ? shown.sort((a, b) => (a.order - b.order) * sign) : shown;
  }

  /** What the database answered for the keys of `states`, as it is with them. */
  static totals(states: ReadonlyMap<string, Held>, { totals, rows }: TotalsValue): Totals {
    const byGroup = new Map(totals.groups.map((total) => [total.group, { ...total }]));
    const count = (group: string, sign: 1 | -1, bytes: number): void => {
      const total = byGroup.get(group) ?? { group, count: 0, bytes: 0 };
      total.count += sign;
      total.bytes += sign * bytes;
      if (total.count > 0) byGroup.set(group, total);
      else byGroup.delete(group);
    };
    let { last } = totals;
    const below = new Map(
      rows.keys.map((key, i) => [key, { group: rows.groups[i]!, bytes: rows.bodyBytes[i]! }]),
    );
    for (const [key, { meta, body, slot }] of states) {
      const row = below.get(key);
      last = Math.max(last, slot?.order ?? 0);
      if (row !== undefined) count(row.group, -1, row.bytes);
      if (meta === null) continue;
      count(slot?.group ?? row?.group ?? "", 1, body === undefined ? (row?.bytes ?? 0) : lengthOf(body));
    }
    return { groups: [...byGroup.values()], last };
  }
}

export const rowsOfColumns = ({ keys, metas, bodyBytes, orders, groups }: RowColumns): SlottedRow[] =>
  keys.map((key, i) => ({
    key,
    meta: metas[i]!,
    bodyBytes: bodyBytes[i]!,
    order: orders[i]!,
    group: groups[i]!,
  }));

/** Most of what is new comes in the order in which it lies. */
const inPlace = (rows: Row[]): Row[] =>
  rows.every((row, i) => i === 0 || byPlace(rows[i - 1]!, row) < 0) ? rows : rows.sort(byPlace);

/** As the rows lie, so that each page belongs to one slice and is written once: new mail at the end of its table, everything else by key. */
const byPlace = ([a, { slot: at }]: Row, [b, { slot: bt }]: Row): number =>
  (at?.order ?? 0) - (bt?.order ?? 0) || (a < b ? -1 : 1);

function packOf(bodies: readonly Uint8Array[], bytes: number): Uint8Array {
  const pack = new Uint8Array(bytes);
  let at = 0;
  for (const body of bodies) {
    pack.set(body, at);
    at += body.length;
  }
  return pack;
}
