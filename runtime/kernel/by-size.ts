/**
 * Groups by how many members they have: who has most is found without a look at the others, however many groups there are. Owns no
 * group and no member.
 */

/** A group: it tells its size. */
export interface Sized {
  readonly keys: { readonly size: number };
}

export class BySize<G extends Sized> {
  /** Sets of at least one: a group that grew to ten thousand would leave as many behind. */
  readonly #ofSize: (Set<G> | undefined)[] = [];
  #most = 0;

  /** Call after each member that it got or lost. */
  moved(group: G, sizeBefore: number): void {
    const before = this.#ofSize[sizeBefore];
    const { size } = group.keys;
    let left: Set<G> | undefined;
    if (before?.delete(group) === true && before.size === 0) {
      left = before;
      this.#ofSize[sizeBefore] = undefined;
    }
    if (size > 0) (this.#ofSize[size] ??= left ?? new Set()).add(group);
    if (size > this.#most) this.#most = size;
    // By one member at a time, so that it never has far to fall.
    while (this.#most > 0 && this.#ofSize[this.#most] === undefined) this.#most--;
  }

  /** Sizes that some group has, each of which costs a set. */
  get sizes(): number {
    return this.#ofSize.reduce((sum, groups) => sum + (groups === undefined ? 0 : 1), 0);
  }

  /** Down to `sizeMin`, largest first; of those with as many the one that was looked at longest ago. Stop once a member came or went. */
  *largestFirst(sizeMin: number): Generator<G, void> {
    for (let size = this.#most; size >= Math.max(1, sizeMin); size--) {
      const groups = this.#ofSize[size];
      let left = groups?.size ?? 0;
      for (const group of groups ?? []) {
        if (left-- === 0) break;
        groups!.delete(group);
        groups!.add(group);
        yield group;
      }
    }
  }
}
