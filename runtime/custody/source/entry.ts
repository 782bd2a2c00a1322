/** A message of the outbox as it lies in the store. */
import { createHash } from "node:crypto";
import type { Teller } from "../../kernel/hub.ts";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import {
  type Check,
  hasFields,
  isAbsentOr,
  isCount,
  isFlag,
  isListOf,
  isMatch,
  isNullOr,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "../../kernel/json.ts";
import type { TraceEntry } from "../../wire/bundle.ts";
import { CONTENT_TYPE_BYTES_MAX, SUBJECT_BYTES_MAX } from "../../wire/message.ts";
import type { Priority } from "../../wire/constants.ts";
import { loadSound } from "../../store/sound.ts";
import type { StoreOp } from "../../store/types.ts";
import { type CustodyContext, isTrace } from "../context.ts";
import { IDEMPOTENCY_KEY_BYTES_MAX, type Order } from "./order.ts";

const outboxStates = ["queued", "relayed", "delivered", "expired", "refused", "withdrawn"] as const;
export type OutboxState = (typeof outboxStates)[number];
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
  /** Keys of its recipient (hex) that were lost with the recipient's store: never sealed to again. */
  lostKeys?: readonly string[];
  /** What was left of its life at `atRunMs` (custody/context.ts). */
  readonly remainingMs: number;
  readonly atRunMs?: number;
  /** For releases that count no running time. */
  readonly atWallMs: number;
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

const isId = isMatch(/^[0-9a-f]{32}$/);
const isHex = isMatch(/^(?:[0-9a-f]{2})*$/);
const TARGETS_MAX = 64;

/** What a row of the outbox has to be; fields that an earlier release did not write may be missing. */
const isOutboxEntry: Check = hasFields({
  id: isId,
  to: isText(64),
  epoch: isAbsentOr(isMatch(/^[0-9a-f]{16}$/)),
  counter: isCount,
  subject: isText(SUBJECT_BYTES_MAX),
  contentType: isText(CONTENT_TYPE_BYTES_MAX),
  priority: isOneOf(0, 1, 2, 3),
  size: isCount,
  createdAtMs: isTime,
  lifetimeMs: isTime,
  failover: isFlag,
  failoverDelayMs: isTime,
  idempotencyKey: isAbsentOr(isText(IDEMPOTENCY_KEY_BYTES_MAX)),
  state: isOneOf(...outboxStates),
  reason: isNullOr(isText(4_096)),
  deliveredAtMs: isNullOr(isTime),
  receipt: isNullOr(
    hasFields({
      by: isText(64),
      atMs: isTime,
      isUnconfirmed: isFlag,
      trace: isTrace,
      receiptHex: isHex,
      hashesHex: isListOf(isHex, TARGETS_MAX),
      signatureHex: isHex,
    }),
  ),
  targets: isListOf(
    hasFields({
      node: isText(64),
      bundle: isText(64),
      sealedBytes: isCount,
      key: isNullOr(hasFields({ id: isCount, publicHex: isMatch(/^[0-9a-f]{64}$/) })),
    }),
    TARGETS_MAX,
  ),
  isRenamed: isAbsentOr(isFlag),
  formerBundles: isAbsentOr(isListOf(isText(64), TARGETS_MAX)),
  lostKeys: isAbsentOr(isListOf(isHex, TARGETS_MAX)),
  remainingMs: isTime,
  atRunMs: isAbsentOr(isTime),
  atWallMs: isTime,
});

/** In the order in which they were made, whatever the clock showed then. Those of a release that counted no running time begin to age now, durably. */
export async function loadEntries({
  store,
  time,
}: Pick<CustodyContext, "store" | "time">): Promise<OutboxEntry[]> {
  const undated: OutboxEntry[] = [];
  const entries = await loadSound(store, "outbox", ({ key, meta }) => {
    const entry = parseMeta<OutboxEntry>(meta, isOutboxEntry);
    if (entry?.id !== key) return undefined;
    if (entry.atRunMs !== undefined || finalStates.includes(entry.state)) return entry;
    const dated = { ...entry, atRunMs: time.runMs };
    undated.push(dated);
    return dated;
  });
  if (undated.length > 0) await store.commit(undated.map(putEntry)).catch(() => {});
  for (const { atRunMs } of entries) time.catchUp(atRunMs ?? 0);
  return entries.sort((a, b) => (a.atRunMs ?? 0) - (b.atRunMs ?? 0) || a.createdAtMs - b.createdAtMs);
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
  /** A withdrawal is being written. */
  isEnding?: boolean;
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
