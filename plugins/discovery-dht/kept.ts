/**
 * What this node keeps for others: which items, for how long, and how many of one source. The library holds the values and forgets nothing by
 * time; this decides what may come in and what goes, so that one source can neither fill the table nor push out what others put there.
 */
import { createHash } from "node:crypto";
import type { Clock } from "@godwit/sdk";
import { encodeBencode } from "./bencode.ts";
import type { Item } from "./krpc.ts";

/** Of all sources: some 2.5 MB. */
export const ITEMS_MAX = 2_048;
/** Of one address, or one /64: a member's own, the rendezvous of its meshes, and those of the neighbours that it carries for. */
export const ITEMS_PER_SOURCE_MAX = 128;
/** BEP 44: items are put again each hour, and may be forgotten after two. */
export const ITEM_LIFETIME_MS = 7_200_000;

export const targetOf = ({ key, salt, value }: Pick<Item, "key" | "salt" | "value">): string =>
  createHash("sha1")
    .update(key === undefined ? encodeBencode(value) : Buffer.concat([key, salt ?? new Uint8Array(0)]))
    .digest("hex");

interface Kept {
  readonly source: string;
  readonly atMs: number;
}

export class KeptItems {
  readonly #clock: Clock;
  /** Takes the value out of the library's table. */
  readonly #drop: (target: string) => void;
  /** The one that was put longest ago first. */
  readonly #items = new Map<string, Kept>();
  readonly #counts = new Map<string, number>();

  constructor(clock: Clock, drop: (target: string) => void) {
    this.#clock = clock;
    this.#drop = drop;
  }

  get size(): number {
    return this.#items.size;
  }

  /** Whether `source` may put `target` here: it is there already, or it has room. */
  hasRoom(target: string, source: string): boolean {
    return this.#items.has(target) || (this.#counts.get(source) ?? 0) < ITEMS_PER_SOURCE_MAX;
  }

  /** It was put, and counts for whoever put it first until it is forgotten. */
  keep(target: string, source: string): void {
    const known = this.#items.get(target);
    if (known === undefined) this.#counts.set(source, (this.#counts.get(source) ?? 0) + 1);
    this.#items.delete(target);
    this.#items.set(target, { source: known?.source ?? source, atMs: this.#clock.monotonicMs() });
    const [oldest] = this.#items.keys();
    if (this.#items.size > ITEMS_MAX && oldest !== undefined) this.#forget(oldest);
  }

  /** Forgets what was not put again in time. */
  sweep(): void {
    const endMs = this.#clock.monotonicMs() - ITEM_LIFETIME_MS;
    for (const [target, { atMs }] of this.#items) {
      if (atMs > endMs) return;
      this.#forget(target);
    }
  }

  #forget(target: string): void {
    const { source } = this.#items.get(target)!;
    this.#items.delete(target);
    this.#drop(target);
    const left = this.#counts.get(source)! - 1;
    if (left === 0) this.#counts.delete(source);
    else this.#counts.set(source, left);
  }
}
