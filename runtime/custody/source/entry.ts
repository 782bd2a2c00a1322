/** A message of the outbox. How it lies in the store: entry-row.ts. */
import { createHash } from "node:crypto";
import type { Teller } from "../../kernel/hub.ts";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import type { TraceEntry } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import type { Receipt } from "../../wire/message.ts";
import type { StoreOp } from "../../store/types.ts";
import type { CustodyContext, SessionSeal } from "../context.ts";
import type { SendingEvents } from "../forwarding/sending.ts";
import type { Order } from "./order.ts";
import type { ReceiptProof } from "./proofs.ts";

/** Append-only: rows say their number. */
export const outboxStates = ["queued", "relayed", "delivered", "expired", "refused", "withdrawn"] as const;
export type OutboxState = (typeof outboxStates)[number];
export const finalStates: readonly OutboxState[] = ["delivered", "expired", "refused", "withdrawn"];

/** One machine that the message is sealed to. */
export interface Target {
  readonly node: NodeId;
  readonly bundle: BundleId;
  readonly sealedBytes: number;
  /** Prekey it is sealed to, its bytes empty once the message has ended; null: the identity key, no forward secrecy. */
  readonly key: { readonly id: number; readonly publicHex: string } | null;
  /** In which session, until the message has ended; undefined: in none. */
  readonly session?: SessionSeal | undefined;
  /** How its header begins in the compact form, until the message has ended: what it leaves out may be another thing by now. Undefined: it has the long one. */
  readonly start?: Uint8Array | undefined;
}

export interface StoredReceipt {
  readonly by: NodeId;
  readonly atMs: number;
  readonly isUnconfirmed: boolean;
  readonly trace: readonly TraceEntry[];
  readonly encoded: Uint8Array;
  /** Proven to this node alone, by the session that the message was sealed in (docs/protocol/delivery.md "Receipts of a session"). */
  readonly isSession: boolean;
  /** Provable to anyone with it; undefined for one of a session, and where this disk damaged it. */
  readonly proof: ReceiptProof | undefined;
}

/** One that holds: what it says, and how it is kept. */
export interface ProvenReceipt {
  readonly receipt: Receipt;
  readonly stored: StoredReceipt;
}

export interface OutboxEntry {
  readonly id: MessageId;
  readonly to: string;
  /**
   * With `counter` its name inside the seal, for life. Hex; a row of an earlier release has none: it was named under the store's epoch.
   */
  epoch: string;
  counter: number;
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
  /** Its name inside the seal is another one than `id`: the first one was used by a double of this node. */
  isRenamed?: boolean;
  /** Bundles that it was sealed into before: a receipt may still name one. */
  formerBundles?: readonly BundleId[];
  /**
   * Keys of its recipient (hex) that were lost with the recipient's store, each with the sequence (hex) of the newest record at that time: sealed to
   * again only if a later one names it.
   */
  lostKeys?: readonly string[];
  /** Its recipient could not open it in a session, as after it went back to an earlier release: the older form is tried. */
  isSessionless?: boolean;
  /** The same of the compact form. Not kept: after a restart it is found out again. */
  isSpelledOut?: boolean;
  /** What was left of its life at `atRunMs` (custody/context.ts). */
  readonly remainingMs: number;
  readonly atRunMs?: number;
  /** For releases that count no running time. */
  readonly atWallMs: number;
  /** What a later release wrote in its row. */
  readonly later?: Readonly<Record<string, unknown>>;
}

/** Accepted now, and sealed to nobody yet. */
export function newEntry(
  { limits, clock, time }: Pick<CustodyContext, "limits" | "clock" | "time">,
  order: Order,
  id: MessageId,
  name: Pick<OutboxEntry, "epoch" | "counter">,
): OutboxEntry {
  const { body, ...rest } = order;
  return {
    ...rest,
    id,
    ...name,
    size: body.length,
    createdAtMs: clock.wallMs(),
    failoverDelayMs: limits.failoverDelayMs,
    state: "queued",
    reason: null,
    deliveredAtMs: null,
    receipt: null,
    targets: [],
    remainingMs: order.lifetimeMs,
    atRunMs: time.runMs,
    atWallMs: clock.wallMs(),
  };
}

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
  /** Its place in the order of arrival. */
  readonly order: number;
  /** A withdrawal is being written. */
  isEnding?: boolean;
}

/** Told of messages of this node. */
export interface OutboxEvents extends SendingEvents {
  /** A message of this node is in another state, durably. */
  outboxChanged: OutboxEntry;
}

export interface OutboxDeps {
  readonly events: Teller<OutboxEvents>;
  /** A receipt from `by` that fits no message of the outbox. */
  stranger(bundle: BundleId, by: NodeId): void;
  /** Addressed to this very node. Resolves when delivered durably, `ops` in the same commit. */
  deliverHere(entry: OutboxEntry, body: Uint8Array, ops: readonly StoreOp[]): Promise<void>;
  /** Sends a message of the node itself; false when it could not be stored. Throws what sealing throws. */
  sendSystem(to: NodeId, plaintext: Uint8Array, lifetimeMs: number): Promise<boolean>;
}
