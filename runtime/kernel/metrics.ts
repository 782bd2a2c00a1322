/**
 * Metrics on prom-client. One registry per node (never the library's global one, so that a simulated mesh does not
 * share counters). Prefix `godwit_`, base units, small closed label sets, never a node id as a label.
 */
// By parts: the package's main file also loads cluster and process statistics, 10 MB of memory that nothing here uses.
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Histogram from "prom-client/lib/histogram.js";
import Registry from "prom-client/lib/registry.js";

type Labels = Readonly<Record<string, string>>;

export interface CounterMetric {
  add(value?: number, labels?: Labels): void;
}
export interface GaugeMetric {
  set(value: number, labels?: Labels): void;
}
export interface HistogramMetric {
  observe(value: number, labels?: Labels): void;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #known = new Map<string, CounterMetric | GaugeMetric | HistogramMetric>();

  /** Same name again: the same counter. The name carries `_total`. */
  counter(name: string, help: string, labelNames: readonly string[] = []): CounterMetric {
    return this.#once(name, () => {
      const counter = new Counter({ name, help, labelNames: [...labelNames], registers: [this.#registry] });
      return {
        add: (value = 1, labels) => (labels === undefined ? counter.inc(value) : counter.inc(labels, value)),
      };
    });
  }

  gauge(name: string, help: string, labelNames: readonly string[] = []): GaugeMetric {
    return this.#once(name, () => {
      const gauge = new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] });
      return { set: (value, labels) => (labels === undefined ? gauge.set(value) : gauge.set(labels, value)) };
    });
  }

  /** A gauge whose value is asked for at each scrape. */
  observedGauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** A counter that somebody else keeps; asked for at each scrape. The name carries `_total`. */
  observedCounter(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  histogram(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames: readonly string[] = [],
  ): HistogramMetric {
    return this.#once(name, () => {
      const histogram = new Histogram({
        name,
        help,
        buckets: [...buckets],
        labelNames: [...labelNames],
        registers: [this.#registry],
      });
      return {
        observe: (value, labels) =>
          labels === undefined ? histogram.observe(value) : histogram.observe(labels, value),
      };
    });
  }

  /** Prometheus text exposition format 0.0.4. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  #once<M extends CounterMetric | GaugeMetric | HistogramMetric>(name: string, make: () => M): M {
    const known = this.#known.get(name);
    if (known !== undefined) return known as M;
    const made = make();
    this.#known.set(name, made);
    return made;
  }
}
