/** Idempotency keys: the same key with the same message is the same message, however often and however late it comes. */
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { hasFields, isMatch, parseMeta } from "../../kernel/json.ts";
import { digestOf } from "./entry.ts";
import type { Order } from "./order.ts";
import type { Store, StoreOp } from "../../store/types.ts";

const isKnown = hasFields({ id: isMatch(/^[0-9a-f]{32}$/), digest: isMatch(/^[0-9a-f]{64}$/) });

export class IdempotencyKeys {
  readonly #store: Store;
  /** Keys whose first message is being looked for, or committed. */
  readonly #pending = new Map<string, Promise<MessageId>>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Runs `accept` unless the key was used; throws GODWIT_IDEMPOTENCY_CONFLICT when it was for another message. */
  async once(order: Order, accept: () => Promise<MessageId>): Promise<MessageId> {
    const key = order.idempotencyKey;
    if (key === undefined) return await accept();
    for (let pending = this.#pending.get(key); pending !== undefined; pending = this.#pending.get(key))
      await pending.catch(() => {});
    const accepting = this.#find(key, order)
      .then((known) => known ?? accept())
      .finally(() => this.#pending.delete(key));
    this.#pending.set(key, accepting);
    return await accepting;
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

  /** The message that the key was used for, if it was. */
  async #find(key: string, order: Order): Promise<MessageId | undefined> {
    const [row] = await this.#store.rows("idempotency", [key]);
    if (row === undefined) return undefined;
    const known = parseMeta<{ id: MessageId; digest: string }>(row.meta, isKnown);
    // Damaged: as if it had never been used.
    if (known === undefined) {
      await this.#store.commit([{ op: "set-aside", in: "idempotency", key }]);
      return undefined;
    }
    if (known.digest === digestOf(order)) return known.id;
    throw godwitError(
      "GODWIT_IDEMPOTENCY_CONFLICT",
      `idempotency key "${key}" was used for a different message; choose another`,
    );
  }
}
