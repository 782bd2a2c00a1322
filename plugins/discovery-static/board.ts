/**
 * Where the sources of one instance meet: each publishes all it knows, the board hints at what is new and withdraws
 * what no source knows any more. Keeps what is wrong with each source for the instance's health.
 */
import type { Hint, PluginContext } from "@godwit/sdk";
import type { Entry } from "./entry.ts";

/** Below the host's bound of live hints. */
const HINTS_MAX = 4_000;

export class Board {
  readonly #ctx: PluginContext;
  readonly #bySource = new Map<string, ReadonlyMap<string, Hint>>();
  readonly #live = new Map<string, Hint>();
  readonly #problems = new Map<string, string>();
  #told = "";

  constructor(ctx: PluginContext) {
    this.#ctx = ctx;
  }

  /** Replaces what `source` knows. What it names again is hinted at again: a dialler that gave up tries anew. */
  publish(source: string, entries: readonly Entry[], isPermanent: boolean): void {
    const hints = new Map(
      entries.map(({ endpoint, nodeId }): [string, Hint] => [
        endpoint,
        {
          endpoint,
          ...(isPermanent ? { permanent: true } : {}),
          ...(nodeId === undefined ? {} : { nodeId }),
        },
      ]),
    );
    const before = this.#bySource.get(source) ?? new Map<string, Hint>();
    this.#bySource.set(source, hints);
    for (const endpoint of new Set([...before.keys(), ...hints.keys()])) this.#settle(endpoint);
  }

  /** Undefined: the source is well. */
  report(source: string, problem: string | undefined): void {
    if (problem === undefined) this.#problems.delete(source);
    else this.#problems.set(source, problem);
    const reason = [...this.#problems].map(([name, text]) => `${name}: ${text}`).join("; ");
    if (reason === this.#told) return;
    this.#told = reason;
    if (reason !== "") this.#ctx.log.warn("source of peers is not well", { reason });
    this.#ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
  }

  /** A permanent word outranks one that is not; between equals the first source counts. */
  #settle(endpoint: string): void {
    const words = [...this.#bySource.values()].flatMap((hints) => hints.get(endpoint) ?? []);
    const hint = words.find(({ permanent }) => permanent === true) ?? words[0];
    if (hint !== undefined) {
      if (!this.#live.has(endpoint) && this.#live.size >= HINTS_MAX) return;
      this.#live.set(endpoint, hint);
      this.#ctx.discovery.hint(hint);
    } else if (this.#live.delete(endpoint)) this.#ctx.discovery.withdraw(endpoint);
  }
}
