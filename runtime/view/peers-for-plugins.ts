/** The other nodes as plugins get them (`Peers` of the SDK): the living parts turned into plain values. */
import type { Heard } from "../kernel/hub.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { PeerFacts, Peers } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { PeersBackend } from "../plugin/host/peers-door.ts";

/** What changes the facts of the others: a record, a link or a route. */
const watched = ["recordChanged", "peerUp", "peerDown", "routeChanged"] as const;

export function createPeersBackend(self: Peers["self"], mesh: Mesh, hub: Heard<MeshEvents>): PeersBackend {
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
      const ends = watched.map((kind) => hub.on(kind, () => fn()));
      return () => ends.forEach((end) => end());
    },
    send: (plugin, to, message) => mesh.pluginMessages.send(to as NodeId, plugin, message),
    subscribe: (plugin, fn) => mesh.pluginMessages.subscribe(plugin, fn),
  };
}
