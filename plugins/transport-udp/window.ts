/**
 * How many datagrams may be on their way: grows while they arrive, shrinks when they do not. Pure: the far end's
 * feedback in, a number out. The loss that a bad radio has all the time must not starve a link, so that only loss beyond
 * it counts as congestion. docs/protocol/udp.md "Feedback"
 */

export const WINDOW_FIRST = 32;
export const WINDOW_MIN = 32;
export const WINDOW_MAX = 8_192;
/** Share of a round's datagrams that may be missing before the window shrinks. */
const LOSS_TOLERATED = 0.02;
const LOSS_HEAVY = 0.15;
const SHRINK = 0.85;
const SHRINK_HEAVY = 0.6;
/** Growth a round once the first loss was seen. */
const GROWTH = 0.06;

export class SendWindow {
  #limit = WINDOW_FIRST;
  #next = 0;
  /** Everything before it has arrived or counts as lost. */
  #settled = 0;
  #received = 0;
  #isStarting = true;
  #wasFull = false;
  #roundEnd = 0;
  #roundSent = 0;
  #roundLost = 0;

  get limit(): number {
    return Math.floor(this.#limit);
  }

  get inFlight(): number {
    return (this.#next - this.#settled) >>> 0;
  }

  get hasRoom(): boolean {
    const hasRoom = this.inFlight < this.limit;
    if (!hasRoom) this.#wasFull = true;
    return hasRoom;
  }

  /** The sequence number of a datagram that goes now. */
  take(): number {
    const sequence = this.#next;
    this.#next = (this.#next + 1) >>> 0;
    return sequence;
  }

  /** The far end has `highest` and got `received` datagrams in all, both modulo 2^32. What makes no sense is ignored. */
  onFeedback(highest: number, received: number): void {
    const passed = (highest + 1 - this.#settled) >>> 0;
    if (passed === 0 || passed > this.inFlight) return;
    const got = Math.min((received - this.#received) >>> 0, passed);
    this.#settled = (highest + 1) >>> 0;
    this.#received = received >>> 0;
    this.#roundSent += passed;
    this.#roundLost += passed - got;
    if (this.#isStarting && this.#wasFull) this.#limit = Math.min(WINDOW_MAX, this.#limit + got);
    if ((this.#settled - this.#roundEnd) >>> 0 < 2 ** 31) this.#endRound();
  }

  /** Nothing was heard for long: what was on its way is gone. */
  onSilence(): void {
    this.#settled = this.#next;
    this.#isStarting = false;
    this.#limit = Math.max(WINDOW_MIN, this.#limit / 2);
    this.#startRound();
  }

  #endRound(): void {
    const loss = this.#roundLost / this.#roundSent;
    // One of few says nothing.
    if (loss > LOSS_TOLERATED && this.#roundLost > 1) {
      this.#isStarting = false;
      this.#limit = Math.max(WINDOW_MIN, this.#limit * (loss > LOSS_HEAVY ? SHRINK_HEAVY : SHRINK));
    } else if (!this.#isStarting && this.#wasFull)
      this.#limit = Math.min(WINDOW_MAX, this.#limit * (1 + GROWTH) + 1);
    this.#startRound();
  }

  #startRound(): void {
    this.#roundEnd = this.#next;
    this.#roundSent = 0;
    this.#roundLost = 0;
    this.#wasFull = false;
  }
}

/** The receiving half: what arrived, and when to say so. */
export class ReceiveCount {
  #highest = 0xffff_ffff;
  #received = 0;
  #unreported = 0;

  get highest(): number {
    return this.#highest;
  }

  get received(): number {
    return this.#received;
  }

  get unreported(): number {
    return this.#unreported;
  }

  note(sequence: number): void {
    this.#received = (this.#received + 1) >>> 0;
    this.#unreported++;
    if ((sequence - this.#highest) >>> 0 < 2 ** 31) this.#highest = sequence;
  }

  reported(): void {
    this.#unreported = 0;
  }
}
