/** Finished messages of the outbox in the order they finished: their number and their bytes are bounded. */
import type { MessageId } from "../../kernel/ids.ts";

/** The bodies of finished messages, as a part of what the outbox may hold. */
const HISTORY_BYTES_SHARE = 0.5;

export class OutboxHistory {
  readonly #ids: MessageId[] = [];
  #bytes = 0;

  get count(): number {
    return this.#ids.length;
  }

  note({ id, size }: { readonly id: MessageId; readonly size: number }): void {
    this.#ids.push(id);
    this.#bytes += size;
  }

  /** The oldest ones beyond the bounds, which are forgotten here; `sizeOf` answers 0 for one that is gone. */
  takeExcess(messagesMax: number, outboxBytesMax: number, sizeOf: (id: MessageId) => number): MessageId[] {
    const excess: MessageId[] = [];
    while (
      this.#ids.length > messagesMax ||
      (this.#bytes > outboxBytesMax * HISTORY_BYTES_SHARE && this.#ids.length > 1)
    ) {
      const id = this.#ids.shift()!;
      this.#bytes -= sizeOf(id);
      excess.push(id);
    }
    return excess;
  }
}
