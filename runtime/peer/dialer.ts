/**
 * Keeps links to what the node was told to reach. One target per endpoint; permanent ones are dialled for ever, each for
 * a link over its own path. A hint whose node is connected rests until that node goes. A restarted node is met at once,
 * because whatever is heard of it (its own dial, a fresh hint) cuts the wait short. Owns no session after `adopt`.
 */
import type { Clock, GodwitError, Log, Pipe, Random, Timer } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { Backoff, type BackoffOptions, TokenBucket } from "../kernel/backoff.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { Room, type Share, type Worth } from "../kernel/room.ts";
import type { Scope } from "../kernel/scope.ts";
import { NO_ADDRESS, sourceOf } from "../kernel/source.ts";
import type { Session } from "../link/types.ts";
import { orStopped } from "./or-stopped.ts";

/** First pauses are short, because most outages are restarts; the cap is what a dead peer costs for ever. */
const BACKOFF = { firstMs: 50, capMs: 20_000, factor: 1.6 } as const;
/** Pause before a node that just went is dialled again: lets its own redial or goodbye arrive. */
const REDIAL_MS = 20;
export const DIAL_TIMEOUT_MS = 20_000;
/** Of hints whoever told most gives way; what is permanent, linked or being dialled never. */
export const TARGETS_MAX = 4_096;
export const DIALS_AT_ONCE_MAX = 32;
/** A link that lived this long ended for a new reason: its node is met at once. A shorter one counts as a failure. */
const STABLE_MS = 5_000;
/** Fresh hints cut a wait short at most this often, so that a chatty source does not become a flood of dials. */
const WAKE_MIN_MS = 1_000;
/**
 * Dials of mere hints in a second, and at once after a pause: a source that floods the node must not flood the network. As many of
 * hints of whom this node knows.
 */
const HINT_DIALS_PER_SECOND = 64;
/** The same of what is permanent, and at once: a file or a name server with thousands of dead addresses is one, too. */
const PERMANENT_DIALS_PER_SECOND = 256;
const PERMANENT_DIALS_BURST = 512;
/** Between two looks at what waits for that pace, ms, and how many of each kind go then. */
const HINT_PACE_MS = 50;
const HINTS_AT_A_LOOK = 4;
/** A hint that is not permanent is dropped after this many failures in a row. */
const HINT_FAILURES_MAX = 12;

/** Whose word a target is that says nothing of it. */
const UNTOLD: Share = { by: "hints", isKnown: false };

export interface DialTarget {
  readonly endpoint: string;
  readonly nodeId?: NodeId;
  readonly isPermanent: boolean;
  /** By whose word. Its place stays with the first, its pace follows the latest. */
  readonly share?: Share;
  /** Dial and handshake are given up sooner than the transport would, because whoever named it knows that it is near. Not of what is permanent. */
  readonly timeoutMs?: number | undefined;
}

export interface DialerDeps {
  /** Owns the dials under way: they are aborted and waited for at its end. */
  readonly scope: Scope;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly self: NodeId;
  /** Opens a pipe; rejects with a GodwitError. */
  dial(endpoint: string, signal: AbortSignal, expected: NodeId | undefined): Promise<Pipe>;
  /** For dial and handshake together. Default 20,000. */
  timeoutMs?(endpoint: string): number;
  /** Runs the handshake; owns the pipe from the call on, whatever the outcome. */
  handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session>;
  /** Hands a proven session over; `onClosed` fires once when it is gone. */
  adopt(session: Session, onClosed: () => void): void;
  isConnected(id: NodeId): boolean;
  /** False: no link is wanted there until `add` tells. Not asked of what is permanent. */
  isWanted?(endpoint: string, knownId: NodeId | undefined): boolean;
  backoff?(endpoint: string, isPermanent: boolean): BackoffOptions | undefined;
}

interface TargetState extends DialTarget {
  /** By what hints take turns: found once, because thousands that wait are looked at twenty times a second. */
  readonly address: string;
  /** Learned by the last handshake, or claimed by the hint. */
  knownId: NodeId | undefined;
  state: "waiting" | "dialing" | "linked";
  /** Of the session that `linked` speaks of. */
  session: Session | undefined;
  attemptAtMs: number;
  linkedAtMs: number;
  timer: Timer | undefined;
  abort: AbortController | undefined;
  backoff: Backoff;
  lastError: GodwitError | undefined;
  /** Of the first failure since it was linked. */
  failingSinceMs: number | undefined;
  /** When `timer` fires. */
  nextAtMs: number;
  /** Its turn among the permanent ones, monotonic ms; undefined: none taken yet. */
  turnAtMs: number | undefined;
  /** Ourselves: never again. */
  isSelf: boolean;
  /** Its last link went soon while the node stayed connected: another link over the same path serves. Until the node goes. */
  isRedundant: boolean;
}

export class Dialer {
  readonly #deps: DialerDeps;
  readonly #targets = new Map<string, TargetState>();
  readonly #room = new Room<string>({
    name: "dial targets",
    max: TARGETS_MAX,
    strangersMax: TARGETS_MAX,
    worthOf: (endpoint) => this.#worthOf(endpoint),
    evict: (endpoint) => this.remove(endpoint),
  });
  #lastFailed: TargetState | undefined;
  /** Due, but too many dials are under way, or were begun in this second. */
  readonly #queue = new Set<TargetState>();
  #isPacing = false;
  /** Dials by the address that they went to, since the last one that led to a link: whose turn it is among hints. */
  readonly #tries = new BoundedMap<string, number>({ name: "dials by address", max: TARGETS_MAX });
  #dialing = 0;
  #isResting = false;
  /** Of what anybody may have told, and apart from it of whom this node knows. */
  readonly #hintDials: TokenBucket;
  readonly #knownDials: TokenBucket;
  /** The last turn given to a permanent target, monotonic ms. */
  #lastTurnMs = Number.NEGATIVE_INFINITY;
  readonly #attempts;

  constructor(deps: DialerDeps) {
    this.#deps = deps;
    this.#hintDials = new TokenBucket(deps.clock, HINT_DIALS_PER_SECOND, HINT_DIALS_PER_SECOND);
    this.#knownDials = new TokenBucket(deps.clock, HINT_DIALS_PER_SECOND, HINT_DIALS_PER_SECOND);
    this.#attempts = deps.metrics.counter("godwit_dials_total");
  }

  /** Adds or refreshes a target; a refresh of one that is waiting dials now. False when the table is full and nothing gives way. */
  add(target: DialTarget): boolean {
    const known = this.#targets.get(target.endpoint);
    if (known !== undefined) {
      // What the operator configured stays as configured: a memory of who was met there neither pins nor weakens it.
      const { nodeId, isPermanent } = target.isPermanent || !known.isPermanent ? target : known;
      const { share = known.share, timeoutMs } = target;
      const knownId = known.knownId ?? target.nodeId;
      Object.assign(known, { nodeId, isPermanent, share, timeoutMs, knownId });
      this.#room.renew(target.endpoint);
      if (known.state === "waiting") this.#wake(known);
      return true;
    }
    const state: TargetState = {
      address: addressOf(target.endpoint),
      ...target,
      knownId: target.nodeId,
      state: "waiting",
      session: undefined,
      attemptAtMs: Number.NEGATIVE_INFINITY,
      linkedAtMs: Number.POSITIVE_INFINITY,
      timer: undefined,
      abort: undefined,
      backoff: new Backoff(
        this.#deps.backoff?.(target.endpoint, target.isPermanent) ?? BACKOFF,
        this.#deps.random,
      ),
      lastError: undefined,
      failingSinceMs: undefined,
      nextAtMs: 0,
      turnAtMs: undefined,
      isSelf: false,
      isRedundant: false,
    };
    this.#targets.set(target.endpoint, state);
    if (!this.#room.admit(target.endpoint, target.share ?? UNTOLD)) {
      this.#targets.delete(target.endpoint);
      return false;
    }
    this.#schedule(state, 0);
    return true;
  }

  /** Dials nothing, and forgets nothing, until it is told `false`. Dials under way end by themselves. */
  rest(isResting: boolean): void {
    if (this.#isResting === isResting) return;
    this.#isResting = isResting;
    if (isResting) return;
    for (const target of this.#targets.values()) if (target.state === "waiting") this.#schedule(target, 0);
  }

  /** Nobody wants it for ever any more. A link stays. */
  weaken(endpoint: string): void {
    const target = this.#targets.get(endpoint);
    if (target !== undefined) Object.assign(target, { isPermanent: false });
  }

  remove(endpoint: string): void {
    const target = this.#targets.get(endpoint);
    if (target === undefined) return;
    this.#targets.delete(endpoint);
    this.#room.leave(endpoint);
    this.#queue.delete(target);
    target.timer?.cancel();
    target.abort?.abort();
  }

  /** A node's last link went after `livedMs`: everything that leads to it is tried at once, unless it keeps going. */
  onPeerDown(id: NodeId, livedMs: number): void {
    for (const target of this.#targets.values()) {
      if (target.knownId !== id || target.state === "dialing") continue;
      target.state = "waiting";
      target.isRedundant = false;
      this.#redial(target, livedMs);
    }
  }

  /**
   * Dials the endpoint of a live session once more and puts the new session in its place: the network secret changed,
   * and the link shall be under the new one before the old one is closed as a duplicate. False where the session was
   * not dialled from here, or `handshake` failed: the link stays as it is.
   */
  async renew(live: Session, handshake: DialerDeps["handshake"]): Promise<boolean> {
    const old = live.over ?? live;
    const target = [...this.#targets.values()].find(({ session }) => session === old);
    if (target === undefined || target.state !== "linked" || target.abort !== undefined) return false;
    const abort = this.#abortable(target);
    const timeout = this.#deps.clock.after(this.#timeoutOf(target), () => abort.abort());
    try {
      const session = await this.#connect(target, old.remote, old.remote, handshake, abort.signal);
      if (abort.signal.aborted || target.session !== old) {
        session.close();
        return false;
      }
      target.session = session;
      this.#deps.adopt(session, () => this.#onSessionClosed(target, session));
      return true;
    } catch {
      return false;
    } finally {
      timeout.cancel();
      abort.release();
      if (target.abort === abort) target.abort = undefined;
    }
  }

  isLinked(endpoint: string): boolean {
    return this.#targets.get(endpoint)?.state === "linked";
  }

  /** Of the endpoints that are dialled for ever the last that failed; undefined: it is linked since, dropped, or this node itself. */
  get lastFailure(): { readonly endpoint: string; readonly error: GodwitError } | undefined {
    const target = this.#lastFailed;
    if (target?.lastError === undefined || target.isSelf || target.state === "linked") return undefined;
    if (this.#targets.get(target.endpoint) !== target) return undefined;
    return { endpoint: target.endpoint, error: target.lastError };
  }

  /** For the API: what is being tried and why it fails. */
  get targets(): readonly {
    endpoint: string;
    nodeId: NodeId | undefined;
    state: "waiting" | "dialing" | "linked";
    error: GodwitError | undefined;
    /** Dials that failed in a row. */
    failures: number;
    /** Since the first of them; undefined: the last one led to a link, or none has ended. */
    failingMs: number | undefined;
    isSelf: boolean;
    /** Its node is linked over another path and no second one is wanted. */
    isServed: boolean;
    /** Until the next dial; undefined: none is planned. */
    nextTryMs: number | undefined;
  }[] {
    const nowMs = this.#deps.clock.monotonicMs();
    return [...this.#targets.values()].map((target) => {
      const isServed = target.state === "waiting" && this.#isServed(target);
      const isPlanned = target.state === "waiting" && !isServed && !target.isSelf;
      return {
        endpoint: target.endpoint,
        nodeId: target.knownId,
        state: target.state,
        error: target.lastError,
        failures: target.backoff.failures,
        failingMs: target.failingSinceMs === undefined ? undefined : nowMs - target.failingSinceMs,
        isSelf: target.isSelf,
        isServed,
        nextTryMs: isPlanned ? Math.max(0, target.nextAtMs - nowMs) : undefined,
      };
    });
  }

  /** A hint that waits gives way, one that failed before one that was not tried yet. */
  #worthOf(endpoint: string): Worth {
    const target = this.#targets.get(endpoint);
    if (target === undefined || target.isPermanent || target.state !== "waiting") return "kept";
    return target.backoff.failures > 0 ? "none" : "used";
  }

  #wake(target: TargetState): void {
    const sinceMs = this.#deps.clock.monotonicMs() - target.attemptAtMs;
    if (sinceMs >= WAKE_MIN_MS) this.#schedule(target, 0);
  }

  #redial(target: TargetState, livedMs: number): void {
    if (livedMs < STABLE_MS) return this.#schedule(target, target.backoff.nextMs());
    target.backoff.reset();
    this.#schedule(target, REDIAL_MS * (1 + this.#deps.random.float()));
  }

  #schedule(target: TargetState, delayMs: number): void {
    target.timer?.cancel();
    this.#queue.delete(target);
    if (target.isSelf) return;
    target.nextAtMs = this.#deps.clock.monotonicMs() + delayMs;
    target.timer = this.#deps.clock.after(delayMs, () =>
      this.#deps.scope.spawn("dial", () => this.#attempt(target)),
    );
  }

  /** A dial ended, or hints may be dialled again, `ofKnown` or of strangers: the one whose turn it is. */
  #dialQueued(ofKnown?: boolean): void {
    let next: TargetState | undefined;
    let nextTurn = Number.POSITIVE_INFINITY;
    for (const target of this.#queue) {
      if (ofKnown !== undefined && !target.isPermanent && isOfKnown(target) !== ofKnown) continue;
      const turn = this.#turnOf(target);
      if (turn < nextTurn) [next, nextTurn] = [target, turn];
      if (target.isPermanent) break;
    }
    if (next === undefined) return;
    this.#queue.delete(next);
    this.#schedule(next, 0);
  }

  /**
   * What an operator wrote down goes before hints, however many of those wait. Of hints the address that was dialled least, and there
   * what was never tried: whoever names a thousand places, or one a thousand times, keeps no honest one waiting.
   */
  #turnOf(target: TargetState): number {
    if (target.isPermanent) return -1;
    const tries = this.#tries.get(target.address) ?? 0;
    return 2 * tries + (target.backoff.failures > 0 ? 1 : 0);
  }

  #waitForPace(target: TargetState): void {
    this.#queue.add(target);
    if (this.#isPacing) return;
    this.#isPacing = true;
    this.#deps.clock.after(HINT_PACE_MS, () => {
      this.#isPacing = false;
      for (const ofKnown of [true, false])
        for (let count = 0; count < HINTS_AT_A_LOOK; count++) this.#dialQueued(ofKnown);
    });
  }

  /** Ends with the target, with its time, or with the node. */
  #abortable(target: TargetState): AbortController & { release(): void } {
    const { signal } = this.#deps.scope;
    const abort = new AbortController();
    const onStop = () => abort.abort(signal.reason);
    signal.addEventListener("abort", onStop, { once: true });
    target.abort = abort;
    return Object.assign(abort, { release: () => signal.removeEventListener("abort", onStop) });
  }

  #timeoutOf({ endpoint, isPermanent, timeoutMs }: TargetState): number {
    const ownMs = this.#deps.timeoutMs?.(endpoint) ?? DIAL_TIMEOUT_MS;
    return isPermanent || timeoutMs === undefined ? ownMs : Math.min(timeoutMs, ownMs);
  }

  /** Never rejects. */
  async #attempt(target: TargetState): Promise<void> {
    if (target.state !== "waiting" || this.#targets.get(target.endpoint) !== target) return;
    if (this.#isServed(target) || this.#isResting) return;
    if (this.#dialing >= DIALS_AT_ONCE_MAX) return void this.#queue.add(target);
    if (target.isPermanent) {
      const turnInMs = this.#turnInMs(target);
      if (turnInMs > 0) return this.#schedule(target, turnInMs);
    } else {
      const hintDials = isOfKnown(target) ? this.#knownDials : this.#hintDials;
      if (!hintDials.take()) return this.#waitForPace(target);
      const { address } = target;
      this.#tries.renew(address, (this.#tries.get(address) ?? 0) + 1);
    }
    target.state = "dialing";
    target.attemptAtMs = this.#deps.clock.monotonicMs();
    this.#dialing++;
    const abort = this.#abortable(target);
    const timeout = this.#deps.clock.after(this.#timeoutOf(target), () =>
      abort.abort(godwitError("GODWIT_TIMEOUT", "the dial timed out: no answer")),
    );
    try {
      const { handshake } = this.#deps;
      const session = await this.#connect(target, target.knownId, target.nodeId, handshake, abort.signal);
      target.knownId = session.remote;
      target.lastError = target.failingSinceMs = undefined;
      if (abort.signal.aborted) return session.close();
      target.state = "linked";
      target.session = session;
      target.linkedAtMs = this.#deps.clock.monotonicMs();
      this.#tries.delete(target.address);
      this.#attempts.add(1, { outcome: "linked" });
      this.#deps.adopt(session, () => this.#onSessionClosed(target, session));
    } catch (error) {
      this.#onFailure(target, error);
    } finally {
      timeout.cancel();
      abort.release();
      target.abort = undefined;
      this.#dialing--;
      this.#dialQueued();
    }
  }

  /**
   * `expected` is who may be there, `remote` who must. Whoever dials heeds `signal`; should a transport not, the end of the
   * node does not wait for it, and what it opens too late is closed.
   */
  async #connect(
    { endpoint }: TargetState,
    expected: NodeId | undefined,
    remote: NodeId | undefined,
    handshake: DialerDeps["handshake"],
    signal: AbortSignal,
  ): Promise<Session> {
    const stop = this.#deps.scope.signal;
    const pipe = await orStopped(this.#deps.dial(endpoint, signal, expected), stop);
    return await orStopped(handshake(pipe, remote, signal), stop);
  }

  /** How long until its turn, ms; 0: now. Turns are given in order, so that those that fail fast do not starve the others. */
  #turnInMs(target: TargetState): number {
    const nowMs = this.#deps.clock.monotonicMs();
    const stepMs = 1_000 / PERMANENT_DIALS_PER_SECOND;
    target.turnAtMs ??= this.#lastTurnMs = Math.max(
      this.#lastTurnMs + stepMs,
      nowMs - PERMANENT_DIALS_BURST * stepMs,
    );
    const leftMs = target.turnAtMs - nowMs;
    if (leftMs > 0) return Math.ceil(leftMs);
    target.turnAtMs = undefined;
    return 0;
  }

  #onSessionClosed(target: TargetState, session: Session): void {
    // An older session's end, told late, says nothing about this one.
    if (target.state !== "linked" || target.session !== session) return;
    target.state = "waiting";
    target.session = undefined;
    const livedMs = this.#deps.clock.monotonicMs() - target.linkedAtMs;
    // A duplicate is retired after 2 s (peers.ts): whatever ends this soon beside a live link was one.
    target.isRedundant = livedMs < STABLE_MS && this.#isConnected(target);
    if (!this.#isServed(target)) this.#redial(target, livedMs);
  }

  #isConnected({ knownId }: TargetState): boolean {
    return knownId !== undefined && this.#deps.isConnected(knownId);
  }

  /** A mere hint wants the node, a configured endpoint its own path to the node: several links make several ways. */
  #isServed(target: TargetState): boolean {
    if (this.#isConnected(target)) return target.isRedundant || !target.isPermanent;
    return !target.isPermanent && this.#deps.isWanted?.(target.endpoint, target.knownId) === false;
  }

  #onFailure(target: TargetState, thrown: unknown): void {
    target.state = "waiting";
    if (this.#deps.scope.isClosed || this.#targets.get(target.endpoint) !== target) return;
    const error = asGodwitError(thrown);
    const isNew = target.lastError?.message !== error.message;
    target.lastError = error;
    target.failingSinceMs ??= this.#deps.clock.monotonicMs();
    if (target.isPermanent) this.#lastFailed = target;
    this.#attempts.add(1, { outcome: "failed" });
    target.isSelf = error.code === "GODWIT_SELF_DIALED";
    if (isNew) this.#deps.log.info("dial failed", { endpoint: target.endpoint, error });
    if (!target.isPermanent && target.backoff.failures >= HINT_FAILURES_MAX)
      return this.remove(target.endpoint);
    this.#schedule(target, target.backoff.nextMs());
  }
}

const isOfKnown = ({ share }: TargetState): boolean => share?.isKnown === true;
/** Names and onions, which cost nothing, each for itself. */
function addressOf(endpoint: string): string {
  const source = sourceOf(endpoint);
  return source === NO_ADDRESS ? endpoint : source;
}
