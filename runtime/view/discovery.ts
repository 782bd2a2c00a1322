/** What became of every hint, for `GET /mesh/discovery`: joins the hints with the dialer. Reads only. */
import type { DiscoveryView, HintVerdict } from "./contract/node.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { PluginHost } from "../plugin/host/host.ts";

/** After so many failed dials in a row an endpoint counts as unreachable, although it is still tried. */
const UNREACHABLE_FAILURES = 5;

/** Of the endpoints of a node's record and of the hints at it: those that are not connected to on another's word, with why. */
export function skippedOf(mesh: Mesh, id: NodeId): { endpoint: string; reason: string }[] {
  const found = new Map<string, string>();
  const own = [{ by: "member", nodeId: id }] as const;
  for (const endpoint of mesh.records.get(id)?.record.endpoints ?? []) {
    const namings = mesh.hints.namings(endpoint);
    // What the operator wrote down is not judged, even where a record has it too.
    if (namings === undefined) continue;
    const refusal = mesh.places.refusalOfEndpoint(endpoint, [...own, ...namings]);
    if (refusal !== undefined) found.set(endpoint, refusal.why);
  }
  for (const { endpoint, nodeId, error } of mesh.dialer.targets)
    if (nodeId === id && error?.code === REFUSED) found.set(endpoint, error.message);
  return [...found].map(([endpoint, reason]) => ({ endpoint, reason }));
}

const REFUSED = "GODWIT_ENDPOINT_REFUSED";

type Target = Mesh["dialer"]["targets"][number];

export function viewDiscovery(mesh: Mesh, host: PluginHost): DiscoveryView {
  const targets = new Map(mesh.dialer.targets.map((target) => [target.endpoint, target]));
  return {
    hints: mesh.hints.list.map(({ source, endpoint, nodeId, ageMs, expiresInMs }) => {
      const target = targets.get(endpoint);
      const id = nodeId ?? target?.nodeId;
      const isBlocked = id !== undefined && mesh.book.isBlocked(id);
      const { verdict, reason } = isBlocked
        ? { verdict: "ignored" as const, reason: "the operator has blocked the node" }
        : !host.canDial(endpoint)
          ? { verdict: "ignored" as const, reason: "no running transport dials such an endpoint" }
          : verdictOf(target);
      const nextTryMs = verdict === "ignored" ? undefined : target?.nextTryMs;
      return {
        endpoint,
        id: id ?? null,
        source,
        age_seconds: Math.floor(ageMs / 1_000),
        expires_in_seconds: expiresInMs === undefined ? null : Math.ceil(expiresInMs / 1_000),
        verdict,
        reason,
        next_try_seconds: nextTryMs === undefined ? null : Math.ceil(nextTryMs / 1_000),
      };
    }),
  };
}

const REFUSALS: ReadonlySet<string> = new Set(["GODWIT_HANDSHAKE_FAILED", "GODWIT_PEER_BLOCKED"]);

function verdictOf(target: Target | undefined): { verdict: HintVerdict; reason: string | null } {
  if (target === undefined)
    return {
      verdict: "unreachable",
      reason: "given up after too many failures, until it is hinted at again",
    };
  const { state, isSelf, isServed, error, failures } = target;
  if (isSelf) return { verdict: "ignored", reason: "it leads back to this node" };
  if (state === "linked") return { verdict: "linked", reason: null };
  if (isServed) return { verdict: "linked", reason: "the node is linked over another path" };
  const reason = error?.message ?? null;
  if (state === "dialing") return { verdict: "dialling", reason };
  if (error === undefined) return { verdict: "waiting", reason: "its turn has not come yet" };
  if (error.code === REFUSED) return { verdict: "ignored", reason };
  if (REFUSALS.has(error.code)) return { verdict: "refused", reason };
  return { verdict: failures >= UNREACHABLE_FAILURES ? "unreachable" : "backing_off", reason };
}
