/** How custody reaches the neighbours: by the routes, over the peers. */
import type { Urgency } from "@godwit/sdk";
import { shortId, type NodeId } from "../../kernel/ids.ts";
import { decideForward, type NextHop } from "../../route/decide.ts";
import type { Carrier } from "../../custody/context.ts";
import { BULK_BYTES } from "../../custody/forwarding/ready-queue.ts";
import { BottleneckClass, HOP_LIMIT } from "../../wire/constants.ts";
import type { MeshParts } from "../seen.ts";

/** Round trip to a neighbour that was not measured, ms. */
const RTT_GUESS_MS = 1_000;

/** Wait before a frame to the neighbour would leave, in the 0.1 ms units of route costs. */
export const queueDelayTo = ({ peers }: Pick<MeshParts, "peers">, id: NodeId): number =>
  (peers.get(id)?.queueDelayMs ?? 0) * 10;

/** Ways lead to the node, and each of them over a slow link. */
export const isSlowTo = ({ router }: Pick<MeshParts, "router">, to: NodeId): boolean =>
  router.nextHops(to, "bulk").length === 0 && isOverSlow(router.nextHops(to, "any"));

/** For a moment a way for bulk may be missing where no link is slow. */
const isOverSlow = (hops: readonly NextHop[]): boolean =>
  hops.length > 0 && hops.every(({ bottleneck }) => bottleneck === BottleneckClass.slow);

const mediumTo = ({ peers }: Pick<MeshParts, "peers">, id: NodeId) => peers.get(id)?.best?.session.medium;

const admits = (mesh: Pick<MeshParts, "peers">, id: NodeId, urgency: Urgency): boolean =>
  urgency <= (mediumTo(mesh, id)?.admits ?? urgency);

/** Why a next hop is none now, in words; undefined: all of them are. Mail hears of it when its channel admits it again. */
function busyBefore(
  mesh: Pick<MeshParts, "peers" | "channels">,
  hops: readonly NextHop[],
  urgency: Urgency,
): string | undefined {
  const busy = hops.filter(({ neighbour }) => !admits(mesh, neighbour, urgency));
  const media = new Set(busy.flatMap(({ neighbour }) => mediumTo(mesh, neighbour) ?? []));
  for (const medium of media) mesh.channels.noteHeld(medium, urgency);
  const [medium] = media;
  if (medium === undefined) return undefined;
  const percent = Math.round(100 * medium.utilisation);
  return `the channel of ${medium.name} is busy (${percent} %): only alarms go there now`;
}

/** `isNewcomer`: nothing is handed to the node over its own link yet; what goes another way goes on. */
export function createCarrier(self: NodeId, mesh: MeshParts, isNewcomer: (id: NodeId) => boolean): Carrier {
  const { router, peers, packets } = mesh;
  const queueDelay = (id: NodeId) => queueDelayTo(mesh, id);
  return {
    nextHop: ({ destination, arrivedFrom, bytes, urgency }, avoid, shun) => {
      const plane = bytes > BULK_BYTES ? "bulk" : "any";
      let hops: readonly NextHop[] = router.nextHops(destination, plane);
      // Nothing but a gateway leads there, or nothing at all: perhaps it is in earshot.
      const isStuck = hops[0] === undefined;
      const isHeard = (isStuck || hops[0]!.isDefault) && mesh.channels.want(destination, isStuck, urgency);
      if (isStuck && plane === "any") router.wantPath(destination, isHeard);
      if (hops.some((hop) => avoid(hop.neighbour))) hops = hops.filter((hop) => !avoid(hop.neighbour));
      if (isNewcomer(destination)) {
        hops = hops.filter(({ neighbour }) => neighbour !== destination);
        if (hops.length === 0)
          return { kind: "wait", reason: "the recipient came while it was here: it may run twice" };
      }
      const busy = urgency === undefined ? undefined : busyBefore(mesh, hops, urgency);
      if (busy !== undefined) {
        hops = hops.filter(({ neighbour }) => admits(mesh, neighbour, urgency!));
        if (hops.length === 0) return { kind: "wait", reason: busy };
      }
      // Back where it came from is no other way.
      const others = hops.filter(({ neighbour }) => neighbour !== shun && neighbour !== arrivedFrom);
      if (shun !== undefined && others.length > 0) hops = others;
      const request = {
        destination,
        self,
        hopsLeft: HOP_LIMIT,
        arrivedFrom,
        size: 0,
        plane,
        isCustody: true,
      } as const;
      const decision = decideForward(request, hops, queueDelay);
      if (decision.kind === "forward" && decision.to !== destination) {
        mesh.punching.noteTraffic(destination, bytes);
        router.usePath(destination, decision.to);
      }
      return decision.kind === "forward"
        ? { kind: "forward", to: decision.to }
        : {
            kind: "wait",
            reason:
              plane === "bulk" && router.reachable(destination)
                ? "too large for the slow links that lead there: waits for a faster way"
                : `no route to ${shortId(destination)} yet`,
          };
    },
    isConnected: (id) => peers.get(id) !== undefined,
    // Nobody waits for room with an answer: the neighbour offers again what it got none for.
    send: (to, lane, frame, departure) =>
      lane === "control"
        ? peers.tell(to, lane, frame, "custody")
        : (peers.get(to)?.send(lane, frame, departure) ?? false),
    sendPacket: (to, kind, payload, priority) =>
      packets.send(to, kind, payload, { priority }) ? "sent" : router.reachable(to) ? "no_room" : "no_route",
    frameBytesMax: (to) => peers.get(to)?.frameBytesMax ?? 0,
    rttMs: (to) => {
      const best = peers.get(to)?.best;
      return best?.rttMs ?? ((best?.isPaced === true && best.session.answerMs) || RTT_GUESS_MS);
    },
    answerMs: (to) => peers.get(to)?.best?.session.answerMs ?? 0,
    isCarried: (to) => peers.get(to)?.best?.session.isCarried === true,
    isReliable: (to) => peers.get(to)?.best?.session.isReliable ?? false,
    isSlow: (to) => isSlowTo(mesh, to),
  };
}
