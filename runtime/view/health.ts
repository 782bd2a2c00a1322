/**
 * How the node is, check by check. `down` is a node that nothing can reach or be reached through, and nothing else: whoever restarts nodes acts
 * on it, and liveness never depends on others. Everything else that somebody should mend is `degraded`.
 */
import type { RunningPlugin } from "../plugin/host/instance.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { HealthStatus, HealthView } from "./contract/node.ts";
import { stateWords } from "./overlays.ts";

export interface Trouble {
  readonly name: string;
  readonly reason: string;
  /** The same for who may know whom this node writes to. */
  readonly detail?: string;
  /** Worth telling, and the node is well all the same. */
  readonly isNotice?: boolean;
}

type Plugin = Pick<RunningPlugin, "health" | "overlay"> & {
  readonly instance: Pick<RunningPlugin["instance"], "namespace" | "name">;
};

const pluginStatus = { running: "ok", starting: "degraded", degraded: "degraded", down: "down" } as const;

export function healthOf(
  plugins: readonly Plugin[],
  clock: NodeTime["view"],
  troubles: readonly Trouble[],
  forWhom: "anybody" | "operator",
): HealthView {
  const checks: HealthView["checks"] = plugins.map((plugin) => ({
    name: `${plugin.instance.namespace}.${plugin.instance.name}`,
    status: pluginStatus[plugin.health.state],
    reason: stateWords(plugin),
  }));
  checks.push({
    name: "clock",
    status: clock.state === "doubted" ? "degraded" : "ok",
    reason: `${clock.state}: ${clock.reason}`,
  });
  for (const { name, reason, detail = reason, isNotice } of troubles)
    checks.push({
      name,
      status: isNotice === true ? "ok" : "degraded",
      reason: forWhom === "operator" ? detail : reason,
    });
  return { status: statusOf(checks), checks };
}

function statusOf(checks: HealthView["checks"]): HealthStatus {
  const transports = checks.filter(({ name }) => name.startsWith("transport."));
  const isCutOff = transports.length > 0 && transports.every(({ status }) => status === "down");
  if (isCutOff) return "down";
  return checks.some(({ status }) => status !== "ok") ? "degraded" : "ok";
}
