/**
 * How fast something goes, and when it will be through: a mean over time in which what is long ago hardly counts, of constant size. Reads no
 * clock, keeps no history.
 */

/** What is so long ago counts for 1/e of what is now. */
const MEMORY_MS = 10_000;
/** Of less nothing can be said. */
const SEEN_MIN_MS = 500;
/** Farther ahead it is a guess that helps nobody. */
const LEFT_MAX_S = 30 * 86_400;

interface Mean {
  /** Bytes, and the time that they took, ms: both fade alike. */
  readonly bytes: number;
  readonly ms: number;
}

export class Rate {
  #mean: Mean = { bytes: 0, ms: 0 };
  #atMs: number;
  #lastBytes = 0;

  /** `nowMs`: monotonic, as everywhere here; it begins then. */
  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** So many bytes more, at least 0, have gone since the last time. */
  add(bytes: number, nowMs: number): void {
    this.#mean = faded(this.#mean, bytes, nowMs - this.#atMs);
    this.#atMs = nowMs;
    this.#lastBytes = bytes;
  }

  /** Bit/s. Undefined: it is too early to say. What comes in large pieces does not slow down between two of them, and what stands still does. */
  bitsPerSecond(nowMs: number): number | undefined {
    if (this.#mean.ms < SEEN_MIN_MS) return undefined;
    const ifNow = faded(this.#mean, this.#lastBytes, nowMs - this.#atMs);
    return 8_000 * Math.min(perMs(this.#mean), perMs(ifNow));
  }

  /** Seconds until so many bytes more have gone, rounded up. Undefined: it is too early to say, or more than 30 days. */
  secondsLeft(bytes: number, nowMs: number): number | undefined {
    const bitsPerSecond = this.bitsPerSecond(nowMs) ?? 0;
    const seconds = Math.ceil((8 * bytes) / bitsPerSecond);
    return bitsPerSecond > 0 && seconds <= LEFT_MAX_S ? seconds : undefined;
  }
}

const perMs = ({ bytes, ms }: Mean): number => bytes / ms;

/** `bytes` came evenly within the last `tookMs`. */
function faded(mean: Mean, bytes: number, tookMs: number): Mean {
  const kept = Math.exp(-tookMs / MEMORY_MS);
  const freshMs = MEMORY_MS * (1 - kept);
  return {
    bytes: mean.bytes * kept + bytes * (tookMs === 0 ? 1 : freshMs / tookMs),
    ms: mean.ms * kept + freshMs,
  };
}
