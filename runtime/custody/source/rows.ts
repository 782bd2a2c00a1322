/**
 * How what happens to accepted messages gets to the disk where nobody waits for it: at once, or late. Late is what no message is lost
 * without, and most of it changes again before it would have been written. Must never write that a message is open whose body is going.
 */
import type { Timer } from "@godwit/sdk";
import type { MessageId } from "../../kernel/ids.ts";
import type { CustodyContext } from "../context.ts";
import type { StoreOp } from "../../store/types.ts";
import { finalStates, type Live } from "./entry.ts";
import { putEntry } from "./entry-row.ts";
import type { ReceiptProofs } from "./proofs.ts";

/** Most receipts come sooner, and then their row is written once less. */
export const LATE_MS = 10_000;
/** So many are not late any more. */
const LATE_MAX = 1_024;

export class OutboxRows {
  readonly #ctx: Pick<CustodyContext, "store" | "clock" | "log">;
  readonly #proofs: ReceiptProofs;
  readonly #late = new Map<MessageId, Live>();
  #timer: Timer | undefined;

  constructor(ctx: Pick<CustodyContext, "store" | "clock" | "log">, proofs: ReceiptProofs) {
    this.#ctx = ctx;
    this.#proofs = proofs;
  }

  /** With the proofs that they refer to. Rejects with GODWIT_STORE_FAILED. */
  async commit(lives: readonly Live[], before: readonly StoreOp[] = []): Promise<void> {
    const entries = lives.map(({ entry }) => entry);
    const { ops, kept } = this.#proofs.ops(entries);
    await this.#ctx.store.commit([...before, ...ops, ...entries.map(putEntry)]);
    kept();
  }

  /** `before` in the same commit, and `saved` once it is durable. Should it be lost, a message is offered once more than needed. */
  save(
    lives: readonly Live[],
    { before = [], saved }: { before?: readonly StoreOp[]; saved?: () => void } = {},
  ): void {
    for (const { entry } of lives) this.#late.delete(entry.id);
    // A row without its body must not say that it is open: a withdrawal is on its way to the disk.
    const rows = lives.filter(
      ({ entry, isEnding }) => isEnding !== true || finalStates.includes(entry.state),
    );
    if (rows.length === 0) return;
    this.commit(rows, before).then(saved, (error: unknown) => {
      this.#ctx.log.warn("outbox not saved", {
        messages: rows.length,
        error: error instanceof Error ? error : String(error),
      });
    });
  }

  /** Within `LATE_MS`, with others, or at the end of the node. */
  saveLate(live: Live): void {
    this.#late.set(live.entry.id, live);
    if (this.#late.size >= LATE_MAX) return this.flush();
    this.#timer ??= this.#ctx.clock.after(LATE_MS, () => this.flush());
  }

  /** What waits to be written of a message, and is newer than its row. */
  late(id: MessageId): Live | undefined {
    return this.#late.get(id);
  }

  /** It is written otherwise, or gone. */
  forget({ entry }: Live): void {
    this.#late.delete(entry.id);
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.save([...this.#late.values()]);
  }
}
