/** What the node wants to reach, joined to the mesh: hints of all sources, what of them may be dialled, and the dialer that follows them. */
import { GodwitError, type Pipe } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import { isLoopbackEndpoint, isLoopbackLink, NamedPlaces } from "../../kernel/named-places.ts";
import { Hints } from "../../membership/hints.ts";
import { DIAL_TIMEOUT_MS, Dialer } from "../../peer/dialer.ts";
import type { PartOf, PartContext } from "../part.ts";

export function placesPart({ mesh, deps }: PartContext): PartOf<NamedPlaces> {
  const { metrics, addresses, dialNetworks } = deps;
  const places = new NamedPlaces({
    metrics,
    addresses,
    allowed: dialNetworks,
    isOnThisMachine: (id) => mesh.book.isOnThisMachine(id),
    isMachineAlone() {
      const { endpoints } = mesh.ownRecord;
      const isAlone = endpoints.length > 0 && endpoints.every(isLoopbackEndpoint);
      return (
        isAlone &&
        [...mesh.peers.connected].every(({ links }) => links.every(({ session }) => isLoopbackLink(session)))
      );
    },
  });
  return { engine: places, settingsChanged: ({ dialNetworks: allowed }) => void (places.allowed = allowed) };
}

/** The endpoint as it may be dialled now: on the operator's word as it stands, else on terms. */
async function dial(
  { mesh, deps }: PartContext,
  endpoint: string,
  signal: AbortSignal,
  expected: NodeId | undefined,
): Promise<Pipe> {
  const namings = mesh.hints.namings(endpoint);
  if (namings === undefined) return await deps.dial(endpoint, signal, expected, undefined);
  const terms = mesh.places.termsOf(namings);
  try {
    return await deps.dial(endpoint, signal, expected, terms);
  } catch (error) {
    if (error instanceof GodwitError && error.code === "GODWIT_ENDPOINT_REFUSED" && terms.skipped === 0)
      mesh.places.notePath();
    throw error;
  }
}

export function dialerPart(context: PartContext): PartOf<Dialer> {
  const { mesh, deps, scope } = context;
  const { identity, clock, random, log, metrics } = deps;
  const dialer = new Dialer({
    scope,
    clock,
    random,
    log,
    metrics,
    self: identity.id,
    dial: (endpoint, signal, expected) => dial(context, endpoint, signal, expected),
    timeoutMs: (endpoint) => deps.dialTimeoutMs?.(endpoint) ?? DIAL_TIMEOUT_MS,
    handshake: deps.handshake,
    adopt: (session, onClosed) => mesh.peers.adopt(session, onClosed),
    isConnected: (id) => mesh.peers.get(id) !== undefined,
    isWanted: (endpoint, knownId) => mesh.channels.isWanted(endpoint, knownId),
    backoff: (endpoint, isPermanent) => mesh.channels.backoff(endpoint, isPermanent),
  });
  return {
    engine: dialer,
    peerDown: ({ id, upAtMs }) => dialer.onPeerDown(id, clock.monotonicMs() - upAtMs),
    refused: (id) => {
      for (const { endpoint, nodeId } of dialer.targets) if (nodeId === id) dialer.remove(endpoint);
    },
  };
}

export function hintsPart({ mesh, deps, kept }: PartContext): PartOf<Hints> {
  const hints = new Hints(deps.clock, {
    isKnown: (id) => kept.acquaintances.isKnown(id),
    isLinked: (endpoint) => mesh.dialer.isLinked(endpoint),
    wanted(endpoint, nodeId, isPermanent, share, timeoutMs) {
      const pinned = nodeId === undefined ? {} : { nodeId };
      mesh.dialer.add({ endpoint, isPermanent, share, timeoutMs, ...pinned });
    },
    weakened: (endpoint) => mesh.dialer.weaken(endpoint),
    unwanted: (endpoint) => mesh.dialer.remove(endpoint),
    heard: (source, endpoint, nodeId) => deps.events.emit("hintHeard", { source, endpoint, nodeId }),
  });
  return { engine: hints };
}
