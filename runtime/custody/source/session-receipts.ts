/**
 * Receipts that a session proves, as the source reads them: which bundle each is about, and whether it holds. Owns nothing. Must never believe one of a
 * bundle that was not sealed, in a session, to whom it comes from. docs/protocol/delivery.md "Receipts of a session".
 */
import { timingSafeEqual } from "node:crypto";
import { TokenBucket } from "../../kernel/backoff.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import {
  encodeReceipt,
  readFlags,
  receiptSaid,
  ReceiptStatus,
  type Receipt,
  type SessionReceipt,
} from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import type { OutboxEntries } from "./entries.ts";
import type { ProvenReceipt, Target } from "./entry.ts";

/** Bundles of receipts whose messages are looked for on the disk: anybody can write anybody's name on one, and a look takes milliseconds where much is there. */
const LOOKS = { perSecond: 5, burst: 20 } as const;
/** Messages whose bundles begin as one receipt says: one, and hardly ever another. */
const FOUND_MAX = 32;

export class SessionReceipts {
  readonly #ctx: Pick<CustodyContext, "sealer" | "store">;
  readonly #entries: OutboxEntries;
  readonly #looks: TokenBucket;

  constructor(ctx: Pick<CustodyContext, "sealer" | "store" | "clock">, entries: OutboxEntries) {
    this.#ctx = ctx;
    this.#entries = entries;
    this.#looks = new TokenBucket(ctx.clock, LOOKS.perSecond, LOOKS.burst);
  }

  /** Those of `receipts` that hold, from `signer` for messages in memory. */
  proven(signer: NodeId, receipts: readonly SessionReceipt[]): Map<SessionReceipt, ProvenReceipt> {
    const proven = new Map<SessionReceipt, ProvenReceipt>();
    for (const receipt of receipts)
      for (const { entry } of this.#entries.beginning(receipt.reference)) {
        const target = entry.targets.find((one) => one.node === signer && this.#holds(receipt, one));
        if (target !== undefined) proven.set(receipt, provenOf(receipt, target, entry.id));
      }
    return proven;
  }

  /**
   * Ids of messages on the disk alone that these may be about. Where it was asked too often it finds none: the source offers such a message again,
   * and its receipt comes again. Rejects with GODWIT_STORE_FAILED.
   */
  async stored(receipts: readonly SessionReceipt[]): Promise<MessageId[]> {
    if (receipts.length === 0 || !this.#looks.take()) return [];
    const ids: MessageId[] = [];
    for (const order of this.#entries.storedOrders(
      receipts.map(({ reference }) => reference),
      FOUND_MAX,
    )) {
      const page = { order: "oldest-first", after: order - 1, limit: 1 } as const;
      const [row] = await this.#ctx.store.page("outbox", page);
      if (row?.order === order) ids.push(row.key as MessageId);
    }
    return ids;
  }

  #holds({ code, ...said }: SessionReceipt, { bundle, session }: Target): boolean {
    const { sessions } = this.#ctx.sealer;
    // Nothing but a delivery is said so.
    if (said.status !== ReceiptStatus.delivered || session === undefined || sessions === undefined)
      return false;
    if (!bundle.startsWith(said.reference)) return false;
    return timingSafeEqual(code, sessions.receiptCode(session.key, receiptSaid(said, bundle)));
  }
}

function provenOf(receipt: SessionReceipt, { node, bundle }: Target, messageId: MessageId): ProvenReceipt {
  const said: Receipt = {
    status: receipt.status,
    messageId,
    bundleId: bundle,
    atMs: receipt.atS * 1_000,
    ...readFlags(receipt.flags),
    trace: [],
  };
  const { atMs, isUnconfirmed, trace } = said;
  const encoded = encodeReceipt(said);
  return {
    receipt: said,
    stored: { by: node, atMs, isUnconfirmed, trace, encoded, isSession: true, proof: undefined },
  };
}
