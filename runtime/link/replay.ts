/**
 * Sliding replay window over record counters (RFC 6479 describes the idea; this one slides by single bits, so that the
 * window is exactly its nominal size). The caller checks the record's tag between `accepts` and `mark`: a forged
 * counter must never move the window.
 */
export class ReplayWindow {
  readonly #size: number;
  readonly #bits: Uint32Array;
  /** Highest counter marked; -1 before the first. */
  #highest = -1;

  /** `size`: a multiple of 32. */
  constructor(size: number) {
    this.#size = size;
    this.#bits = new Uint32Array(size / 32);
  }

  get highest(): number {
    return this.#highest;
  }

  /** Whether this counter is new and not older than the window. Changes nothing. */
  accepts(counter: number): boolean {
    if (counter > this.#highest) return true;
    if (this.#highest - counter >= this.#size) return false;
    const slot = counter % this.#size;
    return (this.#bits[slot >>> 5]! & (1 << (slot & 31))) === 0;
  }

  /** Records a counter that `accepts` took and whose tag was right. */
  mark(counter: number): void {
    if (counter > this.#highest) {
      if (counter - this.#highest >= this.#size) this.#bits.fill(0);
      else
        for (let passed = this.#highest + 1; passed <= counter; passed++) {
          const slot = passed % this.#size;
          this.#bits[slot >>> 5]! &= ~(1 << (slot & 31));
        }
      this.#highest = counter;
    }
    const slot = counter % this.#size;
    this.#bits[slot >>> 5]! |= 1 << (slot & 31);
  }
}
