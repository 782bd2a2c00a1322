/** What is known of Tor now, and what of it an operator is told. Pure. */
import type { PluginHealth } from "@godwit/sdk";
import { parseWords } from "./control-reply.ts";

export interface TorStatus {
  /** Why there is no control connection; undefined: there is one. */
  readonly controlTrouble: string | undefined;
  /** Of our own child: why it does not run; undefined: it runs, or there is none. */
  readonly childTrouble: string | undefined;
  /** Why everything waits: the clock. */
  readonly held: string | undefined;
  /** 0 to 100; undefined: not told yet. */
  readonly progress: number | undefined;
  readonly summary: string;
  /** The last warning on the way to 100. */
  readonly warning: string | undefined;
  readonly hasCircuit: boolean;
  readonly isNetworkUp: boolean;
  /** Seconds by which tor believes that the clock is wrong. */
  readonly skewSeconds: number | undefined;
  /** Why the onion address is not offered; undefined: it is, or none is wanted. */
  readonly onionTrouble: string | undefined;
}

const NOT_YET = "not connected yet";

export const initialStatus: TorStatus = {
  controlTrouble: NOT_YET,
  childTrouble: undefined,
  held: undefined,
  progress: undefined,
  summary: "",
  warning: undefined,
  hasCircuit: false,
  isNetworkUp: true,
  skewSeconds: undefined,
  onionTrouble: undefined,
};

/** What a lost connection takes with it. */
export const afterLoss = (status: TorStatus, controlTrouble: string): TorStatus => ({
  ...initialStatus,
  childTrouble: status.childTrouble,
  held: status.held,
  onionTrouble: status.onionTrouble,
  controlTrouble,
});

export type TorEvent =
  | { readonly kind: "status"; readonly status: TorStatus }
  | { readonly kind: "uploaded" | "upload-failed"; readonly onion: string; readonly reason: string }
  | { readonly kind: "circuit"; readonly outcome: "built" | "failed" }
  | { readonly kind: "other" };

/** Understands one event of tor, whatever else it may say. */
export function judgeEvent(status: TorStatus, text: string): TorEvent {
  const { words, values } = parseWords(text);
  const [name, first = "", second = ""] = words;
  const changed = (change: Partial<TorStatus>): TorEvent => ({
    kind: "status",
    status: { ...status, ...change },
  });
  if (name === "STATUS_CLIENT" && second === "BOOTSTRAP")
    return changed(bootstrapOf(values, first === "WARN"));
  if (name === "STATUS_CLIENT" && second === "CIRCUIT_ESTABLISHED")
    return changed({ hasCircuit: true, skewSeconds: undefined });
  if (name === "STATUS_CLIENT" && second === "CIRCUIT_NOT_ESTABLISHED") return changed({ hasCircuit: false });
  if (name === "STATUS_GENERAL" && second === "CLOCK_SKEW")
    return changed({ skewSeconds: wholeNumber(values.get("SKEW")) });
  if (name === "STATUS_GENERAL" && second === "CLOCK_JUMPED") return changed({ hasCircuit: false });
  if (name === "NETWORK_LIVENESS") return changed({ isNetworkUp: first !== "DOWN" });
  if (name === "HS_DESC" && (first === "UPLOADED" || first === "FAILED"))
    return {
      kind: first === "UPLOADED" ? "uploaded" : "upload-failed",
      onion: second,
      reason: values.get("REASON") ?? "no reason told",
    };
  if (name === "CIRC" && (second === "BUILT" || second === "FAILED"))
    return { kind: "circuit", outcome: second === "BUILT" ? "built" : "failed" };
  return { kind: "other" };
}

/** Also of `GETINFO status/bootstrap-phase`: `NOTICE BOOTSTRAP PROGRESS=45 TAG=... SUMMARY="..."`. */
export function bootstrapOf(values: ReadonlyMap<string, string>, isWarning: boolean): Partial<TorStatus> {
  const progress = wholeNumber(values.get("PROGRESS")) ?? 0;
  const warning = values.get("WARNING") ?? values.get("REASON") ?? "unknown trouble";
  return {
    progress,
    summary: (values.get("SUMMARY") ?? "").slice(0, 100),
    warning: isWarning ? warning.slice(0, 200) : undefined,
    ...(progress === 100 ? { warning: undefined, skewSeconds: undefined } : {}),
  };
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^[+-]?\d{1,12}$/.test(text) ? Number(text) : undefined;
}

/** `isControlled`: there is a control port to be told things by. */
export function planHealth(status: TorStatus, isControlled: boolean): PluginHealth {
  const degraded = (reason: string): PluginHealth => ({ state: "degraded", reason });
  if (status.held !== undefined) return degraded(status.held);
  if (!isControlled) return { state: "running" };
  if (status.childTrouble !== undefined) return degraded(status.childTrouble);
  if (status.controlTrouble !== undefined) return degraded(`no control of tor: ${status.controlTrouble}`);
  if (status.skewSeconds !== undefined)
    return degraded(`tor finds the clock ${status.skewSeconds} s off the network's: set it`);
  const { progress, summary, warning } = status;
  if (progress !== undefined && progress < 100)
    return warning === undefined
      ? degraded(`tor is at ${progress} %: ${summary}`)
      : degraded(`tor is at ${progress} %: ${summary}: ${warning}`);
  if (!status.isNetworkUp) return degraded("tor hears nothing from the network");
  if (!status.hasCircuit) return degraded("tor has no circuit");
  if (status.onionTrouble !== undefined) return degraded(`not reachable: ${status.onionTrouble}`);
  return { state: "running" };
}

/** Nothing is wrong, it is only not yet: no line of the log each. */
export const isUnderWay = ({ controlTrouble, held, progress, warning, childTrouble }: TorStatus): boolean =>
  held === undefined &&
  childTrouble === undefined &&
  (controlTrouble === NOT_YET || (controlTrouble === undefined && progress !== 100 && warning === undefined));

/** Why a dial would come to nothing now; undefined: try. */
export function whyNotReady(status: TorStatus, isControlled: boolean): string | undefined {
  if (status.held !== undefined) return status.held;
  if (!isControlled) return undefined;
  if (status.childTrouble !== undefined) return status.childTrouble;
  if (status.progress === undefined || status.progress === 100) return undefined;
  return `tor is at ${status.progress} %: ${status.summary}${status.warning === undefined ? "" : `: ${status.warning}`}`;
}

/** 2026-01-01: an earlier clock was never set, and Tor would take every certificate for one of the future. */
const WALL_MS_MIN = Date.UTC(2026, 0, 1);

export function whyClockHolds(wallMs: number): string | undefined {
  if (wallMs >= WALL_MS_MIN) return undefined;
  const day = Number.isFinite(wallMs) ? new Date(Math.max(0, wallMs)).toISOString().slice(0, 10) : "nothing";
  return `the clock says ${day}: Tor is held until it is set`;
}
