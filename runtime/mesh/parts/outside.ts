/** The part that stands for everything outside of the mesh: whoever listens to its events. */
import type { PartOf, PartContext } from "../part.ts";

export function outsidePart({ deps: { events } }: PartContext): PartOf<undefined> {
  return {
    engine: undefined,
    peerUp: (peer) => events.peerUp(peer),
    peerDown: (peer, reason) => events.peerDown(peer, reason),
    linkUp: (peer, { session }) => events.linkUp(peer, session.remoteEndpoint),
    linkDown: (peer, { session }, reason) => events.linkDown(peer, session.remoteEndpoint, reason),
    routeChanged: (destination, isReachable) => events.routeChanged(destination, isReachable),
    revoked: ({ record }) => events.revoked(record),
  };
}
