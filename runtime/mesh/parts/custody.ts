/** Custody joined to the mesh: the frames of mail, the ways that routes offer it, and what names mean. */
import type { Timer } from "@godwit/sdk";
import { Custody } from "../../custody/custody.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { FrameType } from "../../wire/constants.ts";
import { packetAssociated, PacketKind } from "../../wire/packet.ts";
import type { PartOf, PartContext } from "../part.ts";
import { createCarrier } from "./carrier.ts";
import { createDirectory } from "./directory.ts";

/**
 * Two machines with one identity find out within a second or so who goes on. Until then a neighbour that came while it was there
 * already is handed no mail for itself over its own link, so that no message stands in two inboxes, ms.
 */
const NEWCOMER_MS = 2_000;

/** What a frame of mail counts as beside its bytes, most of its garbage being none: rows, promises, timers. */
const FRAME_GARBAGE_BYTES = 2 * 1_024;

export function custodyPart({ mesh, deps, kept }: PartContext): PartOf<Custody> {
  const { identity, network, clock, time, random, log, metrics, store, callsign, location } = deps;
  /** One object, which all of custody looks at for each message. */
  const limits = { ...deps.limits };
  const self = identity.id;
  /** Who came while the node was there already, over another link or way, and what ends the wait for each; bounded by the peers. */
  const newcomers = new Map<NodeId, Timer>();
  const wait = (id: NodeId) => {
    newcomers.get(id)?.cancel();
    const over = () => {
      newcomers.delete(id);
      custody.onRoute(id);
    };
    newcomers.set(id, clock.after(NEWCOMER_MS, over));
  };
  const custody = new Custody(
    {
      self,
      network,
      clock,
      time,
      random,
      log,
      metrics,
      store,
      limits,
      storeEpoch: kept.boot.storeEpoch,
      sealer: kept.sealer,
      directory: createDirectory({ self, callsign, location }, kept),
      carrier: createCarrier(self, mesh, (id) => newcomers.has(id)),
      sign: (bytes) => identity.sign(bytes),
      verify: deps.verify,
      isRefused: (id) => mesh.isRefused(id),
      fullTables: kept.fullTables,
      isContested: () => mesh.otherLives.isContested,
      presence: {
        of(id) {
          const state = mesh.members.stateOf(id);
          return state === "left" || state === "failed" ? state : "there";
        },
        watch: (fn) => deps.events.on("memberChanged", ({ row }) => fn(row.id)),
      },
      regard: {
        isKnown: (id) => kept.acquaintances.isKnown(id),
        worthOf: (id) => kept.acquaintances.worthOf(id),
        shareOf: (neighbour) => kept.acquaintances.shareOf(neighbour),
        wrote(id) {
          kept.acquaintances.wrote(id);
          // Its record may have had to yield to others before anybody here had a use for it.
          if (kept.records.get(id) === undefined) {
            mesh.router.wantRecord(id);
            // Whoever is in earshot tells it in his hello.
            mesh.channels.want(id, !mesh.router.reachable(id));
          }
          mesh.lookups.onWrote(id);
        },
        waits(address, awaited) {
          mesh.lookups.onAwaited(address, awaited);
          mesh.channels.awaitNames(() => awaited.addresses.length > 0);
        },
      },
    },
    {
      events: deps.events,
      system: deps.system,
      ways: {
        handed: (neighbour, destination) => mesh.quarantine.onHanded(neighbour, destination),
        returned: (neighbour, destination, priority, by) =>
          mesh.quarantine.onReturned(neighbour, destination, priority, by),
        testAnswered: (id, by) => mesh.quarantine.onTestAnswered(id, by),
      },
    },
  );
  time.onPassed = () => custody.onTimePassed();
  return {
    engine: custody,
    frames: [
      {
        types: [FrameType.bundle, FrameType.chunk],
        take(from, type, frame) {
          custody.onFrame(from, type, frame);
          deps.heap?.spend(frame.length + FRAME_GARBAGE_BYTES);
        },
      },
    ],
    packets: [
      {
        kind: PacketKind.transient,
        take: (header, payload) =>
          custody.deliverTransient(header.source, payload, packetAssociated(header), header.priority),
      },
    ],
    load: () => custody.load(),
    peerUp(peer) {
      if (
        peer.isSuccessor ||
        mesh.router.nextHops(peer.id, "any").some(({ neighbour }) => neighbour !== peer.id)
      )
        wait(peer.id);
      custody.onNeighbourUp(peer.id, peer.storeEpoch);
    },
    peerDown({ id }) {
      newcomers.get(id)?.cancel();
      newcomers.delete(id);
      custody.onNeighbourDown(id);
    },
    linkDown: (peer, { isRetiring }) => {
      // What it carried may be lost, and the other links know nothing of it. A retired one carried nothing.
      if (peer.links.length > 0 && !isRetiring) custody.onLinkLost(peer.id);
    },
    writable: ({ id }) => custody.onWritable(id),
    settingsChanged: (settings) => void Object.assign(limits, settings.limits),
    routeChanged: (destination) => custody.onRoute(destination),
    defaultRouteChanged: (isThere) => custody.onDefaultRoute(isThere),
    directoryChanged: () => custody.onDirectory(),
    revoked: ({ record }) => custody.onRevoked(record.id),
    stop: () => custody.stop(),
  };
}
