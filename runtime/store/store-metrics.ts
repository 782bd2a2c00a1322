/** What a store tells of its commits. */
import type { CounterMetric, HistogramMetric, Metrics } from "../kernel/metrics.ts";

export interface StoreMetrics {
  readonly commits: CounterMetric;
  readonly batches: CounterMetric;
  readonly latency: HistogramMetric | undefined;
  /** Of the log, many commits each. */
  readonly writes: HistogramMetric | undefined;
}

/** `hasClock`: their times are told, too. */
export const storeMetrics = (metrics: Metrics, hasClock: boolean): StoreMetrics => ({
  commits: metrics.counter("godwit_store_commits_total"),
  batches: metrics.counter("godwit_store_batches_total"),
  latency: hasClock ? metrics.histogram("godwit_store_commit_seconds") : undefined,
  writes: hasClock ? metrics.histogram("godwit_store_write_seconds") : undefined,
});
