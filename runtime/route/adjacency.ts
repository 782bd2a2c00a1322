/**
 * Keeps both ends of one adjacency in step: tags that make everything of an earlier adjacency unreadable, the opening
 * resync, and the digest that replaces periodic dumps. docs/protocol/routing.md "Adjacencies" and "Digests".
 */
import {
  ALL_BUCKETS,
  decodeRouteDigest,
  decodeRouteResync,
  DIGEST_BUCKETS,
  encodeRouteDigest,
  encodeRouteResync,
  entryDigest,
} from "../wire/route-messages.ts";
import { TokenBucket } from "../kernel/backoff.ts";
import { NO_ROW } from "./candidates.ts";
import type { RouteCore } from "./core.ts";
import {
  ADOPTIONS_BURST,
  ADOPTIONS_PER_SECOND,
  DIGEST_JITTER_MS,
  DIGEST_PERIOD_MS,
  DIGESTS_BURST,
  DIGESTS_PER_SECOND,
  REFUSED_DIGESTS,
  RESYNC_CAP_MS,
  RESYNC_FIRST_MS,
  RESYNC_GAP_MS,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { UpdateSender } from "./updates.ts";

/** A digest that found updates under way tries again after this, ms. */
const DIGEST_RETRY_MS = 2_000;

/** What a neighbour may make this node walk its table for. */
interface Pace {
  readonly digests: TokenBucket;
  readonly adoptions: TokenBucket;
}

export class Adjacencies {
  readonly #core: RouteCore;
  readonly #updates: UpdateSender;
  readonly #paces = new WeakMap<Neighbour, Pace>();
  /** What of the neighbour waits to be read is of before. Set by the router. */
  onAnew: (neighbour: Neighbour) => void = () => {};

  constructor(core: RouteCore, updates: UpdateSender) {
    this.#core = core;
    this.#updates = updates;
  }

  /** First frames of an adjacency; the opening is repeated until the neighbour shows that it knows our tag. */
  open(neighbour: Neighbour): void {
    this.#updates.markAll(neighbour);
    this.#open(neighbour);
    neighbour.digestSentAtMs = this.#core.now();
    this.#armDigest(neighbour, DIGEST_PERIOD_MS);
  }

  #open(neighbour: Neighbour): void {
    // An update may arrive before the resync that names the far end's tag: both halves must be there.
    if (neighbour.isOpen && neighbour.peerTag !== 0) return;
    this.#sendResync(neighbour, 0);
    const waitMs = Math.min(RESYNC_FIRST_MS * 2 ** Math.min(neighbour.resyncTries++, 16), RESYNC_CAP_MS);
    neighbour.resyncTimer?.cancel();
    neighbour.resyncTimer = this.#core.after(waitMs, () => this.#open(neighbour));
  }

  /**
   * Every tagged frame passes here first. False: it belongs to another adjacency and must not be read; the neighbour is
   * told our tag.
   */
  admit(neighbour: Neighbour, tag: number): boolean {
    if (tag === neighbour.ownTag) {
      neighbour.isOpen = true;
      return true;
    }
    this.#core.drop("wrong-tag");
    this.askAgain(neighbour, 0);
    return false;
  }

  /** A resync outside the usual course, at a limited rate. */
  askAgain(neighbour: Neighbour, buckets: number): void {
    if (!neighbour.hasTable || this.#core.now() - neighbour.resyncSentAtMs < RESYNC_GAP_MS) return;
    this.#sendResync(neighbour, buckets);
  }

  #sendResync(neighbour: Neighbour, buckets: number): void {
    neighbour.resyncSentAtMs = this.#core.now();
    const { ownTag, peerTag } = neighbour;
    this.#core.deps.send(neighbour.id, encodeRouteResync({ buckets, ownTag, peerTag }));
  }

  handleResync(neighbour: Neighbour, frame: Uint8Array): void {
    const resync = decodeRouteResync(frame);
    const knowsUs = resync.peerTag === neighbour.ownTag;
    if (resync.ownTag !== neighbour.peerTag) {
      // It is said again until it is heard, so nothing is lost with what is dropped here.
      if (neighbour.peerTag !== 0 && !this.#paceOf(neighbour).adoptions.take())
        return this.#core.drop("pace");
      this.#adopt(neighbour, resync.ownTag);
    } else if (knowsUs && (resync.buckets & ALL_BUCKETS) !== 0) this.#serve(neighbour, resync.buckets);
    if (knowsUs) neighbour.isOpen = true;
    else this.#sendResync(neighbour, 0);
  }

  #paceOf(neighbour: Neighbour): Pace {
    const { clock } = this.#core.deps;
    let pace = this.#paces.get(neighbour);
    if (pace === undefined) {
      pace = {
        digests: new TokenBucket(clock, DIGESTS_PER_SECOND, DIGESTS_BURST),
        adoptions: new TokenBucket(clock, ADOPTIONS_PER_SECOND, ADOPTIONS_BURST),
      };
      this.#paces.set(neighbour, pace);
    }
    return pace;
  }

  /** The far end began anew. What it said before may be of another life, so it dies before anything new is read. */
  #adopt(neighbour: Neighbour, peerTag: number): void {
    if (neighbour.peerTag !== 0) {
      this.dropRows(neighbour);
      this.onAnew(neighbour);
      this.#updates.forget(neighbour);
      neighbour.resetSending();
      this.#updates.markAll(neighbour);
    }
    neighbour.peerTag = peerTag;
    this.#updates.schedule(neighbour, this.#core.coalesceMs(neighbour));
  }

  #serve(neighbour: Neighbour, buckets: number): void {
    const nowMs = this.#core.now();
    if (nowMs - neighbour.resyncServedAtMs < RESYNC_GAP_MS / 2) return;
    neighbour.resyncServedAtMs = nowMs;
    this.#updates.markBuckets(neighbour, buckets);
  }

  /** Forgets every candidate of the neighbour; selection follows at once. */
  dropRows(neighbour: Neighbour): void {
    for (const destination of this.#core.table.values()) {
      if (neighbour.rows === 0) break;
      this.#core.dropCandidate(destination, neighbour);
    }
    neighbour.newestSerial = neighbour.sweptSerial = neighbour.resyncSerial = 0;
    neighbour.mismatched = neighbour.refusedBuckets = 0;
  }

  /** An entry was not taken: its bucket will differ for a reason that asking again does not cure. */
  noteRefused(neighbour: Neighbour, bucket: number): void {
    neighbour.refusedBuckets |= 1 << bucket;
  }

  #armDigest(neighbour: Neighbour, waitMs: number): void {
    if (!neighbour.hasTable) return;
    neighbour.digestTimer?.cancel();
    neighbour.digestTimer = this.#core.after(
      waitMs + this.#core.deps.random.float() * DIGEST_JITTER_MS,
      () => {
        const mayCompare = neighbour.isSettled && neighbour.peerTag !== 0;
        if (mayCompare) this.#sendDigest(neighbour);
        this.#armDigest(neighbour, mayCompare ? DIGEST_PERIOD_MS : DIGEST_RETRY_MS);
      },
    );
  }

  /** Its own goes out right behind the far end's: together they cost fewer packets, and do for a probe. */
  #answerDigest(neighbour: Neighbour): void {
    if (this.#core.now() - neighbour.digestSentAtMs < DIGEST_PERIOD_MS / 2) return;
    if (!neighbour.isSettled || neighbour.peerTag === 0) return;
    this.#sendDigest(neighbour);
    this.#armDigest(neighbour, DIGEST_PERIOD_MS);
  }

  #sendDigest(neighbour: Neighbour): void {
    const core = this.#core;
    neighbour.digestSentAtMs = core.now();
    const sums = new Uint32Array(DIGEST_BUCKETS);
    for (const destination of core.table.values()) {
      const any = core.exported(destination, "any", neighbour);
      const bulk = core.exported(destination, "bulk", neighbour);
      const { bucket } = destination;
      sums[bucket] = sums[bucket]! + entryDigest(destination.digestHash, any, bulk);
    }
    const { peerTag: tag, lastSentSerial: serial } = neighbour;
    core.deps.send(neighbour.id, encodeRouteDigest({ tag, serial, sums }));
  }

  handleDigest(neighbour: Neighbour, frame: Uint8Array): void {
    const { tag, serial, sums } = decodeRouteDigest(frame);
    if (!this.admit(neighbour, tag)) return;
    // Overtaken by an update: it compares two different moments.
    if (serial < neighbour.newestSerial) return this.#core.drop("stale");
    if (!this.#paceOf(neighbour).digests.take()) return this.#core.drop("pace");
    const own = this.receivedSums(neighbour);
    let mismatched = 0;
    for (let bucket = 0; bucket < DIGEST_BUCKETS; bucket++)
      if (own[bucket] !== sums[bucket]) mismatched |= 1 << bucket;
    mismatched &= ~neighbour.refusedBuckets;
    if (neighbour.refusedBuckets !== 0 && ++neighbour.refusedDigests >= REFUSED_DIGESTS) {
      neighbour.refusedBuckets = 0;
      neighbour.refusedDigests = 0;
    }
    const twice = mismatched & neighbour.mismatched;
    if (twice !== 0) this.#dropUnrefreshed(neighbour, twice);
    neighbour.mismatched = mismatched;
    neighbour.resyncSerial = neighbour.newestSerial;
    if (mismatched !== 0) this.#sendResync(neighbour, mismatched);
    this.#answerDigest(neighbour);
  }

  /** Sums of what the neighbour is believed to advertise. */
  receivedSums(neighbour: Neighbour): Uint32Array {
    const sums = new Uint32Array(DIGEST_BUCKETS);
    const { candidates } = this.#core.table;
    for (const { list, bucket, digestHash } of this.#core.table.values()) {
      const row = candidates.find(list, neighbour);
      if (row === NO_ROW) continue;
      sums[bucket] =
        sums[bucket]! + entryDigest(digestHash, candidates.anyAt(row), candidates.bulkAt(list, row));
    }
    return sums;
  }

  /** The last resync of these buckets repeated everything that the neighbour still offers; the rest is gone there. */
  #dropUnrefreshed(neighbour: Neighbour, buckets: number): void {
    for (const destination of this.#core.table.values()) {
      if ((buckets & (1 << destination.bucket)) === 0) continue;
      const { candidates } = this.#core.table;
      const row = candidates.find(destination.list, neighbour);
      if (row === NO_ROW || candidates.serialAt(row) > neighbour.resyncSerial) continue;
      this.#core.dropCandidate(destination, neighbour);
    }
  }
}
