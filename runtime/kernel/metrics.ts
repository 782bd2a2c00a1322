/**
 * Metrics on prom-client. One registry per node (never the library's global one, so that a simulated mesh does not
 * share counters). What there is stands in metric-table.ts; only plugins bring names of their own.
 */
// By parts: the package's main file also loads cluster and process statistics, 10 MB of memory that nothing here uses.
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Histogram from "prom-client/lib/histogram.js";
import Registry from "prom-client/lib/registry.js";
import { type MetricLabel, type MetricName, type MetricRow, metricTable } from "./metric-table.ts";

type Labels<Label extends string> = Readonly<Record<Label, string>>;

export interface CounterMetric<Label extends string = string> {
  add(value?: number, labels?: Labels<Label>): void;
}
export interface GaugeMetric<Label extends string = string> {
  set(value: number, labels?: Labels<Label>): void;
}
export interface HistogramMetric<Label extends string = string> {
  observe(value: number, labels?: Labels<Label>): void;
}

type AnyLabels = Labels<string>;
/** Of one plugin, by its first word; all together; and of one metric. */
const PLUGIN_METRICS_MAX = 64;
const ALL_PLUGIN_METRICS_MAX = 1_024;
const PLUGIN_SETS_MAX = 128;
const LABEL_CHARS_MAX = 64;
const noMetric = { add() {}, set() {} };

export class Metrics {
  readonly #registry = new Registry();
  readonly #known = new Map<string, CounterMetric | GaugeMetric | HistogramMetric>();
  /** Sets of label values of each metric of plugins, and metrics of each plugin, whatever became of its lives. */
  readonly #pluginSets = new Map<string, Map<string, AnyLabels>>();
  readonly #pluginMetrics = new Map<string, number>();

  /** Same name again: the same counter. */
  counter<Name extends MetricName<"counter">>(name: Name): CounterMetric<MetricLabel<Name>> {
    return this.#counter(name, metricTable[name]);
  }

  gauge<Name extends MetricName<"gauge">>(name: Name): GaugeMetric<MetricLabel<Name>> {
    return this.#gauge(name, metricTable[name]);
  }

  /** A gauge whose value is asked for at each scrape. */
  observedGauge(name: MetricName<"gauge">, read: () => number): void {
    new Gauge({
      name,
      help: metricTable[name].help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** A counter that somebody else keeps; asked for at each scrape. */
  observedCounter(name: MetricName<"counter">, read: () => number): void {
    new Counter({
      name,
      help: metricTable[name].help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  histogram<Name extends MetricName<"histogram">>(name: Name): HistogramMetric<MetricLabel<Name>> {
    return this.#once(name, () => {
      const { help, labels, buckets } = metricTable[name];
      const histogram = new Histogram({
        ...{ name, help, buckets: [...buckets], labelNames: [...labels] },
        registers: [this.#registry],
      });
      return {
        observe: (value, given) =>
          given === undefined ? histogram.observe(value) : histogram.observe(given, value),
      };
    });
  }

  /**
   * Of a plugin, which declares it itself; the name carries `godwit_plugin_` and `_total`. All lives and instances of a plugin together have
   * 64 metrics, and 128 sets of label values in each; a value has 64 characters. What is beyond is not shown but counted, or counted as
   * `other`: a plugin must not be able to fill the node, and need not end for its metrics.
   */
  pluginCounter(
    name: `godwit_plugin_${string}_total`,
    help: string,
    labels: readonly string[] = [],
  ): CounterMetric {
    const bounded = this.#pluginLabels(name, labels);
    if (bounded === undefined) return noMetric;
    const counter = this.#counter(name, { help, labels });
    return { add: (value, given) => counter.add(value, bounded(given)) };
  }

  /** Of a plugin, as `pluginCounter`. */
  pluginGauge(name: `godwit_plugin_${string}`, help: string, labels: readonly string[] = []): GaugeMetric {
    const bounded = this.#pluginLabels(name, labels);
    if (bounded === undefined) return noMetric;
    const gauge = this.#gauge(name, { help, labels });
    return { set: (value, given) => gauge.set(value, bounded(given)) };
  }

  /** What bounds the labels of a metric; undefined: its plugin has too many. */
  #pluginLabels(
    name: string,
    labels: readonly string[],
  ): ((given?: AnyLabels) => AnyLabels | undefined) | undefined {
    let sets = this.#pluginSets.get(name);
    if (sets === undefined) {
      const plugin = /^godwit_plugin_[a-z0-9]+/.exec(name)?.[0] ?? name;
      const count = this.#pluginMetrics.get(plugin) ?? 0;
      if (count >= PLUGIN_METRICS_MAX || this.#pluginSets.size >= ALL_PLUGIN_METRICS_MAX) {
        this.counter("godwit_plugin_metrics_refused_total").add();
        return undefined;
      }
      this.#pluginMetrics.set(plugin, count + 1);
      this.#pluginSets.set(name, (sets = new Map()));
    }
    const known = sets;
    return (given) => {
      if (given === undefined) return undefined;
      const values = labels.map((label) => `${given[label] ?? ""}`.slice(0, LABEL_CHARS_MAX));
      const key = values.join("\0");
      let shown = known.get(key);
      if (shown === undefined) {
        const isFull = known.size >= PLUGIN_SETS_MAX;
        shown = Object.fromEntries(labels.map((label, at) => [label, isFull ? "other" : values[at]!]));
        if (!isFull) known.set(key, shown);
      }
      return shown;
    };
  }

  /** Prometheus text exposition format 0.0.4. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  #counter(name: string, { help, labels }: Pick<MetricRow, "help" | "labels">): CounterMetric {
    return this.#once(name, () => {
      const counter = new Counter({ name, help, labelNames: [...labels], registers: [this.#registry] });
      return {
        add: (value = 1, given) => (given === undefined ? counter.inc(value) : counter.inc(given, value)),
      };
    });
  }

  #gauge(name: string, { help, labels }: Pick<MetricRow, "help" | "labels">): GaugeMetric {
    return this.#once(name, () => {
      const gauge = new Gauge({ name, help, labelNames: [...labels], registers: [this.#registry] });
      return { set: (value, given) => (given === undefined ? gauge.set(value) : gauge.set(given, value)) };
    });
  }

  #once<M extends CounterMetric | GaugeMetric | HistogramMetric>(name: string, make: () => M): M {
    const known = this.#known.get(name);
    if (known !== undefined) return known as M;
    const made = make();
    this.#known.set(name, made);
    return made;
  }
}
