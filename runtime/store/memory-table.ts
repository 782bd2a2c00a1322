/** One collection of the simulated disk: its rows by key, their order and what their groups come to, each found without looking at all rows. */
import type { GroupTotal, RowPage, Slot, Totals } from "./types.ts";

export interface SimRow {
  readonly meta: string;
  readonly body: Uint8Array | undefined;
  /** Of mail. */
  readonly slot?: Slot | undefined;
  /** What was written is not what is there. */
  readonly isRotten?: true;
}

interface Placed {
  readonly order: number;
  readonly key: string;
}

export class SimTable {
  readonly #isSlotted: boolean;
  readonly #rows = new Map<string, SimRow>();
  /** Oldest first. */
  readonly #placed: Placed[] = [];
  readonly #groups = new Map<string, GroupTotal>();

  constructor(isSlotted: boolean) {
    this.#isSlotted = isSlotted;
  }

  get rows(): ReadonlyMap<string, SimRow> {
    return this.#rows;
  }

  copy(): SimTable {
    const copy = new SimTable(this.#isSlotted);
    for (const [key, row] of this.#rows) copy.set(key, row);
    return copy;
  }

  /** Without a slot it has that of the row before, or one behind all others. */
  set(key: string, row: SimRow): void {
    const before = this.#rows.get(key);
    if (!this.#isSlotted) {
      this.#rows.set(key, row);
      return;
    }
    const slot = row.slot ?? before?.slot ?? { order: this.#last + 1, group: "" };
    if (before !== undefined) this.#leave(key, before);
    this.#rows.set(key, { ...row, slot });
    this.#placed.splice(this.#indexOf(slot.order), 0, { order: slot.order, key });
    this.#count(slot.group, 1, row.body?.length ?? 0);
  }

  delete(key: string): void {
    const row = this.#rows.get(key);
    if (row === undefined) return;
    this.#rows.delete(key);
    if (this.#isSlotted) this.#leave(key, row);
  }

  *page({ order, after, group }: RowPage): Generator<[key: string, row: SimRow]> {
    const isNewestFirst = order === "newest-first";
    const step = isNewestFirst ? -1 : 1;
    const first = isNewestFirst
      ? (after === undefined ? this.#placed.length : this.#indexOf(after)) - 1
      : this.#indexOf((after ?? 0) + 1);
    for (let at = first; at >= 0 && at < this.#placed.length; at += step) {
      const { key } = this.#placed[at]!;
      const row = this.#rows.get(key)!;
      if (group === undefined || row.slot!.group === group) yield [key, row];
    }
  }

  get totals(): Totals {
    return { groups: [...this.#groups.values()], last: this.#last };
  }

  get #last(): number {
    return this.#placed.at(-1)?.order ?? 0;
  }

  #leave(key: string, { slot, body }: SimRow): void {
    let at = this.#indexOf(slot!.order);
    while (this.#placed[at]!.key !== key) at++;
    this.#placed.splice(at, 1);
    this.#count(slot!.group, -1, -(body?.length ?? 0));
  }

  #count(group: string, count: number, bytes: number): void {
    const before = this.#groups.get(group) ?? { group, count: 0, bytes: 0 };
    const now = { group, count: before.count + count, bytes: before.bytes + bytes };
    if (now.count > 0) this.#groups.set(group, now);
    else this.#groups.delete(group);
  }

  /** Of the first row at this place or behind it. */
  #indexOf(order: number): number {
    let low = 0;
    let high = this.#placed.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#placed[middle]!.order < order) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
