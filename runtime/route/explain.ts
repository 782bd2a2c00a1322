/** Routes in words and rows, for whoever shows them. Reads the table, changes nothing. Tested in router.test.ts. */
import { shortId, type NodeId } from "../kernel/ids.ts";
import { METRIC_INFINITE } from "../wire/route-messages.ts";
import type { RouteCore } from "./core.ts";
import type { NextHop } from "./decide.ts";
import type { Candidates } from "./candidates.ts";
import { isDistrusted, totalAt } from "./select.ts";
import type { Destination, RouteTable } from "./table.ts";

/** The way to one destination. */
export interface RouteRow {
  destination: NodeId;
  nextHop: NodeId;
  /** 0.1 ms units. */
  metric: number;
  mtu: number;
  bottleneck: "fast" | "medium" | "slow";
  alternates: { nextHop: NodeId; metric: number }[];
}

/** Why the way to a destination is what it is. */
export interface RouteExplanation {
  destination: NodeId;
  isReachable: boolean;
  feasibility: { seqno: number; metric: number } | null;
  candidates: {
    nextHop: NodeId;
    advertisedMetric: number;
    linkCost: number;
    metric: number;
    seqno: number;
    isFeasible: boolean;
    isSelected: boolean;
    reason: string;
  }[];
  explanation: string[];
}

const CLASS_NAMES = ["fast", "medium", "slow"] as const;

export function listRoutes(table: RouteTable, self: Destination): RouteRow[] {
  const rows: RouteRow[] = [];
  for (const destination of table.values()) {
    const [best, ...others] = destination.any.hops;
    if (destination === self || best === undefined) continue;
    rows.push({
      destination: destination.id,
      nextHop: best.neighbour,
      metric: best.metric,
      mtu: best.mtu,
      bottleneck: CLASS_NAMES[best.bottleneck],
      alternates: others.map(({ neighbour, metric }) => ({ nextHop: neighbour, metric })),
    });
  }
  return rows;
}

/** `defaultHops`: where an edge node sends what has no route of its own. */
export function explainRoute(core: RouteCore, id: NodeId, defaultHops: readonly NextHop[]): RouteExplanation {
  const destination = core.table.get(id);
  const byDefault = defaultHops.slice(0, 1).map(inWordsByDefault);
  if (destination === undefined || destination === core.self) {
    const isSelf = destination !== undefined;
    const words = isSelf
      ? ["this is the node itself"]
      : ["nothing was ever heard of this node", ...byDefault];
    return {
      destination: id,
      isReachable: isSelf || byDefault.length > 0,
      feasibility: null,
      candidates: [],
      explanation: words,
    };
  }
  const state = destination.any;
  const candidates: RouteExplanation["candidates"] = [];
  core.table.candidates.forEach(
    destination.list,
    (row) => void candidates.push(explainCandidate(core.table.candidates, destination, row)),
  );
  candidates.sort((a, b) => a.metric - b.metric);
  return {
    destination: id,
    isReachable: destination.isReachable || byDefault.length > 0,
    feasibility: state.fdSeqno < 0 ? null : { seqno: state.fdSeqno, metric: state.fdMetric },
    candidates,
    explanation:
      destination.isReachable || byDefault.length === 0 ? explainInWords(destination, candidates) : byDefault,
  };
}

const inWordsByDefault = ({ neighbour, metric }: NextHop): string =>
  `goes by the default route through the gateway ${shortId(neighbour)}, at ${metric} (0.1 ms for 256 bytes) into the faster mesh; bulk waits`;

function explainCandidate(
  candidates: Candidates,
  destination: Destination,
  row: number,
): RouteExplanation["candidates"][number] {
  const neighbour = candidates.neighbourAt(row);
  const { metric, seqno } = candidates.anyAt(row);
  const explained = {
    nextHop: neighbour.id,
    advertisedMetric: metric,
    linkCost: neighbour.link.cost,
    metric: totalAt(candidates, destination, row, "any"),
    seqno,
    isFeasible: destination.any.isFeasible(candidates.anyAt(row)),
    isSelected: destination.any.primary === neighbour,
  };
  return { ...explained, reason: reasonOf(candidates, destination, row, explained) };
}

function reasonOf(
  candidates: Candidates,
  destination: Destination,
  row: number,
  { isFeasible, isSelected, metric }: { isFeasible: boolean; isSelected: boolean; metric: number },
): string {
  const { any: state, bulk } = destination;
  const neighbour = candidates.neighbourAt(row);
  const offered = candidates.anyAt(row);
  if (offered.metric >= METRIC_INFINITE) return "it has retracted the route";
  if (offered.seqno < state.fdSeqno)
    return "its sequence number is older than one this node has advertised: taking it could make a loop";
  if (!isFeasible)
    return `it advertises ${offered.metric}, not less than the ${state.fdMetric} this node has advertised: taking it could make a loop`;
  if (isDistrusted(destination, neighbour, candidates.isSuspectAt(row)))
    return neighbour.isQuarantined
      ? "in quarantine: mail it acknowledged was lost; used only if nothing else leads there"
      : "suspect: mail it acknowledged has no receipt; being tried";
  if (isSelected)
    return bulk.primary === neighbour
      ? "cheapest, also for bulk"
      : "cheapest; bulk goes another way or waits";
  const isHop = state.hops.some((hop) => hop.neighbour === neighbour.id);
  if (metric < state.selected.metric) return "cheaper, but not by enough or not for long enough to switch";
  return isHop ? "dearer; used at once if the first one fails" : "dearer than the four in use";
}

/** A metric is in 0.1 ms. */
const costWords = (metric: number): string => `${(metric / 10).toFixed(1)} ms`;

function explainInWords({ any, bulk }: Destination, candidates: RouteExplanation["candidates"]): string[] {
  const primary = any.primary;
  if (primary !== undefined) {
    const others = any.hops.length - 1;
    const reserve = others === 0 ? "no other way is in reserve" : `${others} in reserve`;
    const lines = [
      `goes through ${shortId(primary.id)}, ${costWords(any.selected.metric)} for 256 bytes; ${reserve}`,
    ];
    if (bulk.primary === undefined) lines.push("no path is fast enough for bulk; bulk waits at its source");
    else if (bulk.primary !== primary)
      lines.push(
        `bulk goes through ${shortId(bulk.primary.id)}, ${costWords(bulk.selected.metric)} for 256 bytes`,
      );
    return lines;
  }
  const isOffered = candidates.some(({ advertisedMetric }) => advertisedMetric < METRIC_INFINITE);
  if (isOffered && !candidates.some(({ isFeasible }) => isFeasible))
    return [
      "neighbours offer routes, but none that is provably free of loops; a newer sequence number has been asked for",
    ];
  return ["no neighbour offers a route; messages wait in custody"];
}
