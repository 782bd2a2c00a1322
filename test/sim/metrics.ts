/** Counters of one simulated life: the interface of the real ones without their library, and readable by checkers. */
import {
  Metrics,
  type CounterMetric,
  type GaugeMetric,
  type HistogramMetric,
} from "../../runtime/kernel/metrics.ts";

const ignore = { set() {}, observe() {} };

export class SimMetrics extends Metrics {
  readonly #counters = new Map<
    string,
    { total: number; reasons: Map<string, number>; metric: CounterMetric }
  >();

  override counter(name: string): CounterMetric {
    let known = this.#counters.get(name);
    if (known === undefined) {
      const reasons = new Map<string, number>();
      const add: CounterMetric["add"] = (value = 1, labels) => {
        made.total += value;
        const reason = labels?.["reason"];
        if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + value);
      };
      const made = { total: 0, reasons, metric: { add } };
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

  /** Over all labels, or of those with one `reason`. */
  total(name: string, reason?: string): number {
    const counter = this.#counters.get(name);
    return (reason === undefined ? counter?.total : counter?.reasons.get(reason)) ?? 0;
  }
}
