/** The peer manager's place in the mesh: whom it may call, what it hears of them, and what follows from its word. */
import type { NodeId } from "../kernel/ids.ts";
import type { Names } from "../identity/names.ts";
import type { MembershipView } from "../membership/hints.ts";
import type { RecordBook } from "../membership/records.ts";
import type { PeerBook, TrustGrant } from "../trust/book.ts";
import type { MeshParts } from "./parts.ts";
import type { MeshDeps } from "./deps.ts";
import { MANAGER_SOURCE, PeerManager } from "../trust/manager.ts";
import type { Member } from "../trust/plan-links.ts";
import { TrustRules } from "../trust/rules.ts";
import { GoodbyeReason } from "../wire/peer-messages.ts";

interface ManagedMesh extends MeshParts {
  readonly book: PeerBook;
  readonly records: RecordBook;
  readonly names: Names;
  readonly view: MembershipView;
  /** Resolves when durable. */
  setTrust(id: NodeId, grant: TrustGrant): Promise<void>;
}

/** Called while the mesh is being built: nothing of it is touched before `start`. */
export function createManager(mesh: ManagedMesh, deps: MeshDeps): PeerManager {
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
export const admission = (mesh: ManagedMesh) => ({
  isBlocked: (id: NodeId) => mesh.isRefused(id),
  isWelcome: (id: NodeId) => {
    const { level, history } = mesh.book.standing(id);
    return level === "trusted" || history.linkedMs >= WELCOME_LINKED_MS;
  },
});

/** Members that the node could call. */
function* dialable(mesh: ManagedMesh, { identity, canDial }: MeshDeps): Iterable<Member> {
  for (const { record } of mesh.records.all) {
    if (record.id === identity.id || mesh.isRefused(record.id)) continue;
    if (!mesh.router.reachable(record.id)) continue;
    const endpoints = record.endpoints.filter((endpoint) => canDial(endpoint));
    if (endpoints.length === 0) continue;
    yield { id: record.id, endpoints, isTrusted: mesh.book.trustOf(record.id) === "trusted" };
  }
}

/** The callsign that the node holds here, which is more than claiming it. */
function nameOf({ records, names }: ManagedMesh, id: NodeId): string | undefined {
  const claimed = records.get(id)?.record.callsign;
  if (claimed === undefined) return undefined;
  const held = names.resolve(claimed);
  return held.kind === "node" && held.id === id ? claimed : undefined;
}
