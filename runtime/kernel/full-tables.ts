/**
 * Tables that refuse because they must not forget, and are full: told to the operator once, with what to do, and counted. Whoever is
 * refused hears the table's name over the wire. Owns no table; must never refuse by itself. docs/threat-model.md "Tables".
 */
import type { Clock, Log } from "@godwit/sdk";
import type { CounterMetric, Metrics } from "./metrics.ts";

/** By table, as docs/threat-model.md calls it: what an operator can do. */
const ADVICE = {
  "senders seen":
    "senders that nobody here knows are refused until there is room; write to whom mail is wanted from, or trust them: known ones have places of their own",
  "senders in the inbox":
    "messages of senders that nobody here knows and that have nothing in the inbox wait until there is room: read and remove messages, or trust whom mail is wanted from: known ones have places of their own",
  "used invitations":
    "uses of invitations that strangers tell of are not remembered until some expire; let newcomers in with short invitations, or trust the members who invite: known ones have places of their own",
} as const;

export type FullTable = keyof typeof ADVICE;

/** A table that refused nobody for so long is not called full any more, ms; nor is it said in the log again sooner. */
const TOLD_MS = 600_000;

interface Refusals {
  count: number;
  lastMs: number;
}

export class FullTables {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #refused: CounterMetric;
  readonly #refusals = new Map<FullTable, Refusals>();

  constructor(clock: Clock, log: Log, metrics: Metrics) {
    this.#clock = clock;
    this.#log = log;
    this.#refused = metrics.counter("godwit_tables_refused_total");
  }

  /** One entry found no place. */
  refused(table: FullTable): void {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#refusals.get(table);
    const isGoingOn = before !== undefined && nowMs - before.lastMs < TOLD_MS;
    this.#refusals.set(table, { count: isGoingOn ? before.count + 1 : 1, lastMs: nowMs });
    this.#refused.add(1, { table });
    if (!isGoingOn) this.#log.warn("table full", { table, advice: ADVICE[table] });
  }

  /** In words for the node's health. Anybody may cause it, so it makes no node ill. */
  get troubles(): { readonly name: string; readonly reason: string; readonly isNotice: true }[] {
    if (this.#refusals.size === 0) return [];
    const nowMs = this.#clock.monotonicMs();
    return [...this.#refusals]
      .filter(([, { lastMs }]) => nowMs - lastMs < TOLD_MS)
      .map(([table, { count }]) => ({
        name: "tables",
        reason: `${table}: full, ${count} refused; ${ADVICE[table]}`,
        isNotice: true,
      }));
  }
}
