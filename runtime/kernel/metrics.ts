/**
 * What a node counts, and how it is shown. Counters, gauges and histograms are plain numbers: nothing else is touched where something
 * happens. prom-client writes them as text; it is loaded by the first scrape and reads them at each one. One registry per node
 * (never the library's global one, so that a simulated mesh does not share counters). What there is stands in metric-table.ts;
 * only plugins bring names of their own.
 */
import type { Registry } from "prom-client";
import { type MetricLabel, type MetricName, type MetricRow, metricTable } from "./metric-table.ts";
import { Distribution, Numbers, type Sample, type Series } from "./series.ts";

type Labels<Label extends string> = Readonly<Record<Label, string>>;

export interface CounterMetric<Label extends string = string> {
  /** `value` is finite and not negative. */
  add(value?: number, labels?: Labels<Label>): void;
}
export interface GaugeMetric<Label extends string = string> {
  set(value: number, labels?: Labels<Label>): void;
}
export interface HistogramMetric<Label extends string = string> {
  observe(value: number, labels?: Labels<Label>): void;
}
/** One set of labels with its value; without a value it is not shown. */
export type Observed<Label extends string = string> = readonly [
  value: number | undefined,
  labels?: Labels<Label>,
];

type AnyLabels = Labels<string>;
/** Of one plugin, by its first word; all together; and of one metric. */
const PLUGIN_METRICS_MAX = 64;
const ALL_PLUGIN_METRICS_MAX = 1_024;
const PLUGIN_SETS_MAX = 128;
const LABEL_CHARS_MAX = 64;
const noMetric = { add() {}, set() {} };

interface Known {
  readonly row: MetricRow;
  readonly series: Series;
  readonly metric: CounterMetric | GaugeMetric | HistogramMetric | undefined;
}

export class Metrics {
  readonly #known = new Map<string, Known>();
  readonly #gatherers: (() => void | Promise<void>)[] = [];
  #registry: Promise<Registry> | undefined;
  /** Its values are not read yet. */
  #rendering: Promise<string> | undefined;
  /** Those that the registry has. */
  #shownCount = 0;
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

  /** A gauge whose value is asked for at each scrape; undefined: it is not shown. */
  observedGauge(name: MetricName<"gauge">, read: () => number | undefined): void {
    this.#observed(name, () => [[read()]]);
  }

  /** A counter that somebody else keeps; asked for at each scrape; undefined: it is not shown. */
  observedCounter(name: MetricName<"counter">, read: () => number | undefined): void {
    this.#observed(name, () => [[read()]]);
  }

  /** Gauges or counters of one name that somebody else keeps, with their labels; asked for at each scrape. */
  observedSets<Name extends MetricName<"counter" | "gauge">>(
    name: Name,
    read: () => readonly Observed<MetricLabel<Name>>[],
  ): void {
    this.#observed(name, read);
  }

  /** Called before the values of each scrape are read; what it answers is waited for. Must neither throw nor reject, and is bounded in time. */
  beforeScrape(gather: () => void | Promise<void>): void {
    this.#gatherers.push(gather);
  }

  histogram<Name extends MetricName<"histogram">>(name: Name): HistogramMetric<MetricLabel<Name>> {
    return this.#once(name, metricTable[name], () => {
      const { labels, buckets } = metricTable[name];
      const series = new Distribution(name, labels, buckets);
      return { series, metric: { observe: (value, given) => series.observe(value, given) } };
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

  /** Prometheus text exposition format 0.0.4. Who asks before its values are read shares it: a crowd that scrapes at once costs one scrape. */
  render(): Promise<string> {
    return (this.#rendering ??= this.#gathered()
      .finally(() => (this.#rendering = undefined))
      .then((registry) => this.#textOf(registry)));
  }

  async #gathered(): Promise<Registry> {
    this.#registry ??= openRegistry().catch((error: unknown) => {
      // The next scrape tries again.
      this.#registry = undefined;
      throw error;
    });
    const [registry] = await Promise.all([this.#registry, ...this.#gatherers.map((gather) => gather())]);
    return registry;
  }

  #textOf(registry: Registry): Promise<string> {
    const unknown = [...this.#known].slice(this.#shownCount);
    this.#shownCount = this.#known.size;
    for (const [name, { row, series }] of unknown) registry.registerMetric(shownAs(name, row, series));
    return registry.metrics();
  }

  #counter(name: string, row: Pick<MetricRow, "help" | "labels">): CounterMetric {
    return this.#once(name, { ...row, kind: "counter" }, () => {
      const series = new Numbers(row.labels);
      return { series, metric: { add: (value = 1, given) => series.add(value, given) } };
    });
  }

  #gauge(name: string, row: Pick<MetricRow, "help" | "labels">): GaugeMetric {
    return this.#once(name, { ...row, kind: "gauge" }, () => {
      const series = new Numbers(row.labels);
      return { series, metric: { set: (value, given) => series.set(value, given) } };
    });
  }

  /** Several may tell of one name, each of other labels. */
  #observed(name: MetricName<"counter" | "gauge">, read: () => readonly Observed[]): void {
    const known = this.#known.get(name);
    if (known === undefined) {
      const series = new Asked();
      this.#known.set(name, { row: metricTable[name], series, metric: undefined });
      series.readers.push(read);
    } else if (known.series instanceof Asked && metricTable[name].labels.length > 0)
      known.series.readers.push(read);
    else throw new Error(`${name} is told by two`);
  }

  #once<M extends CounterMetric | GaugeMetric | HistogramMetric>(
    name: string,
    row: MetricRow,
    make: () => { readonly series: Series; readonly metric: M },
  ): M {
    const known = this.#known.get(name);
    if (known?.metric !== undefined) return known.metric as M;
    if (known !== undefined) throw new Error(`${name} is told by two`);
    const made = make();
    this.#known.set(name, { row, ...made });
    return made.metric;
  }
}

/** Values that others keep. */
class Asked implements Series {
  readonly readers: (() => readonly Observed[])[] = [];

  samples(): Sample[] {
    const samples: Sample[] = [];
    for (const read of this.readers)
      for (const [value, labels = {}] of read()) if (value !== undefined) samples.push({ value, labels });
    return samples;
  }
}

/** By parts: the package's main file also loads cluster and process statistics, 10 MB of memory that nothing here uses. */
async function openRegistry(): Promise<Registry> {
  const { default: PromRegistry } = await import("prom-client/lib/registry.js");
  return new PromRegistry();
}

/** What the registry asks of a metric: its values at that moment. */
function shownAs(name: string, { kind, help }: MetricRow, series: Series): PromMetric {
  return {
    name,
    help,
    get: () => Promise.resolve({ name, help, type: kind, values: series.samples() }),
  } as unknown as PromMetric;
}

type PromMetric = Parameters<Registry["registerMetric"]>[0];
