/** A message of the outbox as it lies in the store, and the counters that name messages. */
import { createHash } from "node:crypto";
import { godwitError } from "../../kernel/errors.ts";
import type { Teller } from "../../kernel/hub.ts";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import type { TraceEntry } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import type { Store, StoreOp } from "../../store/types.ts";
import type { Order } from "./order.ts";

export type OutboxState = "queued" | "relayed" | "delivered" | "expired" | "refused" | "withdrawn";
export const finalStates: readonly OutboxState[] = ["delivered", "expired", "refused", "withdrawn"];

/** One machine that the message is sealed to. */
export interface Target {
  readonly node: NodeId;
  readonly bundle: BundleId;
  readonly sealedBytes: number;
  /** Prekey it is sealed to; null: the identity key, no forward secrecy. */
  readonly key: { readonly id: number; readonly publicHex: string } | null;
}

export interface StoredReceipt {
  readonly by: NodeId;
  readonly atMs: number;
  readonly isUnconfirmed: boolean;
  readonly trace: readonly TraceEntry[];
  /** The encoded receipt, the hashes that the signature covers, and the signature: provable to anyone. */
  readonly receiptHex: string;
  readonly hashesHex: readonly string[];
  readonly signatureHex: string;
}

/** JSON of the `meta` column; readers skip fields they do not know. */
export interface OutboxEntry {
  readonly id: MessageId;
  readonly to: string;
  readonly counter: number;
  readonly subject: string;
  readonly contentType: string;
  readonly priority: Priority;
  readonly size: number;
  readonly createdAtMs: number;
  readonly lifetimeMs: number;
  readonly failover: boolean;
  readonly failoverDelayMs: number;
  readonly idempotencyKey?: string;
  state: OutboxState;
  reason: string | null;
  deliveredAtMs: number | null;
  receipt: StoredReceipt | null;
  /** Empty until sealed. */
  targets: readonly Target[];
  /** Keys of its recipient (hex) that were lost with the recipient's store: never sealed to again. */
  lostKeys?: readonly string[];
  remainingMs: number;
  atWallMs: number;
}

/** Counters are reserved in blocks, so that a restart skips some instead of repeating one. */
const COUNTER_BLOCK = 1_024;
/** Addresses ever written to: their counters are never forgotten, so that no message id comes twice. */
export const ADDRESSES_MAX = 65_536;

/** One counter per address: a recipient then sees an almost unbroken run, which is short to remember. */
export class Counters {
  /** `durable`: numbers below it may be used; written down in the store. */
  readonly #states = new Map<string, { next: number; durable: number }>();

  async load(store: Store): Promise<void> {
    for (const row of await store.load("setting")) {
      if (!row.key.startsWith("counter/")) continue;
      const durable = Number(row.meta);
      this.#states.set(row.key.slice("counter/".length), { next: durable, durable });
    }
  }

  /**
   * The next number. `op`, if any, must be in the commit that uses it; call `confirm` once that commit is durable.
   * Until one is confirmed every number brings the op along, so that no failed commit lets a number be used twice.
   */
  next(address: string): { counter: number; op: StoreOp | undefined; confirm: () => void } {
    let state = this.#states.get(address);
    if (state === undefined && this.#states.size >= ADDRESSES_MAX) {
      throw godwitError(
        "GODWIT_QUOTA",
        `this node has written to ${ADDRESSES_MAX} addresses, the most it can keep count of`,
      );
    }
    if (state === undefined) this.#states.set(address, (state = { next: 0, durable: 0 }));
    const held = state;
    const counter = held.next++;
    if (counter < held.durable) return { counter, op: undefined, confirm: () => {} };
    const reserved = counter + COUNTER_BLOCK;
    return {
      counter,
      op: { op: "put", in: "setting", key: `counter/${address}`, meta: String(reserved) },
      confirm: () => {
        held.durable = Math.max(held.durable, reserved);
      },
    };
  }
}

export const putEntry = (entry: OutboxEntry): StoreOp & { op: "put" } => ({
  op: "put",
  in: "outbox",
  key: entry.id,
  meta: JSON.stringify(entry),
});

/** Names what an idempotency key was used for. */
export function digestOf(order: Order): string {
  const { to, subject, contentType, priority, lifetimeMs, failover } = order;
  return createHash("sha256")
    .update(JSON.stringify([to, subject, contentType, priority, lifetimeMs, failover]))
    .update(order.body)
    .digest("hex");
}

/** A message of the outbox while the node runs. */
export interface Live {
  readonly entry: OutboxEntry;
  /** Monotonic ms. */
  readonly deadlineMs: number;
}

/** Told by the outbox. */
export interface OutboxEvents {
  /** A message of this node is in another state, durably. */
  outboxChanged: OutboxEntry;
}

export interface OutboxDeps {
  readonly events: Teller<OutboxEvents>;
  /** A receipt from `by` that fits no message of the outbox. */
  stranger(bundle: BundleId, by: NodeId): void;
  /** Addressed to this very node. Resolves when delivered durably, `ops` in the same commit. */
  deliverHere(entry: OutboxEntry, body: Uint8Array, ops: readonly StoreOp[]): Promise<void>;
}
