/** Metrics that a plugin outside of the node's thread tells, in the node's real registry. */
import { expect, test } from "bun:test";
import type { PluginContext } from "@godwit/sdk";
import { Metrics } from "../../kernel/metrics.ts";
import { RemoteMetrics } from "./metrics.ts";

function rig() {
  const metrics = new Metrics();
  const remote = new RemoteMetrics({
    counter: (name: string, help: string, labels: readonly string[]) =>
      metrics.pluginCounter(`godwit_plugin_far_${name}_total`, help, labels),
    gauge: (name: string, help: string, labels: readonly string[]) =>
      metrics.pluginGauge(`godwit_plugin_far_${name}`, help, labels),
  } as unknown as PluginContext);
  const tell = (told: object) =>
    remote.handle({ kind: "counter", name: "bytes", help: "Bytes", labels: [], ...told });
  const shown = async () =>
    (await metrics.render()).split("\n").filter((line) => line.startsWith("godwit_plugin_far_"));
  return { tell, shown };
}
const refused = (words: string) =>
  expect.objectContaining({ code: "GODWIT_DECODE", message: expect.stringContaining(words) });
const thrown = (run: () => void): unknown => {
  try {
    run();
  } catch (error) {
    return error;
  }
  return "nothing was thrown";
};

test("what a plugin counts is shown under its name, and a metric that is only declared costs nothing", async () => {
  const { tell, shown } = rig();
  tell({});
  tell({ value: 2 });
  tell({ value: 0.5 });
  tell({ kind: "gauge", name: "depth", labels: ["queue"], value: -3, at: { queue: "a" } });
  expect(await shown()).toEqual([
    "godwit_plugin_far_bytes_total 2.5",
    'godwit_plugin_far_depth{queue="a"} -3',
  ]);
});

test("a counter never falls, and nothing is counted that is no number", async () => {
  const { tell, shown } = rig();
  tell({ value: 5 });
  for (const value of [-1, -0.001]) expect(thrown(() => tell({ value }))).toEqual(refused("cannot be"));
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, "7"])
    expect(thrown(() => tell({ value }))).toMatchObject({ code: "GODWIT_DECODE" });
  expect(await shown()).toEqual(["godwit_plugin_far_bytes_total 5"]);
});

test("a metric stays of the kind and the labels that it was declared with", () => {
  const { tell } = rig();
  tell({ labels: ["a"] });
  for (const other of [
    { labels: [] },
    { labels: ["b"] },
    { labels: ["a", "b"] },
    { kind: "gauge", labels: ["a"] },
  ])
    expect(thrown(() => tell({ ...other, value: 1 }))).toEqual(refused("already"));
});

test("a value has exactly the labels that were declared", async () => {
  const { tell, shown } = rig();
  const labels = ["from", "to"];
  for (const at of [{}, { from: "x" }, { from: "x", to: "y", more: "z" }, { from: "x", other: "y" }])
    expect(thrown(() => tell({ labels, value: 1, at }))).toEqual(refused("other labels"));
  tell({ labels, value: 1, at: { to: "y", from: "x" } });
  expect(await shown()).toEqual(['godwit_plugin_far_bytes_total{from="x",to="y"} 1']);
});

test("a plugin has a bounded number of metrics: 1,024 names, and those that it has go on", () => {
  const { tell } = rig();
  for (let i = 0; i < 1_024; i++) tell({ name: `m${i}` });
  expect(thrown(() => tell({ name: "one_more" }))).toEqual(refused("at most 1024"));
  tell({ name: "m7", value: 1 });
});
