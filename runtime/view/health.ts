/**
 * How the node is, check by check. `down` is a node that nothing can reach or be reached through, and nothing else: whoever restarts nodes acts
 * on it, and liveness never depends on others. Everything else that somebody should mend is `degraded`.
 */
import { withoutHolder } from "@godwit/sdk/listening";
import type { RunningPlugin } from "../plugin/host/instance.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { HealthStatus, HealthView } from "./contract/node.ts";

export interface Trouble {
  readonly name: string;
  readonly reason: string;
  /** The same for who may know whom this node writes to. */
  readonly detail?: string;
  /** Worth telling, and the node is well all the same. */
  readonly isNotice?: boolean;
}

type Plugin = Pick<RunningPlugin, "health" | "overlay" | "refusals"> & {
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
  if (forWhom === "operator") return { status: statusOf(checks), checks };
  // Nor what else runs on this machine.
  const told = checks.map((check) => ({ ...check, reason: withoutHolder(check.reason) }));
  return { status: statusOf(told), checks: told };
}

function statusOf(checks: HealthView["checks"]): HealthStatus {
  const transports = { count: 0, downCount: 0 };
  let isIll = false;
  for (const { name, status } of checks) {
    if (status !== "ok") isIll = true;
    if (!name.startsWith("transport.")) continue;
    transports.count++;
    if (status === "down") transports.downCount++;
  }
  if (transports.count > 0 && transports.downCount === transports.count) return "down";
  return isIll ? "degraded" : "ok";
}

type Described = Pick<RunningPlugin, "health" | "overlay" | "refusals">;

/** How a plugin is, and what it was refused. */
export function stateWords(plugin: Described): string {
  const { health, overlay, refusals } = plugin;
  if (refusals.length === 0) return health.reason ?? wellWords(health.state, overlay);
  return [health.reason ?? wellWords(health.state, overlay), ...refusedBeside(plugin)].join("; ");
}

/** What it says itself, and what it asked for and was not granted. */
export function reasonOf(plugin: Described): string | undefined {
  const words = [
    ...(plugin.health.reason === undefined ? [] : [plugin.health.reason]),
    ...refusedBeside(plugin),
  ];
  return words.length === 0 ? undefined : words.join("; ");
}

/** What it failed for may be the refusal itself. */
const refusedBeside = ({ health, refusals }: Described): readonly string[] =>
  refusals.filter((why) => health.reason?.includes(why) !== true);

function wellWords(state: string, overlay: Described["overlay"]): string {
  if (overlay === undefined) return state;
  const up = overlay.peers.filter(({ isUp }) => isUp).length;
  return `${state}; overlay peers: ${up} of ${overlay.peers.length} up`;
}
