/**
 * Rows of an earlier form brought to the one of today while the node works: slice by slice, each a small commit, with pauses that are
 * longer than the slices, and done once. How far each conversion is stands in a row of its own, written with its slice, so that a killed
 * node goes on there. Owners register theirs; the old form is read all the same, for as long as rows of it may be there.
 */
import type { Clock, Log, Timer } from "@godwit/sdk";
import { asGodwitError } from "../kernel/errors.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Store, StoreOp } from "./types.ts";

/** After the start, ms: mail that waited goes first. */
const FIRST_MS = 1_000;
/** Between two slices: at least so long, and so many times as long as the slice took. */
const PAUSE_MS = 20;
const PAUSES_PER_SLICE = 4;
/** After a slice that failed, on a full disk for instance. */
const RETRY_MS = 60_000;
export const CONVERSIONS_MAX = 32;
/** Of its rows in `setting`. */
export const CONVERTED_PREFIX = "converted/";

export interface Slice {
  readonly ops: readonly StoreOp[];
  /** Where the next one begins; undefined: it is through. */
  readonly after: string | undefined;
  /** That were looked at, whatever their form. */
  readonly rows: number;
}

export interface Conversion {
  /** Its progress is kept under it: one that has more to do than before has another name. */
  readonly name: string;
  /**
   * Looks at some rows behind `after` ("" at first), few enough for nobody to notice, and calls `save` once. What it saves must be as the rows are
   * at that moment: an owner takes it from what it holds, and calls at once.
   */
  step(after: string, save: (slice: Slice) => Promise<void>): Promise<void>;
}

export interface ConversionsDeps {
  readonly store: Pick<Store, "load" | "commit">;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** How often a release of before had the store: rows of its form have come then, and all is looked at again. */
  olderStays(): Promise<number>;
}

/** How far it is. `rows`: looked at so far. */
export interface Progress {
  readonly name: string;
  readonly rows: number;
  readonly isThrough: boolean;
}

interface Kept {
  readonly stays: number;
  readonly after: string;
  readonly rows: number;
  readonly isThrough: boolean;
}

export class Conversions {
  readonly #deps: ConversionsDeps;
  readonly #all: Conversion[] = [];
  readonly #kept = new Map<string, Kept>();
  readonly #looked;
  #stays = 0;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(deps: ConversionsDeps) {
    this.#deps = deps;
    this.#looked = deps.metrics.counter("godwit_store_conversion_rows_total");
    deps.metrics.observedGauge("godwit_store_conversions", () => this.#open().length);
  }

  /** Before `start`. */
  register(conversion: Conversion): void {
    if (this.#all.length < CONVERSIONS_MAX) this.#all.push(conversion);
  }

  get progress(): Progress[] {
    return this.#all.map(({ name }) => {
      const { rows, isThrough } = this.#keptOf(name);
      return { name, rows, isThrough };
    });
  }

  /** Resolves when it is known what is to be done. Rejects with GODWIT_STORE_FAILED. */
  async start(): Promise<void> {
    this.#stays = await this.#deps.olderStays();
    for (const { key, meta } of await this.#deps.store.load("setting")) {
      const kept = key.startsWith(CONVERTED_PREFIX) ? parseKept(meta) : undefined;
      if (kept?.stays === this.#stays) this.#kept.set(key.slice(CONVERTED_PREFIX.length), kept);
    }
    this.#plan(FIRST_MS);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #open(): Conversion[] {
    return this.#all.filter(({ name }) => !this.#keptOf(name).isThrough);
  }

  #keptOf(name: string): Kept {
    return this.#kept.get(name) ?? { stays: this.#stays, after: "", rows: 0, isThrough: false };
  }

  #plan(inMs: number): void {
    if (this.#isStopped || this.#open().length === 0) return;
    this.#timer = this.#deps.clock.after(inMs, () => {
      this.#running = this.#slice();
    });
  }

  async #slice(): Promise<void> {
    const [conversion] = this.#open();
    if (conversion === undefined) return;
    const { clock, log, store } = this.#deps;
    const startMs = clock.monotonicMs();
    const before = this.#keptOf(conversion.name);
    try {
      await conversion.step(before.after, async ({ ops, after, rows }) => {
        const kept: Kept = {
          stays: this.#stays,
          after: after ?? before.after,
          rows: before.rows + rows,
          isThrough: after === undefined,
        };
        const key = `${CONVERTED_PREFIX}${conversion.name}`;
        await store.commit([...ops, { op: "put", in: "setting", key, meta: JSON.stringify(kept) }]);
        this.#kept.set(conversion.name, kept);
        this.#looked.add(rows);
        if (kept.isThrough) log.info("store converted", { what: conversion.name, rows: kept.rows });
      });
      this.#plan(Math.max(PAUSE_MS, PAUSES_PER_SLICE * (clock.monotonicMs() - startMs)));
    } catch (error) {
      log.warn("store conversion waits", { what: conversion.name, error: asGodwitError(error) });
      this.#plan(RETRY_MS);
    }
  }
}

/** Undefined for a damaged row: then all is looked at again, which changes nothing. */
function parseKept(meta: string): Kept | undefined {
  try {
    const { stays, after, rows, isThrough } = JSON.parse(meta) as Record<string, unknown>;
    if (typeof stays !== "number" || typeof after !== "string") return undefined;
    return { stays, after, rows: typeof rows === "number" ? rows : 0, isThrough: isThrough === true };
  } catch {
    return undefined;
  }
}
