import { expect, test } from "bun:test";
import { type MetricRow, metricTable } from "./metric-table.ts";
import { Metrics } from "./metrics.ts";

test("counters, gauges and histograms render; the same name is the same metric", async () => {
  const metrics = new Metrics();
  for (const value of [2, 1]) metrics.counter("godwit_packets_dropped_total").add(value, { reason: "full" });
  metrics.pluginGauge("godwit_plugin_x_b", "b").set(4);
  metrics.pluginCounter("godwit_plugin_x_c_total", "c", ["kind"]).add(1, { kind: "k" });
  metrics.histogram("godwit_store_commit_seconds").observe(0.3);
  const text = await metrics.render();
  expect(text).toContain('godwit_packets_dropped_total{reason="full"} 3\n');
  expect(text).toContain("godwit_plugin_x_b 4\n");
  expect(text).toContain('godwit_plugin_x_c_total{kind="k"} 1\n');
  expect(text).toContain('godwit_store_commit_seconds_bucket{le="1"} 1\n');
  expect(text).toContain('godwit_store_commit_seconds_bucket{le="0.25"} 0\n');
});

test("observed ones are asked at each scrape and do not add up", async () => {
  const metrics = new Metrics();
  let value = 1;
  metrics.observedGauge("godwit_inbox_messages", () => value);
  metrics.observedCounter("godwit_link_rekeys_total", () => value);
  await metrics.render();
  value = 5;
  const text = await metrics.render();
  expect(text).toContain("godwit_inbox_messages 5\n");
  expect(text).toContain("godwit_link_rekeys_total 5\n");
});

test("a crowd that scrapes at once costs one scrape, and each later one its own", async () => {
  const metrics = new Metrics();
  let reads = 0;
  metrics.observedGauge("godwit_inbox_messages", () => ++reads);
  let fails = true;
  metrics.beforeScrape(() => {
    if (fails) throw new Error("no look");
    return Bun.sleep(5);
  });
  await expect(metrics.render()).rejects.toThrow("no look");
  fails = false;
  const texts = await Promise.all(Array.from({ length: 50 }, () => metrics.render()));
  expect([reads, new Set(texts).size]).toEqual([1, 1]);
  expect(await metrics.render()).toContain("godwit_inbox_messages 2\n");
});

test("two nodes in one process share nothing", async () => {
  const [one, other] = [new Metrics(), new Metrics()];
  one.counter("godwit_store_batches_total").add();
  expect(await other.render()).not.toContain("godwit_store_batches_total");
});

test("a plugin fills nothing, however many names, labels and lives it has", async () => {
  const metrics = new Metrics();
  for (let n = 0; n < 200; n++) metrics.pluginCounter(`godwit_plugin_bad_n${n}_total`, "n").add();
  for (let life = 0; life < 3; life++)
    for (let n = 0; n < 300; n++)
      metrics
        .pluginGauge("godwit_plugin_loud", "l", ["who"])
        .set(1, { who: `${life}-${n}-${"y".repeat(300)}` });
  metrics.pluginCounter("godwit_plugin_good_total", "g").add();
  const lines = (await metrics.render()).split("\n");
  const of = (start: string) => lines.filter((line) => line.startsWith(start));
  expect(of("godwit_plugin_bad_")).toHaveLength(64);
  expect(of("godwit_plugin_loud{")).toHaveLength(129);
  expect(of('godwit_plugin_loud{who="other"}')).toHaveLength(1);
  expect(Math.max(...of("godwit_plugin_loud{").map((line) => line.length))).toBeLessThan(120);
  expect(of("godwit_plugin_metrics_refused_total 136")).toHaveLength(1);
  expect(of("godwit_plugin_good_total 1")).toHaveLength(1);
});

test("names are in base units, counters and only they end in _total, buckets ascend, nothing looks like a plugin's", () => {
  for (const [name, { kind, help, labels, buckets }] of Object.entries<MetricRow>(metricTable)) {
    expect(name).toMatch(/^(godwit|process)_[a-z][a-z_]+$/);
    expect(name).not.toMatch(/_(ms|kb|mb|minutes|percent)(_|$)/);
    expect([name, name.endsWith("_total")]).toEqual([name, kind === "counter"]);
    expect(help).toMatch(/^[^\n]{4,200}[^.]$/);
    expect(labels.every((label) => /^[a-z]+$/.test(label) && label !== "id")).toBe(true);
    expect([name, buckets !== undefined]).toEqual([name, kind === "histogram"]);
    expect([...(buckets ?? [])].toSorted((a, b) => a - b)).toEqual([...(buckets ?? [])]);
  }
});

test("plugins without end have 1,024 metrics together", async () => {
  const metrics = new Metrics();
  for (let plugin = 0; plugin < 60; plugin++)
    for (let n = 0; n < 20; n++) metrics.pluginCounter(`godwit_plugin_p${plugin}_n${n}_total`, "n").add();
  const lines = (await metrics.render()).split("\n");
  expect(lines.filter((line) => line.startsWith("godwit_plugin_p"))).toHaveLength(1_024);
  expect(lines).toContain(`godwit_plugin_metrics_refused_total ${60 * 20 - 1_024}`);
});
