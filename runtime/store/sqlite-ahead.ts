/**
 * What every start loads, read from the database at once while the start does other things: each question to the worker costs both threads more
 * than its answer. Holds as long as nothing is written to the database. Must never keep what may be large.
 */
import type { LoadColumns } from "./sqlite-messages.ts";
import type { StoreThread } from "./sqlite-thread.ts";
import type { Collection } from "./types.ts";

/** Small ones that each start asks for, and the only one that is asked for by many. */
const COLLECTIONS: readonly Collection[] = ["name", "peer", "record", "member", "token"];
const SHARED: Collection = "setting";

export class Ahead {
  readonly #columns: Promise<Map<Collection, LoadColumns>>;

  constructor(thread: StoreThread) {
    const wanted = [SHARED, ...COLLECTIONS];
    this.#columns = thread
      .ask(wanted.map((collection) => ({ kind: "load", in: collection })))
      .then(
        ({ failures, values }) =>
          new Map(
            failures.length > 0
              ? []
              : wanted.map((collection, index) => [collection, values.get(index) as LoadColumns]),
          ),
      )
      // Whoever asks then asks the database, and hears why.
      .catch(() => new Map());
  }

  /** Undefined: ask the database. Once for each collection but the shared one. */
  async take(collection: Collection): Promise<LoadColumns | undefined> {
    if (collection !== SHARED && !COLLECTIONS.includes(collection)) return undefined;
    const columns = await this.#columns;
    const found = columns.get(collection);
    if (collection !== SHARED) columns.delete(collection);
    return found;
  }
}
