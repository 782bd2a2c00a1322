/** How long each class of link may be silent, and how long it is asked before it is given up: docs/protocol/frames.md "Probe". */
import type { LinkClass } from "@godwit/sdk";

export interface LivenessProfile {
  /** Silence after which an idle link is probed, ms. */
  readonly idleMs: number;
  /** The same while data flows, ms. */
  readonly activeMs: number;
  /** Wait for an answer to the first probe before the far end is in doubt, ms. */
  readonly doubtMs: number;
  /** And before the probe counts as missed, ms. */
  readonly replyMs: number;
  /** Probes missed before the link is suspect, and the wait for each one after that, ms. */
  readonly missesBeforeSuspect: number;
  readonly suspectReplyMs: number;
  readonly suspectProbes: number;
}

/** DESIGN timer profiles. Slow links have no probes: their transport's own signs and custody acknowledgements count. */
export const profiles: Readonly<Record<LinkClass, LivenessProfile | undefined>> = {
  fast: {
    idleMs: 4_595,
    activeMs: 500,
    doubtMs: 120,
    replyMs: 300,
    missesBeforeSuspect: 2,
    suspectReplyMs: 200,
    suspectProbes: 3,
  },
  medium: {
    idleMs: 5_000,
    activeMs: 5_000,
    doubtMs: 5_000,
    replyMs: 5_000,
    missesBeforeSuspect: 2,
    suspectReplyMs: 5_000,
    suspectProbes: 1,
  },
  slow: undefined,
};

/**
 * A far end that is gone without a word is in doubt before this much silence, ms, whatever the phase: the longer an answer is
 * waited for, the sooner it is asked for. 5 s are promised; the rest is for timers, and for whoever asks.
 */
const DOUBT_BY_MS = 4_775;
/**
 * A node whose timers are late looks sooner by so many times that, up to the most, and for a while longer than it is seen: the share
 * of the lateness that stays from one timer to the next, of which an idle link has some 40 a minute.
 */
const LATE_FACTOR = 3;
const LATE_SLACK_MAX_MS = 1_500;
const LATE_KEPT = 0.97;
/** Less is how timers are. */
const LATE_PLAIN_MS = 5;

/** How late timers are of late, ms, once one was `lateMs` late. */
export const lateness = (beforeMs: number, lateMs: number): number => Math.max(lateMs, beforeMs * LATE_KEPT);

/**
 * Silence, ms, after which an idle fast link is asked at the latest: where an answer is waited for `doubtMs`, the round trip is `rttMs` and the timers of
 * this node are `lateMs` late.
 */
export function silenceMaxMs({
  doubtMs,
  rttMs,
  lateMs,
}: Record<"doubtMs" | "rttMs" | "lateMs", number>): number {
  const slackMs = lateMs > LATE_PLAIN_MS ? Math.min(lateMs * LATE_FACTOR, LATE_SLACK_MAX_MS) : 0;
  // What was on its way when the far end went is still heard.
  return DOUBT_BY_MS - doubtMs - rttMs / 2 - slackMs;
}
