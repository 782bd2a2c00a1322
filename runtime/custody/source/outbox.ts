/**
 * Messages that this node sent, as their source: accepted only after a durable commit, sealed when the recipient is
 * known, kept until receipt or expiry whatever relays say. docs/protocol/delivery.md "The source".
 */
import type { Timer } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { formatHex, type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { ReceiptStatus } from "../../wire/message.ts";
import type { BodyCache } from "../body-cache.ts";
import { deadlineOf, type CustodyContext, type Holding } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import type { Page } from "../paged-map.ts";
import { IdempotencyKeys } from "./idempotency.ts";
import {
  finalStates,
  loadEntries,
  newEntry,
  putEntry,
  type Live,
  type OutboxEntry,
  type OutboxDeps,
  type OutboxState,
  type Target,
} from "./entry.ts";
import { OutboxEntries } from "./entries.ts";
import { OutboxHistory } from "./history.ts";
import { idOf, MailNaming } from "./mail-names.ts";
import type { Order } from "./order.ts";
import { readReceipts } from "./receipts.ts";
import { OutboxRows } from "./rows.ts";
import { Waiting } from "./waiting.ts";
import { OutboxSealer, RESEALS_MAX, SEAL_RETRY_MS, SEALED_AT_ONCE } from "./seal.ts";
import type { StoreOp } from "../../store/types.ts";

/** Why a message ended, in words for its sender. */
const DAMAGED = "this disk damaged it: send it again";

export class Outbox {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #sealer: OutboxSealer;
  readonly #deps: OutboxDeps;
  readonly #entries = new OutboxEntries();
  readonly #waiting: Waiting;
  readonly #names: MailNaming;
  readonly #idempotency = new IdempotencyKeys();
  readonly #history = new OutboxHistory();
  readonly #toSeal: Live[] = [];
  /** Sealed, and not with the forwarder until that is durable. */
  readonly #unheld = new Set<Live>();
  /** Delivered by a receipt whose commit has not succeeded yet. */
  readonly #undurable = new Set<Live>();
  readonly #rows: OutboxRows;
  #isSealing = false;
  #bytes = 0;
  #pending = 0;
  #sealRetry: Timer | undefined;

  constructor(ctx: CustodyContext, forwarder: Forwarder, cache: BodyCache, deps: OutboxDeps) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#sealer = new OutboxSealer(ctx, cache, (entry) => this.#onDamaged(entry));
    this.#deps = deps;
    this.#names = new MailNaming(ctx);
    this.#rows = new OutboxRows(ctx);
    this.#waiting = new Waiting(ctx.clock, (id) => this.#onWaitedOut(id));
  }

  async load(): Promise<void> {
    await this.#idempotency.load(this.#ctx.store);
    for (const entry of await loadEntries(this.#ctx)) {
      entry.epoch ??= formatHex(this.#ctx.storeEpoch);
      this.#names.restore(entry);
      this.#sealer.wrote(entry);
      const live: Live = { entry };
      this.#entries.add(live);
      if (finalStates.includes(entry.state)) this.#history.note(entry);
      else {
        this.#bytes += entry.size;
        this.#activate(live, entry.state);
      }
    }
  }

  get count(): number {
    return this.#entries.size;
  }

  get openCount(): number {
    return this.#entries.size - this.#history.count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(id: MessageId): OutboxEntry | undefined {
    return this.#entries.get(id)?.entry;
  }

  /** Whether a message here is, or was, sealed into that bundle. */
  isOwnBundle(id: BundleId): boolean {
    return this.#entries.byBundle(id) !== undefined;
  }

  page(page: Page): OutboxEntry[] {
    return this.#entries.page(page);
  }

  /** Why an open message is still here, in words. */
  waitReason(entry: OutboxEntry): string | null {
    if (entry.reason !== null || finalStates.includes(entry.state)) return entry.reason;
    for (const target of entry.targets) {
      const reason = this.#forwarder.get(target.bundle)?.waitReason;
      if (reason !== undefined) return reason;
    }
    return null;
  }

  /** Accepts a message: resolves with its id only after the durable commit. */
  send(order: Order): Promise<MessageId> {
    return this.#idempotency.once(order, () => this.#accept(order));
  }

  /** Names or records changed: what waited for them may go now. */
  onDirectory(): void {
    for (const address of this.#waiting.addresses) {
      if (this.#ctx.directory.resolve(address, false).kind === "unknown") continue;
      for (const id of this.#waiting.under(address)) {
        const live = this.#entries.get(id);
        if (live !== undefined) this.#activate(live, "queued");
      }
    }
  }

  /** Time off was confirmed: what is not with the forwarder ends sooner. */
  onTimePassed(): void {
    for (const { entry } of this.#entries.values())
      this.#waiting.bringForward(entry.to, entry.id, deadlineOf(this.#ctx, entry));
  }

  /** Ends an open message on this side. Throws GODWIT_MESSAGE_FINAL, GODWIT_MESSAGE_UNKNOWN. */
  async withdraw(id: MessageId): Promise<void> {
    const live = this.#entries.get(id);
    if (live === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the outbox`);
    if (finalStates.includes(live.entry.state))
      throw godwitError("GODWIT_MESSAGE_FINAL", `message ${id} is ${live.entry.state} already`);
    // Its body goes at once: whoever withdraws may need the room.
    const ended = putEntry({ ...live.entry, state: "withdrawn", reason: "withdrawn by its sender" });
    live.isEnding = true;
    try {
      await this.#ctx.store.commit([{ ...ended, body: new Uint8Array(0) }]);
    } finally {
      live.isEnding = false;
    }
    if (!finalStates.includes(live.entry.state)) this.#finish(live, "withdrawn", "withdrawn by its sender");
  }

  async body(id: MessageId): Promise<Uint8Array> {
    const live = this.#entries.get(id);
    if (live === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the outbox`);
    if (live.entry.state === "withdrawn")
      throw godwitError("GODWIT_MESSAGE_UNKNOWN", `message ${id} was withdrawn, and its body went with it`);
    const body = await this.#sealer.body(live.entry);
    if (body === undefined) throw godwitError("GODWIT_MESSAGE_DAMAGED", `message ${id}: ${DAMAGED}`);
    return body;
  }

  /** What is stored is not what was accepted: an open message ends with that, told to its sender. */
  #onDamaged(entry: OutboxEntry): void {
    const live = this.#entries.get(entry.id);
    if (live === undefined) return;
    this.#ctx.log.error("message damaged on this disk", { message: live.entry.id, box: "outbox" });
    if (!finalStates.includes(live.entry.state)) this.#finish(live, "refused", DAMAGED);
    // That it ended, and how, is kept; the store may have set the row aside already.
    this.#rows.save([live], [{ op: "set-aside", in: "outbox", key: live.entry.id }]);
  }

  /** A relay took a bundle of ours. */
  onAcknowledged(holding: Holding): void {
    const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
    if (live === undefined || live.entry.state !== "queued") return;
    live.entry.state = "relayed";
    live.entry.reason = null;
    // A restart that does not know it offers the message once more.
    this.#rows.saveLate(live);
    this.#deps.events.emit("outboxChanged", live.entry);
  }

  /** A bundle of ours ran out of lifetime. The last one ends the message. */
  onExpired(holding: Holding): void {
    const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
    if (live === undefined || finalStates.includes(live.entry.state)) return;
    if (live.entry.targets.some((target) => this.#forwarder.get(target.bundle) !== undefined)) return;
    this.#finish(live, "expired", "its lifetime ended before a receipt came");
    this.#rows.save([live]);
  }

  /**
   * Receipts from `signer`. Resolves when what they prove is durable (the bundle that carried them may go). Ignores
   * those of other messages and throws GODWIT_DECODE for a bad signature.
   */
  async onReceipts(signer: NodeId, bytes: Uint8Array): Promise<void> {
    const touched: Live[] = [];
    for (const { receipt, stored } of readReceipts(this.#ctx, signer, bytes)) {
      const live =
        this.#entries.get(this.#names.toldAs(receipt.messageId)) ?? this.#entries.byBundle(receipt.bundleId);
      if (live === undefined) this.#deps.stranger(receipt.bundleId, signer);
      if (live === undefined || !live.entry.targets.some((target) => target.node === signer)) continue;
      if (live.entry.state === "delivered" && !this.#undurable.has(live)) continue;
      if (
        receipt.status === ReceiptStatus.delivered &&
        this.#names.isOfDouble(live.entry, receipt.bundleId)
      ) {
        // What was delivered is another message of that name. Ours never arrived: it goes again under a name of its own.
        if (finalStates.includes(live.entry.state) || !this.#names.rename(live.entry)) continue;
        this.#dropTargets(live.entry);
        touched.push(live);
      } else if (receipt.status === ReceiptStatus.delivered) {
        live.entry.receipt = stored;
        live.entry.deliveredAtMs = stored.atMs;
        this.#close(live, "delivered", null);
        this.#undurable.add(live);
        touched.push(live);
        // Of a bundle that was given up already it says nothing new, and would burn the key of the next.
      } else if (
        !finalStates.includes(live.entry.state) &&
        live.entry.targets.some(({ bundle }) => bundle === receipt.bundleId) &&
        !this.#othersMayDeliver(live, signer)
      ) {
        if (!this.#unseal(live))
          this.#close(live, "refused", "the recipient could not open it: its keys have changed");
        touched.push(live);
      }
    }
    try {
      if (touched.length > 0) await this.#ctx.store.commit(touched.map(({ entry }) => putEntry(entry)));
      for (const live of touched) {
        this.#undurable.delete(live);
        if (finalStates.includes(live.entry.state)) this.#deps.events.emit("outboxChanged", live.entry);
      }
    } finally {
      for (const live of touched) if (live.entry.targets.length === 0) this.#activate(live, "queued");
    }
  }

  /** One machine of several cannot open its copy: that copy goes, the message lives while another is under way. */
  #othersMayDeliver({ entry }: Live, refuser: NodeId): boolean {
    if (entry.targets.length < 2) return false;
    for (const target of entry.targets) if (target.node === refuser) this.#forwarder.remove(target.bundle);
    return entry.targets.some((target) => this.#forwarder.get(target.bundle) !== undefined);
  }

  /** What was sealed to a revoked node is sealed anew to whom its address means now, or waits for somebody. */
  onRevoked(id: NodeId): void {
    const concerned = new Set(this.#unheld);
    for (const { messageId } of this.#forwarder.toward(id)) {
      const live = messageId === undefined ? undefined : this.#entries.get(messageId);
      if (live !== undefined) concerned.add(live);
    }
    for (const live of concerned) {
      const { entry } = live;
      if (finalStates.includes(entry.state) || !entry.targets.some(({ node }) => node === id)) continue;
      if (this.#othersMayDeliver(live, id)) continue;
      this.#dropTargets(entry);
      this.#rows.save([live]);
      this.#activate(live, "queued");
    }
  }

  #release({ targets }: OutboxEntry): void {
    for (const target of targets) {
      this.#forwarder.remove(target.bundle);
      this.#sealer.forget(target);
    }
  }

  #dropTargets(entry: OutboxEntry): void {
    this.#release(entry);
    this.#entries.dropTargets(entry);
    entry.state = "queued";
  }

  stop(): void {
    this.#waiting.stop();
    this.#rows.flush();
    this.#sealRetry?.cancel();
  }

  async #accept(order: Order): Promise<MessageId> {
    const { limits, self } = this.#ctx;
    const { body } = order;
    if (
      this.openCount + this.#pending >= limits.outboxMessagesMax ||
      this.#bytes + body.length > limits.outboxBytesMax
    )
      throw godwitError(
        "GODWIT_QUEUE_FULL",
        "the outbox is full; withdraw messages, or wait until some are delivered",
      );
    const name = this.#names.next(order.to);
    const id = idOf(self, order.to, name);
    const entry = newEntry(this.#ctx, order, id, name);
    const live: Live = { entry };
    const ops: StoreOp[] = [...this.#idempotency.ops(order, id)];
    if (this.#isForHere(entry)) {
      await this.#acceptForHere(live, body, order, ops);
      return id;
    }
    this.#sealer.wrote(entry);
    // A large one is sealed while it is written; what it is sealed to is durable before it goes.
    const sealed = this.#sealer.sealMeanwhile(entry, body);
    if (sealed === undefined) this.#seal(live, body);
    ops.push({ ...putEntry(entry), body });
    await this.#commitAccepted(ops, body.length);
    this.#remember(live, order);
    this.#deps.events.emit("outboxChanged", entry);
    if (sealed !== undefined) void this.#sealLater(live, sealed);
    else if (entry.targets.length > 0) this.#hold(live, "queued");
    else this.#activate(live, "queued");
    return id;
  }

  async #acceptForHere(live: Live, body: Uint8Array, order: Order, ops: StoreOp[]): Promise<void> {
    const { entry } = live;
    entry.state = "delivered";
    entry.deliveredAtMs = this.#ctx.clock.wallMs();
    await this.#deps.deliverHere(entry, body, [...ops, { ...putEntry(entry), body }]);
    this.#remember(live, order);
    this.#history.note(entry);
    this.#prune();
    this.#deps.events.emit("outboxChanged", entry);
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

  #remember(live: Live, order: Order): void {
    this.#entries.add(live);
    this.#idempotency.remember(order, live.entry.id);
  }

  #isForHere(entry: OutboxEntry): boolean {
    const resolution = this.#ctx.directory.resolve(entry.to, entry.failover);
    // A location that this machine is part of: any machine there will do, and none is nearer.
    return resolution.kind === "nodes" && resolution.nodes.includes(this.#ctx.self);
  }

  /** Seals and hands to the forwarder if the address means somebody now; else it waits. */
  #activate(live: Live, state: OutboxState): void {
    const { entry } = live;
    if (entry.targets.length > 0) return this.#hold(live, state);
    const reason = this.#sealer.whyNotYet(entry);
    entry.reason = reason;
    if (reason !== null) return this.#wait(live);
    this.#waiting.delete(entry.to, entry.id);
    this.#toSeal.push(live);
    if (!this.#isSealing) void this.#sealQueued();
  }

  /** A name that comes to mean somebody may set thousands free: their bodies pass through memory a few at a time. */
  async #sealQueued(): Promise<void> {
    this.#isSealing = true;
    while (this.#toSeal.length > 0)
      await Promise.all(this.#toSeal.splice(0, SEALED_AT_ONCE).map((live) => this.#sealLater(live)));
    this.#isSealing = false;
  }

  /** `sealed`: what it was sealed to meanwhile; else from the store. */
  async #sealLater(live: Live, sealed?: Promise<readonly Target[]>): Promise<void> {
    const { entry } = live;
    try {
      if (sealed !== undefined) return await this.#takeSealed(live, await sealed);
      const body = await this.#sealer.body(entry);
      if (body === undefined || finalStates.includes(entry.state) || entry.targets.length > 0) return;
      if (this.#isForHere(entry)) {
        await this.#deps.deliverHere(entry, body, []);
        entry.deliveredAtMs = this.#ctx.clock.wallMs();
        this.#finish(live, "delivered", null);
        return this.#rows.save([live]);
      }
      const slowly = this.#sealer.sealMeanwhile(entry, body);
      if (slowly !== undefined) return await this.#takeSealed(live, await slowly);
      this.#seal(live, body);
      await this.#holdSealed(live);
    } catch (error) {
      entry.reason = "the store cannot read it now";
      this.#ctx.log.warn("sealing failed", {
        message: entry.id,
        error: error instanceof Error ? error : String(error),
      });
      this.#wait(live);
      this.#sealRetry ??= this.#ctx.clock.after(SEAL_RETRY_MS, () => {
        this.#sealRetry = undefined;
        this.onDirectory();
      });
    }
  }

  async #holdSealed(live: Live): Promise<void> {
    const { entry } = live;
    if (entry.targets.length === 0) return this.#wait(live);
    this.#unheld.add(live);
    await this.#ctx.store.commit([putEntry(entry)]);
    this.#hold(live, entry.state);
  }

  async #takeSealed(live: Live, targets: readonly Target[]): Promise<void> {
    const { entry } = live;
    if (finalStates.includes(entry.state) || entry.targets.length > 0) return;
    // Its address means others by now.
    if (!this.#sealer.isStillFor(entry, targets)) return this.#activate(live, "queued");
    this.#entries.setTargets(entry, targets);
    await this.#holdSealed(live);
  }

  /**
   * The recipient signed that it cannot open what it got: its store is gone, and its prekeys with it. Nobody else could
   * have opened it, so it may be sealed anew to the next key. False where no other key would help.
   */
  #unseal({ entry }: Live): boolean {
    const [target] = entry.targets;
    const lostKeys = entry.lostKeys ?? [];
    if (target === undefined || entry.targets.length > 1) return false;
    if (target.key === null || lostKeys.length >= RESEALS_MAX) return false;
    entry.lostKeys = [...lostKeys, target.key.publicHex];
    this.#dropTargets(entry);
    return true;
  }

  #wait({ entry }: Live): void {
    this.#waiting.add(entry.to, entry.id, deadlineOf(this.#ctx, entry));
  }

  /** Fills `targets` when the address resolves. */
  #seal(live: Live, body: Uint8Array): void {
    const { entry } = live;
    const resolution = this.#ctx.directory.resolve(entry.to, entry.failover);
    if (resolution.kind === "nodes")
      this.#entries.setTargets(entry, this.#sealer.seal(entry, resolution.nodes, body));
  }

  #hold(live: Live, state: OutboxState): void {
    this.#unheld.delete(live);
    for (const target of live.entry.targets) this.#forwarder.add(this.#sealer.holding(live, target, state));
  }

  #finish(live: Live, state: OutboxState, reason: string | null): void {
    this.#close(live, state, reason);
    this.#deps.events.emit("outboxChanged", live.entry);
  }

  /** In memory; the caller saves, and announces what is durable. A `delivered` beats whatever it was before. */
  #close(live: Live, state: OutboxState, reason: string | null): void {
    const { entry } = live;
    const wasFinal = finalStates.includes(entry.state);
    entry.state = state;
    entry.reason = reason;
    this.#unheld.delete(live);
    this.#rows.forget(live);
    this.#release(entry);
    this.#waiting.delete(entry.to, entry.id);
    if (!wasFinal) {
      this.#bytes -= entry.size;
      this.#history.note(entry);
      this.#prune();
    }
  }

  /** Finished messages keep their bodies, so their history is bounded in bytes as well. */
  #prune(): void {
    const ops: StoreOp[] = [];
    const { historyMessagesMax, outboxBytesMax } = this.#ctx.limits;
    const sizeOf = (id: MessageId): number => this.#entries.get(id)?.entry.size ?? 0;
    for (const id of this.#history.takeExcess(historyMessagesMax, outboxBytesMax, sizeOf)) {
      const key = this.#entries.get(id)?.entry.idempotencyKey;
      this.#entries.delete(id);
      ops.push({ op: "delete", in: "outbox", key: id }, ...this.#idempotency.forget(key));
    }
    if (ops.length > 0) this.#ctx.store.commit(ops).catch(() => {});
  }

  #onWaitedOut(id: MessageId): void {
    const live = this.#entries.get(id);
    if (live === undefined) return;
    this.#finish(live, "expired", `its lifetime ended: ${live.entry.reason ?? "nobody to send it to"}`);
    this.#rows.save([live]);
  }
}
