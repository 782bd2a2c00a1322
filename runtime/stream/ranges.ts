/** Sets of whole numbers as sorted half-open ranges: what was received, acknowledged or lost. Pure. */

export class RangeSet {
  /** start, end, start, end ... ascending, never touching. */
  readonly #edges: number[] = [];

  get count(): number {
    return this.#edges.length / 2;
  }

  get isEmpty(): boolean {
    return this.#edges.length === 0;
  }

  start(index: number): number {
    return this.#edges[2 * index]!;
  }

  end(index: number): number {
    return this.#edges[2 * index + 1]!;
  }

  has(value: number): boolean {
    const at = this.#firstEndingAfter(value);
    return at < this.count && this.start(at) <= value;
  }

  /** Adds [start, end). Answers false when all of it was there. */
  add(start: number, end: number): boolean {
    if (end <= start) return false;
    const edges = this.#edges;
    // Nearly always something new behind everything else, or more of the last range.
    const last = edges.length;
    if (last === 0 || start > edges[last - 1]!) {
      edges.push(start, end);
      return true;
    }
    let from = this.#firstEndingAfter(start - 1);
    if (from < this.count && this.start(from) <= start && this.end(from) >= end) return false;
    let [low, high, to] = [start, end, from];
    while (to < this.count && this.start(to) <= end) {
      low = Math.min(low, this.start(to));
      high = Math.max(high, this.end(to));
      to++;
    }
    from *= 2;
    edges.splice(from, 2 * to - from, low, high);
    return true;
  }

  /** Takes [start, end) out. */
  remove(start: number, end: number): void {
    if (end <= start) return;
    const from = this.#firstEndingAfter(start);
    let to = from;
    const left: number[] = [];
    while (to < this.count && this.start(to) < end) {
      if (this.start(to) < start) left.push(this.start(to), start);
      if (this.end(to) > end) left.push(end, this.end(to));
      to++;
    }
    this.#edges.splice(2 * from, 2 * (to - from), ...left);
  }

  /** Forgets the lowest ranges until at most `countMax` are left. */
  forgetLowest(countMax: number): void {
    if (this.count > countMax) this.#edges.splice(0, 2 * (this.count - countMax));
  }

  #firstEndingAfter(value: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.end(middle) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
