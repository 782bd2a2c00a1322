/**
 * What a disk can still know. Every fact is marked with the disk that it was written to and when; a copy that is put
 * back, or run beside, knows what its original knew up to the moment of the copy, and nothing later. Owns no bytes: the
 * ledgers ask it whether a promise still binds.
 */

/** One history of a disk, from a copy (or from nothing) on. */
interface Branch {
  readonly from: Mark | undefined;
}

/** A moment in one history. */
export interface Mark {
  readonly branch: Branch;
  readonly tick: number;
}

let ticks = 0;

export class Lineage {
  #branch: Branch = { from: undefined };
  /** Rows that damage took, by `<collection>/<key>`. */
  readonly #lost = new Map<string, Mark>();

  /** Now. What is marked later is not before it. */
  mark(): Mark {
    return { branch: this.#branch, tick: ++ticks };
  }

  /** From now on the disk is the copy that was made at `copy`; undefined: an empty one. */
  restore(copy: Mark | undefined): void {
    this.#branch = { from: copy };
  }

  /** What was written at `mark` is on the disk now, as far as nobody has taken the row away. */
  holds(mark: Mark, row?: string): boolean {
    const lostAt = row === undefined ? undefined : this.#lost.get(row);
    if (lostAt !== undefined && this.#isBefore(lostAt)) return false;
    return this.#isBefore(mark);
  }

  lose(rows: readonly string[]): void {
    for (const row of rows) this.#lost.set(row, this.mark());
  }

  #isBefore({ branch, tick }: Mark): boolean {
    let untilTick = Number.POSITIVE_INFINITY;
    for (let at: Branch | undefined = this.#branch; at !== undefined; at = at.from?.branch) {
      if (at === branch) return tick <= untilTick;
      // A copy of a copy knows no more than either.
      untilTick = Math.min(untilTick, at.from?.tick ?? 0);
    }
    return false;
  }
}
