/**
 * What was written to one pipe and has not left yet. Most pipes take a datagram and it is gone; one of a radio keeps it until its budget of airtime
 * allows, and tells when it has left. Owns no timer. docs/protocol/slow.md "Timers"
 */
import type { Pipe, Urgency } from "@godwit/sdk";
import type { Clock } from "../kernel/clock.ts";
import type { Departure } from "../kernel/departure.ts";
import { patienceOf } from "./constants.ts";

/** Datagrams that are waited for; of a pipe that keeps more to itself the oldest count as gone. */
const WAITING_MAX = 4_096;
/** So many wait in such a pipe before `send` answers false: what waits above can still be overtaken, replaced and taken back. */
const IN_PIPE_MAX = 4;
/**
 * One in a pipe that keeps each for a budget of airtime, which is by this factor longer than those before it take: what is to be said meanwhile leaves
 * with the next one, or instead of it.
 */
const BUDGET_FACTOR = 2;
/** A plugin says it, so it is bounded here. */
const ANSWER_MAX_MS = 24 * 3_600_000;
/** An acknowledgement, and the most that is saved up for one, ms: a plugin says the share. */
const ANSWER_BYTES = 16;
const EARNS_MAX_MS = 600_000;
/** Of the longest wait that was seen, what is left at the next datagram. */
const WAIT_KEPT = 0.75;
/** What waited longer than this counts as gone: its pipe has forgotten to tell. */
const STUCK_MS = 24 * 3_600_000;

interface Waiting {
  readonly writtenAtMs: number;
  readonly told: readonly Departure[];
}

export class Departures {
  readonly #pipe: Pipe;
  readonly #clock: Clock;
  /** In the order of writing. */
  readonly #waiting: Waiting[] = [];
  #waitedMs = 0;

  constructor(pipe: Pipe, clock: Clock) {
    this.#pipe = pipe;
    this.#clock = clock;
  }

  /** The pipe says when something has left; of others it has when it is written. */
  get isTold(): boolean {
    return this.#pipe.kind === "datagram" && this.#pipe.answerMs !== undefined;
  }

  /** The pipe holds as much as is wanted there. */
  get isFull(): boolean {
    this.#forgetStuck();
    const isForBudget = this.#waitedMs > BUDGET_FACTOR * IN_PIPE_MAX * this.#airtimeMs;
    return this.#waiting.length >= (isForBudget ? 1 : IN_PIPE_MAX);
  }

  /** What the far end may have to save up for its answer, if its station has the share of the airtime that this one has. */
  get #earnsMs(): number {
    const { medium } = this.#pipe;
    const share = medium?.ownShare ?? 1;
    if (medium === undefined || !(share > 0 && share < 1)) return 0;
    return Math.min(EARNS_MAX_MS, medium.airtimeMs(ANSWER_BYTES, "one") / share);
  }

  /** Of a full datagram. */
  get #airtimeMs(): number {
    const { medium, mtu, rateBitsPerSecond } = this.#pipe;
    return medium?.airtimeMs(mtu, "one") ?? (mtu * 8_000) / rateBitsPerSecond;
  }

  /**
   * From when something has left until an answer to it can be there, ms; 0: as soon as the class of link says. Where it waits for long before it leaves
   * an answer does as well, behind another one; where the medium is carried it is what its transport says.
   */
  get answerMs(): number {
    const { answerMs = 0 } = this.#pipe;
    if (!this.isTold) return patienceOf(this.#pipe);
    return Math.min(
      ANSWER_MAX_MS,
      Math.max(0, answerMs) + 2 * this.#airtimeMs + Math.max(this.#earnsMs, this.#waitedMs),
    );
  }

  /** `told` hear when these bytes have left, as the last of theirs. */
  write(bytes: Uint8Array, told: readonly Departure[] = [], urgency?: Urgency): boolean {
    const waiting = { writtenAtMs: this.#clock.monotonicMs(), told };
    if (!this.isTold) this.#settle(waiting);
    else {
      if (this.#waiting.length >= WAITING_MAX) this.#settle(this.#waiting.shift()!);
      this.#waiting.push(waiting);
    }
    return this.#pipe.write(bytes, urgency);
  }

  /** From the pipe: of those that wait the one at this place has left, or was dropped. */
  left(at = 0): void {
    // A plugin says it.
    if (!Number.isInteger(at) || at < 0) return;
    const [waiting] = this.#waiting.splice(at, 1);
    if (waiting === undefined) return;
    const waitedMs = this.#clock.monotonicMs() - waiting.writtenAtMs;
    this.#waitedMs = Math.max(waitedMs, this.#waitedMs * WAIT_KEPT);
    this.#settle(waiting);
  }

  /** The pipe is gone, and what waited in it. */
  end(): void {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      this.#settle(next);
  }

  #forgetStuck(): void {
    const beforeMs = this.#clock.monotonicMs() - STUCK_MS;
    while ((this.#waiting[0]?.writtenAtMs ?? Number.POSITIVE_INFINITY) < beforeMs)
      this.#settle(this.#waiting.shift()!);
  }

  #settle({ told }: Waiting): void {
    const nowMs = this.#clock.monotonicMs();
    for (const departure of told) departure.leftAtMs ??= nowMs;
  }
}
