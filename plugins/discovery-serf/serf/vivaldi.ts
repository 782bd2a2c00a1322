/**
 * Where this node is in the space of round-trip times (Vivaldi, with height, adjustment and gravity as Serf has them): Dabek et al., "Vivaldi: A
 * Decentralized Network Coordinate System", 2004. All in seconds. What others say of themselves is checked to be finite and no more.
 */
import { BoundedMap, type Random } from "@godwit/sdk";
import type { Coordinate } from "../wire/serf-messages.ts";

const DIMENSIONS = 8;
const ERROR_MAX = 1.5;
const HEIGHT_MIN = 10e-6;
const CE = 0.25;
const CC = 0.25;
const WINDOW = 20;
const FILTER = 3;
const GRAVITY_RHO = 150;
const RTT_MAX = 10;
const ZERO = 1e-6;
/** Members whose last round trips are kept. */
const PEERS_MAX = 512;

const originOf = (): Coordinate => ({
  vector: Array.from({ length: DIMENSIONS }, () => 0),
  error: ERROR_MAX,
  adjustment: 0,
  height: HEIGHT_MIN,
});

const magnitude = (vector: readonly number[]): number => Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
const difference = (a: readonly number[], b: readonly number[]): number[] => a.map((x, i) => x - b[i]!);

const rawDistance = (a: Coordinate, b: Coordinate): number =>
  magnitude(difference(a.vector, b.vector)) + a.height + b.height;

/** Seconds of a round trip between the two, as far as they know. */
export function distance(a: Coordinate, b: Coordinate): number {
  const raw = rawDistance(a, b);
  const adjusted = raw + a.adjustment + b.adjustment;
  return adjusted > 0 ? adjusted : raw;
}

export class Vivaldi {
  readonly #random: Random;
  readonly #filter = new BoundedMap<string, readonly number[]>({ name: "serf round trips", max: PEERS_MAX });
  readonly #samples: number[] = Array.from({ length: WINDOW }, () => 0);
  #sample = 0;
  #own: Coordinate = originOf();

  constructor(random: Random) {
    this.#random = random;
  }

  get own(): Coordinate {
    return this.#own;
  }

  /** A ping of `name` took so long, who says to be there. What is out of bounds is ignored. */
  observe(name: string, other: Coordinate, seconds: number): void {
    if (other.vector.length !== DIMENSIONS || !(seconds >= 0 && seconds <= RTT_MAX)) return;
    const recent = [...(this.#filter.get(name) ?? []), seconds].slice(-FILTER);
    this.#filter.renew(name, recent);
    const median = [...recent].sort((a, b) => a - b)[recent.length >> 1]!;
    this.#pull(other, Math.max(median, ZERO));
    this.#samples[this.#sample] = median - rawDistance(this.#own, other);
    this.#sample = (this.#sample + 1) % WINDOW;
    const adjustment = this.#samples.reduce((sum, one) => sum + one, 0) / (2 * WINDOW);
    this.#own = { ...this.#own, adjustment };
    const origin = originOf();
    this.#force(origin, -((distance(this.#own, origin) / GRAVITY_RHO) ** 2));
    if (![...this.#own.vector, this.#own.error, adjustment, this.#own.height].every(Number.isFinite))
      this.#own = originOf();
  }

  #pull(other: Coordinate, seconds: number): void {
    const own = this.#own;
    const far = distance(own, other);
    const wrongness = Math.abs(far - seconds) / seconds;
    const weight = own.error / Math.max(own.error + other.error, ZERO);
    const error = CE * weight * wrongness + own.error * (1 - CE * weight);
    this.#own = { ...own, error: Math.min(error, ERROR_MAX) };
    this.#force(other, CC * weight * (seconds - far));
  }

  #force(from: Coordinate, force: number): void {
    const own = this.#own;
    const apart = difference(own.vector, from.vector);
    const size = magnitude(apart);
    // On top of each other any direction is as good.
    const away = size > ZERO ? apart : apart.map(() => this.#random.float() - 0.5);
    const length = magnitude(away) || 1;
    const vector = own.vector.map((x, i) => x + (away[i]! / length) * force);
    const height =
      size > ZERO
        ? Math.max(HEIGHT_MIN, ((own.height + from.height) * force) / size + own.height)
        : own.height;
    this.#own = { ...own, vector, height };
  }
}
