/**
 * Large bundles of others that go on while they still arrive: a byte as soon as it is durable here, the last ones only once the bundle is whole, its
 * id right and its row committed. So nobody behind this node ever gets a whole bundle that is not what its id says, and nothing is acknowledged
 * early. Whoever brought damage is not trusted with this for a while: its next bodies end here. docs/protocol/delivery.md "Cut-through".
 */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { Offer } from "../../wire/bundle.ts";
import { deadlineOf, type CustodyContext, type Holding, type SealedPieces } from "../context.ts";
import type { ArrivingBody } from "./arriving-body.ts";
import type { Forwarder } from "./forwarder.ts";

/** So long what is of the same address as damage is checked as a whole before it goes on. */
const DISTRUST_MS = 3_600_000;
const DISTRUSTED_MAX = 1_024;

/** Sealed bytes that are still arriving: whoever asks beyond what is durable waits. */
class Feed implements SealedPieces {
  readonly #body: ArrivingBody;
  #whole: SealedPieces | undefined;
  #isOver = false;
  #waiting: {
    readonly offset: number;
    readonly isForEnd: boolean;
    readonly resolve: (bytes: Uint8Array | undefined | Promise<Uint8Array | undefined>) => void;
  }[] = [];

  constructor(body: ArrivingBody) {
    this.#body = body;
  }

  read(offset: number): Uint8Array | Promise<Uint8Array | undefined> {
    if (this.#whole !== undefined) return this.#whole.read(offset);
    if (this.#isOver) return Promise.resolve(undefined);
    if (offset >= this.#body.durable) return this.#wait(offset);
    const bytes = this.#body.readDurable(offset);
    if (bytes instanceof Uint8Array) return bytes;
    // Its chunks give way to the row of the whole, perhaps while they are read.
    return bytes.then((read) => read ?? (this.#isOver ? this.read(offset) : this.#wait(offset, true)));
  }

  #wait(offset: number, isForEnd = false): Promise<Uint8Array | undefined> {
    return new Promise((resolve) => this.#waiting.push({ offset, isForEnd, resolve }));
  }

  /** More of it is durable. */
  onProgress(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (one.isForEnd && !this.#isOver) this.#waiting.push(one);
      else {
        const read = this.read(one.offset);
        // It is lent until the end of this turn, and whoever waits comes in the next one.
        one.resolve(read instanceof Uint8Array ? read.slice() : read);
      }
    }
  }

  /** All of it is here, or nothing more will come. */
  end(whole: SealedPieces | undefined): void {
    this.#whole = whole;
    this.#isOver = true;
    this.onProgress();
  }
}

export interface CutThroughEvents {
  /** The next hop, which was offered what is not here as a whole, is told that nothing more comes. */
  withdrawn(to: NodeId, id: BundleId, reason: number): void;
}

export class CutThrough {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #events: CutThroughEvents;
  readonly #feeds = new Map<BundleId, Feed>();
  readonly #distrusted = new SharedMap<string, number>({ name: "sources of damage", max: DISTRUSTED_MAX });
  readonly #begun;

  constructor(ctx: CustodyContext, forwarder: Forwarder, events: CutThroughEvents) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#events = events;
    this.#begun = ctx.metrics.counter("godwit_custody_cut_through_total");
  }

  /** The first of a bundle of others is durable, or more of it is. */
  onProgress(from: NodeId, offer: Offer, body: ArrivingBody): void {
    const feed = this.#feeds.get(offer.id);
    if (feed !== undefined) return feed.onProgress();
    if (offer.header.destination === this.#ctx.self || this.#isDistrusted(from)) return;
    if (this.#forwarder.get(offer.id) !== undefined) return;
    const made = new Feed(body);
    this.#feeds.set(offer.id, made);
    this.#begun.add();
    this.#forwarder.add(this.#holding(from, offer, made));
  }

  /** No more of it comes now, or what came is not kept: the next hop is told so. */
  onEnded(id: BundleId, reason: number): void {
    const feed = this.#feeds.get(id);
    if (feed === undefined) return;
    this.#feeds.delete(id);
    const holding = this.#forwarder.get(id);
    if (holding?.isArriving === true) {
      const to = holding.inflightTo;
      this.#forwarder.remove(id);
      if (to !== undefined) this.#events.withdrawn(to, id, reason);
    }
    feed.end(undefined);
  }

  /** It is whole and durable: what was held back of it goes as well. */
  async onHeld(id: BundleId): Promise<void> {
    const feed = this.#feeds.get(id);
    if (feed === undefined) return;
    this.#feeds.delete(id);
    feed.end(await this.#forwarder.get(id)?.pieces?.());
  }

  /** What it brought was not what it had offered. */
  distrust(from: NodeId): void {
    const share = this.#ctx.regard.shareOf(from);
    this.#distrusted.set(share.by, this.#ctx.clock.monotonicMs() + DISTRUST_MS, share);
  }

  #holding(from: NodeId, { id, header, journey, sealedBytes, sums }: Offer, feed: Feed): Holding {
    const lifetime = { remainingMs: journey.remainingMs, atRunMs: this.#ctx.time.runMs };
    return {
      id,
      header,
      sealedBytes,
      role: "relay",
      isArriving: true,
      arrivedFrom: from,
      trace: journey.trace,
      hops: journey.hops,
      lifetime,
      deadlineMs: deadlineOf(this.#ctx, lifetime),
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => Promise.resolve(undefined),
      pieces: () => Promise.resolve(feed),
      sums,
      waitReason: undefined,
    };
  }

  #isDistrusted(from: NodeId): boolean {
    const { by } = this.#ctx.regard.shareOf(from);
    return (this.#distrusted.get(by) ?? Number.NEGATIVE_INFINITY) > this.#ctx.clock.monotonicMs();
  }
}
