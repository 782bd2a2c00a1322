/** The peer manager's place in the mesh: whom it may call, what it hears of them, and what follows from its word. */
import type { HostAddress } from "@godwit/sdk";
import type { NodeRecord } from "../../identity/record.ts";
import { type NodeId, shortId } from "../../kernel/ids.ts";
import { isLoopbackEndpoint } from "../../kernel/named-places.ts";
import { MANAGER_SOURCE, ONIONS_SOURCE, PeerManager, type PeerManagerSettings } from "../../trust/manager.ts";
import type { Member } from "../../trust/plan-links.ts";
import { TrustRules } from "../../trust/rules.ts";
import { GoodbyeReason } from "../../wire/peer-messages.ts";
import type { MeshDeps, MeshSettings } from "../deps.ts";
import type { PartOf, PartContext } from "../part.ts";
import type { MeshParts } from "../seen.ts";

export function managerPart({ mesh, deps }: PartContext): PartOf<PeerManager> {
  const { clock, random, log, metrics } = deps;
  let { trustRules } = deps;
  let rules = new TrustRules(trustRules);
  const settingsOf = (settings: MeshSettings): PeerManagerSettings => {
    if (!Bun.deepEquals(settings.trustRules, trustRules)) {
      ({ trustRules } = settings);
      rules = new TrustRules(trustRules);
    }
    const { linksWanted, promoteAfterMs, promoteOnionsAfterMs, reviewMs } = settings;
    return { rules, linksWanted, promoteAfterMs, promoteOnionsAfterMs, reviewMs };
  };
  const manager = new PeerManager({
    self: deps.identity.id,
    clock,
    random,
    log,
    metrics,
    book: mesh.book,
    ...settingsOf(deps),
    connected: () => mesh.peers.connected,
    members: createDialable(mesh, deps),
    callsignOf: (id) => heldName(mesh, id)?.callsign,
    isVouched: (id) => heldName(mesh, id)?.isVouched === true,
    setTrust: (id, grant) => mesh.setTrust(id, grant),
    hint: (hint) => void mesh.hints.add(MANAGER_SOURCE, hint, "member"),
    withdraw: (endpoint) => mesh.hints.withdraw(MANAGER_SOURCE, endpoint),
    disconnect: (id) => mesh.peers.disconnect(id, GoodbyeReason.blocked),
    keep: (endpoint, nodeId) =>
      void mesh.hints.add(ONIONS_SOURCE, { endpoint, nodeId, permanent: true }, "member"),
    letGo: (endpoint) => mesh.hints.withdraw(ONIONS_SOURCE, endpoint),
    discoveryNaming: (endpoint) => mesh.hints.discoveryNaming(endpoint),
    onionConsidered(id, onion, reason) {
      log.info("onion peer considered", { peer: shortId(id), ...onion, reason });
      deps.events.emit("onionConsidered", { id, onion, reason });
    },
  });
  return {
    engine: manager,
    start: () => manager.start(),
    settingsChanged: (settings) => manager.configure(settingsOf(settings)),
    peerUp: (peer) => manager.onPeerUp(peer),
    peerDown: ({ id }) => manager.onPeerDown(id),
  };
}

/**
 * What of a record may be dialled, as long as this machine has these addresses and the operator allows these networks: members are gone through every ten seconds, and with each link
 * that comes or goes.
 */
type Judged = WeakMap<
  NodeRecord,
  {
    readonly addresses: readonly HostAddress[];
    readonly allowed: readonly string[];
    /** One of its loopback addresses. */
    readonly local: string | undefined;
    readonly endpoints: readonly string[];
  }
>;

/** Lists the members that the node could call. */
export function createDialable(
  mesh: Pick<MeshParts, "records" | "isRefused" | "router" | "book" | "places">,
  deps: Pick<MeshDeps, "identity" | "addresses" | "canDial">,
): () => Iterable<Member> {
  const judged: Judged = new WeakMap();
  return function* () {
    for (const { record } of mesh.records.all) {
      if (record.id === deps.identity.id || mesh.isRefused(record.id)) continue;
      if (!mesh.router.reachable(record.id)) continue;
      const endpoints = endpointsOf(record, mesh, deps, judged);
      if (endpoints.length === 0) continue;
      yield { id: record.id, endpoints, isTrusted: mesh.book.trustOf(record.id) === "trusted" };
    }
  };
}

function endpointsOf(
  record: NodeRecord,
  { places }: Pick<MeshParts, "places">,
  deps: Pick<MeshDeps, "addresses" | "canDial">,
  judged: Judged,
): readonly string[] {
  const namings = [{ by: "member", nodeId: record.id }] as const;
  const isAllowed = (endpoint: string) => places.refusalOfEndpoint(endpoint, namings) === undefined;
  const canDial = (endpoint: string) => deps.canDial(endpoint);
  const addresses = deps.addresses();
  let known = judged.get(record);
  const { allowed } = places;
  if (known?.addresses !== addresses || known.allowed !== allowed) {
    const local = record.endpoints.find(isLoopbackEndpoint);
    known = { addresses, allowed, local, endpoints: places.allowedOf(record.endpoints, namings) };
    judged.set(record, known);
  }
  // Whether it is on this machine may be another thing by now, and is one thing for all of its loopback addresses.
  return known.local === undefined || !isAllowed(known.local)
    ? known.endpoints.filter(
        (endpoint) => canDial(endpoint) && (known.local === undefined || !isLoopbackEndpoint(endpoint)),
      )
    : record.endpoints.filter((endpoint) => canDial(endpoint) && isAllowed(endpoint));
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
