/**
 * Reads of single rows, pages and totals: what the database answers, as it is with what is in the commit log alone. Each sees what was
 * committed before it was called. Writes nothing.
 */
import { godwitError } from "../kernel/errors.ts";
import { Overlay, rowsOfColumns } from "./overlay.ts";
import type { PageColumns, RowColumns, TotalsValue, WireEntry, WireValue } from "./sqlite-messages.ts";
import type { StoreThread } from "./sqlite-thread.ts";
import {
  PAGE_ROWS_MAX,
  type Collection,
  type RowPage,
  type Slotted,
  type SlottedRow,
  type Totals,
} from "./types.ts";

const nothing = new Overlay();

export class Reader {
  readonly #thread: StoreThread;
  readonly #held: () => Overlay | undefined;

  constructor(thread: StoreThread, held: () => Overlay | undefined) {
    this.#thread = thread;
    this.#held = held;
  }

  async rows(collection: Collection, keys: readonly string[]): Promise<SlottedRow[]> {
    if (keys.length === 0) return [];
    const columns = (await this.#ask({ kind: "rows", in: collection, keys })) as RowColumns;
    return (this.#held() ?? nothing).rowsOf(collection, keys, columns);
  }

  /** In several rounds where rows are deleted that the database still has, each of twice as many. */
  async page(collection: Slotted, page: RowPage): Promise<SlottedRow[]> {
    const rows: SlottedRow[] = [];
    let { after } = page;
    for (let limit = page.limit; ; limit = Math.min(2 * limit, PAGE_ROWS_MAX)) {
      const round = { ...page, after, limit };
      const columns = (await this.#ask({ kind: "page", in: collection, page: round })) as PageColumns;
      const overlay = this.#held();
      rows.push(
        ...(overlay === undefined ? rowsOfColumns(columns) : overlay.page(collection, round, columns)),
      );
      if (rows.length >= page.limit || columns.reached === undefined) return rows.slice(0, page.limit);
      after = columns.reached;
    }
  }

  async totals(collection: Slotted): Promise<Totals> {
    const states = (this.#held() ?? nothing).states(collection);
    const keys = [...states.keys()];
    return Overlay.totals(states, (await this.#ask({ kind: "totals", in: collection, keys })) as TotalsValue);
  }

  async #ask(entry: WireEntry): Promise<WireValue> {
    const { failures, values } = await this.#thread.ask([entry]);
    if (failures.length > 0) throw godwitError("GODWIT_STORE_FAILED", failures[0]!.message);
    return values.get(0);
  }
}
