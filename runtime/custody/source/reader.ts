/** The messages of an outbox as they are shown: what is in memory is newer than its row, everything else is read when it is asked for. */
import { formatHex, type MessageId } from "../../kernel/ids.ts";
import { PAGE_ROWS_MAX, type StoreRow } from "../../store/types.ts";
import type { CustodyContext, Page } from "../context.ts";
import { finalStates, type OutboxEntry } from "./entry.ts";
import { decodeEntry } from "./entry-row.ts";
import type { ReceiptProof } from "./proofs.ts";

export interface ReaderDeps {
  /** In memory, or about to be written. */
  newer(id: MessageId): OutboxEntry | undefined;
  /** Of one on the disk alone: a neighbour took it, which its row may not say yet. */
  isRelayed(entry: OutboxEntry, order: number): boolean;
  proof(name: string): ReceiptProof | undefined;
}

export class OutboxReader {
  readonly #ctx: Pick<CustodyContext, "store" | "storeEpoch">;
  readonly #deps: ReaderDeps;

  constructor(ctx: Pick<CustodyContext, "store" | "storeEpoch">, deps: ReaderDeps) {
    this.#ctx = ctx;
    this.#deps = deps;
  }

  peek(id: MessageId): OutboxEntry | undefined {
    return this.#deps.newer(id);
  }

  async get(id: MessageId): Promise<OutboxEntry | undefined> {
    const entry = this.peek(id);
    if (entry !== undefined) return entry;
    const [row] = await this.#ctx.store.rows("outbox", [id]);
    return row === undefined ? undefined : this.#shown(row, row.order);
  }

  async page({ order, limit, after }: Page): Promise<OutboxEntry[]> {
    const { store } = this.#ctx;
    const [before] = after === undefined ? [] : await store.rows("outbox", [after]);
    if (after !== undefined && before?.order === undefined) return [];
    const page = { order, limit: Math.min(limit, PAGE_ROWS_MAX), after: before?.order };
    const rows = await store.page("outbox", page);
    return rows.flatMap((row) => this.#shown(row, row.order) ?? []);
  }

  /** Undefined for a damaged row. */
  decode(id: string, meta: string): OutboxEntry | undefined {
    const entry = decodeEntry(id, meta, (name) => this.#deps.proof(name));
    if (entry !== undefined) entry.epoch ??= formatHex(this.#ctx.storeEpoch);
    return entry;
  }

  /** Of those that are there; undefined for a damaged row. Rejects with GODWIT_STORE_FAILED. */
  async rows(ids: readonly MessageId[]): Promise<(readonly [MessageId, OutboxEntry | undefined])[]> {
    const rows = await this.#ctx.store.rows("outbox", ids);
    return rows.map(({ key, meta }) => {
      const id = key as MessageId;
      return [id, this.peek(id) ?? this.decode(key, meta)] as const;
    });
  }

  #shown({ key, meta }: StoreRow, order: number | undefined): OutboxEntry | undefined {
    const newer = this.peek(key as MessageId);
    if (newer !== undefined) return newer;
    const entry = this.decode(key, meta);
    if (entry === undefined || order === undefined || finalStates.includes(entry.state)) return entry;
    if (this.#deps.isRelayed(entry, order)) entry.state = "relayed";
    return entry;
  }
}
