/**
 * Search for the largest datagram that the path carries, after RFC 8899: starts where nearly every path begins, tries
 * larger ones with packets that carry nothing, and steps down when the size in use stops arriving. A path that does not
 * carry the base whole may carry it in fragments; where it carries no fragments either, what passes below is searched.
 * Pure: what to try is asked, what came of it is told; the pipe owns timers and packets.
 */

/** Works on every path that IPv6 may take, and what the mesh needs to carry everything; UDP payload, like all sizes here. */
export const MTU_BASE = 1_200;
/** What every IPv4 path is expected to carry: 576 bytes with the headers. */
export const MTU_FLOOR = 548;
/** What common paths carry: modems and radios, tunnels in tunnels, tunnels, PPPoE and mobile networks, Ethernet, jumbo frames. */
const SIZES = [
  MTU_FLOOR,
  748,
  972,
  1_072,
  1_172,
  MTU_BASE,
  1_280,
  1_372,
  1_420,
  1_452,
  4_052,
  8_952,
] as const;
const BASE = SIZES.indexOf(MTU_BASE);
/** Tried before all others above the base: nearly every path carries it, and most carry no more. */
const LIKELY = 1_452;
export const MTU_MAX = 8_952;

export interface PathProbe {
  readonly size: number;
  /** Never to be fragmented; else by whoever must, as data is. */
  readonly isWhole: boolean;
}

/** How the base size crosses: not known yet, not whole, whole, in fragments, not at all. */
type BaseState = "unknown" | "notWhole" | "whole" | "cut" | "lost";

export class PathMtu {
  readonly #sizes: readonly number[];
  #base: BaseState = "unknown";
  /** Index of the size in use; -1 when the base is lost and nothing below is known to pass. */
  #low = BASE;
  /** Index of the smallest size known, or believed, not to pass. */
  #high: number;

  /** `max`: the largest size to try, in bytes. */
  constructor(max: number) {
    const below = SIZES.filter((size) => size <= Math.max(max, MTU_BASE));
    this.#sizes = below.at(-1)! < max ? [...below, max] : below;
    this.#high = this.#sizes.length;
  }

  /** Largest datagram to send now. */
  get size(): number {
    return this.#sizes[Math.max(this.#low, 0)]!;
  }

  /** The size in use crosses in fragments. */
  get isCut(): boolean {
    return this.#base === "cut";
  }

  /** Not even the floor passes. */
  get isDead(): boolean {
    return this.#base === "lost" && this.#low < 0 && this.#high === 0;
  }

  /** What shows that the size in use still passes. */
  get current(): PathProbe {
    return { size: this.size, isWhole: !this.isCut };
  }

  /** What to try next; undefined when nothing is left to learn. */
  get candidate(): PathProbe | undefined {
    if (this.#base === "unknown") return { size: MTU_BASE, isWhole: true };
    if (this.#base === "notWhole") return { size: MTU_BASE, isWhole: false };
    if (this.#base === "cut" || this.#high - this.#low <= 1) return undefined;
    const likely = this.#sizes.indexOf(LIKELY);
    const at = likely > this.#low && likely < this.#high ? likely : (this.#low + this.#high) >> 1;
    return { size: this.#sizes[Math.max(at, 0)]!, isWhole: true };
  }

  /** A datagram of this kind arrived. */
  passed({ size, isWhole }: PathProbe): void {
    const at = this.#sizes.indexOf(size);
    if (at < 0) return;
    if (at >= BASE) this.#base = isWhole ? "whole" : "cut";
    if (at > this.#low) this.#low = at;
    if (at >= this.#high) this.#high = at + 1;
  }

  /** One of this kind was tried often enough. The size in use failing is a black hole: all below is in doubt. */
  failed({ size, isWhole }: PathProbe): void {
    const at = this.#sizes.indexOf(size);
    if (at < 0) return;
    if (!isWhole) {
      this.#base = "lost";
      // What had passed whole before may still.
      if (this.#low >= BASE) this.#low = -1;
      this.#high = BASE;
    } else if (at === BASE) this.#base = "notWhole";
    else {
      this.#high = Math.min(this.#high, at);
      if (at > this.#low) return;
      if (at > BASE) this.#base = "unknown";
      this.#low = at > BASE ? BASE : -1;
    }
  }

  /** Paths change: what failed may be tried again. */
  forget(): void {
    this.#high = this.#sizes.length;
    if (this.#base !== "whole") this.#base = "unknown";
  }
}
