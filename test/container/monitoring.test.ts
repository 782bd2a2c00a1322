/** Prometheus' and Grafana's files of images/compose/monitoring: by form, and against the files that mount them. Queries are asked in mesh.ts. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { metricTable } from "../../runtime/kernel/metric-table.ts";
import { run } from "../../scripts/lib.ts";
import { readCompose } from "./compose.ts";
import { monitoring, readDashboards, readDatasources, readProviders } from "./monitoring.ts";
import { file } from "./topology.ts";

const { services } = readCompose([file("mesh.yaml")], {});
const mountsOf = (service: string) => services[service]!.volumes!.map((one) => one.split(":").slice(0, 2));

test("dashboards ask the source that is provisioned, of no place twice, for metrics that there are", () => {
  const { datasources } = readDatasources();
  expect(datasources.map(({ url }) => url)).toEqual(["http://prometheus:9090"]);
  const dashboards = readDashboards();
  expect(dashboards.length).toBe(2);
  expect(new Set(dashboards.map(({ dashboard }) => dashboard.uid)).size).toBe(2);
  const known = new Set([...Object.keys(metricTable), "up", "godwit_plugin_yggdrasil_neighbours"]);
  for (const { dashboard, queries, variables } of dashboards) {
    const { panels, templating } = dashboard;
    for (const { datasource } of [...panels, ...panels.flatMap(({ targets }) => targets), ...templating.list])
      expect(datasource.uid).toBe(datasources[0]!.uid);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const [index, { gridPos: a }] of panels.entries())
      for (const { gridPos: b } of panels.slice(index + 1))
        expect(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y).toBe(true);
    const asked = [...queries.map(({ expr }) => expr), ...variables.map(({ metric }) => metric)];
    for (const expr of asked)
      for (const [metric] of expr.matchAll(/\b(?:godwit|process)_\w+/g))
        expect([metric, known.has(metric.replace(/_bucket$/, ""))]).toEqual([metric, true]);
    for (const { expr } of queries)
      for (const [, name] of expr.matchAll(/\$(\w+)/g))
        expect(templating.list.map((one) => one.name)).toContain(name!);
  }
});

test("what is mounted is where Grafana and Prometheus look", () => {
  const [provider] = readProviders().providers;
  expect(mountsOf("grafana")).toContainEqual(["./monitoring/grafana/dashboards", provider!.options.path]);
  expect(mountsOf("grafana")).toContainEqual([
    "./monitoring/grafana/provisioning",
    "/etc/grafana/provisioning",
  ]);
  const { scrape_configs: jobs, global } = Bun.YAML.parse(
    readFileSync(join(monitoring, "prometheus.yml"), "utf8"),
  ) as {
    global: { scrape_interval: string };
    scrape_configs: {
      authorization: { credentials_file: string };
      static_configs: { targets: string[] }[];
    }[];
  };
  expect(global.scrape_interval).toBe("15s");
  const [{ authorization, static_configs: lists }] = jobs as [(typeof jobs)[0]];
  expect(lists.flatMap(({ targets }) => targets)).toEqual(["node-1:8000", "node-2:8000", "node-3:8000"]);
  expect(services["setup"]!.command).toContain(authorization.credentials_file);
  expect(services["node-1"]!.environment!["GODWIT_API__TOKENS"]).toContain(authorization.credentials_file);
});

const promtool = Bun.which("promtool");
test.skipIf(promtool === null && process.env["CI"] !== "true")(
  `Prometheus takes its configuration${promtool === null ? " [skipped: needs promtool (prometheus)]" : ""}`,
  async () => {
    const checked = await run([
      "promtool",
      "check",
      "config",
      "--syntax-only",
      join(monitoring, "prometheus.yml"),
    ]);
    expect([checked.code, checked.output]).toEqual([0, expect.stringContaining("SUCCESS")]);
  },
);
