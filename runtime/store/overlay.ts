/**
 * Rows that are durable in the commit log and not yet in the database: the last state of each, and nothing of what it was before. Two
 * layers, the upper one for what comes while the lower one is being written. Reads look here first. Bounded by the log, whose frames hold
 * the bodies. Never touches a file.
 */
import type { BodyPlace } from "./body-files.ts";
import type { LogOp } from "./log-frame.ts";
import { compareKeys } from "./ops.ts";
import type { LoadColumns, WireOp } from "./sqlite-messages.ts";
import { collections, type Collection, type StoreRow } from "./types.ts";

/** `meta` null: deleted. `body` undefined: that of the row below, null: none. */
interface Held {
  readonly meta: string | null;
  readonly body: Uint8Array | BodyPlace | null | undefined;
}

const lengthOf = (body: Held["body"]): number =>
  body instanceof Uint8Array ? body.length : (body?.bytes ?? 0);

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
      else if (op.op === "put-place") rows.set(op.key, { meta: op.meta, body: op.place });
      else {
        const body = op.body === undefined ? rows.get(op.key)?.body : new Uint8Array(op.body);
        rows.set(op.key, { meta: op.meta, body });
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
      for (const [key, { meta, body }] of rows)
        below.set(key, { meta, body: body === undefined ? below.get(key)?.body : body });
    }
  }

  /** The sealed rows as ops for the database, cut after `opsMax` ops or `bytesMax` bytes; at least one slice. Bodies in the pack. */
  *slices(opsMax: number, bytesMax: number): Generator<{ ops: WireOp[]; pack: Uint8Array; isLast: boolean }> {
    let ops: WireOp[] = [];
    let bodies: Uint8Array[] = [];
    let bodyBytes = 0;
    let bytes = 0;
    const later = [...this.#lower.keys()].filter((name) => !collections.includes(name));
    for (const collection of [...collections, ...later])
      // By key: then each page of an index belongs to one slice, and is written once.
      for (const [key, { meta, body }] of [...(this.#lower.get(collection) ?? [])].sort(byKey)) {
        if (ops.length >= opsMax || bytes >= bytesMax) {
          yield { ops, pack: packOf(bodies, bodyBytes), isLast: false };
          [ops, bodies, bodyBytes, bytes] = [[], [], 0, 0];
        }
        bytes += key.length + (meta?.length ?? 0);
        if (meta === null || body === null) ops.push([collection, key, null, -1, 0]);
        if (meta === null) continue;
        if (!(body instanceof Uint8Array)) {
          ops.push([collection, key, meta, -1, 0, body ?? undefined]);
          continue;
        }
        ops.push([collection, key, meta, bodyBytes, body.length]);
        bytes += body.length;
        bodies.push(body);
        bodyBytes += body.length;
      }
    yield { ops, pack: packOf(bodies, bodyBytes), isLast: true };
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
}

const byKey = ([a]: [string, Held], [b]: [string, Held]): number => (a < b ? -1 : 1);

function packOf(bodies: readonly Uint8Array[], bytes: number): Uint8Array {
  const pack = new Uint8Array(bytes);
  let at = 0;
  for (const body of bodies) {
    pack.set(body, at);
    at += body.length;
  }
  return pack;
}
