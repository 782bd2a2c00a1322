/**
 * What a frame is for, where what is sent waits for airtime: who goes first, and who waits while a channel is busy (`Urgency` of the SDK). By what is at its start; of
 * what this node made itself, so that nothing here can be malformed. docs/protocol/slow.md "What waits"
 */
import type { Urgency } from "@godwit/sdk";
import { type BundleHeader, BundleKind, decodeBundleFrame, decodeOffer } from "./bundle.ts";
import { FrameType, type Priority } from "./constants.ts";

export const ALARM: Urgency = 0;
export const TEXT: Urgency = 1;
export const RECEIPTS: Urgency = 2;
export const PRESENCE: Urgency = 3;
export const DIGESTS: Urgency = 4;
/** The priority of alarms. */
const ALARM_PRIORITY: Priority = 0;

/** Of mail in custody. */
export const urgencyOfBundle = ({ kind, priority }: Pick<BundleHeader, "kind" | "priority">): Urgency =>
  kind !== BundleKind.message ? RECEIPTS : priority === ALARM_PRIORITY ? ALARM : TEXT;

export function urgencyOf(frame: Uint8Array): Urgency {
  switch (frame[0]) {
    case FrameType.compactMessage:
      return (frame[1]! & 3) === ALARM_PRIORITY ? ALARM : TEXT;
    case FrameType.bundle:
      return urgencyOfBundle(decodeBundleFrame(frame).bundle.header);
    case FrameType.offer:
      return urgencyOfBundle(decodeOffer(frame).header);
    // Without them what they answer is sent again.
    case FrameType.custodyAck:
    case FrameType.custodyRefuse:
    case FrameType.compactAck:
    case FrameType.compactRefuse:
    case FrameType.compactUnreadable:
    case FrameType.hello:
    case FrameType.compactHello:
    case FrameType.helloWanted:
      return ALARM;
    case FrameType.chunk:
    case FrameType.packet:
    case FrameType.compactPacket:
    case FrameType.lookup:
    case FrameType.lookupReply:
    case FrameType.recordRequest:
    case FrameType.record:
      return TEXT;
    case FrameType.routeDigest:
    case FrameType.revocationDigest:
    case FrameType.memberFacts:
    case FrameType.memberDigest:
    case FrameType.memberBuckets:
    case FrameType.memberSync:
    case FrameType.memberQuery:
      return DIGESTS;
    default:
      return RECEIPTS;
  }
}
