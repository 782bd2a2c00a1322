/** The part that stands for everything outside of the mesh: whoever listens to its events. */
import type { PartOf, PartContext } from "../part.ts";

export function outsidePart({ deps: { events } }: PartContext): PartOf<undefined> {
  return {
    engine: undefined,
    peerUp: (peer) => events.emit("peerUp", peer),
    peerDown: (peer, reason) => events.emit("peerDown", { peer, reason }),
    linkUp: (peer, { session }) => events.emit("linkUp", { peer, endpoint: session.remoteEndpoint }),
    linkDown: (peer, { session }, reason) =>
      events.emit("linkDown", { peer, endpoint: session.remoteEndpoint, reason }),
    routeChanged: (destination, isReachable) => events.emit("routeChanged", { destination, isReachable }),
    revoked: ({ record }) => events.emit("revoked", record),
  };
}
