/**
 * Search for the largest datagram that the path carries, after RFC 8899: starts where every path begins, tries larger
 * ones with packets that carry nothing, and steps down when the size in use stops arriving. Pure: what to try is asked,
 * what came of it is told; the pipe owns timers and packets.
 */

/** Works on every path that IPv6 may take; UDP payload, like all sizes here. */
export const MTU_BASE = 1_200;
/** What common paths carry: tunnels in tunnels, tunnels, PPPoE and mobile networks, Ethernet, jumbo frames. */
const SIZES = [MTU_BASE, 1_280, 1_372, 1_420, 1_452, 4_052, 8_952] as const;
/** Tried before all others: nearly every path carries it, and most carry no more. */
const LIKELY = 1_452;
export const MTU_MAX = 8_952;

export class PathMtu {
  readonly #sizes: readonly number[];
  #low = 0;
  /** Index of the smallest size known, or believed, not to pass. */
  #high: number;

  /** `max`: the largest size to try, in bytes. */
  constructor(max: number) {
    const below = SIZES.filter((size) => size <= Math.max(max, MTU_BASE));
    this.#sizes = below.at(-1)! < max ? [...below, max] : below;
    this.#high = this.#sizes.length;
  }

  get size(): number {
    return this.#sizes[this.#low]!;
  }

  /** The size to try next; undefined when nothing is left to learn. */
  get candidate(): number | undefined {
    if (this.#high - this.#low <= 1) return undefined;
    const likely = this.#sizes.indexOf(LIKELY);
    const at = likely > this.#low && likely < this.#high ? likely : (this.#low + this.#high) >> 1;
    return this.#sizes[at];
  }

  /** A datagram of this size arrived. */
  passed(size: number): void {
    const at = this.#sizes.indexOf(size);
    if (at > this.#low) this.#low = at;
    if (at >= this.#high) this.#high = at + 1;
  }

  /** A datagram of this size was tried often enough. The size in use failing is a black hole: back to the base. */
  failed(size: number): void {
    const at = this.#sizes.indexOf(size);
    if (at < 1) return;
    if (at <= this.#low) this.#low = 0;
    this.#high = Math.min(this.#high, at);
  }

  /** Paths change: larger sizes may be tried again. */
  forget(): void {
    this.#high = this.#sizes.length;
  }
}
