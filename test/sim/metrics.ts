/** Counters of one simulated life: the interface of the real ones without their library, and readable by checkers. */
import {
  Metrics,
  type CounterMetric,
  type GaugeMetric,
  type HistogramMetric,
} from "../../runtime/kernel/metrics.ts";

const ignore = { set() {}, observe() {} };

export class SimMetrics extends Metrics {
  readonly #counters = new Map<string, { total: number; metric: CounterMetric }>();

  override counter(name: string): CounterMetric {
    let known = this.#counters.get(name);
    if (known === undefined) {
      const made = { total: 0, metric: { add: (value = 1) => void (made.total += value) } };
      this.#counters.set(name, (known = made));
    }
    return known.metric;
  }

  override gauge(): GaugeMetric {
    return ignore;
  }

  override observedGauge(): void {}

  override histogram(): HistogramMetric {
    return ignore;
  }

  /** Over all labels. */
  total(name: string): number {
    return this.#counters.get(name)?.total ?? 0;
  }
}
