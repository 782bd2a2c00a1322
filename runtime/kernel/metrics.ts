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

export class Metrics {
  readonly #registry = new Registry();
  readonly #known = new Map<string, CounterMetric | GaugeMetric | HistogramMetric>();

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

  /** Of a plugin, which declares it itself; the name carries `godwit_plugin_` and `_total`. */
  pluginCounter(
    name: `godwit_plugin_${string}_total`,
    help: string,
    labels: readonly string[] = [],
  ): CounterMetric {
    return this.#counter(name, { help, labels });
  }

  /** Of a plugin, as `pluginCounter`. */
  pluginGauge(name: `godwit_plugin_${string}`, help: string, labels: readonly string[] = []): GaugeMetric {
    return this.#gauge(name, { help, labels });
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
