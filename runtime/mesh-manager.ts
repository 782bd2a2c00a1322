/** The peer manager's place in the mesh: whom it may call, what it hears of them, and what follows from its word. */
import type { NodeId } from "./kernel/ids.ts";
import type { Mesh } from "./mesh.ts";
import type { MeshDeps } from "./mesh-deps.ts";
import type { DistrustEvents } from "./mesh-quarantine.ts";
import { MANAGER_SOURCE, PeerManager } from "./peer/manager.ts";
import type { Member } from "./peer/plan-links.ts";
import { TrustRules } from "./peer/trust-rules.ts";
import { GoodbyeReason } from "./wire/peer-messages.ts";

/** Called while the mesh is being built: nothing of it is touched before `start`. */
export function createManager(mesh: Mesh, deps: MeshDeps): PeerManager {
  const { clock, random, log, metrics, linksWanted, promoteAfterMs } = deps;
  return new PeerManager({
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
    callsignOf: (id) => nameOf(mesh, id),
    setTrust: (id, grant) => mesh.setTrust(id, grant),
    hint: (hint) => void mesh.view.hint(MANAGER_SOURCE, hint),
    withdraw: (endpoint) => mesh.view.withdraw(MANAGER_SOURCE, endpoint),
    disconnect: (id) => mesh.peers.disconnect(id, GoodbyeReason.blocked),
  });
}

/** Linked for so long in all, a node finds a place here when strangers have taken the others, ms. */
const WELCOME_LINKED_MS = 600_000;

/** Who gets a link at all, and who also when there is little room. */
export const admission = (mesh: Mesh) => ({
  isBlocked: (id: NodeId) => mesh.isRefused(id),
  isWelcome: (id: NodeId) => {
    const { level, history } = mesh.book.standing(id);
    return level === "trusted" || history.linkedMs >= WELCOME_LINKED_MS;
  },
});

/** What trials prove is the peer manager's to remember. */
export function distrustEvents({ manager }: Mesh, events: DistrustEvents): DistrustEvents {
  return {
    lostDelivery: (id, destination) => {
      manager.report(id, "lost");
      events.lostDelivery(id, destination);
    },
    honestRoute: (id, destination) => {
      manager.report(id, "delivered");
      events.honestRoute(id, destination);
    },
    peerQuarantined: (id, reason, forMs) => {
      manager.report(id, "lied");
      events.peerQuarantined(id, reason, forMs);
    },
    peerRestored: (id) => events.peerRestored(id),
  };
}

/** Members that the node could call. */
function* dialable(mesh: Mesh, { identity, canDial }: MeshDeps): Iterable<Member> {
  for (const { record } of mesh.records.all) {
    if (record.id === identity.id || mesh.isRefused(record.id)) continue;
    if (!mesh.router.reachable(record.id)) continue;
    const endpoints = record.endpoints.filter((endpoint) => canDial(endpoint));
    if (endpoints.length === 0) continue;
    yield { id: record.id, endpoints, isTrusted: mesh.book.trustOf(record.id) === "trusted" };
  }
}

/** The callsign that the node holds here, which is more than claiming it. */
function nameOf({ records, names }: Mesh, id: NodeId): string | undefined {
  const claimed = records.get(id)?.record.callsign;
  if (claimed === undefined) return undefined;
  const held = names.resolve(claimed);
  return held.kind === "node" && held.id === id ? claimed : undefined;
}
