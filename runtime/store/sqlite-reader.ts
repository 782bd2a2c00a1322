/**
 * Reads of collections, single rows, pages and totals: what the database answers, as it is with what is in the commit log alone. Each sees what was
 * committed before it was called. Writes nothing.
 */
import { Overlay, rowsOfColumns } from "./overlay.ts";
import type { Answers } from "./sqlite-answers.ts";
import type { LoadColumns, PageColumns, RowColumns, TotalsValue } from "./sqlite-messages.ts";
import {
  PAGE_ROWS_MAX,
  type Collection,
  type RowPage,
  type Slotted,
  type SlottedRow,
  type StoreRow,
  type Totals,
} from "./types.ts";

const nothing = new Overlay();
const NO_ROWS: RowColumns = {
  keys: [],
  metas: [],
  bodyBytes: new Float64Array(),
  orders: new Float64Array(),
  groups: [],
};

export class Reader {
  readonly #answers: Answers;
  readonly #held: () => Overlay | undefined;

  constructor(answers: Answers, held: () => Overlay | undefined) {
    this.#answers = answers;
    this.#held = held;
  }

  async load(collection: Collection): Promise<StoreRow[]> {
    const columns = (await this.#answers.answer({ kind: "load", in: collection })) as LoadColumns;
    return (this.#held() ?? nothing).rows(collection, columns);
  }

  knowsLoad(collection: Collection): boolean {
    return this.#answers.knows({ kind: "load", in: collection });
  }

  async rows(collection: Collection, keys: readonly string[]): Promise<SlottedRow[]> {
    const overlay = this.#held() ?? nothing;
    if (overlay.hasWhole(collection, keys)) return overlay.rowsOf(collection, keys, NO_ROWS);
    const columns = (await this.#answers.answer({ kind: "rows", in: collection, keys })) as RowColumns;
    return (this.#held() ?? nothing).rowsOf(collection, keys, columns);
  }

  /** Here and now, or by an answer that is here. */
  knowsRows(collection: Collection, keys: readonly string[]): boolean {
    return (
      this.#held()?.hasWhole(collection, keys) === true ||
      this.#answers.knows({ kind: "rows", in: collection, keys })
    );
  }

  /** In several rounds where rows are deleted that the database still has, each of twice as many. */
  async page(collection: Slotted, page: RowPage): Promise<SlottedRow[]> {
    const rows: SlottedRow[] = [];
    let { after } = page;
    for (let limit = page.limit; ; limit = Math.min(2 * limit, PAGE_ROWS_MAX)) {
      const round = { ...page, after, limit };
      const columns = (await this.#answers.answer({
        kind: "page",
        in: collection,
        page: round,
      })) as PageColumns;
      const overlay = this.#held();
      rows.push(
        ...(overlay === undefined ? rowsOfColumns(columns) : overlay.page(collection, round, columns)),
      );
      if (rows.length >= page.limit || columns.reached === undefined) return rows.slice(0, page.limit);
      after = columns.reached;
    }
  }

  /** The first round of it. */
  knowsPage(collection: Slotted, page: RowPage): boolean {
    return this.#answers.knows({ kind: "page", in: collection, page });
  }

  knowsTotals(collection: Slotted): boolean {
    return this.#answers.knows({ kind: "totals", in: collection, keys: [] });
  }

  async totals(collection: Slotted): Promise<Totals> {
    const states = (this.#held() ?? nothing).states(collection);
    const keys = [...states.keys()];
    const value = await this.#answers.answer({ kind: "totals", in: collection, keys });
    return Overlay.totals(states, value as TotalsValue);
  }
}
