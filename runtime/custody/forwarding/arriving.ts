/** A transfer that comes: who sends it, what was asked of it, and what lies behind a gap. Changed by transfer.ts alone. */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import type { Offer } from "../../wire/bundle.ts";
import type { CustodyContext } from "../context.ts";
import type { ArrivingBody } from "./arriving-body.ts";
import { creditFirst } from "./credit.ts";

export interface Arriving {
  readonly from: NodeId;
  readonly offer: Offer;
  body: ArrivingBody;
  readonly startedAtMs: number;
  /** Of what was received, what an earlier try had brought. */
  resumed: number;
  /** Nothing was asked for before that. */
  isReady: boolean;
  creditEnd: number;
  /** The furthest that it ever was. */
  grantedEnd: number;
  creditBytes: number;
  creditAtMs: number;
  /** What had been received then. */
  creditFrom: number;
  stalls: number;
  badBlocks: number;
  /** Behind a gap, by offset. Datagrams only. */
  readonly early: Map<number, Uint8Array>;
  earlyBytes: number;
  /** The gap last asked for, and when: once in two round trips is enough. Undefined: the sender has all its credit. */
  gapAt: number | undefined;
  gapAskedAtMs: number;
  progressAtMs: number;
  timer: Timer | undefined;
}

/** Nothing of it was asked for. */
export function newArriving(
  { clock, carrier }: Pick<CustodyContext, "clock" | "carrier">,
  from: NodeId,
  offer: Offer,
  body: ArrivingBody,
): Arriving {
  const nowMs = clock.monotonicMs();
  return {
    from,
    offer,
    body,
    startedAtMs: nowMs,
    resumed: 0,
    isReady: false,
    creditEnd: 0,
    grantedEnd: 0,
    creditBytes: creditFirst(carrier, from),
    creditAtMs: nowMs,
    creditFrom: 0,
    stalls: 0,
    badBlocks: 0,
    early: new Map(),
    earlyBytes: 0,
    gapAt: undefined,
    gapAskedAtMs: 0,
    progressAtMs: nowMs,
    timer: undefined,
  };
}
