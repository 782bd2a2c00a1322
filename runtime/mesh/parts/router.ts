/** The router joined to the mesh: it speaks over the peers, and all parts hear of what it finds. */
import { asGodwitError } from "../../kernel/errors.ts";
import { shortId, type NodeId } from "../../kernel/ids.ts";
import type { Peer } from "../../peer/peer.ts";
import { Router } from "../../route/router.ts";
import { FrameType } from "../../wire/constants.ts";
import type { PartOf, PartContext } from "../part.ts";
import { LinkCosts } from "./costs.ts";

export function routerPart({ mesh, deps, kept, tell }: PartContext): PartOf<Router> {
  const { identity, network, clock, random, log, metrics, destinationsMax } = deps;
  const { boot, records } = kept;
  let { hopCostMs } = deps;
  const costs = new LinkCosts(hopCostMs, mesh.channels.airtime);
  const protocolErrors = metrics.counter("godwit_link_protocol_errors_total");
  const router = new Router({
    self: identity.id,
    network,
    bootEpoch: boot.bootEpoch,
    clock,
    random,
    log,
    metrics,
    ...(destinationsMax === undefined ? {} : { limits: { destinationsMax } }),
    sign: (bytes) => identity.sign(bytes),
    // What a revoked node signed moves no route any more.
    verify: (id, bytes, signature) => !records.isRevoked(id) && deps.verify(id, bytes, signature),
    spend: (bytes) => deps.heap?.spend(bytes),
    send: (to, frame) => void mesh.peers.tell(to, "control", frame, "routing"),
    malformed: (id, error) => {
      protocolErrors.add();
      const { message } = asGodwitError(error);
      log.info("links closed: an update of the neighbour cannot be read", {
        peer: shortId(id),
        reason: message,
      });
      for (const { session } of [...(mesh.peers.get(id)?.links ?? [])]) session.close();
    },
    onChange: ({ destination, reachable }) => tell("routeChanged", destination, reachable),
    onWaiting: (destination) => mesh.custody.onRoute(destination),
    onDefaultRoute: (isThere) => tell("defaultRouteChanged", isThere),
    ownRecord: () => mesh.ownRecord.bytes,
    knownRecord: (id) => records.get(id),
    onRecord: (id, bytes, teller) => records.offer(bytes, { teller, expected: id }) !== "invalid",
    regard: kept.acquaintances,
    outrun: (epoch) => mesh.otherLives.outrun(epoch),
  });
  const reprice = (peer: Peer) => router.neighbourCost(peer.id, costs.of(peer));
  return {
    engine: router,
    frames: [
      {
        types: [FrameType.routeUpdate, FrameType.record],
        take: (from: NodeId, _type, frame) => router.handleFrame(from, frame),
      },
    ],
    peerUp: (peer) => void router.neighbourUp(peer.id, { bootId: peer.bootId, cost: costs.of(peer) }),
    peerDown: ({ id }) => {
      router.neighbourDown(id);
      costs.forget(id);
    },
    linkUp: reprice,
    linkDown: (peer) => {
      if (peer.links.length === 0) return;
      router.linkLost(peer.id);
      reprice(peer);
    },
    linkMeasured: reprice,
    settingsChanged(settings) {
      if (settings.destinationsMax !== undefined) router.setDestinationsMax(settings.destinationsMax);
      if (settings.hopCostMs === hopCostMs) return;
      ({ hopCostMs } = settings);
      costs.setHopCost(hopCostMs);
      for (const peer of [...mesh.peers.connected]) reprice(peer);
    },
    stop: () => router.close(),
  };
}
