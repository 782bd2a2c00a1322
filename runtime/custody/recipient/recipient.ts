/**
 * Bundles whose way ends here: messages into the inbox (through claims where several machines hold a copy), receipts to
 * the outbox, claims and their answers. Acknowledges to the neighbour only what is durable or of no use to anybody.
 * docs/protocol/delivery.md "The recipient".
 */
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import type { Teller } from "../../kernel/hub.ts";
import { TokenBucket } from "../../kernel/backoff.ts";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import {
  formatMessageId,
  MESSAGE_ID_BYTES,
  shortId,
  type BundleId,
  type MessageId,
  type NodeId,
  parseHex,
} from "../../kernel/ids.ts";
import {
  BundleKind,
  encodeBundleHeader,
  makeBundle,
  RefuseReason,
  type Bundle,
  type Journey,
  type Offer,
} from "../../wire/bundle.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import { SystemKind, type Priority } from "../../wire/constants.ts";
import {
  decodeClaim,
  decodeClaimAnswer,
  decodeReceiptsWanted,
  decodeTest,
  messageIdOf,
  ReceiptStatus,
  type InnerMessage,
  noBundleId,
  type Receipt,
  sessionSaid,
} from "../../wire/message.ts";
import { Claims } from "./claims.ts";
import { namedSession } from "../../wire/sealed.ts";
import type { ArrivedBundle, CustodyContext, Opened, OpeningBody } from "../context.ts";
import { Delivery, type Arrival, type DeliveryOutcome, type Refusal } from "./delivery.ts";
import { Inbox, type InboxEvents } from "./inbox.ts";
import type { Outbox } from "../source/outbox.ts";
import type { OutboxEntry } from "../source/entry.ts";
import { Openings } from "./openings.ts";
import { Receipts } from "./receipts.ts";
import { Seen } from "./seen.ts";
import { ReceivedSessions } from "./sessions.ts";
import { SessionRefusals } from "./session-refusals.ts";
import { decodeOpened, SegmentsOpening } from "./opening-body.ts";
import { storedOf, type StoredBody } from "./stored-body.ts";
import type { TestBundles } from "../test-bundles.ts";
import type { Transit } from "../transit/transit.ts";
import type { StoreOp } from "../../store/types.ts";

const RETRY_FULL_MS = 5_000;
/** Two machines under one identity settle within a second or so. */
const RETRY_CONTESTED_MS = 2_000;
const RETRY_STORE_MS = 2_000;
const CLAIM_PRIORITY: Priority = 0;
/** Signed refusals a second, how many at once, and how long one lives: the source asks again anyway. */
const REFUSALS_PER_SECOND = 2;
const REFUSALS_BURST = 100;
const REFUSAL_LIFETIME_MS = 3_600_000;
/** Who asked has long given up after this. */
const TEST_ANSWER_LIFETIME_MS = 60_000;

export interface RecipientDeps {
  readonly events: Teller<InboxEvents>;
  /** Opened and authenticated, from `from`: what is not custody's own. */
  system(from: NodeId, plaintext: Uint8Array): Promise<void>;
  /** A bundle made here needs custody: a receipt, a claim, an answer. */
  send(bundle: Bundle): void;
  acknowledge(to: NodeId, id: BundleId): void;
  /** What was delivered here came again: the sender has no receipt. */
  receiptMissed(sender: NodeId, priority: Priority, from: NodeId | undefined): void;
  refuse(to: NodeId, id: BundleId, reason: number, retryAfterMs: number): void;
}

export class Recipient {
  readonly inbox: Inbox;
  readonly #ctx: CustodyContext;
  readonly #outbox: Outbox;
  readonly #transit: Transit;
  readonly #tests: TestBundles;
  readonly #deps: RecipientDeps;
  readonly #seen = new Seen();
  readonly #receipts: Receipts;
  readonly #delivery: Delivery;
  readonly #claims: Claims;
  readonly #sessions: ReceivedSessions;
  readonly #refusals: TokenBucket;
  readonly #sessionRefusals: SessionRefusals;
  readonly #openings: Openings;
  readonly #unreadable;

  constructor(
    ctx: CustodyContext,
    outbox: Outbox,
    transit: Transit,
    tests: TestBundles,
    deps: RecipientDeps,
  ) {
    this.#ctx = ctx;
    this.#outbox = outbox;
    this.#transit = transit;
    this.#tests = tests;
    this.#deps = deps;
    this.inbox = new Inbox(ctx);
    this.#receipts = new Receipts(ctx, { ready: (bundle) => deps.send(bundle) });
    this.#sessions = new ReceivedSessions(ctx);
    this.#sessionRefusals = new SessionRefusals(ctx.clock);
    this.#openings = new Openings(ctx.clock);
    this.#delivery = new Delivery(
      ctx,
      { inbox: this.inbox, seen: this.#seen, receipts: this.#receipts, sessions: this.#sessions },
      deps.events,
    );
    this.#claims = new Claims(ctx, {
      send: (to, kind, plaintext, lifetimeMs) => this.#sendSealed(to, kind, plaintext, lifetimeMs),
      deliver: async (arrival, isUnconfirmed) =>
        isDone(await this.#delivery.deliver({ ...arrival, isUnconfirmed })),
      drop: (arrival) => this.#delivery.passOver(arrival, arrival.ops),
      wasDeliveredHere: (id) => this.#receipts.has(id) && !this.#delivery.isUnderWay(id),
    });
    this.#refusals = new TokenBucket(ctx.clock, REFUSALS_PER_SECOND, REFUSALS_BURST);
    this.#unreadable = ctx.metrics.counter("godwit_bundles_unreadable_total");
  }

  async load(): Promise<void> {
    await this.#seen.load(this.#ctx.store, this.#ctx.time.coveredMs);
    await this.#receipts.load();
    await this.#sessions.load();
    await this.inbox.load();
    await this.#claims.load();
  }

  /** Messages that wait for the other machines of the location. */
  get claimsCount(): number {
    return this.#claims.count;
  }

  /** A message that was held here already when the node started. */
  resume(bundle: Bundle, journey: Journey): Promise<void> {
    return this.#onMessage(undefined, bundle, journey, []).catch(async (thrown: unknown) => {
      const error = asGodwitError(thrown);
      this.#ctx.log.warn("held message failed", { bundle: bundle.id, error });
      if (error.kind === "protocol")
        await this.#ctx.store.commit([{ op: "delete", in: "transit", key: bundle.id }]).catch(() => {});
    });
  }

  /** True when the offered bundle was delivered before: its receipt goes out again, and nothing need be fetched. */
  wasDelivered(from: NodeId, { id, header }: Offer): boolean {
    const messageId = this.#receipts.messageOf(id);
    if (messageId === undefined || this.#delivery.isUnderWay(messageId)) return false;
    const share = this.#shareOf(header.source, from);
    void this.#receipts.resend(header.source, messageId, id, header.lifetimeMs, share);
    return true;
  }

  /** An offered message is opened while it comes. */
  opens({ header, sealedBytes }: Offer): OpeningBody | undefined {
    const isOurs = header.kind === BundleKind.message && header.destination === this.#ctx.self;
    return isOurs ? new SegmentsOpening(this.#ctx, this.#sessions, header, sealedBytes) : undefined;
  }

  stop(): void {
    this.#claims.stop();
    this.#receipts.stop();
    this.inbox.stop();
  }

  /** A transient message that was routed here: into the inbox, no receipt, dropped when there is no room. */
  onTransient(from: NodeId, sealed: Uint8Array, associated: Uint8Array, priority: Priority): void {
    const { plaintext, ...opened } = this.#ctx.sealer.open(from, sealed, associated, this.#sessions);
    const inner = decodeOpened(this.#ctx, plaintext, opened);
    const id = messageIdOf(from, inner.to, inner.mailEpoch, inner.counter);
    void this.#delivery.deliver({
      id,
      from,
      share: this.#shareOf(from, undefined),
      inner,
      priority,
      lifetimeMs: 0,
      forwardSecret: opened.forwardSecret,
      isUnconfirmed: false,
      trace: [],
      bundleId: noBundleId,
      wantsReceipt: false,
      isTransient: true,
      ops: [],
    });
  }

  /** A bundle for this node. Never rejects. */
  async onBundle(
    from: NodeId,
    arrived: ArrivedBundle,
    journey: Journey,
    ops: readonly StoreOp[],
  ): Promise<void> {
    const { kind, source } = arrived.header;
    try {
      if (kind === BundleKind.message) return await this.#onMessage(from, arrived, journey, ops);
      const bundle = await inMemory(arrived);
      switch (kind) {
        case BundleKind.receipt:
          await this.#openings.run(from, () => this.#outbox.onReceipts(source, bundle.sealed));
          break;
        case BundleKind.claim: {
          const claim = decodeClaim(this.#open(bundle).plaintext);
          await this.#claims.onClaim(source, this.#shareOf(source, from), claim.messageId);
          break;
        }
        case BundleKind.claimAnswer: {
          const { messageId, answer } = decodeClaimAnswer(this.#open(bundle).plaintext);
          this.#claims.onAnswer(source, messageId, answer);
          break;
        }
        case BundleKind.system:
          await this.#onSystem(source, this.#open(bundle).plaintext);
          break;
        default:
          // A later version's kind: nothing here can use it, and keeping it would help nobody.
          this.#ctx.log.debug("bundle of an unknown kind", { kind });
      }
      this.#deps.acknowledge(from, arrived.id);
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (error.kind === "capacity")
        return this.#deps.refuse(from, arrived.id, RefuseReason.storeFailed, RETRY_STORE_MS);
      if (error.kind === "bug") this.#ctx.log.error("bundle failed", { error });
      this.#unreadable.add();
      this.#deps.acknowledge(from, arrived.id);
    }
  }

  async #onSystem(from: NodeId, plaintext: Uint8Array): Promise<void> {
    if (plaintext[0] !== SystemKind.receiptsWanted) return this.#deps.system(from, plaintext);
    await this.#receipts.onWanted(from, decodeReceiptsWanted(plaintext));
  }

  #open({ header, sealed }: Bundle): Opened & { readonly plaintext: Uint8Array } {
    return this.#ctx.sealer.open(header.source, sealed, encodeBundleHeader(header), this.#sessions);
  }

  /** `from` undefined: it was held here already when the node started. */
  async #onMessage(
    from: NodeId | undefined,
    bundle: ArrivedBundle,
    journey: Journey,
    ops: readonly StoreOp[],
  ): Promise<void> {
    const { source, priority, lifetimeMs } = bundle.header;
    const opened = await this.#opened(from, bundle);
    if ("test" in opened) return this.#onTest(from, opened.test, bundle, journey);
    const { inner, forwardSecret, stored, session } = opened;
    if (session !== undefined) this.#sessions.note(source, session);
    const held = { op: "delete", in: "transit", key: bundle.id } as const;
    const isShared = this.#isShared(inner);
    const arrival: Arrival = {
      id: messageIdOf(source, inner.to, inner.mailEpoch, inner.counter),
      from: source,
      share: this.#shareOf(source, from),
      inner,
      stored,
      priority,
      lifetimeMs,
      forwardSecret,
      isUnconfirmed: false,
      trace: journey.trace,
      hops: journey.hops,
      bundleId: bundle.id,
      wantsReceipt: true,
      session,
      ops: isShared ? [...ops, held] : ops,
      ...(from === undefined && !isShared ? { isOnlyHere: true as const } : {}),
    };
    if (from !== undefined && this.#ctx.isContested() && !this.#delivery.wasDelivered(arrival))
      return this.#deps.refuse(from, bundle.id, RefuseReason.busy, RETRY_CONTESTED_MS);
    if (!isShared || this.#delivery.wasDelivered(arrival)) {
      if (from !== undefined && this.#delivery.wasDelivered(arrival))
        this.#deps.receiptMissed(source, priority, from);
      const outcome = await this.#delivery.deliver(arrival);
      // Held since before a restart and delivered already: a delivery takes the row along, a repeat does not.
      if (from === undefined && outcome === "again") await this.#ctx.store.commit([held]);
      return this.#answer(from, bundle.id, outcome);
    }
    if (this.#claims.has(arrival.id)) return this.#answer(from, bundle.id, "again");
    const refusal = this.#claims.refusal(arrival);
    if (refusal !== undefined) return this.#answer(from, bundle.id, refusal);
    if (from !== undefined)
      await this.#hold(arrival, this.#transit.holdOp(bundle, journey, from, session !== undefined), ops);
    this.#answer(from, bundle.id, "again");
    this.#claims.start(arrival);
  }

  /** With the session that it came in. Rejects with GODWIT_STORE_FAILED, and nothing is kept then. */
  async #hold(arrival: Arrival, held: StoreOp, ops: readonly StoreOp[]): Promise<void> {
    const { from, session, share, inner } = arrival;
    const kept = session === undefined ? [] : this.#sessions.keep(from, session, share, inner);
    try {
      await this.#ctx.store.commit([held, ...kept, ...ops]);
    } catch (error) {
      if (session !== undefined) this.#sessions.undo(from, session);
      throw error;
    }
    if (session !== undefined) this.#sessions.kept(from, session);
  }

  /** `from`: who brought it. */
  async #opened(
    from: NodeId | undefined,
    bundle: ArrivedBundle,
  ): Promise<{ test: MessageId } | (Opened & { inner: InnerMessage; stored?: StoredBody })> {
    try {
      const large = "sealed" in bundle ? undefined : storedOf(bundle);
      // What waits for other machines lies in transit meanwhile, and its chunks are that row's.
      if (large !== undefined && !this.#isShared(large.inner)) return large;
      const whole = await inMemory(bundle);
      const { plaintext, ...opened } = await this.#openings.run(from ?? this.#ctx.self, () =>
        this.#open(whole),
      );
      const test = decodeTest(plaintext);
      return test === undefined ? { inner: decodeOpened(this.#ctx, plaintext, opened), ...opened } : { test };
    } catch (error) {
      this.#onUnopened(from, bundle, asGodwitError(error).code);
      throw error;
    }
  }

  #onUnopened(from: NodeId | undefined, bundle: ArrivedBundle, code: string): void {
    switch (code) {
      case "GODWIT_STORE_FAILED":
      // Its source holds it until there is a receipt, and seals it in a session once it knows that this node has them.
      case "GODWIT_SEAL_OUTDATED":
      // Nobody is told: whoever forged it would learn of it, and whoever sealed it has nothing better.
      case "GODWIT_SEAL_FORGED":
        return;
      case "GODWIT_SEAL_SESSION":
        return this.#onUnknownSession(from, bundle);
      default:
        return this.#onUnreadable(bundle);
    }
  }

  /** Tells the source, signed, that this session is over: once for a session, not for each of its bundles. */
  #onUnknownSession(from: NodeId | undefined, bundle: ArrivedBundle): void {
    const { source, lifetimeMs } = bundle.header;
    const session = "sealed" in bundle ? namedSession(bundle.sealed) : bundle.opening?.namedSession;
    if (session === undefined || !this.#sessionRefusals.take(source, session, from)) return;
    this.#receipts.issue(
      source,
      { ...this.#refusalOf(ReceiptStatus.sessionUnknown, bundle), messageId: sessionSaid(session) },
      Math.min(lifetimeMs, REFUSAL_LIFETIME_MS),
    );
  }

  #isShared({ machines }: InnerMessage): boolean {
    return machines.length > 1 && machines.includes(this.#ctx.self);
  }

  /** Nothing for the inbox: whoever asks wants to know that the way works. */
  #onTest(
    from: NodeId | undefined,
    id: MessageId,
    { header, id: bundleId }: ArrivedBundle,
    journey: Journey,
  ): void {
    const { mayAnswer, isAgain } = this.#tests.onArrived(id, this.#shareOf(header.source, from));
    if (isAgain) this.#deps.receiptMissed(header.source, header.priority, from);
    if (mayAnswer) {
      const receipt = {
        status: ReceiptStatus.delivered,
        messageId: id,
        bundleId,
        atMs: this.#ctx.clock.wallMs(),
        isUnconfirmed: false,
        trace: journey.trace,
      };
      this.#receipts.issue(header.source, receipt, Math.min(header.lifetimeMs, TEST_ANSWER_LIFETIME_MS));
    }
    if (from !== undefined) this.#deps.acknowledge(from, bundleId);
  }

  /** Tells the source, signed, that sealing anew is the only way. */
  #onUnreadable(bundle: ArrivedBundle): void {
    // Who the source is was not proven: nobody may fill this store with answers to nodes that never asked.
    if (!this.#refusals.take()) return;
    this.#ctx.log.info("message cannot be opened", { bundle: bundle.id });
    const lifetimeMs = Math.min(bundle.header.lifetimeMs, REFUSAL_LIFETIME_MS);
    const receipt = this.#refusalOf(ReceiptStatus.refused, bundle);
    this.#receipts.issue(bundle.header.source, receipt, lifetimeMs);
  }

  /** Of a message that was not opened: nothing is known of it but its bundle. */
  #refusalOf(status: number, { id }: ArrivedBundle): Receipt {
    return {
      status,
      messageId: formatMessageId(new Uint8Array(MESSAGE_ID_BYTES)),
      bundleId: id,
      atMs: this.#ctx.clock.wallMs(),
      isUnconfirmed: false,
      trace: [],
    };
  }

  #answer(from: NodeId | undefined, id: BundleId, outcome: DeliveryOutcome): void {
    if (from === undefined) return;
    if (isDone(outcome)) return this.#deps.acknowledge(from, id);
    if (outcome === "contested") return this.#deps.refuse(from, id, RefuseReason.busy, RETRY_CONTESTED_MS);
    if (outcome !== "store_failed") return this.#deps.refuse(from, id, RefuseReason[outcome], RETRY_FULL_MS);
    const isDiskFull = this.#ctx.store.state.missingBytes > 0;
    this.#deps.refuse(from, id, isDiskFull ? RefuseReason.full : RefuseReason.storeFailed, RETRY_STORE_MS);
  }

  async deliverHere(entry: OutboxEntry, body: Uint8Array, ops: readonly StoreOp[]): Promise<void> {
    const { self } = this.#ctx;
    const outcome = await this.#delivery.deliver({
      id: entry.id,
      from: self,
      share: { by: self, isKnown: true },
      inner: {
        mailEpoch: parseHex(entry.epoch, STORE_EPOCH_BYTES)!,
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
      isOnlyHere: true,
      ops,
    });
    if (isDone(outcome)) return;
    throw outcome === "store_failed"
      ? godwitError("GODWIT_STORE_FAILED", "the store cannot commit; free some disk space")
      : godwitError("GODWIT_QUOTA", "the inbox is full; read and remove messages");
  }

  /** Known senders have their own; of strangers, whoever brings them tells of them. */
  #shareOf(sender: NodeId, from: NodeId | undefined): Share {
    const { regard } = this.#ctx;
    if (regard.isKnown(sender)) return { by: sender, isKnown: true };
    return from === undefined ? EARLIER_RUN : { by: regard.shareOf(from).by, isKnown: false };
  }

  /** Why a message of so many bytes, brought by a neighbour, cannot be taken now. */
  refusal(sender: NodeId, from: NodeId, bytes: number): Refusal | undefined {
    return this.#delivery.refusal(sender, this.#shareOf(sender, from), bytes);
  }

  #sendSealed(to: NodeId, kind: number, plaintext: Uint8Array, lifetimeMs: number): void {
    const header = { kind, priority: CLAIM_PRIORITY, source: this.#ctx.self, destination: to, lifetimeMs };
    const unique = this.#ctx.random.bytes(16);
    const { sealer, log } = this.#ctx;
    let sealed: Uint8Array;
    try {
      sealed = sealer.sealOnce(to, plaintext, encodeBundleHeader(header), unique);
    } catch (error) {
      // The list of machines is the sender's word: one that cannot be sealed to answers no claim.
      return log.debug("machine cannot be sealed to", { machine: shortId(to), error: asGodwitError(error) });
    }
    this.#deps.send(makeBundle(header, sealed));
  }
}

/** Durable here, now or before. */
const isDone = (outcome: DeliveryOutcome): outcome is "delivered" | "again" =>
  outcome === "delivered" || outcome === "again";

/** Rejects with GODWIT_STORE_FAILED. */
async function inMemory(bundle: ArrivedBundle): Promise<Bundle> {
  if ("sealed" in bundle) return bundle;
  const { id, header, sealedBytes, pieces } = bundle;
  const sealed = new Uint8Array(sealedBytes);
  for (let at = 0; at < sealedBytes;) {
    const read = pieces.read(at);
    const piece = read instanceof Uint8Array ? read : await read;
    if (piece === undefined)
      throw godwitError("GODWIT_STORE_FAILED", "the chunks of a message cannot be read");
    sealed.set(piece, at);
    at += piece.length;
  }
  return { id, header, sealed };
}
