/**
 * How much of the last hour this radio had, and how busy its channel was in the last minutes, by what is seen here. Owns sums of bounded length and
 * no timer.
 */
import type { Clock } from "@godwit/sdk";

const HOUR_MS = 3_600_000;
const UTILISATION_MS = 300_000;
/** Spans are kept in so many parts of the time that is looked back at. */
const PARTS = 60;

/** Milliseconds of airtime in the last `spanMs`, to a sixtieth of that. */
export class Recent {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #partMs: number;
  readonly #parts: { at: number; ms: number }[] = [];

  constructor(clock: Pick<Clock, "monotonicMs">, spanMs: number) {
    this.#clock = clock;
    this.#partMs = spanMs / PARTS;
  }

  add(ms: number): void {
    const at = this.#part;
    const last = this.#parts.at(-1);
    if (last?.at === at) last.ms += ms;
    else this.#parts.push({ at, ms });
    this.#trim();
  }

  /** Never less than what it was. */
  get sumMs(): number {
    this.#trim();
    return this.#parts.reduce((sum, { ms }) => sum + ms, 0);
  }

  get #part(): number {
    return Math.floor(this.#clock.monotonicMs() / this.#partMs);
  }

  #trim(): void {
    const oldest = this.#part - PARTS;
    while (this.#parts[0] !== undefined && this.#parts[0].at < oldest) this.#parts.shift();
  }
}

/** What the device says is worth so long, ms: it says it each minute or so. */
const TOLD_MS = 600_000;

export class RadioAirtime {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #own: Recent;
  readonly #seen: Recent;
  #told: { readonly atMs: number; readonly utilisation: number; readonly ownShare: number } | undefined;
  /** Of all that was handed to the radio since the start, ms. */
  totalMs = 0;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
    this.#own = new Recent(clock, HOUR_MS);
    this.#seen = new Recent(clock, UTILISATION_MS);
  }

  sent(ms: number): void {
    this.totalMs += ms;
    this.#own.add(ms);
    this.#seen.add(ms);
  }

  heard(ms: number): void {
    this.#seen.add(ms);
  }

  /** What the device says of itself: shares of the channel's time, and of the last hour that it sent, 0 to 1. What is no share is passed over. */
  told(utilisation: number, ownShare: number): void {
    const isShare = (value: number) => Number.isFinite(value) && value >= 0 && value <= 1;
    if (isShare(utilisation) && isShare(ownShare))
      this.#told = { atMs: this.#clock.monotonicMs(), utilisation, ownShare };
  }

  /** The larger of both: who lies about one of them silences this radio at most. */
  get utilisation(): number {
    return Math.max(this.#fresh?.utilisation ?? 0, Math.min(1, this.#seen.sumMs / UTILISATION_MS));
  }

  /** Of the last hour, its own packets and what the device says that it sent, ms. */
  get hourMs(): number {
    return Math.max(this.#own.sumMs, (this.#fresh?.ownShare ?? 0) * HOUR_MS);
  }

  get #fresh() {
    const told = this.#told;
    return told !== undefined && this.#clock.monotonicMs() - told.atMs < TOLD_MS ? told : undefined;
  }
}
