/**
 * Rows of mail that were kept aside for an earlier release (earlier.ts), back in a store of this one: a message that is not here, and what
 * was delivered long ago. Must never take a row the place of one that is here.
 */
import type { AsideRow } from "../store/aside-file.ts";
import type { Store, StoreOp, StoreRow } from "../store/types.ts";
import { hourOf, mergedRuns, type Runs } from "./recipient/runs.ts";
import { readSeenRow } from "./recipient/seen.ts";
import { SeenArchive } from "./recipient/seen-archive.ts";

export class TakenIn {
  readonly #store: Store;
  readonly #hour: number;
  /** By collection: the rows of a store that nobody else changes. */
  readonly #rows = new Map<string, Map<string, StoreRow>>();

  constructor(store: Store, coveredMs: number) {
    this.#store = store;
    this.#hour = hourOf(coveredMs);
  }

  /** None: it is here already. */
  async ops({ in: collection, key, meta, body }: AsideRow): Promise<StoreOp[]> {
    const here = await this.#here(collection);
    if (collection === "seen") return this.#seenOps(here, key, meta);
    if (here.has(key)) return [];
    return [{ op: "put", in: collection, key, meta, ...(body === undefined ? {} : { body }) }];
  }

  /** A set that came up again meanwhile is a row of its own, and has what was seen since alone: it gets all of it. */
  #seenOps(here: ReadonlyMap<string, StoreRow>, key: string, meta: string): StoreOp[] {
    const put = (name: string, text: string): StoreOp => ({ op: "put", in: "seen", key: name, meta: text });
    const aside = readSeenRow({ key, meta });
    // What could not be read then is set aside by the next start, which tells of it.
    if (aside === undefined || !("archive" in aside)) return here.has(key) ? [] : [put(key, meta)];
    const ops: StoreOp[] = [];
    const { sender, archive } = aside;
    const heldRow = here.get(key);
    const held = heldRow === undefined ? undefined : readSeenRow(heldRow);
    const resting = held !== undefined && "archive" in held ? held.archive : SeenArchive.empty;
    const folded: [string, Runs][] = [];
    for (const [name, { runs }] of archive.sets) {
      const row = here.get(`${sender}/${name}`);
      const live = row === undefined ? undefined : readSeenRow(row);
      if (live !== undefined && "name" in live) {
        const all = mergedRuns(
          runs,
          live.runs.map(([first, last]) => [first, last, this.#hour]),
          this.#hour,
        );
        ops.push(put(`${sender}/${name}`, JSON.stringify(all)));
      } else folded.push([name, mergedRuns(runs, resting.get(name) ?? [], this.#hour)]);
    }
    if (folded.length > 0) ops.push(put(key, resting.with(folded, this.#hour).text));
    return ops;
  }

  async #here(collection: AsideRow["in"]): Promise<Map<string, StoreRow>> {
    let rows = this.#rows.get(collection);
    if (rows === undefined)
      this.#rows.set(
        collection,
        (rows = new Map((await this.#store.load(collection)).map((row) => [row.key, row]))),
      );
    return rows;
  }
}
