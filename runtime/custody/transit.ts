/**
 * Bundles of other nodes in custody here: the durable half of relaying. Quotas per authenticated neighbour, and for all
 * strangers of a source address together (kernel/quota.ts); a full store refuses with a reason and the previous hop keeps its copy. Own receipts and claims travel the same way.
 */
import { asGodwitError } from "../kernel/errors.ts";
import { Quota } from "../kernel/quota.ts";
import type { Share } from "../kernel/room.ts";
import { formatBase32, parseBase32, type BundleId, type NodeId } from "../kernel/ids.ts";
import { hasFields, isBetween, isNullOr, isText, isTime, parseMeta } from "../kernel/json.ts";
import {
  bundleIdOf,
  encodeBundleHeader,
  decodeBundleHeader,
  RefuseReason,
  type BundleHeader,
  type Journey,
  type TraceEntry,
} from "../wire/bundle.ts";
import type { BodyCache } from "./body-cache.ts";
import {
  deadlineOf,
  isTrace,
  sealedBytesOf,
  type ArrivedBundle,
  type CustodyContext,
  type Holding,
  type Lifetime,
} from "./context.ts";
import { isWholeInMemory } from "./forwarding/arriving-body.ts";
import { openPieces } from "./forwarding/pieces.ts";
import type { Forwarder } from "./forwarding/forwarder.ts";
import { Shelves } from "./forwarding/holdings.ts";
import { PagedMap, type Page } from "./paged-map.ts";
import { PassedOn } from "./passed-on.ts";
import { commitSlices, loadSound } from "../store/sound.ts";
import type { StoreOp, StoreRow } from "../store/types.ts";

/** Own receipts and claims to whom this node knows may go past the bound for others' bundles by this much. */
const OWN_RESERVE = 10_000;
/** Own ones to all others: whoever sends something and goes leaves a receipt that nobody fetches. */
const ANSWERS: Share = { by: "answers", isKnown: false };

/** JSON of the `meta` column; readers skip fields they do not know. */
export interface TransitMeta {
  /** Immutable header in base32. */
  readonly header: string;
  readonly from: NodeId | null;
  /** What was left of its life at `atRunMs` (custody/context.ts). */
  readonly remainingMs: number;
  readonly atRunMs?: number;
  /** For releases that count no running time. */
  readonly atWallMs: number;
  readonly hops: number;
  readonly trace: readonly TraceEntry[];
}

const isTransitMeta = hasFields({
  header: isText(1_024),
  from: isNullOr(isText(64)),
  remainingMs: isBetween(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  atWallMs: isTime,
  hops: isBetween(0, 255),
  trace: isTrace,
});

/** Undefined for a damaged row. */
export const readTransitMeta = (meta: string): TransitMeta | undefined =>
  parseMeta<TransitMeta>(meta, isTransitMeta);

export interface TransitRow {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly journey: Journey;
  readonly lifetime: Lifetime;
  readonly from: NodeId | undefined;
  readonly sealedBytes: number;
  readonly sums?: Uint8Array | undefined;
}

export class Transit {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #cache: BodyCache;
  readonly passedOn: PassedOn;
  readonly #committing = new Map<BundleId, Promise<boolean>>();
  readonly #held = new PagedMap<BundleId, Holding>();
  readonly #bySource = new Shelves();
  readonly #quota: Quota<BundleId>;

  constructor(ctx: CustodyContext, forwarder: Forwarder, cache: BodyCache) {
    this.#ctx = ctx;
    const { transitMessagesMax, transitBytesMax, neighbourShare } = ctx.limits;
    this.#quota = new Quota({
      countMax: transitMessagesMax,
      bytesMax: transitBytesMax,
      oneShare: neighbourShare,
    });
    this.#forwarder = forwarder;
    this.#cache = cache;
    this.passedOn = new PassedOn(ctx);
  }

  /** Rows for this node itself (messages that wait for claims) are answered; the rest goes to the forwarder. */
  async load(): Promise<TransitRow[]> {
    const own: TransitRow[] = [];
    const expired: StoreOp[] = [];
    const dated: StoreOp[] = [];
    for (const parsed of await loadSound(this.#ctx.store, "transit", (row) => this.#parse(row, dated))) {
      const { remainingMs } = parsed.journey;
      if (parsed.header.destination === this.#ctx.self) own.push(parsed);
      else if (remainingMs <= 0) expired.push({ op: "delete", in: "transit", key: parsed.id });
      else {
        this.#book(parsed.id, parsed.from, parsed.header, parsed.sealedBytes);
        this.#hold(parsed);
      }
    }
    await commitSlices(this.#ctx.store, dated).catch(() => {});
    await commitSlices(this.#ctx.store, expired);
    return own;
  }

  get count(): number {
    return this.#quota.count;
  }

  get bytes(): number {
    return this.#quota.bytes;
  }

  page(page: Page): Holding[] {
    return this.#held.page(page);
  }

  /** Drops what is carried from a node and for it; answers how many bundles that were. */
  cutOff(id: NodeId): number {
    const carried = [...this.#forwarder.toward(id)].filter(({ role }) => role === "relay");
    const dropped = new Set([...this.#bySource.under(id), ...carried]);
    for (const holding of dropped) {
      this.#forwarder.remove(holding.id);
      this.release(holding);
    }
    return dropped.size;
  }

  /** A reason code when a bundle of `bytes` from a neighbour cannot be taken now. */
  refusal(from: NodeId, bytes: number): number | undefined {
    const refusal = this.#quota.refusal(from, this.#ctx.regard.shareOf(from), bytes);
    return refusal === undefined ? undefined : RefuseReason[refusal];
  }

  /**
   * Takes custody. True once durable (or held already); false when the store failed and nothing is held.
   * `ops` go into the same commit. `from` undefined: made here.
   */
  take(
    bundle: ArrivedBundle,
    journey: Journey,
    from: NodeId | undefined,
    ops: readonly StoreOp[] = [],
  ): Promise<boolean> {
    const held = this.#forwarder.get(bundle.id);
    if (held !== undefined && held.isArriving !== true) return Promise.resolve(true);
    const committing = this.#committing.get(bundle.id);
    if (committing !== undefined) return committing;
    if (from === undefined && !this.#hasRoomForOwn(bundle)) return Promise.resolve(false);
    const taking = this.#commit(bundle, journey, from, ops).finally(() => this.#committing.delete(bundle.id));
    this.#committing.set(bundle.id, taking);
    return taking;
  }

  /** The op that holds a bundle for this node itself until it is delivered. */
  holdOp(bundle: ArrivedBundle, journey: Journey, from: NodeId | undefined): StoreOp {
    const meta: TransitMeta = {
      header: formatBase32(encodeBundleHeader(bundle.header)),
      from: from ?? null,
      remainingMs: Math.floor(journey.remainingMs),
      atRunMs: this.#ctx.time.runMs,
      atWallMs: this.#ctx.clock.wallMs(),
      hops: journey.hops,
      trace: journey.trace,
    };
    const put = { op: "put", in: "transit", key: bundle.id, meta: JSON.stringify(meta) } as const;
    return "sealed" in bundle
      ? { ...put, body: bundle.sealed }
      : { ...put, head: bundle.head, body: bundle.rest };
  }

  /** The next hop has it, or its life is over. Nobody waits for the commit: a repeat is harmless. */
  release(holding: Holding): void {
    this.#drop(holding, "delete");
  }

  #drop(holding: Holding, op: "delete" | "set-aside"): void {
    this.#held.delete(holding.id);
    this.#bySource.take(holding.header.source, holding);
    this.#cache.delete(holding.id);
    this.#quota.drop(holding.id);
    this.#ctx.store.commit([{ op, in: "transit", key: holding.id }]).catch((error: unknown) => {
      this.#ctx.log.warn("transit row not deleted", {
        error: error instanceof Error ? error : String(error),
      });
    });
  }

  /**
   * Undefined for a damaged row: the hop before or the source will offer that bundle again. One of a release that counted no running
   * time begins to age now, by an op in `dated`.
   */
  #parse(row: StoreRow, dated: StoreOp[]): TransitRow | undefined {
    const meta = readTransitMeta(row.meta);
    const headerBytes = meta === undefined ? undefined : parseBase32(meta.header);
    if (meta === undefined || headerBytes === undefined) return undefined;
    try {
      const header = decodeBundleHeader(headerBytes);
      const { time } = this.#ctx;
      time.catchUp(meta.atRunMs ?? 0);
      const lifetime = { remainingMs: meta.remainingMs, atRunMs: meta.atRunMs ?? time.runMs };
      if (meta.atRunMs === undefined)
        dated.push({
          op: "put",
          in: "transit",
          key: row.key,
          meta: JSON.stringify({ ...meta, atRunMs: time.runMs }),
        });
      const remainingMs = lifetime.remainingMs - time.ageMs(lifetime.atRunMs);
      return {
        id: row.key as BundleId,
        header,
        lifetime,
        journey: { remainingMs, hops: meta.hops, trace: meta.trace },
        from: meta.from ?? undefined,
        sealedBytes: row.bodyBytes,
      };
    } catch (error) {
      this.#ctx.log.error("damaged bundle passed over", { bundle: row.key, error: asGodwitError(error) });
      return undefined;
    }
  }

  async #commit(
    bundle: ArrivedBundle,
    journey: Journey,
    from: NodeId | undefined,
    ops: readonly StoreOp[],
  ): Promise<boolean> {
    const { header, id } = bundle;
    const sealedBytes = sealedBytesOf(bundle);
    this.#book(id, from, header, sealedBytes);
    try {
      await this.#ctx.store.commit([this.holdOp(bundle, journey, from), ...ops]);
    } catch (error) {
      this.#quota.drop(id);
      this.#ctx.log.warn("bundle not stored", { error: error instanceof Error ? error : String(error) });
      return false;
    }
    if ("sealed" in bundle) this.#cache.put(id, bundle.sealed);
    const lifetime = { remainingMs: journey.remainingMs, atRunMs: this.#ctx.time.runMs };
    const sums = "sealed" in bundle ? undefined : bundle.sums;
    this.#hold({ id, header, journey, lifetime, from, sealedBytes, sums });
    return true;
  }

  #hold(row: TransitRow): void {
    const arriving = this.#forwarder.get(row.id);
    const made = this.#holding(row);
    // What goes on already stays where it is, and is what every other is from now on.
    const holding =
      arriving === undefined
        ? made
        : Object.assign(arriving, {
            isArriving: false,
            load: made.load,
            pieces: made.pieces,
            sums: made.sums,
          });
    // First, because the forwarder may find at once that its life is over.
    this.#held.set(holding.id, holding);
    this.#bySource.put(holding.header.source, holding);
    if (arriving === undefined) this.#forwarder.add(holding);
    else this.#forwarder.onWhole(holding);
  }

  #holding({ id, header, journey, lifetime, from, sealedBytes, sums }: TransitRow): Holding {
    const before = this.passedOn.before(id);
    const holding: Holding = {
      id,
      header,
      sealedBytes,
      role: "relay",
      ...(from === undefined ? {} : { arrivedFrom: from }),
      ...(before === undefined ? {} : { relayedTo: before }),
      trace: journey.trace,
      hops: journey.hops,
      lifetime,
      deadlineMs: deadlineOf(this.#ctx, lifetime),
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => this.#cache.get(id) ?? this.#loadStored(id, header),
      sums,
      waitReason: undefined,
    };
    if (isWholeInMemory(sealedBytes)) return holding;
    const raw = (offset: number, length: number) => this.#ctx.store.piece("transit", id, offset, length);
    holding.pieces = () => openPieces(holding, raw, () => this.#onDamaged(holding));
    return holding;
  }

  /** What is not the bundle that was acknowledged is passed on to nobody: its source, which still has it, offers it again. */
  async #loadStored(id: BundleId, header: BundleHeader): Promise<Uint8Array | undefined> {
    const sealed = await this.#ctx.store.body("transit", id);
    if (sealed !== undefined && bundleIdOf(encodeBundleHeader(header), sealed) === id) return sealed;
    const holding = this.#held.get(id);
    if (holding !== undefined) this.#onDamaged(holding);
    return undefined;
  }

  #onDamaged(holding: Holding): void {
    if (this.#held.get(holding.id) !== holding) return; // released meanwhile
    this.#ctx.log.error("bundle damaged on this disk", { bundle: holding.id });
    this.#forwarder.remove(holding.id);
    this.#drop(holding, "set-aside");
  }

  #book(id: BundleId, from: NodeId | undefined, { destination }: BundleHeader, bytes: number): void {
    const share = from === undefined ? this.#ownShare(destination) : this.#ctx.regard.shareOf(from);
    this.#quota.add(id, from ?? share.by, share, bytes);
  }

  #hasRoomForOwn(bundle: ArrivedBundle): boolean {
    const share = this.#ownShare(bundle.header.destination);
    if (!share.isKnown) return this.#quota.refusal(share.by, share, sealedBytesOf(bundle)) === undefined;
    return this.#quota.count < this.#ctx.limits.transitMessagesMax + OWN_RESERVE;
  }

  #ownShare(destination: NodeId): Share {
    const { self, regard } = this.#ctx;
    return regard.isKnown(destination) ? { by: self, isKnown: true } : ANSWERS;
  }
}
