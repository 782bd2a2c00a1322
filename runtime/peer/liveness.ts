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
    idleMs: 4_660,
    activeMs: 500,
    doubtMs: 160,
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
