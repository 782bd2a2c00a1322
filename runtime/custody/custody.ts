/**
 * Store and forward: a message accepted here is delivered exactly once, or expires or is refused with a reason; a hop
 * acknowledges only what it holds durably. This file takes the frames and calls of the outside and hands them to the
 * parts: outbox and transient (the source), transit (the relay), delivery and inbox (the recipient), claims, receipts, transfer,
 * forwarder. Never routes, never touches a socket. docs/protocol/delivery.md is normative.
 */
import type { OutgoingMessage } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { Teller } from "../kernel/hub.ts";
import type { BundleId, MessageId, NodeId } from "../kernel/ids.ts";
import { SharedMap } from "../kernel/shared-map.ts";
import {
  decodeBundleFrame,
  decodeChunk,
  decodeCustodyAck,
  decodeCustodyRefuse,
  decodeOffer,
  decodeWant,
  BundleKind,
  encodeBundleHeader,
  makeBundle,
  encodeCustodyRefuse,
  RefuseReason,
  type Bundle,
  type BundleHeader,
  type Journey,
  type Offer,
} from "../wire/bundle.ts";
import { FrameType, type Priority } from "../wire/constants.ts";
import { Acks } from "./forwarding/acks.ts";
import { BodyCache } from "./body-cache.ts";
import {
  sealedBytesOf,
  type ArrivedBundle,
  type CustodyContext,
  type Directory,
  type Holding,
} from "./context.ts";
import { fillsOf, type Fill } from "./fills.ts";
import { Forwarder } from "./forwarding/forwarder.ts";
import type { Inbox, InboxEvents } from "./recipient/inbox.ts";
import type { OutboxEvents } from "./source/entry.ts";
import { Outbox } from "./source/outbox.ts";
import { checkContent, checkOrder } from "./source/order.ts";
import { sendTransient } from "./source/transient.ts";
import { Recipient } from "./recipient/recipient.ts";
import { TestBundles } from "./test-bundles.ts";
import { ChunkReceiver } from "./forwarding/transfer.ts";
import { CutThrough } from "./forwarding/cut-through.ts";
import { ChunkSender } from "./forwarding/chunk-sender.ts";
import { Transit } from "./transit/transit.ts";
import type { StoreOp } from "../store/types.ts";

/** Bundles of one neighbour between arrival and commit; above its window, so that an honest one never meets it. */
const UNCOMMITTED_MAX = 2_048;
const UNCOMMITTED_BYTES_MAX = 32 * 1024 * 1024;
/** Neighbours whose store epoch is remembered; throw-away ones push out their own kind, and last whoever still owes a receipt. */
const STORE_EPOCHS_MAX = 4_096;
const RETRY_FULL_MS = 5_000;
const RETRY_BUSY_MS = 500;
const RETRY_STORE_MS = 2_000;
const SYSTEM_PRIORITY: Priority = 0; // urgent as claims are: few and short

/** What happens to mail at this node. */
export interface CustodyEvents extends InboxEvents, OutboxEvents {}

/** Whom custody works with beside its context. */
export interface CustodyDeps {
  readonly events: Teller<CustodyEvents>;
  /** A message of the node itself, opened and authenticated, from `from`. Resolves when it need not come again. */
  system(from: NodeId, plaintext: Uint8Array): Promise<void>;
  readonly ways: WayWatch;
}

/** What custody sees of the ways that mail takes: the evidence for who loses it. */
export interface WayWatch {
  /** The neighbour acknowledged a message of this node. */
  handed(neighbour: NodeId, destination: NodeId): void;
  /** What the neighbour acknowledged came again, by `by` if that is known: its receipt is missing somewhere. */
  returned(neighbour: NodeId, destination: NodeId, priority: Priority, by: NodeId | undefined): void;
  /** A signed receipt for a test bundle. */
  testAnswered(id: MessageId, by: NodeId): void;
}

export class Custody {
  readonly #ctx: CustodyContext;
  readonly outbox: Outbox;
  readonly tests: TestBundles;
  readonly #ways: WayWatch;
  readonly transit: Transit;
  readonly forwarder: Forwarder;
  readonly #recipient: Recipient;
  readonly sender: ChunkSender;
  readonly #receiver: ChunkReceiver;
  readonly #cutThrough: CutThrough;
  readonly #acks: Acks;
  readonly #storeEpochs = new SharedMap<NodeId, string>({
    name: "store epochs",
    max: STORE_EPOCHS_MAX,
    worthOf: (id) => {
      const worth = this.#ctx.regard.worthOf(id);
      return worth !== "kept" && this.forwarder.isOwedBy(id) ? "used" : worth;
    },
  });
  readonly #uncommitted = new Map<NodeId, { count: number; bytes: number }>();
  readonly #refusals;
  readonly #cutOff;
  #isStopped = false;

  constructor(ctx: CustodyContext, { events, system, ways }: CustodyDeps) {
    this.#ctx = ctx;
    this.#ways = ways;
    this.#acks = new Acks(ctx.carrier);
    const cache = new BodyCache();
    this.forwarder = new Forwarder(ctx, {
      acknowledged: (holding, by) => this.#onAcknowledged(holding, by),
      expired: (holding) => this.#onExpired(holding),
      offerEnded: (to, id) => this.sender.end(to, id),
      gaveWay: (to, id) => this.#withdraw(to, id, RefuseReason.busy),
    });
    this.tests = new TestBundles(ctx, this.forwarder);
    this.transit = new Transit(ctx, this.forwarder, cache);
    this.outbox = new Outbox(ctx, this.forwarder, cache, {
      events,
      deliverHere: (entry, body, ops) => this.#recipient.deliverHere(entry, body, ops),
      sendSystem: (to, plaintext, lifetimeMs) => this.sendSystem(to, plaintext, lifetimeMs),
      stranger: (bundle, by) => {
        const id = this.tests.byBundle(bundle);
        if (id !== undefined) ways.testAnswered(id, by);
      },
    });
    this.#recipient = new Recipient(ctx, this.outbox, this.transit, this.tests, {
      receiptMissed: (sender, priority, from) => this.#onReceiptMissed(sender, priority, from),
      events,
      system,
      send: (bundle) => this.#sendOwn(bundle),
      acknowledge: (to, id) => this.#acks.tell(to, id),
      refuse: (to, id, reason, retryAfterMs) => this.#refuse(to, id, reason, retryAfterMs),
    });
    this.sender = new ChunkSender(ctx, this.forwarder, events);
    this.#cutThrough = new CutThrough(ctx, this.forwarder, {
      withdrawn: (to, id, reason) => this.#withdraw(to, id, reason),
    });
    this.#receiver = new ChunkReceiver(ctx, {
      opens: (offer) => this.#recipient.opens(offer),
      complete: (from, bundle, offer, cleanup) => this.#onBundle(from, bundle, offer.journey, cleanup),
      yielded: (from, id) => this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS),
      damaged: (from, id) => {
        this.#cutThrough.distrust(from);
        this.#refuse(from, id, RefuseReason.damaged, RETRY_FULL_MS);
      },
      progress: (from, offer, body) => this.#cutThrough.onProgress(from, offer, body),
      ended: (id, isDamaged) =>
        this.#cutThrough.onEnded(id, isDamaged ? RefuseReason.damaged : RefuseReason.busy),
      storeFailed: (from, id) => this.#refuse(from, id, this.#storeFailed(), RETRY_STORE_MS),
    });
    this.#refusals = ctx.metrics.counter("godwit_custody_refused_total");
    this.#cutOff = ctx.metrics.counter("godwit_bundles_cut_off_total");
    ctx.metrics.observedGauge("godwit_queue_messages", () => this.queuedCount);
    ctx.metrics.observedGauge("godwit_queue_bytes", () => this.queuedBytes);
    ctx.metrics.observedGauge("godwit_inbox_messages", () => this.inbox.count);
  }

  /** Reads what survived. Call once, before any frame. */
  async load(): Promise<void> {
    await this.#recipient.load();
    await this.#receiver.load();
    await this.outbox.load();
    for (const row of await this.transit.load()) {
      // What cannot be read now is there at the next start.
      const sealed = await this.#ctx.store.body("transit", row.id).catch(() => undefined);
      if (sealed !== undefined)
        await this.#recipient.resume({ id: row.id, header: row.header, sealed }, row.journey);
    }
  }

  get inbox(): Inbox {
    return this.#recipient.inbox;
  }

  /** How far the node's own mail fills its stores. */
  get fills(): readonly Fill[] {
    return fillsOf(this.#ctx.limits, this.inbox, this.outbox);
  }

  get queuedCount(): number {
    return this.outbox.openCount + this.transit.count + this.#recipient.claimsCount;
  }

  get queuedBytes(): number {
    return this.outbox.bytes + this.transit.bytes;
  }

  /** Who an address means here and now. */
  get directory(): Directory {
    return this.#ctx.directory;
  }

  /**
   * Accepts a message: its id, only after the durable commit, or, when it is transient, once it left this node. Rejects
   * with address, size, quota, route and store errors: see the SDK's `Mesh.send`. Copies the body before it returns, unless it
   * `isGiven`: then nobody else may change it any more.
   */
  async send(message: OutgoingMessage, isGiven = false): Promise<MessageId> {
    if (this.#isStopped) throw godwitError("GODWIT_STOPPED", "the node is stopping");
    const { directory, limits } = this.#ctx;
    if (message.transient === true) {
      const content = checkContent(message);
      return sendTransient(this.#ctx, directory.nodeOf(message.to), content);
    }
    return await this.outbox.send(
      checkOrder(message, limits.lifetimeDefaultMs, (address) => directory.canonical(address), isGiven),
    );
  }

  /** A transient message that was routed here: into the inbox, no receipt, dropped when there is no room. */
  deliverTransient(from: NodeId, sealed: Uint8Array, associated: Uint8Array, priority: Priority): void {
    this.#recipient.onTransient(from, sealed, associated, priority);
  }

  /** A custody frame of a neighbour. Borrowed. Throws GODWIT_DECODE. */
  onFrame(from: NodeId, type: number, frame: Uint8Array): void {
    if (this.#isStopped) return;
    switch (type) {
      case FrameType.bundle: {
        const { bundle, journey } = decodeBundleFrame(frame);
        return void this.#onBundle(from, bundle, journey, []);
      }
      case FrameType.custodyAck:
        return this.forwarder.onAck(from, decodeCustodyAck(frame));
      case FrameType.custodyRefuse: {
        const { id, reason, retryAfterMs } = decodeCustodyRefuse(frame);
        // Of what that neighbour offers itself: it takes the offer back.
        if (!this.forwarder.isInFlightTo(from, id))
          this.#receiver.withdraw(from, id, reason === RefuseReason.damaged);
        return this.forwarder.onRefuse(from, id, reason, retryAfterMs);
      }
      case FrameType.offer:
        return void this.#onOffer(from, decodeOffer(frame));
      case FrameType.want:
        return void this.sender.onWant(from, decodeWant(frame));
      case FrameType.chunk:
        return this.#receiver.onChunk(from, decodeChunk(frame));
      default:
      // A later version's frame: skipped.
    }
  }

  onRoute(destination: NodeId): void {
    this.forwarder.onRoute(destination);
    this.transit.onRoute(destination);
    this.outbox.onRoute(destination);
  }

  /** This node, an edge, got or lost a gateway: its way to every destination that it has no route to. */
  onDefaultRoute(isThere: boolean): void {
    if (!isThere) return;
    this.forwarder.onDefaultRoute();
    this.transit.onDefaultRoute();
    this.outbox.onDirectory();
  }

  /** Another store epoch than last time: what this neighbour acknowledged may be gone. */
  onNeighbourUp(id: NodeId, storeEpoch: string): void {
    const known = this.#storeEpochs.get(id);
    this.#storeEpochs.set(id, storeEpoch, this.#ctx.regard.shareOf(id));
    const isStoreLost = known !== undefined && known !== storeEpoch;
    if (isStoreLost) this.forwarder.onStoreLost(id);
    this.forwarder.onDestinationUp(id);
    this.outbox.reoffer(id, isStoreLost ? undefined : id);
    this.forwarder.onWritable(id);
  }

  onNeighbourDown(id: NodeId): void {
    this.#acks.forget(id);
    this.onLinkLost(id);
  }

  /** One of several links of a neighbour died: what was under way on it may be lost and is offered again. */
  onLinkLost(id: NodeId): void {
    this.sender.onNeighbourDown(id);
    this.#receiver.onNeighbourDown(id);
    this.forwarder.onNeighbourDown(id);
  }

  onWritable(id: NodeId): void {
    this.sender.onWritable(id);
    this.forwarder.onWritable(id);
  }

  /** Names or records changed. */
  onDirectory(): void {
    this.outbox.onDirectory();
  }

  /** Time off was confirmed: mail is older than it seemed. */
  onTimePassed(): void {
    this.outbox.onTimePassed();
    this.transit.onTimePassed();
    this.forwarder.onTimePassed();
  }

  /** A node was revoked: what was sealed to it waits for who comes after it, what was carried from or for it goes. */
  onRevoked(id: NodeId): void {
    void this.transit.cutOff(id).then((count) => this.#cutOff.add(count));
    this.outbox.onRevoked(id);
  }

  /**
   * Seals `plaintext` to `to` and takes custody of it: the node's own business with another node, in no box and without
   * receipt. False when it could not be stored. Throws what sealing throws.
   */
  sendSystem(to: NodeId, plaintext: Uint8Array, lifetimeMs: number): Promise<boolean> {
    const { self, sealer, random } = this.#ctx;
    const header = {
      kind: BundleKind.system,
      priority: SYSTEM_PRIORITY,
      source: self,
      destination: to,
      lifetimeMs,
    };
    const associated = encodeBundleHeader(header);
    const sealed = sealer.sealOnce(to, plaintext, associated, random.bytes(16));
    const journey = { remainingMs: lifetimeMs, hops: 0, trace: [] };
    return this.transit.take(makeBundle(header, sealed), journey, undefined);
  }

  stop(): void {
    this.#isStopped = true;
    this.forwarder.stop();
    this.#receiver.stop();
    this.#recipient.stop();
    this.transit.stop();
    this.outbox.stop();
  }

  /** Never rejects. A neighbour that ignores the window is refused before its bundles pile up in front of the disk. */
  async #onBundle(
    from: NodeId,
    bundle: ArrivedBundle,
    journey: Journey,
    ops: readonly StoreOp[],
  ): Promise<void> {
    const bytes = sealedBytesOf(bundle);
    const waiting = this.#uncommitted.get(from) ?? { count: 0, bytes: 0 };
    if (waiting.count >= UNCOMMITTED_MAX || waiting.bytes + bytes > UNCOMMITTED_BYTES_MAX) {
      this.#cutThrough.onEnded(bundle.id, RefuseReason.busy);
      return this.#refuse(from, bundle.id, RefuseReason.busy, RETRY_BUSY_MS);
    }
    this.#uncommitted.set(from, waiting);
    waiting.count++;
    waiting.bytes += bytes;
    try {
      await this.#takeBundle(from, bundle, journey, ops);
    } finally {
      // What is not kept here after all does not go on either.
      this.#cutThrough.onEnded(bundle.id, RefuseReason.busy);
      waiting.bytes -= bytes;
      if (--waiting.count === 0 && this.#uncommitted.get(from) === waiting) this.#uncommitted.delete(from);
    }
  }

  async #takeBundle(
    from: NodeId,
    bundle: ArrivedBundle,
    journey: Journey,
    ops: readonly StoreOp[],
  ): Promise<void> {
    const { header, id } = bundle;
    if (this.#isCutOff(header)) return this.#dropCutOff(from, id);
    if (header.destination === this.#ctx.self) return this.#recipient.onBundle(from, bundle, journey, ops);
    if (this.#isCrossing(from, id)) return this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS);
    if (this.transit.holds(id) || this.#isFinished(header, id)) {
      // Our own message comes back because the way on broke (held: offer it another way), or is finished already.
      this.forwarder.retake(id);
      this.#acks.tell(from, id);
      this.outbox.retry(id);
      return;
    }
    if (journey.remainingMs <= 0) return this.#acks.tell(from, id); // its life is over: nobody needs to keep it
    const refusal = this.transit.refusal(from, sealedBytesOf(bundle));
    if (refusal !== undefined) return this.#refuse(from, id, refusal, RETRY_FULL_MS);
    const before = this.transit.passedOn.before(id);
    if (before !== undefined) this.#ways.returned(before, header.destination, header.priority, from);
    if (await this.transit.take(bundle, journey, from, ops)) {
      this.#acks.tell(from, id);
      await this.#cutThrough.onHeld(id);
    } else this.#refuse(from, id, this.#storeFailed(), RETRY_STORE_MS);
  }

  /** Why a commit failed, as a neighbour may know it. */
  #storeFailed(): number {
    return this.#ctx.store.state.missingBytes > 0 ? RefuseReason.full : RefuseReason.storeFailed;
  }

  /**
   * Two relays hold the same bundle and hand it to each other: were both to acknowledge, both would drop it. The smaller
   * node id acknowledges and keeps; the other refuses, and drops its own on that acknowledgement.
   */
  #isCrossing(from: NodeId, id: BundleId): boolean {
    const held = this.forwarder.get(id);
    return held?.role === "relay" && this.#ctx.self > from && this.forwarder.isInFlightTo(from, id);
  }

  /**
   * Ours, and of no use to anybody any more. A message that an older copy of the state knows nothing of is none of these: it
   * is carried on like that of another.
   */
  #isFinished({ source, kind }: BundleHeader, id: BundleId): boolean {
    if (source !== this.#ctx.self) return false;
    if (kind !== BundleKind.message) return true;
    return this.outbox.isOwnBundle(id);
  }

  async #onOffer(from: NodeId, offer: Offer): Promise<void> {
    const { id, header, sealedBytes } = offer;
    if (offer.journey.remainingMs <= 0) return this.#acks.tell(from, id);
    if (this.#isCutOff(header)) return this.#dropCutOff(from, id);
    const held = this.forwarder.get(id);
    if (this.#isCrossing(from, id)) return this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS);
    if (held?.isArriving === true && !this.#receiver.mayComeFrom(id, from))
      return this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS);
    if (this.transit.holds(id) || this.#isFinished(header, id)) {
      this.forwarder.retake(id);
      this.#acks.tell(from, id);
      return this.outbox.retry(id);
    }
    const isForHere = header.destination === this.#ctx.self;
    if (isForHere && this.#recipient.wasDelivered(from, offer)) return this.#acks.tell(from, id);
    const promised = this.#receiver.isArrivingFrom(id) === undefined ? this.#receiver.expectedBytes : 0;
    if (isForHere && this.#ctx.isContested()) return this.#refuse(from, id, RefuseReason.busy, RETRY_FULL_MS);
    const refusal = isForHere
      ? this.#refusalHere(header.source, from, sealedBytes + promised)
      : this.transit.refusal(from, sealedBytes + promised);
    if (refusal !== undefined) return this.#refuse(from, id, refusal, RETRY_FULL_MS);
    if (!(await this.#receiver.accept(from, offer))) this.#refuse(from, id, RefuseReason.busy, RETRY_BUSY_MS);
  }

  #isCutOff({ source, destination }: BundleHeader): boolean {
    return this.#ctx.isRefused(source) || this.#ctx.isRefused(destination);
  }

  /** Acknowledged, so that the hop before does not keep it for nobody. */
  #dropCutOff(from: NodeId, id: BundleId): void {
    this.#cutOff.add();
    this.#acks.tell(from, id);
  }

  #refusalHere(source: NodeId, from: NodeId, bytes: number): number | undefined {
    const refusal = this.#recipient.refusal(source, from, bytes);
    return refusal === undefined ? undefined : RefuseReason[refusal];
  }

  /** Takes custody of a bundle made here. A failed commit loses it, which its cause (a duplicate, a claim) repeats. */
  #sendOwn(bundle: Bundle): void {
    void this.transit.take(bundle, { remainingMs: bundle.header.lifetimeMs, hops: 0, trace: [] }, undefined);
  }

  #onAcknowledged(holding: Holding, by: NodeId): void {
    const { id, header, arrivedFrom } = holding;
    if (holding.role === "relay") {
      if (holding.isArriving === true) this.#onArrivingHeld(holding);
      else this.transit.release(holding);
      return this.transit.passedOn.note(id, header.destination, by, arrivedFrom);
    }
    this.outbox.onAcknowledged(holding, by);
    if (holding.via === undefined) this.#ways.handed(by, header.destination);
  }

  /** The next hop has it already, from elsewhere: whoever sends it here need not go on. */
  #onArrivingHeld({ id, arrivedFrom }: Holding): void {
    if (this.#receiver.isArrivingFrom(id) === undefined) return; // it is whole by now, and will be acknowledged
    this.#receiver.forget(id);
    if (arrivedFrom !== undefined) this.#acks.tell(arrivedFrom, id);
  }

  /** Earlier releases do not look at it, and wait until they have waited long enough. */
  #withdraw(to: NodeId, id: BundleId, reason: number): void {
    this.#ctx.carrier.send(to, "control", encodeCustodyRefuse(id, reason, RETRY_BUSY_MS));
  }

  /** What was delivered here came again: the receipt went out, and was lost behind whoever took it. */
  #onReceiptMissed(sender: NodeId, priority: Priority, from: NodeId | undefined): void {
    const by = this.transit.passedOn.lastOwn(sender);
    if (by !== undefined) this.#ways.returned(by, sender, priority, from);
  }

  #onExpired(holding: Holding): void {
    if (holding.isArriving === true) return; // there is no row of it yet
    if (holding.role === "relay") this.transit.release(holding);
    else this.outbox.onExpired(holding);
  }

  #refuse(to: NodeId, id: BundleId, reason: number, retryAfterMs: number): void {
    this.#refusals.add(1, {
      reason: Object.entries(RefuseReason).find(([, code]) => code === reason)?.[0] ?? "other",
    });
    this.#ctx.carrier.send(to, "control", encodeCustodyRefuse(id, reason, retryAfterMs));
  }
}
