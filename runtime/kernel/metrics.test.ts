import { expect, test } from "bun:test";
import { Metrics } from "./metrics.ts";

test("counters, gauges and histograms render; the same name is the same metric", async () => {
  const metrics = new Metrics();
  metrics.counter("godwit_a_total", "a", ["reason"]).add(2, { reason: "full" });
  metrics.counter("godwit_a_total", "a", ["reason"]).add(1, { reason: "full" });
  metrics.gauge("godwit_b", "b").set(4);
  metrics.histogram("godwit_c_seconds", "c", [1, 2]).observe(1.5);
  const text = await metrics.render();
  expect(text).toContain('godwit_a_total{reason="full"} 3\n');
  expect(text).toContain("godwit_b 4\n");
  expect(text).toContain('godwit_c_seconds_bucket{le="2"} 1\n');
});

test("observed ones are asked at each scrape and do not add up", async () => {
  const metrics = new Metrics();
  let value = 1;
  metrics.observedGauge("godwit_g", "g", () => value);
  metrics.observedCounter("godwit_n_total", "n", () => value);
  await metrics.render();
  value = 5;
  const text = await metrics.render();
  expect(text).toContain("godwit_g 5\n");
  expect(text).toContain("godwit_n_total 5\n");
});

test("two nodes in one process share nothing", async () => {
  const [one, other] = [new Metrics(), new Metrics()];
  one.counter("godwit_x_total", "x").add();
  expect(await other.render()).not.toContain("godwit_x_total");
});
