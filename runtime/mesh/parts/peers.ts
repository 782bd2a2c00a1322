/** The peers joined to the mesh: what comes over links goes to the parts, and so does the word of who came and went. */
import type { NodeId } from "../../kernel/ids.ts";
import { shortId } from "../../kernel/ids.ts";
import { Peers, PEERS_MAX, type Welcome } from "../../peer/peers.ts";
import { GoodbyeReason } from "../../wire/peer-messages.ts";
import type { PartOf, PartContext } from "../part.ts";

const DOUBLE_ADVICE = "stop one of the two, or give it an identity of its own";

/** Linked for so long in all, a node finds a place here when strangers have taken the others, ms. */
const WELCOME_LINKED_MS = 600_000;

export function peersPart({ mesh, deps, kept, scope, dispatch, tell }: PartContext): PartOf<Peers> {
  const { identity, clock, time, random, log, metrics } = deps;
  const { book, records, boot } = kept;
  const welcomeOf = (id: NodeId): Welcome => {
    if (kept.acquaintances.isKnown(id) || book.hasRights(id)) return "known";
    return book.standing(id).history.linkedMs >= WELCOME_LINKED_MS ? "long" : "stranger";
  };
  const peers = new Peers({
    self: identity.id,
    clock,
    random,
    log,
    metrics,
    signal: scope.signal,
    bootId: mesh.bootId,
    helloEpoch: () => boot.helloEpoch,
    isStandingDown: () => mesh.otherLives.life === "standing-down",
    ownRecord: () => mesh.ownRecord.bytes,
    toldMs: () => time.toldMs,
    recordOf: (id) => records.get(id)?.bytes,
    isBlocked: (id) => mesh.isRefused(id),
    interfaceOf: (address) => deps.addresses().find((own) => own.address === address)?.interface,
    regard: kept.acquaintances,
    airtime: mesh.channels.airtime,
    welcomeOf,
    roomFor: () => deps.neighboursMax?.() ?? PEERS_MAX,
    events: {
      up: (peer) => tell("peerUp", peer),
      quiet: (peer) => tell("peerQuiet", peer),
      doubted: (peer) => tell("peerDoubted", peer),
      down: (peer, reason, isSilent) => tell("peerDown", peer, reason, isSilent),
      linkUp: (peer, link) => tell("linkUp", peer, link),
      linkDown: (peer, link, reason) => tell("linkDown", peer, link, reason),
      storeLost: (peer) => mesh.custody.onNeighbourUp(peer.id, peer.storeEpoch),
      double: (id) => {
        log.error("a neighbour runs on two machines at once", {
          peer: shortId(id),
          id,
          advice: DOUBLE_ADVICE,
        });
        deps.events.emit("identityDoubled", { id, state: "seen" });
      },
      measured: (peer) => tell("linkMeasured", peer),
      frame: (peer, type, bytes) => dispatch.frame(peer.id, type, bytes),
      record: (id, bytes) => {
        if (records.offer(bytes, { teller: id, expected: id }) === "invalid")
          log.warn("peer sent a bad record", { peer: shortId(id), at: clock.wallMs() });
      },
      clock: (id, wallMs) => {
        mesh.wallClock.heard(id, wallMs);
        time.check();
      },
      writable: (peer) => tell("writable", peer),
    },
  });
  return {
    engine: peers,
    refused: (id) => peers.disconnect(id, GoodbyeReason.blocked),
    stop: () => peers.disconnectAll(GoodbyeReason.stopping),
  };
}
