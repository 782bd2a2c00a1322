/**
 * What a disk can still know. Every fact is marked with the disk that it was written to and when; a copy that is put
 * back, or run beside, knows what its original knew up to the moment of the copy, and nothing later. Owns no bytes: the
 * ledgers ask it whether a promise still binds.
 */

/** One history of a disk, from a copy (or from nothing) on. */
interface Branch {
  readonly from: Mark | undefined;
  /** Rows that damage took, as `<collection>/<key>`, and when. */
  readonly lost: { readonly row: string; readonly tick: number }[];
}

/** A moment in one history. */
export interface Mark {
  readonly branch: Branch;
  readonly tick: number;
}

let ticks = 0;

export class Lineage {
  #branch: Branch = { from: undefined, lost: [] };

  /** Now. What is marked later is not before it. */
  mark(): Mark {
    return { branch: this.#branch, tick: ++ticks };
  }

  /** From now on the disk is the copy that was made at `copy`; undefined: an empty one. */
  restore(copy: Mark | undefined): void {
    this.#branch = { from: copy, lost: [] };
  }

  lose(rows: readonly string[]): void {
    for (const row of rows) this.#branch.lost.push({ row, tick: ++ticks });
  }

  /** What was written at `mark` is on the disk now, and damage has not taken its row. */
  holds({ branch, tick }: Mark, row?: string): boolean {
    let untilTick = Number.POSITIVE_INFINITY;
    for (let at: Branch | undefined = this.#branch; at !== undefined; at = at.from?.branch) {
      if (at.lost.some((lost) => lost.row === row && lost.tick <= untilTick)) return false;
      if (at === branch) return tick <= untilTick;
      // A copy of a copy knows no more than either.
      untilTick = Math.min(untilTick, at.from?.tick ?? 0);
    }
    return false;
  }
}
