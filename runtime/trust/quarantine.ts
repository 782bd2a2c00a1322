/**
 * Notices neighbours that attract mail and lose it, and goes around them: missing receipts raise a suspicion, a trial
 * with test bundles settles it, and quarantine makes a liar's routes the last resort until it delivers again. Owns
 * suspicions, trials and quarantines; never touches messages and never excludes a way that is the only one.
 * docs/protocol/delivery.md "Missing receipts" is normative; trust/verdict.ts decides.
 */
import type { Teller } from "../kernel/hub.ts";
import type { Clock, Log, Timer } from "@godwit/sdk";
import { shortId, type MessageId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { EARLIER_RUN, type Regard, type Share } from "../kernel/room.ts";
import { SharedMap } from "../kernel/shared-map.ts";
import {
  decideVerdict,
  planImmunity,
  planQuarantine,
  planTests,
  receiptDueMs,
  type Offence,
  type Verdict,
} from "./verdict.ts";
import type { Priority } from "../wire/constants.ts";
import type { Plane } from "../wire/packet.ts";

/** Test bundles go out this often until their receipt comes: honest relays on the way need the repeats to heal. */
const ATTEMPT_MS = 2_000;
const ATTEMPTS = 6;
/** Wait behind the last attempt; and twice the time after which a receipt is missing, if that is longer. */
const LAST_WAIT_MS = 3_000;
const TRIALS_MAX = 16;
/** Of these, for mail that others bring again, and as many for neighbours that may be honest again: own mail always finds a trial. */
export const OTHERS_TRIALS_MAX = 6;
const WITNESSES_MAX = 2;
/** Pairs of neighbour and destination that are remembered, and neighbours in quarantine. */
export const PAIRS_MAX = 1_024;
export const OFFENDERS_MAX = 1_024;
/** Whose mail raised a suspicion: this node's own. */
const OWN_MAIL: Share = { by: "own mail", isKnown: true };
const RECOVERY_RETRY_MS = 60_000;

export interface DistrustEvents {
  /** Mail that the neighbour acknowledged was proven lost. */
  lostDelivery: { readonly neighbour: NodeId; readonly destination: NodeId };
  /** The neighbour proved that what it takes for the destination arrives. */
  honestRoute: { readonly neighbour: NodeId; readonly destination: NodeId };
  peerQuarantined: { readonly neighbour: NodeId; readonly reason: string; readonly forMs: number };
  peerRestored: NodeId;
}

export interface QuarantineDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly events: Teller<DistrustEvents>;
  readonly regard: Regard;
  isConnected(id: NodeId): boolean;
  readonly router: {
    nextHops(destination: NodeId, plane: Plane): readonly { readonly neighbour: NodeId }[];
    offerOf(
      id: NodeId,
      destination: NodeId,
    ): { readonly metric: number; readonly bottleneck: number } | undefined;
    suspect(id: NodeId, destination: NodeId, isSuspect: boolean): boolean;
    quarantine(id: NodeId, isQuarantined: boolean): void;
  };
  readonly custody: {
    /** Undefined: it cannot be sealed. */
    sendTest(destination: NodeId, via: NodeId, priority: Priority): MessageId | undefined;
    repeatTest(id: MessageId): void;
    /** Whether the one neighbour it went to has acknowledged it. */
    isTestTaken(id: MessageId): boolean;
    endTest(id: MessageId): void;
    /** A message to the destination was acknowledged by the neighbour before that moment and has no receipt. */
    overdue(via: NodeId, destination: NodeId, beforeMs: number): { readonly priority: Priority } | undefined;
    isAwaiting(via: NodeId, destination: NodeId): boolean;
    /** Messages without receipt go out again, another way if there is one. */
    reoffer(via: NodeId, destination: NodeId): void;
  };
}

/** Why a neighbour is tried: mail of this node, mail that another brought again, or the end of its quarantine. */
type Cause = "own" | "returned" | "recovery";

interface Trial {
  readonly neighbour: NodeId;
  readonly destination: NodeId;
  readonly priority: Priority;
  readonly cause: Cause;
  /** Towards the suspect. */
  readonly tests: readonly MessageId[];
  /** Other ways, by the neighbour. */
  readonly others: Map<NodeId, MessageId>;
  readonly answered: Set<MessageId>;
  readonly waitMs: number;
  attempts: number;
  isOffered: boolean;
  hasReoffered: boolean;
  timer: Timer;
}

interface Pair {
  acquittals: number;
  immuneUntilMs: number;
  watch: Timer | undefined;
}

export interface QuarantineState {
  readonly reason: string;
  /** Monotonic ms. */
  readonly untilMs: number;
  readonly offences: number;
}

interface Held extends Offence {
  readonly isActive: boolean;
  readonly destination: NodeId;
  readonly timer: Timer | undefined;
}

const keyOf = (neighbour: NodeId, destination: NodeId): string => `${neighbour} ${destination}`;

export class Quarantine {
  readonly #deps: QuarantineDeps;
  /** A liar is found by what is remembered of it: whoever brings mail pushes out only what mail of its share raised. */
  readonly #pairs = new SharedMap<string, Pair>({
    name: "suspects",
    max: PAIRS_MAX,
    worthOf: (key, { watch }) => (watch !== undefined || this.#trials.has(key) ? "kept" : "none"),
  });
  readonly #trials = new Map<string, Trial>();
  readonly #tests = new Map<MessageId, Trial>();
  readonly #offenders = new SharedMap<NodeId, Held>({
    name: "offenders",
    max: OFFENDERS_MAX,
    strangersMax: OFFENDERS_MAX,
    worthOf: (_id, { isActive }) => (isActive ? "used" : "none"),
    evicted: (id, held) => this.#onForgotten(id, held),
  });
  readonly #verdicts;

  constructor(deps: QuarantineDeps) {
    this.#deps = deps;
    this.#verdicts = deps.metrics.counter("godwit_trials_total");
    deps.metrics.observedGauge(
      "godwit_peers_quarantined",
      () => [...this.#offenders.values()].filter(({ isActive }) => isActive).length,
    );
  }

  /** Neighbours that are being tried, each for one destination. */
  get trialCount(): number {
    return this.#trials.size;
  }

  /** Neighbours and destinations of which something is remembered. */
  get pairCount(): number {
    return this.#pairs.size;
  }

  /** Why and until when the neighbour is gone around; undefined: it is not. */
  stateOf(neighbour: NodeId): QuarantineState | undefined {
    const held = this.#offenders.get(neighbour);
    if (held?.isActive !== true) return undefined;
    return { reason: reasonOf(held.destination), untilMs: held.untilMs, offences: held.count };
  }

  /** A neighbour acknowledged a message of this node: its receipt is due. */
  onHanded(neighbour: NodeId, destination: NodeId): void {
    if (neighbour === destination) return;
    const pair = this.#pair(neighbour, destination, OWN_MAIL);
    if (pair === undefined || pair.watch !== undefined) return;
    this.#watch(pair, neighbour, destination);
  }

  /** What was handed to the neighbour came back to be handed on again, by `by` if that is known: somebody misses its receipt. */
  onReturned(neighbour: NodeId, destination: NodeId, priority: Priority, by: NodeId | undefined): void {
    const share = by === undefined ? EARLIER_RUN : this.#deps.regard.shareOf(by);
    if (neighbour !== destination) this.#suspect(neighbour, destination, priority, share);
  }

  /** The destination has signed that the test bundle arrived. */
  onTestAnswered(id: MessageId, by: NodeId): void {
    const trial = this.#tests.get(id);
    if (trial === undefined || trial.destination !== by) return;
    trial.answered.add(id);
    if (!trial.tests.includes(id)) this.#reoffer(trial);
    else if (trial.tests.every((test) => trial.answered.has(test))) this.#end(trial);
  }

  #watch(pair: Pair, neighbour: NodeId, destination: NodeId): void {
    const { clock, router, custody } = this.#deps;
    const dueMs = receiptDueMs(router.offerOf(neighbour, destination)?.metric ?? 0);
    pair.watch = clock.after(dueMs, () => {
      pair.watch = undefined;
      const late = custody.overdue(neighbour, destination, clock.monotonicMs() - dueMs);
      if (late !== undefined) this.#suspect(neighbour, destination, late.priority, OWN_MAIL);
      if (late !== undefined || custody.isAwaiting(neighbour, destination))
        this.#watch(pair, neighbour, destination);
    });
  }

  #suspect(neighbour: NodeId, destination: NodeId, priority: Priority, share: Share): void {
    const pair = this.#pair(neighbour, destination, share);
    if (pair === undefined || this.#deps.clock.monotonicMs() < pair.immuneUntilMs) return;
    if (this.stateOf(neighbour) !== undefined) return this.#deps.custody.reoffer(neighbour, destination);
    this.#try(
      neighbour,
      destination,
      priority,
      planTests(pair.acquittals),
      share === OWN_MAIL ? "own" : "returned",
    );
  }

  /** False: nothing can be learnt now. */
  #try(neighbour: NodeId, destination: NodeId, priority: Priority, tests: number, cause: Cause): boolean {
    const { clock, router, custody, isConnected } = this.#deps;
    const key = keyOf(neighbour, destination);
    if (this.#trials.has(key) || this.#trials.size >= TRIALS_MAX) return false;
    const ofCause = [...this.#trials.values()].filter((trial) => trial.cause === cause).length;
    if (cause !== "own" && ofCause >= OTHERS_TRIALS_MAX) return false;
    const offer = router.offerOf(neighbour, destination);
    // Slow links keep to 2 % for control, and what is late there is no sign of anything.
    if (offer === undefined || offer.bottleneck > 1 || !isConnected(neighbour)) return false;
    router.suspect(neighbour, destination, true);
    const ids: MessageId[] = [];
    for (let i = 0; i < tests; i++) {
      const id = custody.sendTest(destination, neighbour, priority);
      if (id !== undefined) ids.push(id);
    }
    const trial: Trial = {
      neighbour,
      destination,
      priority,
      cause,
      tests: ids,
      others: new Map(),
      answered: new Set(),
      waitMs: Math.max(LAST_WAIT_MS, 2 * (receiptDueMs(offer.metric) - receiptDueMs(0))),
      attempts: 1,
      isOffered: true,
      hasReoffered: false,
      timer: clock.after(ATTEMPT_MS, () => this.#onTimer(trial)),
    };
    this.#trials.set(key, trial);
    for (const id of ids) this.#tests.set(id, trial);
    this.#callWitnesses(trial);
    this.#deps.log.debug("receipts missing", {
      peer: shortId(neighbour),
      destination: shortId(destination),
    });
    return true;
  }

  #callWitnesses(trial: Trial): void {
    const { router, custody } = this.#deps;
    for (const { neighbour } of router.nextHops(trial.destination, "any")) {
      if (neighbour === trial.neighbour || trial.others.has(neighbour)) continue;
      if (trial.others.size >= WITNESSES_MAX) return;
      const id = custody.sendTest(trial.destination, neighbour, trial.priority);
      if (id === undefined) return;
      trial.others.set(neighbour, id);
      this.#tests.set(id, trial);
    }
  }

  #onTimer(trial: Trial): void {
    const { clock, router, custody } = this.#deps;
    if (router.offerOf(trial.neighbour, trial.destination) === undefined) trial.isOffered = false;
    if (trial.attempts++ >= ATTEMPTS) return this.#end(trial);
    for (const id of [...trial.tests, ...trial.others.values()])
      if (!trial.answered.has(id)) custody.repeatTest(id);
    this.#callWitnesses(trial);
    const waitMs = trial.attempts < ATTEMPTS ? ATTEMPT_MS : trial.waitMs;
    trial.timer = clock.after(waitMs, () => this.#onTimer(trial));
  }

  #end(trial: Trial): void {
    const { router, custody, events, clock } = this.#deps;
    const { neighbour, destination, tests, others, answered } = trial;
    trial.timer.cancel();
    const key = keyOf(neighbour, destination);
    this.#trials.delete(key);
    const verdict = decideVerdict({
      isOffered: trial.isOffered && router.offerOf(neighbour, destination) !== undefined,
      taken: tests.filter((id) => answered.has(id) || custody.isTestTaken(id)).length,
      answered: tests.filter((id) => answered.has(id)).length,
      witnesses: [...others.values()].filter((id) => answered.has(id)).length,
    });
    for (const id of [...tests, ...others.values()]) {
      this.#tests.delete(id);
      custody.endTest(id);
    }
    this.#verdicts.add(1, { verdict });
    const pair = this.#pairs.get(key);
    if (verdict === "lost") {
      events.emit("lostDelivery", { neighbour, destination });
      this.#convict(neighbour, destination);
    } else if (pair !== undefined) {
      pair.immuneUntilMs = clock.monotonicMs() + planImmunity(pair.acquittals);
      pair.acquittals++;
    }
    router.suspect(neighbour, destination, false);
    if (verdict === "honest") events.emit("honestRoute", { neighbour, destination });
    if (verdict !== "lost" && this.#offenders.get(neighbour)?.isActive === true)
      this.#afterRecovery(neighbour, verdict);
    this.#reoffer(trial);
  }

  /** Mail follows as soon as one way is proven. */
  #reoffer(trial: Trial): void {
    if (trial.hasReoffered) return;
    trial.hasReoffered = true;
    this.#deps.custody.reoffer(trial.neighbour, trial.destination);
  }

  #convict(neighbour: NodeId, destination: NodeId): void {
    const { clock, router, log, events } = this.#deps;
    const nowMs = clock.monotonicMs();
    const before = this.#offenders.get(neighbour);
    // Of several trials at one time the first counts.
    if (before?.isActive === true && nowMs < before.untilMs) return;
    before?.timer?.cancel();
    const offence = planQuarantine(before, nowMs);
    const forMs = offence.untilMs - nowMs;
    const timer = clock.after(forMs, () => this.#recover(neighbour));
    const held = { ...offence, isActive: true, destination, timer };
    this.#offenders.set(neighbour, held, this.#deps.regard.shareOf(neighbour));
    router.quarantine(neighbour, true);
    const reason = reasonOf(destination);
    log.warn("peer quarantined", { peer: shortId(neighbour), reason, seconds: Math.round(forMs / 1_000) });
    events.emit("peerQuarantined", { neighbour, reason, forMs });
  }

  /** The time is over: only a delivery through it ends the quarantine. */
  #recover(neighbour: NodeId): void {
    const held = this.#offenders.get(neighbour);
    if (held === undefined) return;
    const { router, isConnected, clock } = this.#deps;
    if (isConnected(neighbour) && router.offerOf(neighbour, held.destination) === undefined)
      return this.#pardon(neighbour); // it no longer claims the way that it had not
    this.#try(neighbour, held.destination, 2, planTests(held.count), "recovery");
    const timer = clock.after(RECOVERY_RETRY_MS, () => this.#recover(neighbour));
    this.#note(neighbour, { ...held, timer });
  }

  #afterRecovery(neighbour: NodeId, verdict: Verdict): void {
    const held = this.#offenders.get(neighbour)!;
    if (verdict === "honest" && this.#deps.clock.monotonicMs() >= held.untilMs) this.#pardon(neighbour);
  }

  #pardon(neighbour: NodeId): void {
    const held = this.#offenders.get(neighbour);
    if (held === undefined) return;
    held.timer?.cancel();
    // Remembered, so that the next offence counts more.
    this.#note(neighbour, { ...held, isActive: false, timer: undefined });
    this.#restore(neighbour);
  }

  #restore(neighbour: NodeId): void {
    this.#deps.router.quarantine(neighbour, false);
    this.#deps.log.info("peer out of quarantine", { peer: shortId(neighbour) });
    this.#deps.events.emit("peerRestored", neighbour);
  }

  /** Of one that has its place already. */
  #note(neighbour: NodeId, held: Held): void {
    this.#offenders.set(neighbour, held, EARLIER_RUN);
  }

  /** What is not remembered cannot end by itself, so it ends now. */
  #onForgotten(neighbour: NodeId, { isActive, timer }: Held): void {
    timer?.cancel();
    if (isActive) this.#restore(neighbour);
  }

  /** Undefined: too many are being watched. */
  #pair(neighbour: NodeId, destination: NodeId, share: Share): Pair | undefined {
    const key = keyOf(neighbour, destination);
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;
    const pair: Pair = { acquittals: 0, immuneUntilMs: Number.NEGATIVE_INFINITY, watch: undefined };
    return this.#pairs.set(key, pair, share) ? pair : undefined;
  }
}

const reasonOf = (destination: NodeId): string =>
  `mail to ${shortId(destination)} that it acknowledged did not arrive, and another way delivers`;
