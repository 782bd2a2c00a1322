/**
 * Keeps links to what the node was told to reach. One target per endpoint; permanent ones are dialled for ever. A
 * target whose node is connected rests until that node goes; a restarted node is met at once, because whatever is
 * heard of it (its own dial, a fresh hint) cuts the wait short. Owns no session after `adopt`.
 */
import type { Clock, Log, Pipe, Random, Timer } from "@godwit/sdk";
import { Backoff } from "../kernel/backoff.ts";
import { asGodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Session } from "../link/types.ts";

/** First pauses are short, because most outages are restarts; the cap is what a dead peer costs for ever. */
const BACKOFF = { firstMs: 50, capMs: 20_000, factor: 1.6 } as const;
/** Pause before a node that just went is dialled again: lets its own redial or goodbye arrive. */
const REDIAL_MS = 20;
export const DIAL_TIMEOUT_MS = 20_000;
export const TARGETS_MAX = 4_096;
export const DIALS_AT_ONCE_MAX = 32;
/** A hint that is not permanent is dropped after this many failures in a row. */
const HINT_FAILURES_MAX = 12;

export interface DialTarget {
  readonly endpoint: string;
  readonly nodeId?: NodeId;
  readonly isPermanent: boolean;
}

export interface DialerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly self: NodeId;
  /** Opens a pipe; rejects with a GodwitError. */
  dial(endpoint: string, signal: AbortSignal): Promise<Pipe>;
  /** Runs the handshake; owns the pipe from the call on, whatever the outcome. */
  handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session>;
  /** Hands a proven session over; `onClosed` fires once when it is gone. */
  adopt(session: Session, onClosed: () => void): void;
  isConnected(id: NodeId): boolean;
}

interface TargetState extends DialTarget {
  /** Learned by the last handshake, or claimed by the hint. */
  knownId: NodeId | undefined;
  state: "waiting" | "dialing" | "linked";
  timer: Timer | undefined;
  abort: AbortController | undefined;
  backoff: Backoff;
  lastError: string | undefined;
  /** Ourselves: never again. */
  isSelf: boolean;
}

export class Dialer {
  readonly #deps: DialerDeps;
  readonly #targets = new Map<string, TargetState>();
  #dialing = 0;
  readonly #attempts;
  #isStopped = false;

  constructor(deps: DialerDeps) {
    this.#deps = deps;
    this.#attempts = deps.metrics.counter("godwit_dials_total", "dial attempts by outcome", ["outcome"]);
  }

  /** Adds or refreshes a target; a refresh of one that is waiting dials now. False when the table is full. */
  add(target: DialTarget): boolean {
    const known = this.#targets.get(target.endpoint);
    if (known !== undefined) {
      const state = { ...known, ...target, knownId: known.knownId ?? target.nodeId };
      Object.assign(known, state);
      if (known.state === "waiting") this.#wake(known);
      return true;
    }
    if (this.#targets.size >= TARGETS_MAX) return false;
    const state: TargetState = {
      ...target,
      knownId: target.nodeId,
      state: "waiting",
      timer: undefined,
      abort: undefined,
      backoff: new Backoff(BACKOFF, this.#deps.random),
      lastError: undefined,
      isSelf: false,
    };
    this.#targets.set(target.endpoint, state);
    this.#schedule(state, 0);
    return true;
  }

  remove(endpoint: string): void {
    const target = this.#targets.get(endpoint);
    if (target === undefined) return;
    this.#targets.delete(endpoint);
    target.timer?.cancel();
    target.abort?.abort();
  }

  /** A node's last link went: everything that leads to it is tried at once. */
  onPeerDown(id: NodeId): void {
    for (const target of this.#targets.values()) {
      if (target.knownId !== id || target.state === "dialing") continue;
      target.state = "waiting";
      target.backoff.reset();
      this.#schedule(target, REDIAL_MS * (1 + this.#deps.random.float()));
    }
  }

  /** For the API: what is being tried and why it fails. */
  get targets(): readonly {
    endpoint: string;
    nodeId: NodeId | undefined;
    state: string;
    error: string | undefined;
  }[] {
    return [...this.#targets.values()].map(({ endpoint, knownId, state, lastError }) => ({
      endpoint,
      nodeId: knownId,
      state,
      error: lastError,
    }));
  }

  stop(): void {
    this.#isStopped = true;
    for (const endpoint of [...this.#targets.keys()]) this.remove(endpoint);
  }

  #wake(target: TargetState): void {
    target.backoff.reset();
    this.#schedule(target, 0);
  }

  #schedule(target: TargetState, delayMs: number): void {
    target.timer?.cancel();
    if (this.#isStopped || target.isSelf) return;
    target.timer = this.#deps.clock.after(delayMs, () => void this.#attempt(target));
  }

  /** Never rejects. */
  async #attempt(target: TargetState): Promise<void> {
    if (this.#isStopped || target.state !== "waiting" || this.#targets.get(target.endpoint) !== target)
      return;
    if (target.knownId !== undefined && this.#deps.isConnected(target.knownId)) return;
    if (this.#dialing >= DIALS_AT_ONCE_MAX)
      return this.#schedule(target, 100 * (1 + this.#deps.random.float()));
    target.state = "dialing";
    this.#dialing++;
    const abort = new AbortController();
    target.abort = abort;
    const timeout = this.#deps.clock.after(DIAL_TIMEOUT_MS, () =>
      abort.abort(new DOMException("dial timed out", "TimeoutError")),
    );
    try {
      const pipe = await this.#deps.dial(target.endpoint, abort.signal);
      const session = await this.#deps.handshake(pipe, target.nodeId, abort.signal);
      target.knownId = session.remote;
      target.lastError = undefined;
      if (this.#isStopped || abort.signal.aborted) return session.close();
      target.state = "linked";
      this.#attempts.add(1, { outcome: "linked" });
      this.#deps.adopt(session, () => this.#onSessionClosed(target));
    } catch (error) {
      this.#onFailure(target, error);
    } finally {
      timeout.cancel();
      target.abort = undefined;
      this.#dialing--;
    }
  }

  #onSessionClosed(target: TargetState): void {
    if (target.state !== "linked") return;
    target.state = "waiting";
    target.backoff.reset();
    // Still connected over another link (this one was a duplicate): rest until onPeerDown.
    if (target.knownId !== undefined && this.#deps.isConnected(target.knownId)) return;
    this.#schedule(target, REDIAL_MS * (1 + this.#deps.random.float()));
  }

  #onFailure(target: TargetState, thrown: unknown): void {
    target.state = "waiting";
    if (this.#isStopped || this.#targets.get(target.endpoint) !== target) return;
    const error = asGodwitError(thrown);
    const isNew = target.lastError !== error.message;
    target.lastError = error.message;
    this.#attempts.add(1, { outcome: "failed" });
    if (isNew) this.#deps.log.info("dial failed", { endpoint: target.endpoint, error });
    if (!target.isPermanent && target.backoff.failures >= HINT_FAILURES_MAX)
      return this.remove(target.endpoint);
    this.#schedule(target, target.backoff.nextMs());
  }
}
