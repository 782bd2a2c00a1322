/** The bundles of others as they are shown: what is in memory as it is there, everything else as its row says. Changes nothing. */
import type { BundleId } from "../../kernel/ids.ts";
import { PAGE_ROWS_MAX, type SlottedRow } from "../../store/types.ts";
import type { BundleHeader } from "../../wire/bundle.ts";
import { type CustodyContext, deadlineOf, type Holding, type Page } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import { canReach } from "../lanes.ts";
import type { TransitRow } from "./row.ts";

/** A bundle as it is shown. */
export type TransitItem = Pick<
  Holding,
  "id" | "header" | "sealedBytes" | "state" | "trace" | "waitReason" | "hops"
> & {
  /** What is over of its life, ms. */
  readonly ageMs: number;
};

export interface TransitReaderDeps {
  inMemory(id: BundleId): Holding | undefined;
  /** Of a row that is neither in memory nor for this node itself; undefined: it is damaged, or on its way out. */
  asleep(row: SlottedRow): TransitRow | undefined;
}

export class TransitReader {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #deps: TransitReaderDeps;

  constructor(ctx: CustodyContext, forwarder: Forwarder, deps: TransitReaderDeps) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#deps = deps;
  }

  /** In the order of arrival. Empty after one that is not there. Rejects with GODWIT_STORE_FAILED. */
  async page({ order, limit, after }: Page): Promise<TransitItem[]> {
    const { store } = this.#ctx;
    const [last] = after === undefined ? [] : await store.rows("transit", [after]);
    if (after !== undefined && last === undefined) return [];
    const found: TransitItem[] = [];
    for (let from = last?.order; found.length < limit;) {
      const wanted = Math.min(limit - found.length, PAGE_ROWS_MAX);
      const rows = await store.page("transit", { order, limit: wanted, after: from });
      found.push(...rows.flatMap((row) => this.#shown(row) ?? []));
      from = rows.at(-1)?.order;
      if (rows.length < wanted) break;
    }
    return found;
  }

  #shown(row: SlottedRow): TransitItem | undefined {
    const held = this.#deps.inMemory(row.key as BundleId);
    if (held !== undefined) {
      const { id, header, sealedBytes, trace, state, hops } = held;
      const isBehind = state === "ready" && held.waitReason === undefined;
      const waitReason = isBehind ? this.#sleepReason(header) : held.waitReason;
      const ageMs = header.lifetimeMs - (held.deadlineMs - this.#ctx.clock.monotonicMs());
      return { id, header, sealedBytes, trace, hops, ageMs, state, waitReason };
    }
    const asleep = this.#deps.asleep(row);
    if (asleep === undefined) return undefined;
    const { id, header, sealedBytes, trace, hops, lifetime } = asleep;
    const ageMs = header.lifetimeMs - (deadlineOf(this.#ctx, lifetime) - this.#ctx.clock.monotonicMs());
    const waitReason = this.#sleepReason(header);
    return { id, header, sealedBytes, trace, hops, ageMs, state: "ready", waitReason };
  }

  #sleepReason({ destination }: BundleHeader): string {
    for (const { waitReason } of this.#forwarder.toward(destination))
      if (waitReason !== undefined) return `behind others: ${waitReason}`;
    return canReach(this.#ctx, destination)
      ? "behind others to the same node"
      : "no route to its destination";
  }
}
