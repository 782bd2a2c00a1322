/**
 * Idempotency keys: the same key with the same message is the same message, however often and however late it comes. They are in the
 * store, one row each: in memory stand those alone whose message is being accepted.
 */
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { hasFields, isMatch, parseMeta } from "../../kernel/json.ts";
import { digestOf } from "./entry.ts";
import type { Order } from "./order.ts";
import type { Store, StoreOp } from "../../store/types.ts";

const isKnown = hasFields({ id: isMatch(/^[0-9a-f]{32}$/), digest: isMatch(/^[0-9a-f]{64}$/) });

export class IdempotencyKeys {
  readonly #store: Pick<Store, "rows" | "commit">;
  /** Keys that are looked for, or whose first message is being committed. */
  readonly #pending = new Map<string, Promise<MessageId>>();

  constructor(store: Pick<Store, "rows" | "commit">) {
    this.#store = store;
  }

  /**
   * Runs `accept` unless the key was used; rejects with GODWIT_IDEMPOTENCY_CONFLICT when it was for another message, and with
   * GODWIT_STORE_FAILED when nobody can tell.
   */
  once(order: Order, accept: () => Promise<MessageId>): Promise<MessageId> {
    const key = order.idempotencyKey;
    if (key === undefined) return accept();
    const pending = this.#pending.get(key);
    if (pending !== undefined) {
      const again = () => this.once(order, accept);
      // What that one is refused for is no answer to this one.
      return pending.then(again, again);
    }
    const accepting = this.#accept(key, order, accept).finally(() => this.#pending.delete(key));
    this.#pending.set(key, accepting);
    return accepting;
  }

  async #accept(key: string, order: Order, accept: () => Promise<MessageId>): Promise<MessageId> {
    const [row] = await this.#store.rows("idempotency", [key]);
    if (row === undefined) return accept();
    const known = parseMeta<{ id: MessageId; digest: string }>(row.meta, isKnown);
    if (known === undefined) {
      await this.#store.commit([{ op: "set-aside", in: "idempotency", key }]);
      return accept();
    }
    if (known.digest === digestOf(order)) return known.id;
    throw godwitError(
      "GODWIT_IDEMPOTENCY_CONFLICT",
      `idempotency key "${key}" was used for a different message; choose another`,
    );
  }

  /** What must be in the commit that accepts the message. */
  ops(order: Order, id: MessageId): StoreOp[] {
    const key = order.idempotencyKey;
    if (key === undefined) return [];
    return [{ op: "put", in: "idempotency", key, meta: JSON.stringify({ id, digest: digestOf(order) }) }];
  }

  /** The message is forgotten, and its key with it. */
  forget(key: string | undefined): StoreOp[] {
    return key === undefined ? [] : [{ op: "delete", in: "idempotency", key }];
  }
}
