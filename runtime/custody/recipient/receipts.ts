/**
 * Proof of delivery. The recipient's half: issue, sign in batches, keep for duplicates and for who asks later. Over slow ways alone a message of a
 * session is answered within that, unsigned. Receipts travel as bundles of their own, in custody like any other, and cause no receipts. Must never
 * sign for a sender what another one sent. docs/protocol/delivery.md "Receipts".
 */
import type { Timer } from "@godwit/sdk";
import { type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { BundleKind, makeBundle, type Bundle, type BundleHeader } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import {
  briefOf,
  decodeReceipt,
  encodeReceipt,
  encodeReceiptBody,
  encodeSessionReceipts,
  RECEIPT_CODE_BYTES,
  receiptHash,
  receiptSigningBytes,
  RECEIPTS_MAX,
  ReceiptStatus,
  type Receipt,
  type SessionReceipt,
  noBundleId,
} from "../../wire/message.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { CustodyContext } from "../context.ts";
import type { StoreOp } from "../../store/types.ts";
import { Requests } from "./requests.ts";

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
/** Of a signed one that was asked for: its sender asks again. */
const WANTED_LIFETIME_MS = 3_600_000;

/** What goes to one sender in one bundle. */
interface Batch {
  readonly sender: NodeId;
  /** Encoded, under one signature. */
  readonly signed: Uint8Array[];
  readonly inSession: SessionReceipt[];
  lifetimeMs: number;
  readonly timer: Timer;
}

/** As it lies in its row: the receipt, and behind it the code of the session that its message came in. Earlier releases read the first alone. */
interface Kept {
  readonly receipt: Receipt;
  readonly code: Uint8Array | undefined;
}

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
  /** By sender, and by who proves it. */
  readonly #batches = new Map<string, Batch>();
  readonly #requests: Requests;
  readonly #resentAtMs = new SharedMap<MessageId, number>({
    name: "receipts sent again",
    max: RESENDS_TRACKED_MAX,
  });
  #isStopped = false;

  constructor(ctx: CustodyContext, events: ReceiptsEvents) {
    this.#ctx = ctx;
    this.#events = events;
    this.#requests = new Requests(ctx.clock);
  }

  async load(): Promise<void> {
    const rows = (await this.#ctx.store.load("receipt")).map(({ key, meta }) => {
      const { atMs, bundle, sender, via } = readMeta(meta);
      return { messageId: key as MessageId, atMs, bundle, share: this.#shareOf(sender, via) };
    });
    rows.sort((a, b) => a.atMs - b.atMs);
    for (const { messageId, bundle, share } of rows) this.#remember(messageId, bundle, share);
    const ops = this.#takeYielded();
    if (ops.length > 0) await this.#ctx.store.commit(ops).catch(() => {});
  }

  /** Ops that keep a receipt for what `sender` sent; commit them with the delivery it proves. `code`: of the session that it came in. */
  keep(receipt: Receipt, sender: NodeId, share: Share, code?: Uint8Array): StoreOp[] {
    const { messageId, bundleId } = receipt;
    const ops: StoreOp[] = [
      {
        op: "put",
        in: "receipt",
        key: messageId,
        // Who fills whose places is asked again after a restart; readers of earlier releases stop at the bundle.
        meta: `${Math.floor(receipt.atMs)} ${bundleId} ${sender}${share.isKnown ? "" : ` ${share.by}`}`,
        body: concatBytes([encodeReceipt(receipt), code ?? new Uint8Array(0)]),
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

  /** Sends a receipt to the sender of the message: where the way is slow and there is a `code`, one that its session proves. */
  issue(sender: NodeId, receipt: Receipt, lifetimeMs: number, code?: Uint8Array): void {
    const isSigned = code === undefined || !this.#ctx.carrier.isSlow(sender);
    const name = `${sender} ${isSigned ? "signed" : "session"}`;
    let batch = this.#batches.get(name);
    if (batch === undefined) {
      const timer = this.#ctx.clock.after(BATCH_MS, () => this.#flush(name));
      batch = { sender, signed: [], inSession: [], lifetimeMs: 0, timer };
      this.#batches.set(name, batch);
    }
    if (isSigned) batch.signed.push(encodeReceipt(receipt));
    else batch.inSession.push({ ...briefOf(receipt), code });
    batch.lifetimeMs = Math.max(batch.lifetimeMs, lifetimeMs);
    if (batch.signed.length + batch.inSession.length >= RECEIPTS_MAX || this.#isStopped) this.#flush(name);
  }

  /**
   * `sender` asks for the signed receipts of these messages: it gets those that are kept of what it sent itself, once the way to it is fit for them.
   * Rejects with GODWIT_STORE_FAILED.
   */
  async onWanted(sender: NodeId, ids: readonly MessageId[]): Promise<void> {
    const { carrier, store } = this.#ctx;
    if (carrier.isSlow(sender) || !this.#requests.take(sender)) return;
    for (const { key, meta } of await store.rows("receipt", [...new Set(ids)])) {
      if (readMeta(meta).sender !== sender) continue;
      const kept = readKept(await store.body("receipt", key), key as MessageId);
      if (kept !== undefined) this.issue(sender, kept.receipt, WANTED_LIFETIME_MS);
    }
  }

  /** A delivered message came again, in this bundle: its receipt may have been lost. */
  async resend(
    sender: NodeId,
    messageId: MessageId,
    bundle: BundleId,
    lifetimeMs: number,
    share: Share,
  ): Promise<void> {
    const nowMs = this.#ctx.clock.monotonicMs();
    if (nowMs - (this.#resentAtMs.get(messageId) ?? Number.NEGATIVE_INFINITY) < RESEND_MIN_MS) return;
    this.#resentAtMs.set(messageId, nowMs, share);
    const stored = await this.#ctx.store.body("receipt", messageId).catch(() => undefined);
    const kept = readKept(stored, messageId);
    const receipt: Receipt = kept?.receipt ?? {
      status: ReceiptStatus.delivered,
      messageId,
      bundleId: noBundleId,
      atMs: this.#ctx.clock.wallMs(),
      isUnconfirmed: false,
      trace: [],
    };
    // Whoever sealed it anew since has no key of the bundle that was delivered, and may be a double of who sent that.
    this.issue(sender, receipt, lifetimeMs, receipt.bundleId === bundle ? kept?.code : undefined);
  }

  /** Signs what waits, so that it is in custody before the store closes: its senders would wait for a duplicate's receipt. */
  stop(): void {
    this.#isStopped = true;
    for (const name of [...this.#batches.keys()]) this.#flush(name);
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

  #flush(name: string): void {
    const batch = this.#batches.get(name);
    if (batch === undefined) return;
    this.#batches.delete(name);
    batch.timer.cancel();
    const { self } = this.#ctx;
    const { sender, inSession } = batch;
    const header: BundleHeader = {
      kind: BundleKind.receipt,
      priority: RECEIPT_PRIORITY,
      source: self,
      destination: sender,
      lifetimeMs: batch.lifetimeMs,
    };
    const body = inSession.length > 0 ? encodeSessionReceipts(inSession) : this.#sign(batch);
    this.#events.ready(makeBundle(header, body));
  }

  #sign({ sender, signed }: Batch): Uint8Array {
    const { self, network } = this.#ctx;
    const hashes = signed.map(receiptHash);
    return encodeReceiptBody(signed, this.#ctx.sign(receiptSigningBytes(network, self, sender, hashes)));
  }
}

/** `sender` undefined: a release wrote it that did not say. */
function readMeta(meta: string): { atMs: number; bundle: BundleId; sender: NodeId | undefined; via: string } {
  const [at, bundle, sender, ...via] = meta.split(" ");
  const named = { bundle: (bundle ?? "") as BundleId, sender: sender as NodeId | undefined };
  return { atMs: Number(at), ...named, via: via.join(" ") };
}

/** Undefined when it is gone or damaged: nothing is signed that was not delivered. */
function readKept(stored: Uint8Array | undefined, messageId: MessageId): Kept | undefined {
  if (stored === undefined) return undefined;
  try {
    const receipt = decodeReceipt(stored);
    const code = stored.subarray(encodeReceipt(receipt).length).subarray(0, RECEIPT_CODE_BYTES);
    const kept = { receipt, code: code.length === RECEIPT_CODE_BYTES ? code : undefined };
    return receipt.messageId === messageId ? kept : undefined;
  } catch {
    return undefined;
  }
}
