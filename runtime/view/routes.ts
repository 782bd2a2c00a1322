/** Routes as the API and `godwit why` show them: rows and words of routing, with callsigns, which routing does not know. */
import type { NodeId } from "../kernel/ids.ts";
import type { RouteExplanation, RouteRow } from "../route/explain.ts";
import type { RouteView, WhyView } from "./contract/node.ts";

type CallsignOf = (id: NodeId) => string | null;

export const routeView = (row: RouteRow, callsignOf: CallsignOf): RouteView => ({
  destination: row.destination,
  next_hop: row.nextHop,
  metric: row.metric,
  mtu: row.mtu,
  bottleneck: row.bottleneck,
  alternates: row.alternates.map(({ nextHop, metric }) => ({ next_hop: nextHop, metric })),
  callsign: callsignOf(row.destination),
});

export const whyView = (
  explained: RouteExplanation,
  skipped: WhyView["skipped"],
  callsignOf: CallsignOf,
): WhyView => ({
  destination: explained.destination,
  reachable: explained.isReachable,
  feasibility: explained.feasibility,
  candidates: explained.candidates.map((candidate) => ({
    next_hop: candidate.nextHop,
    advertised_metric: candidate.advertisedMetric,
    link_cost: candidate.linkCost,
    metric: candidate.metric,
    seqno: candidate.seqno,
    feasible: candidate.isFeasible,
    selected: candidate.isSelected,
    reason: candidate.reason,
    callsign: callsignOf(candidate.nextHop),
  })),
  explanation: explained.explanation,
  skipped,
  callsign: callsignOf(explained.destination),
});
