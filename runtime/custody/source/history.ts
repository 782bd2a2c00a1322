/** Ended messages of the outbox in the order they ended: their number and their bytes are bounded, and who goes is told a few at a time. */
import type { MessageId } from "../../kernel/ids.ts";
import type { CustodyLimits } from "../context.ts";

/** The bodies of ended messages, as a part of what the outbox may hold. */
const HISTORY_BYTES_SHARE = 0.5;
/** So many more than may be here, as a part of them: forgetting each by itself would read the store for each. */
const SLACK_SHARE = 1 / 128;
/** Told at one time. */
const FORGET_MAX = 512;

export class OutboxHistory {
  readonly #limits: Pick<CustodyLimits, "historyMessagesMax" | "outboxBytesMax">;
  readonly #forget: (ids: readonly MessageId[]) => Promise<void>;
  readonly #ids: MessageId[] = [];
  readonly #sizes: number[] = [];
  #bytes = 0;
  #isForgetting = false;

  /** `forget` is called with the oldest ones, again once it has settled: should it reject, they are still here. */
  constructor(
    limits: Pick<CustodyLimits, "historyMessagesMax" | "outboxBytesMax">,
    forget: (ids: readonly MessageId[]) => Promise<void>,
  ) {
    this.#limits = limits;
    this.#forget = forget;
  }

  get count(): number {
    return this.#ids.length;
  }

  note({ id, size }: { readonly id: MessageId; readonly size: number }): void {
    this.#ids.push(id);
    this.#sizes.push(size);
    this.#bytes += size;
    if (!this.#isForgetting) void this.#cut();
  }

  async #cut(): Promise<void> {
    this.#isForgetting = true;
    for (let count = this.#excess; count > 0; count = this.#excess) {
      try {
        await this.#forget(this.#ids.slice(0, count));
      } catch {
        // The next one that ends tries again.
        break;
      }
      this.#ids.splice(0, count);
      for (const size of this.#sizes.splice(0, count)) this.#bytes -= size;
    }
    this.#isForgetting = false;
  }

  /** How many of the oldest have to go now. */
  get #excess(): number {
    const { historyMessagesMax, outboxBytesMax } = this.#limits;
    const bytesMax = outboxBytesMax * HISTORY_BYTES_SHARE;
    const slack = Math.floor(historyMessagesMax * SLACK_SHARE);
    let count = this.#ids.length > historyMessagesMax + slack ? this.#ids.length - historyMessagesMax : 0;
    let bytes = this.#bytes;
    for (let i = 0; i < count; i++) bytes -= this.#sizes[i]!;
    while (bytes > bytesMax && count < this.#ids.length - 1) bytes -= this.#sizes[count++]!;
    return Math.min(count, FORGET_MAX);
  }
}
