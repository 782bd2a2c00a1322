/** The peer manager's place in the mesh: whom it may call, what it hears of them, and what follows from its word. */
import type { NodeId } from "../../kernel/ids.ts";
import { MANAGER_SOURCE, PeerManager } from "../../trust/manager.ts";
import type { Member } from "../../trust/plan-links.ts";
import { TrustRules } from "../../trust/rules.ts";
import { GoodbyeReason } from "../../wire/peer-messages.ts";
import type { MeshDeps } from "../deps.ts";
import type { PartOf, PartContext } from "../part.ts";
import type { MeshParts } from "../seen.ts";

export function managerPart({ mesh, deps }: PartContext): PartOf<PeerManager> {
  const { clock, random, log, metrics, linksWanted, promoteAfterMs } = deps;
  const manager = new PeerManager({
    self: deps.identity.id,
    clock,
    random,
    log,
    metrics,
    book: mesh.book,
    rules: new TrustRules(deps.trustRules),
    linksWanted,
    promoteAfterMs,
    connected: () => mesh.peers.connected,
    members: () => dialable(mesh, deps),
    callsignOf: (id) => heldName(mesh, id)?.callsign,
    isVouched: (id) => heldName(mesh, id)?.isVouched === true,
    setTrust: (id, grant) => mesh.setTrust(id, grant),
    hint: (hint) => void mesh.hints.add(MANAGER_SOURCE, hint, "member"),
    withdraw: (endpoint) => mesh.hints.withdraw(MANAGER_SOURCE, endpoint),
    disconnect: (id) => mesh.peers.disconnect(id, GoodbyeReason.blocked),
  });
  return {
    engine: manager,
    start: () => manager.start(),
    peerUp: (peer) => manager.onPeerUp(peer),
    peerDown: ({ id }) => manager.onPeerDown(id),
  };
}

/** Members that the node could call. */
function* dialable(mesh: MeshParts, { identity, canDial }: MeshDeps): Iterable<Member> {
  for (const { record } of mesh.records.all) {
    if (record.id === identity.id || mesh.isRefused(record.id)) continue;
    if (!mesh.router.reachable(record.id)) continue;
    const namings = [{ by: "member", nodeId: record.id }] as const;
    const endpoints = record.endpoints.filter(
      (endpoint) => canDial(endpoint) && mesh.places.refusalOfEndpoint(endpoint, namings) === undefined,
    );
    if (endpoints.length === 0) continue;
    yield { id: record.id, endpoints, isTrusted: mesh.book.trustOf(record.id) === "trusted" };
  }
}

/** The callsign that the node holds here, which is more than claiming it. */
function heldName(
  { records, names }: MeshParts,
  id: NodeId,
): { callsign: string; isVouched: boolean } | undefined {
  const claimed = records.get(id)?.record.callsign;
  if (claimed === undefined) return undefined;
  const held = names.resolve(claimed);
  if (held.kind !== "node" || held.id !== id) return undefined;
  return { callsign: claimed, isVouched: held.isVouched };
}
