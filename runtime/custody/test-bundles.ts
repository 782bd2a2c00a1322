/**
 * Test bundles: sealed like mail, pinned to one neighbour, answered by the destination with a receipt and never put into
 * an inbox. On the way nobody can tell them from mail, so that whoever drops mail drops them, too. Volatile: a restart
 * ends the trial that asked for them. docs/protocol/delivery.md "Missing receipts".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { TokenBucket } from "../kernel/backoff.ts";
import {
  formatMessageId,
  MESSAGE_ID_BYTES,
  type BundleId,
  type MessageId,
  type NodeId,
} from "../kernel/ids.ts";
import type { Share } from "../kernel/room.ts";
import { SharedMap } from "../kernel/shared-map.ts";
import { BundleKind, encodeBundleHeader, makeBundle } from "../wire/bundle.ts";
import type { Priority } from "../wire/constants.ts";
import { encodeTest, TEST_PADDING_MAX } from "../wire/message.ts";
import type { CustodyContext, Holding } from "./context.ts";
import type { Forwarder } from "./forwarding/forwarder.ts";

/** Answers a second and at once, to strangers and as many to whom this node knows: each costs a signature. */
const ANSWERS_PER_SECOND = 50;
const ANSWERS_BURST = 200;
/** Of a source of strangers. Without answers an honest relay looks like one that loses mail. */
const SOURCE_ANSWERS = { perSecond: 10, burst: 50 };
const SOURCES_MAX = 1_024;
export const ANSWERED_REMEMBERED_MAX = 1_024;

export class TestBundles {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #bundles = new Map<MessageId, BundleId>();
  readonly #byBundle = new Map<BundleId, MessageId>();
  readonly #answered = new SharedMap<MessageId, true>({
    name: "answered test bundles",
    max: ANSWERED_REMEMBERED_MAX,
  });
  readonly #answers: { readonly known: TokenBucket; readonly strangers: TokenBucket };
  readonly #sources = new BoundedMap<string, TokenBucket>({ name: "sources of tests", max: SOURCES_MAX });

  constructor(ctx: CustodyContext, forwarder: Forwarder) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    const answers = () => new TokenBucket(ctx.clock, ANSWERS_PER_SECOND, ANSWERS_BURST);
    this.#answers = { known: answers(), strangers: answers() };
  }

  /** Undefined when the destination cannot be sealed to. */
  send(destination: NodeId, via: NodeId, priority: Priority): MessageId | undefined {
    const { self, random, sealer, clock, limits } = this.#ctx;
    const lifetimeMs = limits.lifetimeDefaultMs;
    const header = { kind: BundleKind.message, priority, source: self, destination, lifetimeMs };
    const id = formatMessageId(random.bytes(MESSAGE_ID_BYTES));
    const plaintext = encodeTest(id, 64 + random.below(TEST_PADDING_MAX - 64));
    let sealed: Uint8Array;
    try {
      // As mail would be now, or it could be told from that.
      const under = sealer.sessions?.take(destination) ?? sealer.keyFor(destination);
      sealed = sealer.seal(destination, under, plaintext, encodeBundleHeader(header), random.bytes(16));
    } catch {
      return undefined; // no key is known
    }
    const bundle = makeBundle(header, sealed);
    this.#bundles.set(id, bundle.id);
    this.#byBundle.set(bundle.id, id);
    this.#forwarder.add({
      id: bundle.id,
      header,
      sealedBytes: sealed.length,
      role: "source",
      via,
      trace: [],
      hops: 0,
      deadlineMs: clock.monotonicMs() + lifetimeMs,
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => sealed,
      waitReason: undefined,
    });
    return id;
  }

  repeat(id: MessageId): void {
    const bundle = this.#bundles.get(id);
    if (bundle !== undefined) this.#forwarder.retry(bundle);
  }

  /** The test that a receipt names: also one that says "cannot open", of a node that knows no tests. */
  byBundle(bundle: BundleId): MessageId | undefined {
    return this.#byBundle.get(bundle);
  }

  isTaken(id: MessageId): boolean {
    return this.#holding(id)?.relayedAtMs !== undefined;
  }

  end(id: MessageId): void {
    const bundle = this.#bundles.get(id);
    if (bundle === undefined) return;
    this.#bundles.delete(id);
    this.#byBundle.delete(bundle);
    this.#forwarder.remove(bundle);
  }

  /** At the destination: whether to answer, and whether it came before (then an earlier answer was lost). */
  onArrived(id: MessageId, share: Share): { readonly mayAnswer: boolean; readonly isAgain: boolean } {
    const isAgain = this.#answered.has(id);
    this.#answered.set(id, true, share);
    return { mayAnswer: this.#mayAnswer(share), isAgain };
  }

  #mayAnswer({ by, isKnown }: Share): boolean {
    if (isKnown) return this.#answers.known.take();
    const { perSecond, burst } = SOURCE_ANSWERS;
    const ofSource = this.#sources.get(by) ?? new TokenBucket(this.#ctx.clock, perSecond, burst);
    this.#sources.renew(by, ofSource);
    return ofSource.take() && this.#answers.strangers.take();
  }

  #holding(id: MessageId): Holding | undefined {
    const bundle = this.#bundles.get(id);
    return bundle === undefined ? undefined : this.#forwarder.get(bundle);
  }
}
