/** Which records arrived, and when to say so: at once when something is missing, else for several together. */
import { ACK_DELAY_MS, ACK_EAGER_RECORDS, ACK_EVERY, ACK_RANGES_MAX } from "./constants.ts";
import { RangeSet } from "./ranges.ts";
import type { FrameWriter } from "./wire.ts";

const SAID_DELAY_MAX_MS = 1_000;

export class Acks {
  readonly #received = new RangeSet();
  #largestAtMs = 0;
  #unsaid = 0;
  #count = 0;
  /** When waiting records have to be acknowledged, monotonic ms; infinity: none waits. */
  dueAtMs = Number.POSITIVE_INFINITY;
  isDue = false;

  get hasUnsaid(): boolean {
    return this.#unsaid > 0;
  }

  /** A record whose frames were all taken. `wantsAck`: it held more than acknowledgements. */
  note(counter: number, wantsAck: boolean, nowMs: number): void {
    const received = this.#received;
    const isInOrder = received.isEmpty || counter === received.end(received.count - 1);
    received.add(counter, counter + 1);
    received.forgetLowest(ACK_RANGES_MAX);
    this.#largestAtMs = nowMs;
    if (!wantsAck) return;
    this.#unsaid++;
    this.#count++;
    if (!isInOrder || this.#unsaid >= ACK_EVERY || this.#count < ACK_EAGER_RECORDS) this.isDue = true;
    else this.dueAtMs = Math.min(this.dueAtMs, nowMs + ACK_DELAY_MS);
  }

  write(writer: FrameWriter, nowMs: number): void {
    const ranges: number[] = [];
    for (let i = this.#received.count - 1; i >= 0; i--)
      ranges.push(this.#received.start(i), this.#received.end(i) - 1);
    writer.ack(ranges, Math.round(Math.min(nowMs - this.#largestAtMs, SAID_DELAY_MAX_MS) * 10));
    this.#unsaid = 0;
    this.isDue = false;
    this.dueAtMs = Number.POSITIVE_INFINITY;
  }
}
