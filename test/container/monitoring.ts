/** What images/compose/monitoring gives Prometheus and Grafana, read strictly: a key that is not known here is an error, where Grafana passes it over. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { folder } from "./topology.ts";

export const monitoring = join(folder, "monitoring");

const uid = z.string().regex(/^[a-zA-Z0-9_-]{1,40}$/);
/** How a dashboard names its source. */
const source = z.strictObject({ type: z.literal("prometheus"), uid });

/** https://grafana.com/docs/grafana/latest/administration/provisioning/, data sources. */
const datasources = z.strictObject({
  apiVersion: z.literal(1),
  datasources: z.array(
    z.strictObject({
      name: z.string(),
      uid,
      type: z.literal("prometheus"),
      access: z.enum(["proxy", "direct"]),
      url: z.url(),
      isDefault: z.boolean(),
      editable: z.boolean(),
      jsonData: z.strictObject({
        httpMethod: z.enum(["GET", "POST"]),
        timeInterval: z.string().regex(/^\d+s$/),
      }),
    }),
  ),
});

/** The same page, dashboards. */
const providers = z.strictObject({
  apiVersion: z.literal(1),
  providers: z.array(
    z.strictObject({
      name: z.string(),
      folder: z.string(),
      type: z.literal("file"),
      disableDeletion: z.boolean(),
      allowUiUpdates: z.boolean(),
      updateIntervalSeconds: z.int().min(11),
      options: z.strictObject({ path: z.string().startsWith("/") }),
    }),
  ),
});

const legend = z.strictObject({
  displayMode: z.enum(["list", "table", "hidden"]),
  placement: z.enum(["bottom", "right"]),
  showLegend: z.boolean(),
});
const graphOptions = z.strictObject({
  legend,
  tooltip: z.strictObject({
    mode: z.enum(["single", "multi", "none"]),
    sort: z.enum(["none", "asc", "desc"]),
  }),
});
const statOptions = z.strictObject({
  reduceOptions: z.strictObject({ calcs: z.array(z.string()), fields: z.string(), values: z.boolean() }),
  colorMode: z.enum(["none", "value", "background"]),
  graphMode: z.enum(["none", "area"]),
});
const panelBase = {
  id: z.int().min(1),
  title: z.string().min(1),
  description: z.string(),
  datasource: source,
  gridPos: z.strictObject({
    x: z.int().min(0).max(23),
    y: z.int().min(0),
    w: z.int().min(1).max(24),
    h: z.int().min(2),
  }),
  fieldConfig: z.strictObject({
    defaults: z.strictObject({
      unit: z.enum(["short", "s", "bytes", "Bps", "reqps", "percentunit"]),
      min: z.literal(0),
    }),
    overrides: z.tuple([]),
  }),
  targets: z
    .array(
      z.strictObject({
        refId: z.string().regex(/^[A-Z]$/),
        datasource: source,
        expr: z.string().min(1),
        legendFormat: z.string(),
        instant: z.literal(true).optional(),
      }),
    )
    .min(1),
};
const panel = z.discriminatedUnion("type", [
  z.strictObject({ ...panelBase, type: z.literal("timeseries"), options: graphOptions }),
  z.strictObject({ ...panelBase, type: z.literal("stat"), options: statOptions }),
]);
const variable = z.strictObject({
  name: z.string(),
  label: z.string(),
  type: z.literal("query"),
  datasource: source,
  query: z.strictObject({ query: z.string(), refId: z.string() }),
  definition: z.string(),
  refresh: z.literal(2),
  sort: z.literal(1),
  multi: z.boolean(),
  includeAll: z.boolean(),
  current: z.strictObject({ text: z.literal("All"), value: z.literal("$__all") }),
  options: z.tuple([]),
});
/** The model of a dashboard, as Grafana exports it. */
const dashboard = z.strictObject({
  uid,
  title: z.string().min(1),
  tags: z.array(z.string()),
  timezone: z.literal("browser"),
  editable: z.boolean(),
  graphTooltip: z.literal(1),
  schemaVersion: z.literal(39),
  version: z.int(),
  refresh: z.string().regex(/^\d+s$/),
  time: z.strictObject({ from: z.string(), to: z.string() }),
  templating: z.strictObject({ list: z.array(variable) }),
  annotations: z.strictObject({ list: z.tuple([]) }),
  panels: z.array(panel).min(1),
});
export type Dashboard = z.output<typeof dashboard>;

export interface DashboardQueries {
  readonly dashboard: Dashboard;
  readonly queries: readonly { readonly title: string; readonly expr: string }[];
  /** What a variable of the dashboard offers: values of a label of a metric. */
  readonly variables: readonly { readonly metric: string; readonly label: string }[];
}

const yaml = (path: string): unknown => Bun.YAML.parse(readFileSync(join(monitoring, path), "utf8"));

export const readDatasources = () =>
  datasources.parse(yaml("grafana/provisioning/datasources/prometheus.yaml"));
export const readProviders = () => providers.parse(yaml("grafana/provisioning/dashboards/godwit.yaml"));

export function readDashboards(): DashboardQueries[] {
  const path = join(monitoring, "grafana/dashboards");
  return readdirSync(path).map((name) => {
    const parsed = dashboard.parse(JSON.parse(readFileSync(join(path, name), "utf8")));
    return {
      dashboard: parsed,
      queries: parsed.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr }))),
      variables: parsed.templating.list.map(({ query }) => {
        const [, metric = "", label = ""] = /^label_values\((\w+), (\w+)\)$/.exec(query.query) ?? [];
        return { metric, label };
      }),
    };
  });
}
