/** Bounds and timers of the routing engine. docs/protocol/routing.md "Constants" lists the ones that neighbours can feel. */

export type LinkProfile = "fast" | "medium" | "slow";

export interface RouteLimits {
  /** Destinations held in all, retracted ones included until their hold time is over. */
  readonly destinationsMax: number;
  /** Destinations that one neighbour may have rows for. */
  readonly destinationsPerNeighbourMax: number;
  readonly neighboursMax: number;
  /** A better route must be this factor cheaper before the primary moves; 1 turns hysteresis off. */
  readonly switchRatio: number;
  /** ... and this many 0.1 ms units cheaper. */
  readonly switchUnits: number;
  /** ... for this long, ms. */
  readonly switchSustainMs: number;
  /** One that is cheaper by `switchUnits` alone is taken once it was for this long, ms. */
  readonly switchSteadyMs: number;
  /** How long a feasibility distance outlives its last route, ms. Must exceed the slowest detection of a dead neighbour. */
  readonly holdMs: number;
}

export const routeLimits: RouteLimits = {
  destinationsMax: 16_384,
  destinationsPerNeighbourMax: 12_288,
  neighboursMax: 1_024,
  switchRatio: 1.25,
  switchUnits: 3,
  switchSustainMs: 3_000,
  switchSteadyMs: 10_000,
  holdMs: 300_000,
};

export const NEXT_HOPS_MAX = 4;
/** Added to the cost of a way that is suspected of losing mail, or of a neighbour in quarantine, 0.1 ms units: more than any honest path costs. */
export const DISTRUST_COST = 2 ** 27;
/** A destination this young moves to better routes at once: a cold start hears long ways first. */
export const SETTLING_MS = 2_000;
/** Decreases of a metric, and newer numbers alone, wait this long: a recovering link must not ripple step by step. */
export const DECREASE_DELAY_MS = 1_000;

export interface ProfileTimers {
  /** Wait before changes leave, so that they leave together, ms; a uniform half of it is added. */
  readonly coalesceMs: number;
  /** Acknowledgement timeout before the first measurement, and its bounds, ms. */
  readonly ackFirstMs: number;
  readonly ackMinMs: number;
  readonly ackMaxMs: number;
  /** Update frames under way at once. */
  readonly framesInFlightMax: number;
  /** Pause before the second try of a sequence number request, ms; then four times as long each. */
  readonly requestMs: number;
}

export const profileTimers: Readonly<Record<LinkProfile, ProfileTimers>> = {
  fast: {
    coalesceMs: 20,
    ackFirstMs: 250,
    ackMinMs: 60,
    ackMaxMs: 8_000,
    framesInFlightMax: 32,
    requestMs: 250,
  },
  medium: {
    coalesceMs: 500,
    ackFirstMs: 5_000,
    ackMinMs: 1_000,
    ackMaxMs: 60_000,
    framesInFlightMax: 4,
    requestMs: 4_000,
  },
  // No table updates flow on slow links; only the request pause is ever read.
  slow: {
    coalesceMs: 2_000,
    ackFirstMs: 30_000,
    ackMinMs: 10_000,
    ackMaxMs: 120_000,
    framesInFlightMax: 1,
    requestMs: 30_000,
  },
};

/** Update frames are cut at this size (or the link's, if smaller), so that one loss repeats little. Bytes. */
export const UPDATE_FRAME_BYTES = 8_192;
/**
 * Updates under way to all neighbours together, bytes: a hub that tells 250 of them its whole table would hold 64 MB of frames.
 * One frame is under way to each that waits for any, whatever the sum.
 */
export const UPDATES_UNDER_WAY_BYTES_MAX = 4 * 1024 * 1024;
/** Updates under way to one neighbour before it has acknowledged any; one more for each that it does, up to `framesInFlightMax`. */
export const UPDATES_UNDER_WAY_FIRST = 4;
/**
 * Updates that came and wait to be read, bytes, of all neighbours together; each may have one whatever the sum. What comes beyond is
 * dropped and not acknowledged: a queue that took longer to read than their senders wait would be read twice.
 */
export const UPDATES_WAITING_BYTES_MAX = 4 * 1024 * 1024;
/** What one that waits counts as beside its bytes: of frames without entries a third of a million would fit otherwise. */
export const UPDATE_WAITING_FRAME_BYTES = 256;
/** Updates read in one turn of the event loop, bytes and ms, whichever is over first; one frame more at most. */
export const UPDATE_TURN_BYTES = 128 * 1024;
export const UPDATE_TURN_MS = 10;
export const DIGEST_PERIOD_MS = 60_000;
export const DIGEST_JITTER_MS = 6_000;
/** Digests of one neighbour that are compared, each a walk over the table: an honest one sends two a minute at most. */
export const DIGESTS_BURST = 4;
export const DIGESTS_PER_SECOND = 1 / 15;
/** Times that a neighbour may begin anew on a link that stands: each forgets all it said and tells it everything. */
export const ADOPTIONS_BURST = 4;
export const ADOPTIONS_PER_SECOND = 1 / 5;
/** Digests for which a bucket with refused entries is left alone: asking again would only be refused again. */
export const REFUSED_DIGESTS = 10;
/** First pause between opening resyncs that nobody answers, and the cap, ms. */
export const RESYNC_FIRST_MS = 200;
export const RESYNC_CAP_MS = 30_000;
/** At most one unasked resync (wrong tag, missing proof) a neighbour in this time, ms. */
export const RESYNC_GAP_MS = 1_000;

export const REQUEST_HOPS = 64;
export const REQUEST_TRIES = 3;
/** After the tries, a destination that still starves asks once in this time, ms. */
export const REQUEST_IDLE_MS = 60_000;
/** Wait before asking for a better route that is infeasible; a worse one works, and a newer number may be on its way. */
export const IMPROVE_DELAY_MS = 5_000;
/** A request forwarded for the same destination and number within this time is not forwarded again, ms. */
export const REQUEST_DEDUPE_MS = 100;
/** How long a relay remembers who asked, ms. */
export const REQUEST_MEMORY_MS = 10_000;

/** Own sequence number: at most this many raises in a burst, then one per SEQNO_REFILL_MS. */
export const SEQNO_BURST = 8;
export const SEQNO_REFILL_MS = 1_000;

/** Signatures that failed, per neighbour: a burst, then one a second; above that proofs are refused unread. */
export const BAD_PROOF_BURST = 64;
export const BAD_PROOF_REFILL_MS = 1_000;

/**
 * Table updates of one neighbour that are read, bytes: at once, and a second. What is beyond is dropped unread and not
 * acknowledged, so that an honest neighbour sends it again; a full table of 16,384 takes it half a minute.
 */
export const UPDATE_BURST_BYTES = 512 * 1024;
export const UPDATE_BYTES_PER_SECOND = 64 * 1024;

export const RECORD_REQUESTS_MAX = 64;
/** Neighbours remembered for one record that is not here yet. */
export const RECORD_ASKERS_MAX = 64;
export const RECORD_TIMEOUT_MS = 3_000;
/** The same of one whose only way is slow, and of one whose medium is carried, ms. */
export const RECORD_SLOW_TIMEOUT_MS = 60_000;
export const RECORD_CARRIED_TIMEOUT_MS = 24 * 3_600_000;
export const RECORD_TRIES = 3;
/** After that many tries without an answer, the next look for a missing record, ms. */
export const RECORD_REST_MS = 60_000;

/** Trickle beacons of slow links (RFC 6206): shortest and longest interval, ms. */
export const BEACON_MIN_MS = 30_000;
export const BEACON_MAX_MS = 3_600_000;
/** On a link of a shared channel: between two beacons to one neighbour that say something new, at least, ms. */
export const TOLD_GAP_MS = 300_000;
/** ... and between two that answer a question for one. */
export const ANSWERED_GAP_MS = 15_000;
/** Share of a slow link's airtime that all control together may use. */
export const SLOW_CONTROL_SHARE = 0.02;
/** Assumed where the link does not say, bits per second: the slowest LoRa preset in use. */
export const SLOW_RATE_BITS = 1_000;
/** Most that unused airtime may save up, bytes: one proof and one beacon. A longer frame takes what is earned later in advance. */
export const SLOW_BURST_BYTES = 160;

/** Life of a path that was found on demand, from when it was asked for: as long as a silent neighbour on a channel is thought to be there, ms. */
export const PATH_LIFE_MS = 6 * 3_600_000;
/** How long the feasibility distance stays behind an answer: more than any life of it, by whatever clock. */
export const PATH_HELD_MS = 2 * PATH_LIFE_MS;
/** Mail that needs a path whose life has come to less than that asks for it anew; so much at least an answer promises without asking on. */
export const PATH_RENEW_MS = PATH_LIFE_MS / 2;
export const PATH_PROMISE_MS = PATH_LIFE_MS / 4;
/** Destinations that are asked for, own and others'. */
export const PATH_QUESTIONS_MAX = 256;
/** Of them, those that one neighbour waits for an answer to. */
export const PATH_QUESTIONS_PER_NEIGHBOUR_MAX = 16;
/** Slow neighbours asked at once, by who needs it and by who passes it on; the next time others. */
export const PATH_ASKED_OWN = 4;
export const PATH_ASKED_ON = 3;
export const PATH_HOPS = 16;
/** Mail waits so long before anybody is asked, and up to twice that: most routes are back before. */
export const PATH_FIRST_MS = 5_000;
/** ... where the node is heard on a channel: a link to it is made meanwhile. */
export const PATH_HEARD_FIRST_MS = 600_000;
/** Pauses between questions for the same node: the first, and the longest. */
export const PATH_PAUSE_MS = 120_000;
export const PATH_PAUSE_MAX_MS = 3_600_000;
/** A question is passed on once in this time, whoever asks. */
export const PATH_ON_GAP_MS = 100_000;
/** An answer is waited for, and whoever asked is remembered, for so long. */
export const PATH_MEMORY_MS = 900_000;
/** Own questions for nodes: at once, and a second. */
export const PATH_OWN_BURST = 8;
export const PATH_OWN_PER_SECOND = 1 / 60;
/** Questions of one neighbour that are looked at. */
export const PATH_HEARD_BURST = 4;
export const PATH_HEARD_PER_SECOND = 1 / 30;
/** Questions that are passed on for all others together. */
export const PATH_ON_BURST = 8;
export const PATH_ON_PER_SECOND = 1 / 30;
/** Frames that wait for airtime: in all, to one neighbour, and for how long, ms. */
export const PATH_FRAMES_MAX = 64;
export const PATH_FRAMES_PER_NEIGHBOUR_MAX = 8;
export const PATH_FRAME_WAIT_MS = 600_000;
/** A way that is gone may be back before it is told so, ms. */
export const PATH_GONE_DELAY_MS = 10_000;
/** How often what waits is looked at, ms. */
export const PATH_LOOK_MS = 5_000;
