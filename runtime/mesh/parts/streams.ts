/**
 * Streams on the mesh: which way their packets go, over the plane for bulk alone, so that no stream ever enters a slow
 * path, and whether the first hop takes more.
 */
import type { NodeId } from "../../kernel/ids.ts";
import { FRAME_BYTES_MIN } from "../../stream/constants.ts";
import type { Path } from "../../stream/session-types.ts";
import { Streams } from "../../stream/streams.ts";
import { FRAME_BYTES_MAX } from "../../wire/constants.ts";
import { PacketKind } from "../../wire/packet.ts";
import type { PartOf, PartContext } from "../part.ts";
import type { MeshParts } from "../seen.ts";

const GONE_KEY_LABEL = new TextEncoder().encode("godwit stream gone key");
const GONE_KEY_BYTES = 32;

export function streamsPart({ mesh, deps, scope }: PartContext): PartOf<Streams> {
  const { identity, network, clock, random, log, metrics } = deps;
  const streams = new Streams({
    self: identity.id,
    dh: identity.dh,
    // Ed25519 signatures are deterministic: the key is the same after a restart and known to nobody else.
    goneKey: identity.sign(GONE_KEY_LABEL).slice(0, GONE_KEY_BYTES),
    network,
    clock,
    random,
    log,
    metrics,
    signal: scope.signal,
    isBlocked: (id) => mesh.isRefused(id),
    isKnown: (id) => mesh.acquaintances.isKnown(id),
    path: (remote) => pathTo(remote, mesh),
    sendPacket: (_remote, frame) => mesh.packets.sendFrame(frame),
  });
  return {
    engine: streams,
    packets: [{ kind: PacketKind.stream, take: (header, payload) => streams.onPacket(header, payload) }],
    writable: () => streams.onWritable(),
    routeChanged: (destination) => streams.onRoute(destination),
    refused: (id) => streams.block(id),
    stop: () => streams.stop(),
  };
}

function pathTo(remote: NodeId, { router, peers }: MeshParts): Path {
  const hops = router.nextHops(remote, "bulk");
  let frameBytes = 0;
  let isFull = true;
  for (const hop of hops) {
    // A carried medium takes bulk, but no stream waits for days.
    const isCarried = peers.get(hop.neighbour)?.best?.session.isCarried === true;
    if (hop.mtu < FRAME_BYTES_MIN || isCarried) continue;
    // The best way decides the size: forwarding skips the ways that are too narrow for it.
    if (frameBytes === 0) frameBytes = Math.min(hop.mtu, FRAME_BYTES_MAX);
    if (hop.mtu >= frameBytes && peers.get(hop.neighbour)?.hasRoom === true) isFull = false;
  }
  if (frameBytes > 0) return { kind: isFull ? "full" : "ready", frameBytes };
  return { kind: hops.length > 0 || router.nextHops(remote, "any").length > 0 ? "slow" : "none" };
}
