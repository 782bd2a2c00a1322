/**
 * Signed proof of delivery. The recipient's half: issue, sign in batches, keep for duplicates. Receipts travel as
 * bundles of their own, in custody like any other, and cause no receipts. docs/protocol/delivery.md "Receipts".
 */
import type { Timer } from "@godwit/sdk";
import { type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { BundleKind, makeBundle, type Bundle, type BundleHeader } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import {
  decodeReceipt,
  encodeReceipt,
  encodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  RECEIPTS_MAX,
  ReceiptStatus,
  type Receipt,
  noBundleId,
} from "../../wire/message.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { CustodyContext } from "../context.ts";
import type { StoreOp } from "../../store/types.ts";

/** Deliveries of one moment to one sender share a signature. */
const BATCH_MS = 5;
/**
 * Stored receipts; those that had to yield are made anew when a duplicate asks, without their trace. Of a message for several
 * machines only one that is kept proves that it was delivered here, so each sender that is known has its share.
 */
export const RECEIPTS_KEPT_MAX = 20_000;
/** A sender that keeps repeating a message gets its receipt at most this often. */
const RESEND_MIN_MS = 1_000;
export const RESENDS_TRACKED_MAX = 4_096;
const RECEIPT_PRIORITY: Priority = 1;

export interface ReceiptsEvents {
  /** A receipt bundle is ready to be taken into custody. */
  ready(bundle: Bundle): void;
}

export class Receipts {
  readonly #ctx: CustodyContext;
  readonly #events: ReceiptsEvents;
  /** Those that yield leave the disk with the next one that is kept. */
  readonly #kept = new SharedMap<MessageId, BundleId>({
    name: "receipts kept",
    max: RECEIPTS_KEPT_MAX,
    // Those of an earlier release say nothing of shares; until known senders want the places nobody loses one.
    strangersMax: RECEIPTS_KEPT_MAX,
    evicted: (messageId, bundle) => {
      this.#byBundle.delete(bundle);
      this.#yielded.push(messageId);
    },
  });
  #yielded: MessageId[] = [];
  readonly #byBundle = new Map<BundleId, MessageId>();
  readonly #batches = new Map<NodeId, { receipts: Uint8Array[]; lifetimeMs: number; timer: Timer }>();
  readonly #resentAtMs = new SharedMap<MessageId, number>({
    name: "receipts sent again",
    max: RESENDS_TRACKED_MAX,
  });
  #isStopped = false;

  constructor(ctx: CustodyContext, events: ReceiptsEvents) {
    this.#ctx = ctx;
    this.#events = events;
  }

  async load(): Promise<void> {
    const rows = (await this.#ctx.store.load("receipt")).map(({ key, meta }) => {
      const [at, bundle, sender, ...via] = meta.split(" ");
      const share = this.#shareOf(sender as NodeId | undefined, via.join(" "));
      return { messageId: key as MessageId, atMs: Number(at), bundle: (bundle ?? "") as BundleId, share };
    });
    rows.sort((a, b) => a.atMs - b.atMs);
    for (const { messageId, bundle, share } of rows) this.#remember(messageId, bundle, share);
    const ops = this.#takeYielded();
    if (ops.length > 0) await this.#ctx.store.commit(ops).catch(() => {});
  }

  /** Ops that keep a receipt for what `sender` sent; commit them with the delivery it proves. */
  keep(receipt: Receipt, sender: NodeId, share: Share): StoreOp[] {
    const { messageId, bundleId } = receipt;
    const ops: StoreOp[] = [
      {
        op: "put",
        in: "receipt",
        key: messageId,
        // Who fills whose places is asked again after a restart; readers of earlier releases stop at the bundle.
        meta: `${Math.floor(receipt.atMs)} ${bundleId} ${sender}${share.isKnown ? "" : ` ${share.by}`}`,
        body: encodeReceipt(receipt),
      },
    ];
    this.#remember(messageId, bundleId, share);
    return [...ops, ...this.#takeYielded()];
  }

  /** Takes back a `keep` whose commit failed: nothing was delivered, and no machine may be told so. */
  undo(messageId: MessageId): void {
    const bundle = this.#kept.get(messageId);
    this.#kept.delete(messageId);
    if (bundle !== undefined) this.#byBundle.delete(bundle);
  }

  /** The message that a bundle delivered, while its receipt is kept: an offer of it again need not be fetched. */
  messageOf(bundle: BundleId): MessageId | undefined {
    return this.#byBundle.get(bundle);
  }

  has(messageId: MessageId): boolean {
    return this.#kept.has(messageId);
  }

  /** Sends a receipt to the sender of the message. */
  issue(sender: NodeId, receipt: Receipt, lifetimeMs: number): void {
    let batch = this.#batches.get(sender);
    if (batch === undefined) {
      batch = {
        receipts: [],
        lifetimeMs: 0,
        timer: this.#ctx.clock.after(BATCH_MS, () => this.#flush(sender)),
      };
      this.#batches.set(sender, batch);
    }
    batch.receipts.push(encodeReceipt(receipt));
    batch.lifetimeMs = Math.max(batch.lifetimeMs, lifetimeMs);
    if (batch.receipts.length >= RECEIPTS_MAX || this.#isStopped) this.#flush(sender);
  }

  /** A delivered message came again: its receipt may have been lost. */
  async resend(sender: NodeId, messageId: MessageId, lifetimeMs: number, share: Share): Promise<void> {
    const nowMs = this.#ctx.clock.monotonicMs();
    if (nowMs - (this.#resentAtMs.get(messageId) ?? Number.NEGATIVE_INFINITY) < RESEND_MIN_MS) return;
    this.#resentAtMs.set(messageId, nowMs, share);
    const stored = await this.#ctx.store.body("receipt", messageId).catch(() => undefined);
    const receipt: Receipt = readReceipt(stored, messageId) ?? {
      status: ReceiptStatus.delivered,
      messageId,
      bundleId: noBundleId,
      atMs: this.#ctx.clock.wallMs(),
      isUnconfirmed: false,
      trace: [],
    };
    this.issue(sender, receipt, lifetimeMs);
  }

  /** Signs what waits, so that it is in custody before the store closes: its senders would wait for a duplicate's receipt. */
  stop(): void {
    this.#isStopped = true;
    for (const sender of [...this.#batches.keys()]) this.#flush(sender);
  }

  #remember(messageId: MessageId, bundle: BundleId, share: Share): void {
    if (this.#kept.set(messageId, bundle, share)) this.#byBundle.set(bundle, messageId);
  }

  #takeYielded(): StoreOp[] {
    const keys = this.#yielded;
    this.#yielded = [];
    return keys.map((key) => ({ op: "delete", in: "receipt", key }));
  }

  /** `via`: what the strangers had in common that brought it; empty of one who was known. */
  #shareOf(sender: NodeId | undefined, via: string): Share {
    if (sender === undefined) return EARLIER_RUN;
    if (this.#ctx.regard.isKnown(sender)) return { by: sender, isKnown: true };
    return via === "" ? EARLIER_RUN : { by: via, isKnown: false };
  }

  #flush(sender: NodeId): void {
    const batch = this.#batches.get(sender);
    if (batch === undefined) return;
    this.#batches.delete(sender);
    batch.timer.cancel();
    const { self, network } = this.#ctx;
    const hashes = batch.receipts.map(receiptHash);
    const signature = this.#ctx.sign(receiptSigningBytes(network, self, sender, hashes));
    const header: BundleHeader = {
      kind: BundleKind.receipt,
      priority: RECEIPT_PRIORITY,
      source: self,
      destination: sender,
      lifetimeMs: batch.lifetimeMs,
    };
    this.#events.ready(makeBundle(header, encodeReceiptBody(batch.receipts, signature)));
  }
}

/** Undefined when it is gone or damaged: nothing is signed that was not delivered. */
function readReceipt(stored: Uint8Array | undefined, messageId: MessageId): Receipt | undefined {
  if (stored === undefined) return undefined;
  try {
    const receipt = decodeReceipt(stored);
    return receipt.messageId === messageId ? receipt : undefined;
  } catch {
    return undefined;
  }
}
