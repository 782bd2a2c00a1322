/**
 * Messages that this node sent, as their source: accepted only after a durable commit, sealed when the recipient is known, kept until
 * receipt or expiry whatever relays say. In memory is what is under way (awake.ts); the rest is read when asked for. docs/protocol/delivery.md
 */
import { godwitError } from "../../kernel/errors.ts";
import { formatHex, type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { ReceiptStatus, type Receipt } from "../../wire/message.ts";
import type { StoreOp } from "../../store/types.ts";
import type { BodyCache } from "../body-cache.ts";
import type { CustodyContext, Holding, Page } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import { Awake, groupOf, laneOf } from "./awake.ts";
import type { Relayed } from "../backlog.ts";
import { Departures } from "./departures.ts";
import { OutboxEntries } from "./entries.ts";
import {
  finalStates,
  newEntry,
  type Live,
  type OutboxEntry,
  type OutboxDeps,
  type OutboxState,
  type ProvenReceipt,
  type Target,
} from "./entry.ts";
import { loadEntries, putEntry } from "./entry-row.ts";
import { OutboxHistory } from "./history.ts";
import { IdempotencyKeys } from "./idempotency.ts";
import { idOf, MailNaming } from "./mail-names.ts";
import type { Order } from "./order.ts";
import { ReceiptProofs } from "./proofs.ts";
import { OutboxReader } from "./reader.ts";
import { NamedMessages } from "./receipts.ts";
import { OutboxRows } from "./rows.ts";
import { OutboxSealer } from "./seal.ts";
import { SignedWanted } from "./signed-wanted.ts";

/** Why a message ended, in words for its sender. */
const DAMAGED = "this disk damaged it: send it again";
const OVER = "its lifetime ended before a receipt came";

export class Outbox {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #sealer: OutboxSealer;
  readonly #deps: OutboxDeps;
  readonly #entries = new OutboxEntries();
  readonly #names: MailNaming;
  readonly #idempotency: IdempotencyKeys;
  readonly #history: OutboxHistory;
  readonly #proofs = new ReceiptProofs();
  readonly #rows: OutboxRows;
  readonly #departures: Departures;
  readonly awake: Awake;
  readonly #reader: OutboxReader;
  readonly #named: NamedMessages;
  readonly #signedWanted: SignedWanted;
  /** Delivered by a receipt whose commit has not succeeded yet. */
  readonly #undurable = new Set<Live>();
  #nextOrder = 1;
  #openCount = 0;
  #bytes = 0;
  #pending = 0;

  constructor(ctx: CustodyContext, forwarder: Forwarder, cache: BodyCache, deps: OutboxDeps) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#deps = deps;
    this.#sealer = new OutboxSealer(ctx, cache, (entry) => this.#onDamaged(entry));
    this.#names = new MailNaming(ctx);
    this.#named = new NamedMessages(ctx, this.#entries, this.#names);
    this.#idempotency = new IdempotencyKeys(ctx.store);
    this.#rows = new OutboxRows(ctx, this.#proofs);
    this.#history = new OutboxHistory(ctx.limits, (ids) => this.#prune(ids));
    this.#departures = new Departures(ctx, forwarder, this.#sealer, this.#entries, {
      deliverHere: (live, body) => this.#deliverHere(live, body),
      waitedOut: (live) => this.#expire(live),
    });
    this.awake = new Awake(ctx, forwarder, this.#entries, this.#rows, {
      decode: (id, meta) => this.#reader.decode(id, meta),
      isBusy: (live) => live.isEnding === true || this.#undurable.has(live) || this.#departures.isBusy(live),
      woken: (live, relayed) => this.#onWoken(live, relayed),
      over: (live) => this.#expire(live),
      gone: ({ size }) => void ((this.#openCount -= 1), (this.#bytes -= size)),
    });
    this.#reader = new OutboxReader(ctx, {
      newer: (id) => (this.#entries.get(id) ?? this.#rows.late(id))?.entry,
      isRelayed: (entry, order) => this.awake.relayed(entry, order) !== undefined,
      proof: (name) => this.#proofs.get(name),
    });
    const rows = { rows: this.#rows, entries: this.#entries, reader: this.#reader };
    this.#signedWanted = new SignedWanted(ctx, deps, { ...rows, proofs: this.#proofs, names: this.#names });
  }

  async load(): Promise<void> {
    const { store } = this.#ctx;
    await this.#proofs.load(store);
    this.#nextOrder = (await store.totals("outbox")).last + 1;
    for await (const page of loadEntries(this.#ctx, (name) => this.#proofs.get(name)))
      for (const { entry, order } of page) this.#restore(entry, order);
    const unused = this.#proofs.sweep();
    if (unused.length > 0) store.commit(unused).catch(() => {});
  }

  #restore(entry: OutboxEntry, order: number): void {
    this.#ctx.time.catchUp(entry.atRunMs ?? 0);
    entry.epoch ??= formatHex(this.#ctx.storeEpoch);
    this.#names.restore(entry);
    this.#proofs.use(entry);
    if (finalStates.includes(entry.state)) {
      this.#entries.noteStored(entry, order);
      this.#history.note(entry);
      return;
    }
    this.#sealer.wrote(entry);
    this.#openCount++;
    this.#bytes += entry.size;
    this.#place({ entry, order });
  }

  get count(): number {
    return this.#openCount + this.#history.count;
  }

  get openCount(): number {
    return this.#openCount;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** In memory: newer there than its row. */
  peek(id: MessageId): OutboxEntry | undefined {
    return this.#reader.peek(id);
  }

  /** Rejects with GODWIT_STORE_FAILED. */
  get(id: MessageId): Promise<OutboxEntry | undefined> {
    return this.#reader.get(id);
  }

  /** Empty after a message that is not there. Rejects with GODWIT_STORE_FAILED. */
  page(page: Page): Promise<OutboxEntry[]> {
    return this.#reader.page(page);
  }

  /** Whether a message here is, or was, sealed into that bundle. */
  isOwnBundle(id: BundleId): boolean {
    return this.#entries.isOwn(id);
  }

  /** Why an open message is still here, in words. */
  waitReason(entry: OutboxEntry): string | null {
    return this.#departures.waitReason(entry);
  }

  /** Accepts a message: resolves with its id only after the durable commit. */
  send(order: Order): Promise<MessageId> {
    return this.#idempotency.once(order, () => this.#accept(order));
  }

  onRoute(destination: NodeId): void {
    this.awake.onRoute(destination);
    this.#signedWanted.onRoute(destination);
  }

  /** Names or records changed, or the way to every destination without a route: what waited for them may go now. */
  onDirectory(): void {
    this.#departures.onDirectory();
    this.awake.onDirectory();
  }

  /** What a neighbour took may be gone, of all or of what is for one destination: it is offered again, from the disk as well. */
  reoffer(neighbour: NodeId, destination?: NodeId): void {
    this.awake.onReturned(neighbour, destination);
  }

  /** A bundle of ours came back: it goes another way. */
  retry(bundle: BundleId): void {
    this.#forwarder.retry(bundle);
    this.awake.onBundleBack(bundle);
  }

  /** Time off was confirmed: what is not with the forwarder ends sooner. */
  onTimePassed(): void {
    this.#departures.onTimePassed();
    this.awake.onTimePassed();
  }

  /** Ends an open message on this side. Throws GODWIT_MESSAGE_FINAL, GODWIT_MESSAGE_UNKNOWN. */
  async withdraw(id: MessageId): Promise<void> {
    await this.awake.summon([id]);
    const live = this.#entries.get(id);
    const entry = live?.entry ?? (await this.get(id));
    if (entry === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the outbox`);
    if (live === undefined || finalStates.includes(entry.state)) {
      if (live !== undefined && !this.#undurable.has(live)) this.#entries.store(live);
      throw godwitError("GODWIT_MESSAGE_FINAL", `message ${id} is ${entry.state} already`);
    }
    // Its body goes at once: whoever withdraws may need the room.
    const ended = putEntry({ ...entry, state: "withdrawn", reason: "withdrawn by its sender" });
    live.isEnding = true;
    try {
      await this.#ctx.store.commit([{ ...ended, body: new Uint8Array(0) }]);
    } catch (error) {
      live.isEnding = false;
      if (this.#forwarder.get(entry.targets[0]?.bundle ?? ("" as BundleId)) === undefined)
        this.#departures.activate(live, entry.state);
      throw error;
    }
    live.isEnding = false;
    if (finalStates.includes(entry.state)) return;
    this.#finish(live, "withdrawn", "withdrawn by its sender");
    this.#settle(live);
  }

  async body(id: MessageId): Promise<Uint8Array> {
    const brought = await this.awake.summon([id]); // open ones: what the disk damaged of it ends it
    try {
      const entry = await this.get(id);
      if (entry === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the outbox`);
      if (entry.state === "withdrawn")
        throw godwitError("GODWIT_MESSAGE_UNKNOWN", `message ${id} was withdrawn, and its body went with it`);
      const body = await this.#sealer.body(entry);
      if (body === undefined) throw godwitError("GODWIT_MESSAGE_DAMAGED", `message ${id}: ${DAMAGED}`);
      return body;
    } finally {
      for (const [live, parked] of brought) this.awake.dismiss(live, parked);
    }
  }

  /** A relay took a bundle of ours. */
  onAcknowledged(holding: Holding, by: NodeId): void {
    const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
    if (live === undefined) return;
    if (live.entry.state === "queued") {
      live.entry.state = "relayed";
      live.entry.reason = null;
      // A restart that does not know it offers the message once more.
      this.#rows.saveLate(live);
      this.#deps.events.emit("outboxChanged", live.entry);
    }
    if (this.#sealer.isOutdated(live.entry, holding.relays ?? 0)) return this.#sealAnew(live);
    if (live.entry.state === "relayed") this.awake.onAcknowledged(live, holding, by);
  }

  /** A bundle of ours ran out of lifetime. The last one ends the message. */
  onExpired(holding: Holding): void {
    const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
    if (live === undefined || finalStates.includes(live.entry.state)) return;
    if (live.entry.targets.some((target) => this.#forwarder.get(target.bundle) !== undefined)) return;
    this.#expire(live);
  }

  /**
   * Receipts from `signer`. Resolves when what they prove is durable (the bundle that carried them may go). Ignores
   * those of other messages and of a session that does not prove them, and throws GODWIT_DECODE for a bad signature.
   */
  async onReceipts(signer: NodeId, bytes: Uint8Array): Promise<void> {
    const arrived = await this.#named.read(signer, bytes);
    const brought = await this.awake.summon(arrived.missing);
    const receipts = arrived.proven();
    const [touched, before]: [Live[], StoreOp[]] = [[], []];
    for (const proven of receipts) {
      const { receipt } = proven;
      if (receipt.status === ReceiptStatus.sessionUnknown) {
        touched.push(...this.#onSessionUnknown(signer, receipt));
        continue;
      }
      const [live, { bundleId }] = [this.#named.find(receipt), receipt];
      if (live === undefined && !this.#entries.isOwn(bundleId)) this.#deps.stranger(bundleId, signer);
      if (live === undefined || !this.#believe(live, signer, proven, before)) continue;
      // One that is being withdrawn is sealed anew should that fail.
      if (live.isEnding !== true || finalStates.includes(live.entry.state)) touched.push(live);
    }
    for (const [live, parked] of brought) if (!touched.includes(live)) this.awake.dismiss(live, parked);
    try {
      if (touched.length > 0) await this.#rows.commit(touched, before);
      for (const live of touched) {
        const [isFirst, { state }] = [this.#undurable.delete(live), live.entry];
        // Another one that came meanwhile has told of it.
        if (!finalStates.includes(state) || (state === "delivered" && !isFirst)) continue;
        this.#settle(live);
        this.#signedWanted.note(live.entry);
        this.#deps.events.emit("outboxChanged", live.entry);
      }
      await this.#signedWanted.replace(signer, receipts);
    } finally {
      for (const live of touched)
        if (live.entry.targets.length === 0 && this.#entries.get(live.entry.id) === live)
          this.#departures.activate(live, "queued");
    }
  }

  /** True when it changed the message. */
  #believe(live: Live, signer: NodeId, { receipt, stored }: ProvenReceipt, before: StoreOp[]): boolean {
    const { entry } = live;
    if (!entry.targets.some((target) => target.node === signer)) return false;
    if (entry.state === "delivered" && !this.#undurable.has(live)) return false;
    const isOpen = !finalStates.includes(entry.state);
    if (receipt.status === ReceiptStatus.delivered && this.#names.isOfDouble(entry, receipt.bundleId)) {
      // What was delivered is another message of that name. Ours never arrived: it goes again under a name of its own.
      if (!isOpen || !this.#names.rename(entry)) return false;
      this.#dropTargets(entry);
      return true;
    }
    if (receipt.status === ReceiptStatus.delivered) {
      this.#sealer.proven(entry, signer, receipt);
      // One whose commit failed may have come before.
      before.push(...this.#proofs.release(entry));
      entry.receipt = stored;
      this.#proofs.use(entry);
      entry.deliveredAtMs = stored.atMs;
      this.#close(live, "delivered", null);
      this.#undurable.add(live);
      return true;
    }
    // Of a bundle that was given up already it says nothing new, and would burn the key of the next.
    if (!isOpen || !entry.targets.some(({ bundle }) => bundle === receipt.bundleId)) return false;
    const goesAnew = this.#sealer.spellOut(entry, signer);
    if (!goesAnew && this.#departures.isElsewhere(entry, signer)) return false;
    if (goesAnew || this.#sealer.loseKey(entry, signer)) this.#dropTargets(entry);
    else this.#close(live, "refused", "the recipient could not open it: its keys have changed");
    return true;
  }

  /** `signer` does not know a session: what is sealed in that goes anew. Answers what it changed. */
  #onSessionUnknown(signer: NodeId, receipt: Receipt): Live[] {
    const sealed = this.#sealer.loseSession(signer, receipt, this.#entries.values());
    for (const { entry } of sealed) this.#dropTargets(entry);
    return sealed.filter(({ isEnding }) => isEnding !== true);
  }

  /** What was sealed to a revoked node is sealed anew to whom its address means now, or waits for somebody. */
  onRevoked(id: NodeId): void {
    for (const live of this.#departures.sealedTo(id)) this.#sealAnew(live);
  }

  #sealAnew(live: Live): void {
    this.#dropTargets(live.entry);
    this.#rows.save([live]);
    if (live.isEnding !== true) this.#departures.activate(live, "queued");
  }

  #dropTargets(entry: OutboxEntry): void {
    this.#departures.releaseTargets(entry);
    this.#entries.dropTargets(entry);
    entry.state = "queued";
  }

  stop(): void {
    this.awake.stop();
    this.#signedWanted.stop();
    this.#departures.stop();
    this.#rows.flush();
  }

  async #accept(order: Order): Promise<MessageId> {
    const { limits, self } = this.#ctx;
    const { body } = order;
    if (
      this.#openCount + this.#pending >= limits.outboxMessagesMax ||
      this.#bytes + body.length > limits.outboxBytesMax
    )
      throw godwitError(
        "GODWIT_QUEUE_FULL",
        "the outbox is full; withdraw messages, or wait until some are delivered",
      );
    const name = this.#names.next(order.to);
    const id = idOf(self, order.to, name);
    const entry = newEntry(this.#ctx, order, id, name);
    const live: Live = { entry, order: this.#nextOrder++ };
    const slot = { order: live.order, group: groupOf(entry) };
    const ops: StoreOp[] = this.#idempotency.ops(order, id);
    if (this.#departures.isForHere(entry)) {
      entry.state = "delivered";
      entry.deliveredAtMs = this.#ctx.clock.wallMs();
      await this.#deps.deliverHere(entry, body, [...ops, { ...putEntry(entry), body, slot }]);
      this.#history.note(entry);
      this.#deps.events.emit("outboxChanged", entry);
      return id;
    }
    this.#sealer.wrote(entry);
    // A large one is sealed while it is written; what it is sealed to is durable before it goes.
    const sealed = this.#sealer.sealMeanwhile(entry, body);
    if (sealed === undefined) this.#departures.seal(live, body);
    ops.push({ ...putEntry(entry), body, slot });
    await this.#commitAccepted(ops, body.length);
    this.#openCount++;
    this.#deps.events.emit("outboxChanged", entry);
    this.#place(live, sealed);
    return id;
  }

  async #commitAccepted(ops: StoreOp[], bytes: number): Promise<void> {
    this.#pending++;
    this.#bytes += bytes;
    try {
      await this.#ctx.store.commit(ops);
    } catch (error) {
      this.#bytes -= bytes;
      throw error;
    } finally {
      this.#pending--;
    }
  }

  /** Open and durable: into memory, or behind those that wait on the disk. */
  #place(live: Live, sealed?: Promise<readonly Target[]>): void {
    const { entry } = live;
    const lane = laneOf(entry);
    // Each copy of what goes to several machines has a state of its own, which the backlog does not keep.
    if (this.awake.hasRoom(lane) || entry.targets.length > 1) {
      this.awake.add(live);
      if (sealed !== undefined) return this.#departures.holdOnceSealed(live, sealed);
      return this.#departures.activate(live, entry.state);
    }
    sealed?.catch(() => {});
    for (const target of entry.targets) this.#sealer.forget(target);
    const wakeAtMs =
      this.#ctx.clock.monotonicMs() + this.#ctx.limits.reofferFirstMs * this.#ctx.random.float();
    this.awake.park(live, entry.state === "relayed" ? { via: undefined, relays: 1, wakeAtMs } : undefined);
    this.awake.feed(lane);
  }

  #onWoken(live: Live, relayed: Relayed | undefined): void {
    const { entry } = live;
    const isRefused = entry.targets.length === 1 && this.#ctx.isRefused(entry.targets[0]!.node);
    if (isRefused || this.#sealer.isOutdated(entry, 0)) this.#sealAnew(live);
    else this.#departures.activate(live, entry.state, relayed);
  }

  async #deliverHere(live: Live, body: Uint8Array): Promise<void> {
    const { entry } = live;
    await this.#deps.deliverHere(entry, body, []);
    entry.deliveredAtMs = this.#ctx.clock.wallMs();
    this.#finish(live, "delivered", null);
    this.#save(live);
  }

  /** What is stored is not what was accepted: an open message ends with that, told to its sender. */
  #onDamaged(entry: OutboxEntry): void {
    const live: Live = this.#entries.get(entry.id) ?? { entry, order: 0 };
    if (live.isEnding === true || entry.state === "withdrawn") return; // its body went, on purpose
    this.#ctx.log.error("message damaged on this disk", { message: entry.id, box: "outbox" });
    if (!finalStates.includes(entry.state)) this.#finish(live, "refused", DAMAGED);
    // That it ended, and how, is kept; the store may have set the row aside already.
    this.#save(live, [{ op: "set-aside", in: "outbox", key: entry.id }]);
  }

  #expire(live: Live): void {
    const { entry } = live;
    const why = entry.reason ?? this.#sealer.whyNotYet(entry) ?? "nobody to send it to";
    this.#finish(live, "expired", entry.targets.length > 0 ? OVER : `its lifetime ended: ${why}`);
    this.#save(live);
  }

  #finish(live: Live, state: OutboxState, reason: string | null): void {
    this.#close(live, state, reason);
    this.#deps.events.emit("outboxChanged", live.entry);
  }

  /** In memory; the caller saves, announces what is durable, and settles it then. A `delivered` beats whatever it was before. */
  #close(live: Live, state: OutboxState, reason: string | null): void {
    const { entry } = live;
    const wasFinal = finalStates.includes(entry.state);
    entry.state = state;
    entry.reason = reason;
    this.#rows.forget(live);
    this.#departures.release(live);
    if (wasFinal) return;
    this.#openCount--;
    this.#bytes -= entry.size;
    this.#history.note(entry);
    this.awake.left(entry);
  }

  #save(live: Live, before: readonly StoreOp[] = []): void {
    this.#rows.save([live], { before, saved: () => this.#settle(live) });
  }

  /** It has ended, and its row says so: it is in memory no more. */
  #settle(live: Live): void {
    if (this.#entries.get(live.entry.id) === live && finalStates.includes(live.entry.state))
      this.#entries.store(live);
  }

  /** Ended messages that are forgotten. */
  async #prune(ids: readonly MessageId[]): Promise<void> {
    const ops: StoreOp[] = [];
    for (const [id, entry] of await this.#reader.rows(ids)) {
      ops.push({ op: "delete", in: "outbox", key: id });
      if (entry === undefined) continue;
      this.#entries.forget(entry);
      ops.push(...this.#idempotency.forget(entry.idempotencyKey), ...this.#proofs.release(entry));
    }
    if (ops.length > 0) await this.#ctx.store.commit(ops);
  }
}
