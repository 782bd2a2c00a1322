/**
 * The last step: into the inbox, exactly once. Deliveries that wait while a commit is being written go into the next
 * one together; a failed commit takes all of them back, so that nothing is ever marked as delivered that is not there.
 */
import type { Teller } from "../../kernel/hub.ts";
import { godwitError } from "../../kernel/errors.ts";
import { formatHex, type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { TRACE_MAX, type TraceEntry, untracedHops } from "../../wire/bundle.ts";
import type { Share } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { Priority } from "../../wire/constants.ts";
import { briefOf, receiptSaid, ReceiptStatus, type InnerMessage, type Receipt } from "../../wire/message.ts";
import type { CustodyContext, OpenedSession } from "../context.ts";
import type { Inbox, InboxEntry, InboxEvents } from "./inbox.ts";
import type { Receipts } from "./receipts.ts";
import type { Seen } from "./seen.ts";
import type { ReceivedSessions } from "./sessions.ts";
import type { StoredBody } from "./stored-body.ts";
import type { StoreOp } from "../../store/types.ts";

const BATCH_BYTES_MAX = 8 * 1024 * 1024;
const BATCH_MAX = 512;
/** A transient message that comes on two ways is delivered once; strangers push out each other's ids alone. */
const TRANSIENTS_REMEMBERED_MAX = 4_096;
/** Transient messages between arrival and commit, and their bodies: nobody keeps them elsewhere, so a slow disk drops what is beyond. */
export const TRANSIENTS_WAITING_MAX = 1_024;
export const TRANSIENT_BYTES_WAITING_MAX = 8 * 1024 * 1024;

export interface Arrival {
  readonly id: MessageId;
  readonly from: NodeId;
  /** Whose share it takes. */
  readonly share: Share;
  /** Its body is only the beginning where it lies in the store already. */
  readonly inner: InnerMessage;
  readonly stored?: StoredBody | undefined;
  readonly priority: Priority;
  readonly lifetimeMs: number;
  readonly forwardSecret: boolean;
  readonly isUnconfirmed: boolean;
  readonly trace: readonly TraceEntry[];
  /** Links it has crossed; absent: none. */
  readonly hops?: number;
  /** All zero for a message that never left this node. */
  readonly bundleId: BundleId;
  /** False for transient messages and those of this node itself. */
  readonly wantsReceipt: boolean;
  /** Best effort: neither counted nor remembered beyond the latest few. */
  readonly isTransient?: true;
  /** No other node holds it: it waits for nobody, because nobody would bring it again. */
  readonly isOnlyHere?: true;
  /** What it came in, if that was a session. */
  readonly session?: OpenedSession | undefined;
  /** Committed with the delivery. */
  readonly ops: readonly StoreOp[];
}

const bodyBytes = ({ inner, stored }: Arrival): number => stored?.bytes ?? inner.body.length;

/**
 * `again`: delivered before; the receipt was sent anew. `contested`: while it waited for the disk, word came of another
 * machine under this identity; which of the two delivers is not known yet.
 */
export type DeliveryOutcome = "delivered" | "again" | Refusal | "store_failed" | "contested";
/** `senders`: nothing was ever delivered from this one, and there is no place for another that nobody here knows. */
export type Refusal = "full" | "quota" | "senders";

/** What the recipient tells the sender: signed, or where the session proves it by its code. */
interface Told {
  readonly receipt: Receipt;
  readonly code: Uint8Array | undefined;
}

interface Pending {
  readonly arrival: Arrival;
  readonly settle: (outcome: DeliveryOutcome) => void;
}

export class Delivery {
  readonly #ctx: CustodyContext;
  readonly #inbox: Inbox;
  readonly #seen: Seen;
  readonly #receipts: Receipts;
  readonly #sessions: ReceivedSessions;
  readonly #events: Teller<InboxEvents>;
  readonly #underway = new Map<MessageId, Promise<DeliveryOutcome>>();
  readonly #transients = new SharedMap<MessageId, true>({
    name: "transient messages",
    max: TRANSIENTS_REMEMBERED_MAX,
  });
  readonly #transientsDropped;
  #transientsWaiting = 0;
  #transientBytesWaiting = 0;
  #queue: Pending[] = [];
  #isWriting = false;
  readonly #delivered;

  constructor(
    ctx: CustodyContext,
    parts: { inbox: Inbox; seen: Seen; receipts: Receipts; sessions: ReceivedSessions },
    events: Teller<InboxEvents>,
  ) {
    this.#ctx = ctx;
    this.#inbox = parts.inbox;
    this.#seen = parts.seen;
    this.#receipts = parts.receipts;
    this.#sessions = parts.sessions;
    this.#events = events;
    this.#transientsDropped = ctx.metrics.counter("godwit_transients_dropped_total");
    this.#delivered = ctx.metrics.counter("godwit_messages_delivered_total");
  }

  wasDelivered(arrival: { from: NodeId; inner: InnerMessage }): boolean {
    const { mailEpoch, to, counter } = arrival.inner;
    return this.#seen.has(arrival.from, formatHex(mailEpoch), to, counter);
  }

  /** Its delivery is not durable yet, and may still fail: nobody may be told of it. */
  isUnderWay(id: MessageId): boolean {
    return this.#underway.has(id);
  }

  /** Why a message of so many bytes cannot be taken now. */
  refusal(from: NodeId, share: Share, bytes: number): Refusal | undefined {
    if (!this.#seen.hasNoPlace(from, share)) return this.#inbox.refusal(from, share, bytes);
    this.#ctx.fullTables.refused("senders seen");
    return "senders";
  }

  /** Never rejects. A second copy while the first is being written shares its outcome. */
  deliver(arrival: Arrival): Promise<DeliveryOutcome> {
    const underway = this.#underway.get(arrival.id);
    if (underway !== undefined) return underway;
    if (arrival.isTransient === true) {
      if (this.#transients.has(arrival.id)) return Promise.resolve("again");
      if (!this.#hasRoomFor(arrival)) {
        this.#transientsDropped.add();
        return Promise.resolve("full");
      }
      this.#transients.set(arrival.id, true, arrival.share);
    } else if (this.wasDelivered(arrival)) {
      if (arrival.wantsReceipt) void this.#signAgain(arrival);
      return Promise.resolve("again");
    }
    this.#countWaiting(arrival, 1);
    const outcome = new Promise<DeliveryOutcome>((settle) => this.#queue.push({ arrival, settle })).finally(
      () => {
        this.#countWaiting(arrival, -1);
        this.#underway.delete(arrival.id);
      },
    );
    this.#underway.set(arrival.id, outcome);
    this.#write();
    return outcome;
  }

  /** Marks as delivered elsewhere, with `ops` in one commit. */
  async passOver(arrival: Pick<Arrival, "from" | "share" | "inner">, ops: readonly StoreOp[]): Promise<void> {
    const { mailEpoch, to, counter } = arrival.inner;
    const epoch = formatHex(mailEpoch);
    const { coveredMs } = this.#ctx.time;
    const key = this.#seen.add(arrival.from, arrival.share, epoch, to, counter, coveredMs);
    if (key === undefined) throw godwitError("GODWIT_QUOTA", "too many gaps in what the sender sent");
    try {
      await this.#ctx.store.commit([...this.#seen.ops(key, coveredMs), ...ops]);
    } catch (error) {
      this.#seen.undo(arrival.from, epoch, to, counter, coveredMs);
      throw error;
    }
  }

  #hasRoomFor({ inner }: Arrival): boolean {
    return (
      this.#transientsWaiting < TRANSIENTS_WAITING_MAX &&
      this.#transientBytesWaiting + inner.body.length <= TRANSIENT_BYTES_WAITING_MAX
    );
  }

  #countWaiting({ isTransient, inner }: Arrival, by: 1 | -1): void {
    if (isTransient !== true) return;
    this.#transientsWaiting += by;
    this.#transientBytesWaiting += by * inner.body.length;
  }

  /** Of a message that another machine may have delivered in this one's place, only a trace here proves that it was here. */
  async #signAgain({ id, from, inner, bundleId, lifetimeMs, share }: Arrival): Promise<void> {
    const isProven =
      inner.machines.length < 2 || this.#receipts.has(id) || (await this.#present([id])).has(id);
    if (isProven) await this.#receipts.resend(from, id, bundleId, lifetimeMs, share);
  }

  /** Where the store cannot say, nothing is. */
  async #present(ids: readonly MessageId[]): Promise<ReadonlySet<MessageId>> {
    return ids.length === 0 ? new Set() : await this.#inbox.present(ids).catch(() => new Set<MessageId>());
  }

  #write(): void {
    if (this.#isWriting || this.#queue.length === 0) return;
    this.#isWriting = true;
    // Everything that arrives in this turn of the event loop shares the commit.
    queueMicrotask(() => void this.#writeBatch());
  }

  async #writeBatch(): Promise<void> {
    const batch: { pending: Pending; entry: InboxEntry; told: Told }[] = [];
    const ops: StoreOp[] = [];
    const seenKeys = new Set<string>();
    const taken = this.#takeBatch();
    const transients = taken.filter(({ arrival }) => arrival.isTransient === true);
    const present = await this.#present(transients.map(({ arrival }) => arrival.id));
    // From here to the commit in one turn: places in the inbox are given in the order of commits.
    for (const pending of taken) {
      const { arrival } = pending;
      if (arrival.isTransient === true ? present.has(arrival.id) : this.wasDelivered(arrival)) {
        pending.settle("again"); // marked while it waited, by another machine's word
        continue;
      }
      if (arrival.isTransient !== true && arrival.isOnlyHere !== true && this.#ctx.isContested()) {
        pending.settle("contested");
        continue;
      }
      const marked = this.#mark(arrival);
      if ("refusal" in marked) {
        pending.settle(marked.refusal);
        continue;
      }
      seenKeys.add(marked.seenKey);
      const { entry, told, arrivalOps } = this.#prepare(arrival);
      ops.push(...arrivalOps);
      batch.push({ pending, entry, told });
    }
    for (const key of seenKeys) ops.push(...this.#seen.ops(key, this.#ctx.time.coveredMs));
    const isDurable = ops.length === 0 || (await this.#commit(ops));
    this.#isWriting = false;
    for (const { pending, entry, told } of batch) {
      if (isDurable) this.#finish(pending, entry, told);
      else this.#undo(pending, entry);
    }
    this.#write();
  }

  #takeBatch(): Pending[] {
    let count = 0;
    let bytes = 0;
    while (count < this.#queue.length && count < BATCH_MAX && bytes < BATCH_BYTES_MAX)
      bytes += this.#queue[count++]!.arrival.inner.body.length;
    return this.#queue.splice(0, count);
  }

  #prepare(arrival: Arrival): { entry: InboxEntry; told: Told; arrivalOps: StoreOp[] } {
    const { inner, from, share, id, priority, forwardSecret, isUnconfirmed, bundleId } = arrival;
    const hopsUntraced = untracedHops({ hops: arrival.hops ?? 0, trace: arrival.trace });
    const atMs = this.#ctx.clock.wallMs();
    // As on the way: what is past the longest trace is not recorded, and would make the receipt unreadable.
    const trace = [...arrival.trace, { node: this.#ctx.self, atMs }].slice(0, TRACE_MAX);
    const entry: InboxEntry = {
      id,
      from,
      to: inner.to,
      subject: inner.subject,
      contentType: inner.contentType,
      priority,
      size: bodyBytes(arrival),
      createdAtMs: inner.createdAtMs,
      deliveredAtMs: atMs,
      atRunMs: this.#ctx.time.runMs,
      forwardSecret,
      isUnconfirmed,
      trace,
      ...(hopsUntraced === 0 ? {} : { hopsUntraced }),
      ...(share.isKnown ? {} : { via: share.by }),
    };
    const { session } = arrival;
    const sessionOps = session === undefined ? [] : this.#sessions.keep(from, session, share, inner);
    const receipt: Receipt = {
      status: ReceiptStatus.delivered,
      messageId: id,
      bundleId,
      atMs,
      isUnconfirmed,
      ...(session === undefined ? {} : this.#keptOf(from, session, inner)),
      trace,
    };
    const code = session?.receiptCode(receiptSaid(briefOf(receipt), bundleId));
    const arrivalOps = [
      this.#inbox.add(entry, arrival.stored ?? inner.body),
      ...(arrival.wantsReceipt ? this.#receipts.keep(receipt, from, share, code) : []),
      ...sessionOps,
      ...arrival.ops,
    ];
    return { entry, told: { receipt, code }, arrivalOps };
  }

  /** What the sender may build on from now on. */
  #keptOf(
    from: NodeId,
    session: OpenedSession,
    inner: InnerMessage,
  ): Pick<Receipt, "isSessionKept" | "isContextKept"> {
    if (!this.#sessions.has(from, session)) return {};
    const isContextKept = this.#sessions.isKeptWith(from, session, inner);
    return isContextKept ? { isSessionKept: true, isContextKept } : { isSessionKept: true };
  }

  async #commit(ops: readonly StoreOp[]): Promise<boolean> {
    try {
      await this.#ctx.store.commit(ops);
      return true;
    } catch (error) {
      this.#ctx.log.warn("delivery not stored", { error: error instanceof Error ? error : String(error) });
      return false;
    }
  }

  #finish({ arrival, settle }: Pending, entry: InboxEntry, { receipt, code }: Told): void {
    this.#delivered.add();
    if (arrival.session !== undefined) this.#sessions.kept(arrival.from, arrival.session);
    if (arrival.wantsReceipt) this.#receipts.issue(arrival.from, receipt, arrival.lifetimeMs, code);
    settle("delivered");
    this.#events.emit("delivered", { entry, body: arrival.inner.body });
  }

  #undo({ arrival, settle }: Pending, entry: InboxEntry): void {
    this.#inbox.undo(entry, arrival.stored ?? arrival.inner.body);
    this.#receipts.undo(arrival.id);
    if (arrival.session !== undefined) this.#sessions.undo(arrival.from, arrival.session);
    this.#unmarkSeen(arrival);
    this.#transients.delete(arrival.id);
    settle("store_failed");
  }

  /** Room for it, and the key of the set it is in (empty for what is not counted); or why there is none. */
  #mark(arrival: Arrival): { readonly seenKey: string } | { readonly refusal: Refusal } {
    const { from, share, isTransient } = arrival;
    const bytes = bodyBytes(arrival);
    const refusal =
      isTransient === true ? this.#inbox.refusal(from, share, bytes) : this.refusal(from, share, bytes);
    if (refusal !== undefined) return { refusal };
    const seenKey = this.#markSeen(arrival);
    return seenKey === undefined ? { refusal: "quota" } : { seenKey };
  }

  /** Undefined: there is no room. */
  #markSeen({ isTransient, from, share, inner }: Arrival): string | undefined {
    if (isTransient === true) return "";
    const { mailEpoch, to, counter } = inner;
    return this.#seen.add(from, share, formatHex(mailEpoch), to, counter, this.#ctx.time.coveredMs);
  }

  #unmarkSeen({ isTransient, from, inner }: Arrival): void {
    if (isTransient === true) return;
    const { mailEpoch, to, counter } = inner;
    this.#seen.undo(from, formatHex(mailEpoch), to, counter, this.#ctx.time.coveredMs);
  }
}
