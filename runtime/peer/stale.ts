/**
 * What is told once more while it still waits: on a link where frames wait for long only the last word of a kind is worth its airtime. Pure.
 * docs/protocol/slow.md "Timers"
 */
import { FrameType } from "../wire/constants.ts";
import { UpdateKind } from "../wire/route-messages.ts";

/** Each says all that there is to say. */
const WHOLE: ReadonlySet<number> = new Set([
  FrameType.hello,
  FrameType.probe,
  FrameType.probeReply,
  FrameType.routeDigest,
  FrameType.memberDigest,
]);
/** Bytes by which frames of routing that say all are told apart: their kind, and of proofs whose it is. */
const ROUTE_HEAD_BYTES: Readonly<Record<number, number>> = { [UpdateKind.beacon]: 2, [UpdateKind.proof]: 3 };

/** The older of two control frames says nothing that the newer one does not say. */
export function supersedes(newer: Uint8Array, older: Uint8Array): boolean {
  const type = newer[0];
  if (type === undefined || type !== older[0]) return false;
  if (WHOLE.has(type)) return true;
  const head = type === FrameType.routeUpdate ? ROUTE_HEAD_BYTES[newer[1] ?? -1] : undefined;
  return head === undefined
    ? Buffer.compare(newer, older) === 0
    : Buffer.compare(newer.subarray(0, head), older.subarray(0, head)) === 0;
}
