/** Idempotency keys: the same key with the same message is the same message, however often and however late it comes. */
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { hasFields, isMatch, parseMeta } from "../../kernel/json.ts";
import { digestOf } from "./entry.ts";
import type { Order } from "./order.ts";
import { loadSound } from "../../store/sound.ts";
import type { Store, StoreOp } from "../../store/types.ts";

const isKnown = hasFields({ id: isMatch(/^[0-9a-f]{32}$/), digest: isMatch(/^[0-9a-f]{64}$/) });

export class IdempotencyKeys {
  readonly #known = new Map<string, { readonly id: MessageId; readonly digest: string }>();
  /** Keys whose first message is being committed. */
  readonly #pending = new Map<string, Promise<MessageId>>();

  async load(store: Store): Promise<void> {
    const rows = await loadSound(store, "idempotency", ({ key, meta }) => {
      const known = parseMeta<{ id: MessageId; digest: string }>(meta, isKnown);
      return known === undefined ? undefined : { key, known };
    });
    for (const { key, known } of rows) this.#known.set(key, known);
  }

  /** Runs `accept` unless the key was used; throws GODWIT_IDEMPOTENCY_CONFLICT when it was for another message. */
  once(order: Order, accept: () => Promise<MessageId>): Promise<MessageId> {
    const key = order.idempotencyKey;
    if (key === undefined) return accept();
    const known = this.#known.get(key);
    if (known !== undefined) {
      if (known.digest === digestOf(order)) return Promise.resolve(known.id);
      throw godwitError(
        "GODWIT_IDEMPOTENCY_CONFLICT",
        `idempotency key "${key}" was used for a different message; choose another`,
      );
    }
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending.then(() => this.once(order, accept));
    const accepting = accept().finally(() => this.#pending.delete(key));
    this.#pending.set(key, accepting);
    return accepting;
  }

  /** What must be in the commit that accepts the message. */
  ops(order: Order, id: MessageId): StoreOp[] {
    const key = order.idempotencyKey;
    if (key === undefined) return [];
    return [{ op: "put", in: "idempotency", key, meta: JSON.stringify({ id, digest: digestOf(order) }) }];
  }

  /** That commit is durable. */
  remember(order: Order, id: MessageId): void {
    if (order.idempotencyKey !== undefined)
      this.#known.set(order.idempotencyKey, { id, digest: digestOf(order) });
  }

  /** The message is forgotten, and its key with it. */
  forget(key: string | undefined): StoreOp[] {
    if (key === undefined) return [];
    this.#known.delete(key);
    return [{ op: "delete", in: "idempotency", key }];
  }
}
