/**
 * Slots that wait for one neighbour. Few stand in a list, in the order in which they came; where many wait (a whole table, for
 * each of 250 neighbours) the list is left, and they are found by their bit in the neighbour's column, which is there anyway.
 * Owns no bit: whoever adds a slot has set it, whoever takes one away clears it.
 */

/** Slots in the list, before the column is walked instead. */
const LISTED_MAX = 256;

export class SlotQueue {
  readonly #bit: number;
  #list: number[] = [];
  /** Of the list, those before it are gone. */
  #at = 0;
  #isByBit = false;
  /** Where the walk over the column goes on. */
  #cursor = 0;
  #count = 0;

  constructor(bit: number) {
    this.#bit = bit;
  }

  get count(): number {
    return this.#count;
  }

  /** It must not be in the queue. */
  add(slot: number): void {
    this.#count++;
    if (this.#isByBit) return;
    if (this.#list.length < LISTED_MAX) return void this.#list.push(slot);
    this.#isByBit = true;
    this.#list = [];
    this.#at = this.#cursor = 0;
  }

  /** The next one, which stays; there must be one. */
  peek(column: Uint8Array): number {
    if (!this.#isByBit) return this.#list[this.#at]!;
    while ((column[this.#cursor]! & this.#bit) === 0)
      this.#cursor = this.#cursor + 1 < column.length ? this.#cursor + 1 : 0;
    return this.#cursor;
  }

  /** Takes the one away that was peeked at, with its bit cleared. */
  shift(): void {
    this.#count--;
    this.#at++;
    if (this.#count === 0) this.clear();
  }

  clear(): void {
    this.#count = this.#at = this.#cursor = 0;
    this.#isByBit = false;
    this.#list = [];
  }
}
