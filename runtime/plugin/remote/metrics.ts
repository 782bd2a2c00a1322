/** Metrics of a plugin outside of the node's thread, judged as they come; `ctx.counter` and `ctx.gauge` bound what is shown. */
import type { MetricCounter, MetricGauge, PluginContext } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { parseJson } from "../frames/parse.ts";

/** Names that are kept apart here; what the node shows has its own, lower bounds (kernel/metrics.ts). */
const METRICS_MAX = 1_024;
const VALUE_CHARS_MAX = 1_024;

const word = z.string().regex(/^[a-z][a-z0-9_]{0,63}$/);
const schema = z.object({
  kind: z.enum(["counter", "gauge"]),
  name: word,
  help: z.string().max(200),
  labels: z.array(word).max(8),
  /** Undefined: it is only declared. */
  value: z.number().optional(),
  at: z.record(word, z.string().max(VALUE_CHARS_MAX)).optional(),
});

interface Known {
  readonly shape: string;
  readonly labels: readonly string[];
  readonly counter: MetricCounter | undefined;
  readonly gauge: MetricGauge | undefined;
}

export class RemoteMetrics {
  readonly #ctx: PluginContext;
  readonly #known = new Map<string, Known>();

  constructor(ctx: PluginContext) {
    this.#ctx = ctx;
  }

  /** Throws GODWIT_DECODE. */
  handle(json: unknown): void {
    const { kind, name, help, labels, value, at = {} } = parseJson(schema, json);
    const shape = `${kind}(${labels.join()})`;
    let known = this.#known.get(name);
    if (known === undefined) {
      if (this.#known.size >= METRICS_MAX) throw refused(`at most ${METRICS_MAX} metrics`);
      known = {
        shape,
        labels,
        counter: kind === "counter" ? this.#ctx.counter(name, help, labels) : undefined,
        gauge: kind === "gauge" ? this.#ctx.gauge(name, help, labels) : undefined,
      };
      this.#known.set(name, known);
    }
    if (known.shape !== shape) throw refused(`metric ${name} is ${known.shape} already`);
    if (value === undefined) return;
    if (Object.keys(at).sort().join() !== [...labels].sort().join())
      throw refused(`metric ${name} has other labels`);
    if (!Number.isFinite(value) || (kind === "counter" && value < 0))
      throw refused(`metric ${name} cannot be ${value}`);
    known.counter?.add(value, at);
    known.gauge?.set(value, at);
  }
}

const refused = (what: string) => godwitError("GODWIT_DECODE", `plugin frame: ${what}`);
