/**
 * Store and forward: a message accepted here is delivered exactly once, or expires or is refused with a reason; a hop
 * acknowledges only what it holds durably. This file takes the frames and calls of the outside and hands them to the
 * parts: outbox (the source), transit (the relay), delivery and inbox (the recipient), claims, receipts, transfer,
 * forwarder. Never routes, never touches a socket. docs/protocol/delivery.md is normative.
 */
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { formatHex, idBytes, type BundleId, type MessageId, type NodeId } from "../kernel/ids.ts";
import {
  BundleKind,
  decodeBundleFrame,
  decodeChunk,
  decodeCustodyAck,
  decodeCustodyRefuse,
  decodeOffer,
  decodeWant,
  encodeBundleHeader,
  encodeCustodyAck,
  encodeCustodyRefuse,
  makeBundle,
  RefuseReason,
  type Bundle,
  type Journey,
  type Offer,
} from "../wire/bundle.ts";
import {
  BODY_BYTES_MAX,
  FrameType,
  LIFETIME_MAX_MS,
  PRIORITY_DEFAULT,
  type Priority,
} from "../wire/constants.ts";
import {
  decodeClaim,
  decodeClaimAnswer,
  decodeInnerMessage,
  messageIdOf,
  ReceiptStatus,
  SUBJECT_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  type InnerMessage,
} from "../wire/message.ts";
import { BodyCache } from "./body-cache.ts";
import { Claims } from "./claims.ts";
import type { CustodyContext, Holding } from "./context.ts";
import { Delivery, noBundleId, type Arrival, type DeliveryOutcome } from "./delivery.ts";
import { Forwarder } from "./forwarder.ts";
import { Inbox, type InboxEntry } from "./inbox.ts";
import { Outbox, type OutboxEntry } from "./outbox.ts";
import { Receipts } from "./receipts.ts";
import { Seen } from "./seen.ts";
import { ChunkReceiver, ChunkSender } from "./transfer.ts";
import { Transit } from "./transit.ts";
import type { StoreOp } from "./types.ts";

/** Acknowledgements that leave in one frame. */
const ACKS_PER_FRAME = 512;
/** Bundles of one neighbour between arrival and commit; above its window, so that an honest one never meets it. */
const UNCOMMITTED_MAX = 2_048;
const UNCOMMITTED_BYTES_MAX = 32 * 1024 * 1024;
const RETRY_FULL_MS = 5_000;
const RETRY_BUSY_MS = 500;
const RETRY_STORE_MS = 2_000;
/** A wall-clock second of `ttl_seconds` at least. */
const LIFETIME_MIN_MS = 1_000;
const CLAIM_PRIORITY: Priority = 0;

export interface CustodyEvents {
  delivered(entry: InboxEntry, body: Uint8Array): void;
  changed(entry: OutboxEntry): void;
}

export interface SendRequest {
  readonly to: string;
  readonly body: Uint8Array;
  readonly subject?: string;
  readonly contentType?: string;
  readonly priority?: Priority;
  readonly lifetimeMs?: number;
  readonly failover?: boolean;
  readonly idempotencyKey?: string;
}

export class Custody {
  readonly #ctx: CustodyContext;
  readonly #seen = new Seen();
  readonly inbox: Inbox;
  readonly outbox: Outbox;
  readonly transit: Transit;
  readonly forwarder: Forwarder;
  readonly #receipts: Receipts;
  readonly #delivery: Delivery;
  readonly #claims: Claims;
  readonly #sender: ChunkSender;
  readonly #receiver: ChunkReceiver;
  readonly #acks = new Map<NodeId, BundleId[]>();
  readonly #storeEpochs = new Map<NodeId, string>();
  readonly #uncommitted = new Map<NodeId, { count: number; bytes: number }>();
  readonly #refusals;
  #isStopped = false;

  constructor(ctx: CustodyContext, events: CustodyEvents) {
    this.#ctx = ctx;
    const cache = new BodyCache();
    this.forwarder = new Forwarder(ctx, {
      acknowledged: (holding, by) => this.#onAcknowledged(holding, by),
      expired: (holding) => this.#onExpired(holding),
      offered: () => {},
    });
    this.inbox = new Inbox(ctx);
    this.transit = new Transit(ctx, this.forwarder, cache);
    this.outbox = new Outbox(ctx, this.forwarder, cache, {
      changed: (entry) => events.changed(entry),
      deliverHere: (entry, body, ops) => this.#deliverHere(entry, body, ops),
    });
    this.#receipts = new Receipts(ctx, { ready: (bundle) => this.#sendOwn(bundle) });
    this.#delivery = new Delivery(
      ctx,
      { inbox: this.inbox, seen: this.#seen, receipts: this.#receipts },
      { delivered: (entry, body) => events.delivered(entry, body) },
    );
    this.#claims = new Claims(ctx, {
      send: (to, kind, plaintext, lifetimeMs) => this.#sendSealed(to, kind, plaintext, lifetimeMs),
      deliver: async (arrival, isUnconfirmed) =>
        isDone(await this.#delivery.deliver({ ...arrival, isUnconfirmed })),
      drop: (arrival) => this.#delivery.skip(arrival, arrival.ops),
      wasDeliveredHere: (id) => this.#receipts.has(id),
    });
    this.#sender = new ChunkSender(ctx, this.forwarder);
    this.#receiver = new ChunkReceiver(ctx, {
      complete: (from, bundle, offer, cleanup) => void this.#onBundle(from, bundle, offer.journey, cleanup),
      damaged: (from, id) => this.#refuse(from, id, RefuseReason.damaged, RETRY_FULL_MS),
    });
    this.#refusals = ctx.metrics.counter(
      "godwit_custody_refused_total",
      "bundles not taken from a neighbour",
      ["reason"],
    );
    ctx.metrics.observedGauge(
      "godwit_queue_messages",
      "messages and bundles held for others",
      () => this.queuedCount,
    );
    ctx.metrics.observedGauge("godwit_queue_bytes", "their size", () => this.queuedBytes);
    ctx.metrics.observedGauge("godwit_inbox_messages", "messages in the inbox", () => this.inbox.count);
  }

  /** Reads what survived. Call once, before any frame. */
  async load(): Promise<void> {
    await this.#seen.load(this.#ctx.store);
    await this.#receipts.load();
    await this.inbox.load();
    await this.#claims.load();
    await this.#receiver.load();
    await this.outbox.load();
    for (const row of await this.transit.load()) {
      const sealed = await this.#ctx.store.body("transit", row.id);
      if (sealed !== undefined)
        await this.#onMessage(undefined, { id: row.id, header: row.header, sealed }, row.journey, []);
    }
  }

  get queuedCount(): number {
    return this.outbox.openCount + this.transit.count + this.#claims.count;
  }

  get queuedBytes(): number {
    return this.outbox.bytes + this.transit.bytes;
  }

  /** Accepts a message: its id, only after the durable commit. Throws address, size, quota and store errors. */
  send(request: SendRequest): Promise<MessageId> {
    if (this.#isStopped) throw godwitError("GODWIT_STOPPED", "the node is stopping");
    const { body, subject = "", contentType = "text/plain" } = request;
    if (body.length > BODY_BYTES_MAX) {
      throw godwitError(
        "GODWIT_TOO_BIG",
        `the body has ${body.length} bytes, at most ${BODY_BYTES_MAX} allowed`,
      );
    }
    if (
      Buffer.byteLength(subject) > SUBJECT_BYTES_MAX ||
      Buffer.byteLength(contentType) > CONTENT_TYPE_BYTES_MAX
    ) {
      throw godwitError(
        "GODWIT_TOO_BIG",
        `a subject has at most ${SUBJECT_BYTES_MAX} bytes, a content type ${CONTENT_TYPE_BYTES_MAX}`,
      );
    }
    const lifetimeMs = Math.floor(request.lifetimeMs ?? this.#ctx.limits.lifetimeDefaultMs);
    return this.outbox.send({
      to: this.#ctx.directory.canonical(request.to),
      body: body.slice(),
      subject,
      contentType,
      priority: request.priority ?? PRIORITY_DEFAULT,
      lifetimeMs: Math.min(Math.max(lifetimeMs, LIFETIME_MIN_MS), LIFETIME_MAX_MS),
      failover: request.failover ?? false,
      ...(request.idempotencyKey === undefined ? {} : { idempotencyKey: request.idempotencyKey }),
    });
  }

  /** A transient message that was routed here: into the inbox, no receipt, dropped when there is no room. */
  deliverTransient(from: NodeId, sealed: Uint8Array, associated: Uint8Array, priority: Priority): void {
    const { plaintext, forwardSecret } = this.#ctx.sealer.open(from, sealed, associated);
    const inner = decodeInnerMessage(plaintext);
    const id = messageIdOf(from, inner.to, inner.storeEpoch, inner.counter);
    void this.#delivery.deliver({
      id,
      from,
      inner,
      priority,
      lifetimeMs: 0,
      forwardSecret,
      isUnconfirmed: false,
      trace: [],
      bundleId: noBundleId,
      wantsReceipt: false,
      ops: [],
    });
  }

  /** A custody frame of a neighbour. Borrowed. Throws GODWIT_DECODE. */
  onFrame(from: NodeId, type: number, frame: Uint8Array): void {
    if (this.#isStopped) return;
    switch (type) {
      case FrameType.bundle: {
        const { bundle, journey } = decodeBundleFrame(frame);
        return void this.#onBundle(from, bundle, journey, []);
      }
      case FrameType.custodyAck: {
        const ids = decodeCustodyAck(frame);
        for (const id of ids) this.#sender.end(from, id);
        return this.forwarder.onAck(from, ids);
      }
      case FrameType.custodyRefuse: {
        const { id, reason, retryAfterMs } = decodeCustodyRefuse(frame);
        this.#sender.end(from, id);
        return this.forwarder.onRefuse(from, id, reason, retryAfterMs);
      }
      case FrameType.offer:
        return void this.#onOffer(from, decodeOffer(frame));
      case FrameType.want:
        return void this.#sender.onWant(from, decodeWant(frame));
      case FrameType.chunk:
        return this.#receiver.onChunk(from, decodeChunk(frame));
      default:
      // A later version's frame: skipped.
    }
  }

  onRoute(destination: NodeId): void {
    this.forwarder.onRoute(destination);
  }

  /** Another store epoch than last time: what this neighbour acknowledged may be gone. */
  onNeighbourUp(id: NodeId, storeEpoch: string): void {
    const known = this.#storeEpochs.get(id);
    this.#storeEpochs.set(id, storeEpoch);
    if (known !== undefined && known !== storeEpoch) this.forwarder.onStoreLost(id);
    this.forwarder.onWritable(id);
  }

  onNeighbourDown(id: NodeId): void {
    this.#acks.delete(id);
    this.#sender.onNeighbourDown(id);
    this.#receiver.onNeighbourDown(id);
    this.forwarder.onNeighbourDown(id);
  }

  onWritable(id: NodeId): void {
    this.#sender.onWritable(id);
    this.forwarder.onWritable(id);
  }

  /** Names or records changed. */
  onDirectory(): void {
    this.outbox.onDirectory();
  }

  stop(): void {
    this.#isStopped = true;
    this.forwarder.stop();
    this.#receiver.stop();
    this.#claims.stop();
    this.#receipts.stop();
    this.outbox.stop();
    this.inbox.stop();
  }

  /** Never rejects. A neighbour that ignores the window is refused before its bundles pile up in front of the disk. */
  async #onBundle(from: NodeId, bundle: Bundle, journey: Journey, ops: readonly StoreOp[]): Promise<void> {
    const waiting = this.#uncommitted.get(from) ?? { count: 0, bytes: 0 };
    if (waiting.count >= UNCOMMITTED_MAX || waiting.bytes + bundle.sealed.length > UNCOMMITTED_BYTES_MAX) {
      return this.#refuse(from, bundle.id, RefuseReason.busy, RETRY_BUSY_MS);
    }
    this.#uncommitted.set(from, waiting);
    waiting.count++;
    waiting.bytes += bundle.sealed.length;
    try {
      await this.#takeBundle(from, bundle, journey, ops);
    } finally {
      waiting.bytes -= bundle.sealed.length;
      if (--waiting.count === 0 && this.#uncommitted.get(from) === waiting) this.#uncommitted.delete(from);
    }
  }

  async #takeBundle(from: NodeId, bundle: Bundle, journey: Journey, ops: readonly StoreOp[]): Promise<void> {
    const { header, id } = bundle;
    if (header.destination === this.#ctx.self) return this.#onOwn(from, bundle, journey, ops);
    const held = this.forwarder.get(id);
    if (held !== undefined || header.source === this.#ctx.self) {
      // Our own message comes back because the way on broke (held: offer it another way), or is finished already.
      this.#ack(from, id);
      this.forwarder.retry(id);
      return;
    }
    if (journey.remainingMs <= 0) return this.#ack(from, id); // its life is over: nobody needs to keep it
    const refusal = this.transit.refusal(from, bundle.sealed.length);
    if (refusal !== undefined) return this.#refuse(from, id, refusal, RETRY_FULL_MS);
    if (await this.transit.take(bundle, journey, from, ops)) this.#ack(from, id);
    else this.#refuse(from, id, RefuseReason.storeFailed, RETRY_STORE_MS);
  }

  async #onOffer(from: NodeId, offer: Offer): Promise<void> {
    const { id, header, sealedBytes } = offer;
    if (this.forwarder.get(id) !== undefined || header.source === this.#ctx.self) {
      this.#ack(from, id);
      return this.forwarder.retry(id);
    }
    const isForHere = header.destination === this.#ctx.self;
    const promised = this.#receiver.isArrivingFrom(id) === undefined ? this.#receiver.expectedBytes : 0;
    const refusal = isForHere
      ? this.#inboxRefusal(header.source, sealedBytes + promised)
      : this.transit.refusal(from, sealedBytes + promised);
    if (refusal !== undefined) return this.#refuse(from, id, refusal, RETRY_FULL_MS);
    if (!(await this.#receiver.accept(from, offer))) this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS);
  }

  #inboxRefusal(source: NodeId, bytes: number): number | undefined {
    const refusal = this.inbox.refusal(source, bytes);
    return refusal === undefined ? undefined : RefuseReason[refusal];
  }

  /** A bundle for this node. Never rejects. */
  async #onOwn(from: NodeId, bundle: Bundle, journey: Journey, ops: readonly StoreOp[]): Promise<void> {
    const { kind, source } = bundle.header;
    try {
      switch (kind) {
        case BundleKind.message:
          return await this.#onMessage(from, bundle, journey, ops);
        case BundleKind.receipt:
          await this.outbox.onReceipts(source, bundle.sealed);
          break;
        case BundleKind.claim: {
          const claim = decodeClaim(this.#open(bundle).plaintext);
          await this.#claims.onClaim(source, claim.messageId);
          break;
        }
        case BundleKind.claimAnswer: {
          const { messageId, answer } = decodeClaimAnswer(this.#open(bundle).plaintext);
          this.#claims.onAnswer(source, messageId, answer);
          break;
        }
        default:
          // A later version's kind: nothing here can use it, and keeping it would help nobody.
          this.#ctx.log.debug("bundle of an unknown kind", { kind });
      }
      this.#ack(from, bundle.id);
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (error.kind === "capacity")
        return this.#refuse(from, bundle.id, RefuseReason.storeFailed, RETRY_STORE_MS);
      if (error.kind === "bug") this.#ctx.log.error("bundle failed", { error });
      this.#refusals.add(1, { reason: "unreadable" });
      this.#ack(from, bundle.id);
    }
  }

  #open(bundle: Bundle): { plaintext: Uint8Array; forwardSecret: boolean } {
    return this.#ctx.sealer.open(bundle.header.source, bundle.sealed, encodeBundleHeader(bundle.header));
  }

  /** `from` undefined: it was held here already when the node started. */
  async #onMessage(
    from: NodeId | undefined,
    bundle: Bundle,
    journey: Journey,
    ops: readonly StoreOp[],
  ): Promise<void> {
    const { source, priority, lifetimeMs } = bundle.header;
    let inner: InnerMessage;
    let forwardSecret: boolean;
    try {
      const opened = this.#open(bundle);
      forwardSecret = opened.forwardSecret;
      inner = decodeInnerMessage(opened.plaintext);
    } catch (error) {
      this.#onUnreadable(bundle);
      throw error;
    }
    const held = { op: "delete", in: "transit", key: bundle.id } as const;
    const isShared = inner.machines.length > 1 && inner.machines.includes(this.#ctx.self);
    const arrival: Arrival = {
      id: messageIdOf(source, inner.to, inner.storeEpoch, inner.counter),
      from: source,
      inner,
      priority,
      lifetimeMs,
      forwardSecret,
      isUnconfirmed: false,
      trace: journey.trace,
      bundleId: bundle.id,
      wantsReceipt: true,
      ops: isShared ? [...ops, held] : ops,
    };
    if (!isShared || this.#delivery.wasDelivered(arrival)) {
      return this.#answer(from, bundle.id, await this.#delivery.deliver(arrival));
    }
    if (this.#claims.has(arrival.id)) return this.#answer(from, bundle.id, "again");
    if (this.#claims.isFull) return this.#answer(from, bundle.id, "full");
    if (from !== undefined)
      await this.#ctx.store.commit([this.transit.holdOp(bundle, journey, from), ...ops]);
    this.#answer(from, bundle.id, "again");
    this.#claims.start(arrival);
  }

  /** Tells the source, signed, that sealing anew is the only way. */
  #onUnreadable(bundle: Bundle): void {
    this.#ctx.log.info("message cannot be opened", { bundle: bundle.id });
    const receipt = {
      status: ReceiptStatus.refused,
      messageId: formatHex(new Uint8Array(16)) as MessageId,
      bundleId: bundle.id,
      atMs: this.#ctx.clock.wallMs(),
      isUnconfirmed: false,
      trace: [],
    };
    this.#receipts.issue(bundle.header.source, receipt, bundle.header.lifetimeMs);
  }

  #answer(from: NodeId | undefined, id: BundleId, outcome: DeliveryOutcome): void {
    if (from === undefined) return;
    if (isDone(outcome)) return this.#ack(from, id);
    const reason =
      outcome === "full"
        ? RefuseReason.full
        : outcome === "quota"
          ? RefuseReason.quota
          : RefuseReason.storeFailed;
    this.#refuse(from, id, reason, outcome === "store_failed" ? RETRY_STORE_MS : RETRY_FULL_MS);
  }

  async #deliverHere(entry: OutboxEntry, body: Uint8Array, ops: readonly StoreOp[]): Promise<void> {
    const { self, storeEpoch } = this.#ctx;
    const outcome = await this.#delivery.deliver({
      id: entry.id,
      from: self,
      inner: {
        storeEpoch,
        counter: entry.counter,
        to: entry.to,
        createdAtMs: entry.createdAtMs,
        machines: [],
        failoverDelayMs: 0,
        subject: entry.subject,
        contentType: entry.contentType,
        body,
      },
      priority: entry.priority,
      lifetimeMs: entry.lifetimeMs,
      forwardSecret: true,
      isUnconfirmed: false,
      trace: [],
      bundleId: noBundleId,
      wantsReceipt: false,
      ops,
    });
    if (isDone(outcome)) return;
    throw outcome === "store_failed"
      ? godwitError("GODWIT_STORE_FAILED", "the store cannot commit; free some disk space")
      : godwitError("GODWIT_QUOTA", "the inbox is full; read and remove messages");
  }

  #sendSealed(to: NodeId, kind: number, plaintext: Uint8Array, lifetimeMs: number): void {
    const header = { kind, priority: CLAIM_PRIORITY, source: this.#ctx.self, destination: to, lifetimeMs };
    const unique = this.#ctx.random.bytes(16);
    const { sealer } = this.#ctx;
    this.#sendOwn(
      makeBundle(header, sealer.seal(to, sealer.keyFor(to), plaintext, encodeBundleHeader(header), unique)),
    );
  }

  /** Takes custody of a bundle made here. A failed commit loses it, which its cause (a duplicate, a claim) repeats. */
  #sendOwn(bundle: Bundle): void {
    void this.transit.take(bundle, { remainingMs: bundle.header.lifetimeMs, hops: 0, trace: [] }, undefined);
  }

  #onAcknowledged(holding: Holding, _by: NodeId): void {
    if (holding.role === "relay") this.transit.release(holding);
    else this.outbox.onAcknowledged(holding);
  }

  #onExpired(holding: Holding): void {
    if (holding.role === "relay") this.transit.release(holding);
    else this.outbox.onExpired(holding);
  }

  #refuse(to: NodeId, id: BundleId, reason: number, retryAfterMs: number): void {
    this.#refusals.add(1, {
      reason: Object.entries(RefuseReason).find(([, code]) => code === reason)?.[0] ?? "other",
    });
    this.#ctx.carrier.send(to, "control", encodeCustodyRefuse(id, reason, retryAfterMs));
  }

  /** Acknowledgements of one turn of the event loop share a frame. */
  #ack(to: NodeId, id: BundleId): void {
    const waiting = this.#acks.get(to);
    if (waiting === undefined) {
      this.#acks.set(to, [id]);
      queueMicrotask(() => this.#flushAcks(to));
      return;
    }
    waiting.push(id);
    if (waiting.length >= ACKS_PER_FRAME) this.#flushAcks(to);
  }

  #flushAcks(to: NodeId): void {
    const ids = this.#acks.get(to);
    if (ids === undefined) return;
    this.#acks.delete(to);
    this.#ctx.carrier.send(to, "control", encodeCustodyAck(ids));
  }
}

/** Durable here, now or before. */
const isDone = (outcome: DeliveryOutcome): boolean => outcome === "delivered" || outcome === "again";

/** The seed for a deterministic seal of a transient message. */
export const transientUnique = (id: MessageId): Uint8Array => idBytes(id);
