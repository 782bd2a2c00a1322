/**
 * Membership joined to the mesh: over which neighbours it speaks, what the router knows for it, where its facts are
 * kept. Commits of facts are gathered, because losing the last seconds of them costs nothing.
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import { encodeFact, parseFact } from "../../membership/kept-facts.ts";
import { Members } from "../../membership/members.ts";
import type { Store, StoreOp } from "../../store/types.ts";
import { FrameType } from "../../wire/constants.ts";
import type { MemberFact } from "../../wire/member-messages.ts";
import { PacketKind } from "../../wire/packet.ts";
import type { PartOf, PartContext } from "../part.ts";
import type { MeshParts } from "../seen.ts";
import { isSlowTo } from "./carrier.ts";

/** Facts learned within this time share a commit, ms. */
const COMMIT_MS = 5_000;
/** Priority of pings and of repairs: nothing waits for a ping longer than for routing; repairs go behind mail. */
const PING_PRIORITY = 0;
const REPAIR_PRIORITY = 3;
/** A ping over slow links is answered within a minute, or within so many rounds over the first of them. */
const SLOW_PING_MS = 60_000;
const SLOW_PING_ROUNDS = 4;

export function membersPart({ mesh, deps, kept }: PartContext): PartOf<Members> {
  const { identity, network, clock, random, metrics, store, verify, events } = deps;
  const { bootEpoch } = kept.boot;
  const unsaved = new Map<NodeId, MemberFact | undefined>();
  let saving: Timer | undefined;
  const members = new Members({
    self: identity.id,
    network,
    bootEpoch,
    clock,
    random,
    metrics,
    sign: (bytes) => identity.sign(bytes),
    verify,
    regard: kept.acquaintances,
    send: (to, frame, lane) =>
      void mesh.peers.tell(to, lane === "news" ? "control" : REPAIR_PRIORITY, frame, "membership"),
    sendRouted: (to, kind, payload) =>
      void mesh.packets.send(to, kind === "ping" ? PacketKind.memberPing : PacketKind.memberPong, payload, {
        priority: PING_PRIORITY,
      }),
    isReachable: (id) => mesh.router.reachable(id),
    pingMs: (id) => (isSlowTo(mesh, id) ? slowPingMs(mesh, id) : 0),
    checkLink: (id) => mesh.peers.get(id)?.best?.check(),
    outrun: (epoch) => mesh.otherLives.outrun(epoch),
    changed: (row, previous) => events.emit("memberChanged", { row, previous }),
    persist: (id, fact) => {
      if (fact === undefined) events.emit("memberForgotten", id);
      unsaved.set(id, fact);
      saving ??= clock.after(COMMIT_MS, () => {
        saving = undefined;
        save(store, unsaved);
      });
    },
  });
  return {
    engine: members,
    frames: [
      {
        types: [FrameType.memberFacts, FrameType.memberQuery],
        take: (from, _type, frame) => members.handleFrame(from, frame),
      },
    ],
    packets: [
      { kind: PacketKind.memberPing, take: ({ source }, payload) => members.handlePing(source, payload) },
      { kind: PacketKind.memberPong, take: ({ source }, payload) => members.handlePong(source, payload) },
    ],
    /** Facts of an earlier run. Rows that do not parse or verify are passed over. */
    async load() {
      const rows = await store.load("member");
      const bodies = await Promise.all(rows.map(({ key }) => store.body("member", key)));
      members.restore(bodies.flatMap((body) => parseFact(body) ?? []));
    },
    peerUp: (peer) => members.neighbourUp(peer.id, peer.links[0]!.session.linkClass),
    peerQuiet: ({ id }) => members.neighbourQuiet(id),
    peerDoubted: ({ id, isDoubted }) => members.neighbourDoubted(id, isDoubted),
    peerDown: ({ id }, _reason, isSilent) => members.neighbourDown(id, isSilent ? "silent" : "closed"),
    routeChanged: (destination, isReachable) => members.onRoute(destination, isReachable),
    defaultRouteChanged: () => members.onDefaultRoute(),
    stop() {
      members.leave();
      save(store, unsaved);
    },
  };
}

/** The way on from the first hop is not seen from here, nor how long things wait there. */
function slowPingMs({ router, peers }: MeshParts, id: NodeId): number {
  const hop = router.nextHops(id, "any")[0];
  const answerMs = hop === undefined ? 0 : (peers.get(hop.neighbour)?.best?.session.answerMs ?? 0);
  return Math.max(SLOW_PING_MS, SLOW_PING_ROUNDS * answerMs);
}

function save(store: Store, unsaved: Map<NodeId, MemberFact | undefined>): void {
  if (unsaved.size === 0) return;
  const ops = [...unsaved].map(([key, fact]): StoreOp =>
    fact === undefined
      ? { op: "delete", in: "member", key }
      : { op: "put", in: "member", key, meta: "", body: encodeFact(fact) },
  );
  unsaved.clear();
  // What is not kept is heard again from the neighbours.
  store.commit(ops).catch(() => {});
}
