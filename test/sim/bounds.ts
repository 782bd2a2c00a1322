/** The oracle of bounds and counters: what a live node holds stays within its limits, and what came in went somewhere. */
import type { CustodyLimits } from "../../runtime/custody/context.ts";
import { TARGETS_MAX } from "../../runtime/peer/dialer.ts";
import { LINKS_PER_PEER_MAX, PEERS_MAX } from "../../runtime/peer/peers.ts";
import { HIGH_WATER_BYTES } from "./links.ts";
import type { SimNode } from "./node.ts";

/** Control passes a full session up to this (peer.ts), and one batch may follow. */
const SESSION_BYTES_MAX = HIGH_WATER_BYTES + 5 * 1024 * 1024;
const LANE_FRAMES_MAX = 5 * 8_192;
/** Own receipts and claims go past the transit bound by this (transit.ts), and commits under way by a little. */
const TRANSIT_RESERVE = 10_000;

/**
 * Why a packet that has arrived is dropped: it made no sense (for instance sealed to keys that went with a disk), its
 * source is blocked, or no part takes its kind.
 */
const DROPPED_AT_THEIR_END = ["malformed", "refused", "unknown_kind"] as const;

export function checkBounds(node: SimNode, limits: CustodyLimits): string[] {
  const { mesh } = node;
  if (mesh === undefined) return [];
  const faults: string[] = [];
  const check = (what: string, value: number, max: number) => {
    if (value > max) faults.push(`n${node.index} holds ${value} ${what}, at most ${max}`);
  };
  check("peers", mesh.peers.count, PEERS_MAX);
  for (const peer of mesh.peers.connected) {
    check("frames in lanes", peer.queuedFrames, LANE_FRAMES_MAX);
    // One more than the bound lives until it has retired.
    check("links to one peer", peer.links.length, 2 * LINKS_PER_PEER_MAX);
    for (const { session } of peer.links)
      check("bytes in a session", session.bufferedBytes, SESSION_BYTES_MAX);
  }
  const { custody } = mesh;
  check("messages in the outbox", custody.outbox.openCount, limits.outboxMessagesMax);
  check("bytes in the outbox", custody.outbox.bytes, limits.outboxBytesMax);
  check("bundles in transit", custody.transit.count, limits.transitMessagesMax + TRANSIT_RESERVE);
  check("messages in the inbox", custody.inbox.count, limits.inboxMessagesMax);
  check(
    "holdings",
    custody.forwarder.count,
    limits.transitMessagesMax + TRANSIT_RESERVE + 16 * limits.outboxMessagesMax,
  );
  check("dial targets", mesh.dialer.targets.length, TARGETS_MAX);
  return faults;
}

/** Every routed packet went on, arrived, or was dropped and counted once. */
export function checkPackets(node: SimNode): string[] {
  const { life } = node;
  if (life?.mesh === undefined) return [];
  const { relayed, sent, sentOk, arrived } = life.packets;
  const forwarded = life.metrics.total("godwit_packets_forwarded_total");
  let ended = 0;
  for (const reason of DROPPED_AT_THEIR_END)
    ended += life.metrics.total("godwit_packets_dropped_total", reason);
  const dropped = life.metrics.total("godwit_packets_dropped_total") - ended;
  if (relayed + sent === forwarded + sentOk + dropped && ended <= arrived) return [];
  return [
    `n${node.index} took ${relayed} packets and sent ${sent}, but forwarded ${forwarded}, launched ${sentOk}, dropped ${dropped}`,
  ];
}
