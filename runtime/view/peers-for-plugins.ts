/** The other nodes as plugins get them (`Peers` of the SDK): the living parts turned into plain values. */
import type { PeerFacts, Peers } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { PeersBackend } from "../plugin/host/peers-door.ts";

/** Where `node/node.ts` tells that a record, a link or a route changed; synchronous. */
export class PeerSignals {
  readonly listeners = new Set<() => void>();

  fire(): void {
    for (const listener of this.listeners) listener();
  }
}

export function createPeersBackend(self: Peers["self"], mesh: Mesh, signals: PeerSignals): PeersBackend {
  function list(): PeerFacts[] {
    const via = new Map<NodeId, NodeId>();
    for (const { destination, nextHop: hop } of mesh.router.routes()) via.set(destination, hop);
    const facts: PeerFacts[] = [];
    for (const { record } of mesh.records.all) {
      const { id, callsign, endpoints } = record;
      if (id === self.id || record.isRevoked || mesh.isRefused(id)) continue;
      facts.push({ id, callsign, endpoints, isLinked: mesh.peers.get(id) !== undefined, via: via.get(id) });
    }
    return facts;
  }
  return {
    self,
    list,
    watch(fn) {
      signals.listeners.add(fn);
      return () => void signals.listeners.delete(fn);
    },
    send: (plugin, to, message) => mesh.pluginMessages.send(to as NodeId, plugin, message),
    subscribe: (plugin, fn) => mesh.pluginMessages.subscribe(plugin, fn),
  };
}
