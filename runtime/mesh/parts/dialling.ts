/** What the node wants to reach, joined to the mesh: hints of all sources, and the dialer that follows them. */
import { Hints } from "../../membership/hints.ts";
import { DIAL_TIMEOUT_MS, Dialer } from "../../peer/dialer.ts";
import type { PartOf, PartContext } from "../part.ts";

export function dialerPart({ mesh, deps, scope }: PartContext): PartOf<Dialer> {
  const { identity, clock, random, log, metrics } = deps;
  const dialer = new Dialer({
    scope,
    clock,
    random,
    log,
    metrics,
    self: identity.id,
    dial: deps.dial,
    timeoutMs: (endpoint) => deps.dialTimeoutMs?.(endpoint) ?? DIAL_TIMEOUT_MS,
    handshake: deps.handshake,
    adopt: (session, onClosed) => mesh.peers.adopt(session, onClosed),
    isConnected: (id) => mesh.peers.get(id) !== undefined,
  });
  return {
    engine: dialer,
    peerDown: ({ id, upAtMs }) => dialer.onPeerDown(id, clock.monotonicMs() - upAtMs),
    refused: (id) => {
      for (const { endpoint, nodeId } of dialer.targets) if (nodeId === id) dialer.remove(endpoint);
    },
  };
}

export function hintsPart({ mesh, deps }: PartContext): PartOf<Hints> {
  const hints = new Hints(deps.clock, {
    wanted: (endpoint, nodeId, isPermanent) =>
      void mesh.dialer.add({ endpoint, isPermanent, ...(nodeId === undefined ? {} : { nodeId }) }),
    unwanted: (endpoint) => mesh.dialer.remove(endpoint),
    heard: (source, endpoint, nodeId) => deps.events.emit("hintHeard", { source, endpoint, nodeId }),
  });
  return { engine: hints };
}
