/**
 * Seals the messages of the outbox, one bundle for each machine they may go to. The same message, machine and key give
 * the same bytes, so the store keeps only the plain body and a re-offer after a restart is still the same bundle.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import { formatHex, idBytes, NODE_ID_CHARS, parseHex, type NodeId } from "../../kernel/ids.ts";
import { bundleIdOf, BundleKind, encodeBundleHeader, type BundleHeader } from "../../wire/bundle.ts";
import { BLOCK_BYTES } from "../../wire/constants.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { compactStart, contextOf, encodeCompact, refersToMachines } from "../../wire/mail-compact.ts";
import {
  encodeInnerMessage,
  type InnerMessage,
  MACHINES_MAX,
  type Receipt,
  sessionOf,
} from "../../wire/message.ts";
import { SESSION_ID_BYTES } from "../../wire/sealed.ts";
import { BODY_CACHE_ONE_BYTES_MAX, type BodyCache } from "../body-cache.ts";
import { canReach } from "../lanes.ts";
import {
  type CustodyContext,
  deadlineOf,
  type Holding,
  type SealedInSegments,
  type SealKey,
  type SegmentSealing,
  type SessionSeal,
  type SealedPieces,
} from "../context.ts";
import { isWholeInMemory } from "../forwarding/arriving-body.ts";
import { openPieces, SealedSums } from "../forwarding/pieces.ts";
import { finalStates, type Live, type OutboxEntry, type OutboxState, type Target } from "./entry.ts";
import { sealedBytesIn, SealedSegments } from "./segments.ts";

/** A recipient that loses its keys more often than this for one message does not get it. */
const RESEALS_MAX = 8;
/** Offers without a receipt after which a message in an older form is sealed in a session; and one that only names its session with all of it. */
const OLDER_OFFERS = 2;
const SILENT_OFFERS = 8;
/** What the store could not read or write when it was to be sealed is tried again after this. */
export const SEAL_RETRY_MS = 5_000;
/** What is hashed or sealed in one turn of the event loop. */
const TURN_BYTES = 4 * 1024 * 1024;
/** Recipients whose mail names machines by their ids until the next start. */
const NEEDS_IDS_MAX = 1_024;
/** Bodies read and sealed at one time. */
export const SEALED_AT_ONCE = 16;

type Under = SealKey | SessionSeal | undefined;

/** How a copy is sealed, as its target keeps it. */
type Named = Pick<Target, "key" | "session" | "start">;

/** The message without its body, told already. */
interface Start {
  readonly head: Uint8Array;
  readonly start: SealedInSegments;
}

interface Large {
  readonly head: Uint8Array;
  readonly sealing: SegmentSealing;
  readonly sums: Uint8Array | undefined;
}

export class OutboxSealer {
  readonly #ctx: CustodyContext;
  readonly #cache: BodyCache;
  readonly #damaged: (entry: OutboxEntry) => void;
  /** What is needed to make sealed bytes again; goes with its target. */
  readonly #large = new WeakMap<Target, Large>();
  /** Those that did not know the other machines of their location. */
  readonly #needsIds = new BoundedMap<NodeId, true>({
    name: "recipients without references",
    max: NEEDS_IDS_MAX,
  });

  constructor(ctx: CustodyContext, cache: BodyCache, damaged: (entry: OutboxEntry) => void) {
    this.#ctx = ctx;
    this.#cache = cache;
    this.#damaged = damaged;
  }

  /** Why a message cannot be sealed now, in words; null when it can. */
  whyNotYet({ to, failover, lostKeys }: OutboxEntry): string | null {
    const resolution = this.#ctx.directory.resolve(to, failover);
    switch (resolution.kind) {
      case "unknown":
        return `nobody called ${to} has been heard of yet`;
      case "conflict":
        return `nobody holds the name ${to}, and others claim it: settle it with godwit names resolve`;
      case "nodes": {
        const isLost = (node: NodeId): boolean => {
          const key = lostKeys === undefined ? undefined : this.#ctx.sealer.keyFor(node);
          return key !== undefined && lostKeys!.some((lost) => isLostKey(lost, key));
        };
        return resolution.nodes.some(isLost)
          ? "the recipient has lost its keys: waiting for its new record"
          : null;
      }
    }
  }

  /** Whoever it is for keeps a place in every table, or its record might find none and the mail would wait for it for ever. */
  wrote({ to, targets }: OutboxEntry): void {
    if (to.length === NODE_ID_CHARS) this.#ctx.regard.wrote(to as NodeId);
    const nodes = targets.map(({ node }) => node);
    for (const one of addressed(to, nodes)) this.#ctx.regard.wrote(one);
  }

  /** Seals to each machine under its current key; the bytes stay in the cache for the first offer. */
  seal(entry: OutboxEntry, machines: readonly NodeId[], body: Uint8Array): Target[] {
    const nodes = machines.slice(0, MACHINES_MAX);
    for (const node of addressed(entry.to, nodes)) this.#ctx.regard.wrote(node);
    return nodes.map((node) => {
      const { under, ...named } = this.#underFor(entry, node, nodes);
      const sealed = this.#sealTo(entry, node, nodes, { ...named, under }, body);
      const bundle = bundleIdOf(encodeBundleHeader(this.header(entry, node)), sealed);
      this.#cache.put(bundle, sealed);
      return { node, bundle, sealedBytes: sealed.length, ...named };
    });
  }

  /**
   * As `seal`, of a large body that is here, with pauses in which others have their turn. Undefined: it is none, or nobody is known to seal to.
   * Rejects with what sealing throws.
   */
  sealMeanwhile(entry: OutboxEntry, body: Uint8Array): Promise<readonly Target[]> | undefined {
    const { sealer, directory } = this.#ctx;
    if (sealer.inSegments === undefined || isWholeInMemory(body.length)) return undefined;
    const resolution = directory.resolve(entry.to, entry.failover);
    if (resolution.kind !== "nodes") return undefined;
    const sealed = this.#sealSlowly(entry, resolution.nodes.slice(0, MACHINES_MAX), body);
    sealed.catch(() => {}); // whoever waits for it is told
    return sealed;
  }

  /** Whether its address means all of those still. */
  isStillFor({ to, failover }: OutboxEntry, targets: readonly Target[]): boolean {
    const resolution = this.#ctx.directory.resolve(to, failover);
    return (
      targets.length > 0 &&
      resolution.kind === "nodes" &&
      targets.every(({ node }) => resolution.nodes.includes(node))
    );
  }

  async #sealSlowly(entry: OutboxEntry, nodes: readonly NodeId[], body: Uint8Array): Promise<Target[]> {
    for (const node of addressed(entry.to, nodes)) this.#ctx.regard.wrote(node);
    const targets: Target[] = [];
    for (const node of nodes) {
      const { under, ...named } = this.#underFor(entry, node, nodes);
      const begun = this.#inSegments(entry, node, nodes, { ...named, under })!;
      targets.push(await this.#sealLarge(entry, node, named, begun, body));
    }
    return targets;
  }

  /** What a copy for that machine is sealed under now: a place in a session is taken. */
  #underFor(entry: OutboxEntry, node: NodeId, nodes: readonly NodeId[]): Named & { under: Under } {
    const { sealer } = this.#ctx;
    const key = sealer.keyFor(node);
    if (key === undefined) return { key: null, under: undefined };
    const named = { id: key.keyId, publicHex: formatHex(key.publicKey) };
    const session = entry.isSessionless === true ? undefined : sealer.sessions?.take(node);
    if (session === undefined) return { key: named, under: key };
    const { context, ...seal } = session;
    const compact = entry.isSpelledOut === true ? undefined : sealer.sessions?.compactTo(node);
    const start =
      compact === undefined
        ? undefined
        : compactStart(
            innerOf(entry, nodes, NO_BODY),
            { id: node, callsign: compact.callsign, context },
            this.#refersTo(node),
          );
    return { key: named, session: seal, under: seal, ...(start === undefined ? {} : { start }) };
  }

  /** Where ids cost airtime, unless it did not know the machines of its own location. */
  #refersTo(node: NodeId): boolean {
    const { carrier } = this.#ctx;
    return !this.#needsIds.has(node) && (carrier.isSlow(node) || !canReach(this.#ctx, node));
  }

  /** `recipient` signed that it cannot read its copy: true where that refers to machines, which the message names by their ids then. */
  spellOut(entry: OutboxEntry, recipient: NodeId): boolean {
    const start = entry.targets.find(({ node }) => node === recipient)?.start;
    if (start === undefined || !refersToMachines(start)) return false;
    this.#needsIds.renew(recipient, true);
    return true;
  }

  /**
   * Whether it is to be sealed anew, after it was offered as often: its session is lost, its recipient has sessions by now, or it is silent to a
   * session that it may have lost, as to what is in none.
   */
  isOutdated(entry: OutboxEntry, offers: number): boolean {
    const { sessions } = this.#ctx.sealer;
    if (sessions === undefined) return false;
    return entry.targets.some(({ node, key, session }) => {
      if (session !== undefined) {
        if (session.agreed !== undefined) return false;
        // Nothing new is sealed in it, or this would be again.
        if (offers >= SILENT_OFFERS) sessions.end(node, session.id);
        return offers >= SILENT_OFFERS || sessions.isLost(node, session.id);
      }
      const wanted = entry.isSessionless === true ? SILENT_OFFERS : OLDER_OFFERS;
      const isOutdated = key !== null && offers >= wanted && sessions.isKnownTo(node);
      if (isOutdated) entry.isSessionless = false;
      return isOutdated;
    });
  }

  /**
   * The recipient signed that it cannot open what it got: its store is gone, and its prekeys with it. Nobody else could have opened it,
   * so it may be sealed anew to the next key; or, where it was sealed in a session and its key is still the same, first with the long header and then in
   * none. False where no other key would help.
   */
  loseKey(entry: OutboxEntry, recipient: NodeId): boolean {
    const { targets, lostKeys = [] } = entry;
    const key = targets[0]?.key;
    if (targets.length !== 1 || key === null || key === undefined || lostKeys.length >= RESEALS_MAX)
      return false;
    const current = this.#ctx.sealer.keyFor(recipient);
    const isSame = current !== undefined && formatHex(current.publicKey) === key.publicHex;
    const isSpelledOut = targets[0]?.start !== undefined && isSame;
    if (isSpelledOut) entry.isSpelledOut = true;
    entry.isSessionless = targets[0]?.session !== undefined && isSame && !isSpelledOut;
    if (!isSame || targets[0]?.session === undefined)
      entry.lostKeys = [...lostKeys, lostKeyOf(key.publicHex, current)];
    return true;
  }

  /** `recipient` has delivered the copy that this receipt is of: what it was sealed in lies on its disk, where it says so. */
  proven(entry: OutboxEntry, recipient: NodeId, { bundleId, isSessionKept, isContextKept }: Receipt): void {
    const session = entry.targets.find((one) => one.bundle === bundleId)?.session;
    if (isSessionKept !== true || session === undefined) return;
    const context = isContextKept === true ? contextOf(innerOf(entry, [], NO_BODY)) : undefined;
    const kept = context === undefined ? undefined : { key: session.key, context };
    this.#ctx.sealer.sessions?.proven(recipient, session.id, kept);
  }

  /** `recipient` signed that it does not know a session. Answers which of these messages are sealed in it. */
  loseSession(recipient: NodeId, receipt: Receipt, open: Iterable<Live>): Live[] {
    const id = parseHex(sessionOf(receipt), SESSION_ID_BYTES)!;
    const sealed = [...open].filter(({ entry }) => isSealedIn(entry, recipient, id));
    this.#ctx.sealer.sessions?.lost(recipient, id, sealed.length > 0);
    return sealed;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#ctx.clock.after(0, resolve));
  }

  /** What was accepted; undefined, and told, when what is stored is something else. Rejects with GODWIT_STORE_FAILED. */
  async body(entry: OutboxEntry): Promise<Uint8Array | undefined> {
    const body = (await this.#ctx.store.body("outbox", entry.id)) ?? new Uint8Array(0);
    if (body.length === entry.size) return body;
    this.#damaged(entry);
    return undefined;
  }

  /** The sealed bytes, from memory or made again; undefined, and told, when they are not those that were sealed before. */
  load(entry: OutboxEntry, target: Target): Uint8Array | Promise<Uint8Array | undefined> {
    const cached = this.#cache.get(target.bundle);
    // Of a large one only the beginning may be there.
    return cached?.length === target.sealedBytes ? cached : this.#reseal(entry, target);
  }

  /** Undefined: it is short enough to be sealed as a whole. */
  #inSegments(
    entry: OutboxEntry,
    node: NodeId,
    nodes: readonly NodeId[],
    { under, start: compact }: Pick<Target, "start"> & { readonly under: Under },
  ): Start | undefined {
    const head = plaintextOf(innerOf(entry, nodes, NO_BODY), compact);
    const associated = encodeBundleHeader(this.header(entry, node));
    const { sealer } = this.#ctx;
    const bytes = head.length + entry.size;
    const start = sealer.inSegments?.(node, under, bytes, associated, idBytes(entry.id));
    start?.tell(head);
    return start === undefined ? undefined : { head, start };
  }

  /** Of its sealed bytes sums are kept, and the first in the cache: the others are made again when they are sent. */
  async #sealLarge(
    entry: OutboxEntry,
    node: NodeId,
    named: Named,
    { head, start }: Start,
    body: Uint8Array,
  ): Promise<Target> {
    for (let at = 0; at < body.length; at += TURN_BYTES) {
      await this.#pause();
      start.tell(body.subarray(at, at + TURN_BYTES));
    }
    const sealing = start.sealing();
    const { opening, segmentBytes } = sealing;
    const made = new SealedSums(this.header(entry, node));
    made.push(opening);
    const plain = (at: number) =>
      at === 0
        ? concatBytes([head, body.subarray(0, segmentBytes - head.length)])
        : body.subarray(at - head.length, at - head.length + segmentBytes);
    const bytes = head.length + body.length;
    const sealedBytes = sealedBytesIn(sealing, bytes);
    const first = new Uint8Array(Math.min(BODY_CACHE_ONE_BYTES_MAX, sealedBytes));
    first.set(opening);
    let sealedAt = opening.length;
    const scratch = new Uint8Array(segmentBytes + sealing.tagBytes);
    for (let at = 0; at < bytes; at += segmentBytes) {
      if (at % TURN_BYTES < segmentBytes) await this.#pause();
      const segment = sealing.segment(at / segmentBytes, plain(at), scratch);
      made.push(segment);
      if (sealedAt < first.length) first.set(segment.subarray(0, first.length - sealedAt), sealedAt);
      sealedAt += segment.length;
    }
    const target = { node, bundle: made.id(), sealedBytes, ...named };
    this.#large.set(target, { head, sealing, sums: made.sums() });
    this.#cache.put(target.bundle, first);
    return target;
  }

  async #pieces(holding: Holding, entry: OutboxEntry, target: Target): Promise<SealedPieces | undefined> {
    const large = this.#large.get(target) ?? (await this.#readLarge(entry, target));
    if (large === undefined) return undefined;
    holding.sums ??= large.sums;
    const { head, sealing } = large;
    const read = (offset: number, length: number) => this.#plain(entry, head, offset, length);
    const segments = new SealedSegments(sealing, head.length + entry.size, read);
    const made = await openPieces(
      holding,
      (offset, length) => segments.piece(offset, length),
      () => this.#damaged(entry),
    );
    if (made === undefined) return undefined;
    return {
      read: (offset) => {
        const cached = this.#cache.get(target.bundle);
        return cached !== undefined && offset < cached.length
          ? cached.subarray(offset, offset + BLOCK_BYTES)
          : made.read(offset);
      },
    };
  }

  /** After a restart: the key that it was sealed under comes from all of it. */
  async #readLarge(entry: OutboxEntry, target: Target): Promise<Large | undefined> {
    const nodes = entry.targets.map(({ node }) => node);
    const begun = this.#inSegments(entry, target.node, nodes, { ...target, under: underOf(target) });
    if (begun === undefined) return undefined;
    const { head, start } = begun;
    for (let at = 0; at < entry.size; at += BLOCK_BYTES) {
      const part = await this.#ctx.store.piece("outbox", entry.id, at, BLOCK_BYTES);
      if (part?.length !== Math.min(BLOCK_BYTES, entry.size - at)) return undefined;
      start.tell(part);
    }
    const large = { head, sealing: start.sealing(), sums: undefined };
    this.#large.set(target, large);
    return large;
  }

  async #plain(
    entry: OutboxEntry,
    head: Uint8Array,
    offset: number,
    length: number,
  ): Promise<Uint8Array | undefined> {
    const { store } = this.#ctx;
    if (offset >= head.length) return store.piece("outbox", entry.id, offset - head.length, length);
    const body = await store.piece("outbox", entry.id, 0, offset + length - head.length);
    return body === undefined ? undefined : concatBytes([head.subarray(offset), body]);
  }

  async #reseal(entry: OutboxEntry, target: Target): Promise<Uint8Array | undefined> {
    const body = await this.body(entry);
    // Ended or sealed anew meanwhile.
    if (body === undefined || !entry.targets.includes(target)) return undefined;
    const nodes = entry.targets.map(({ node }) => node);
    const { node, bundle } = target;
    const sealed = this.#sealTo(entry, node, nodes, { ...target, under: underOf(target) }, body);
    if (bundleIdOf(encodeBundleHeader(this.header(entry, node)), sealed) === bundle) return sealed;
    this.#damaged(entry);
    return undefined;
  }

  /** What the forwarder holds of a message for one machine. */
  holding({ entry }: Live, target: Target, state: OutboxState): Holding {
    const { clock, limits, random } = this.#ctx;
    // After a restart it is not known who held it: offer again soon, but not all at once.
    const isRelayed = state === "relayed";
    const holding: Holding = {
      id: target.bundle,
      header: this.header(entry, target.node),
      sealedBytes: target.sealedBytes,
      role: "source",
      messageId: entry.id,
      trace: [],
      hops: 0,
      deadlineMs: deadlineOf(this.#ctx, entry),
      lifetime: entry,
      state: isRelayed ? "relayed" : "ready",
      wakeAtMs: isRelayed
        ? clock.monotonicMs() + limits.reofferFirstMs * random.float()
        : Number.POSITIVE_INFINITY,
      load: () => this.load(entry, target),
      sums: this.#large.get(target)?.sums,
      waitReason: undefined,
    };
    if (this.#ctx.sealer.inSegments !== undefined && target.sealedBytes > BLOCK_BYTES)
      holding.pieces = () => this.#pieces(holding, entry, target);
    return holding;
  }

  forget(target: Target): void {
    this.#cache.delete(target.bundle);
  }

  header(entry: OutboxEntry, node: NodeId): BundleHeader {
    const { priority, lifetimeMs } = entry;
    return { kind: BundleKind.message, priority, source: this.#ctx.self, destination: node, lifetimeMs };
  }

  #sealTo(
    entry: OutboxEntry,
    node: NodeId,
    nodes: readonly NodeId[],
    { under, start }: Pick<Target, "start"> & { readonly under: Under },
    body: Uint8Array,
  ): Uint8Array {
    const plaintext = plaintextOf(innerOf(entry, nodes, body), start);
    const associated = encodeBundleHeader(this.header(entry, node));
    return this.#ctx.sealer.seal(node, under, plaintext, associated, idBytes(entry.id));
  }
}

const NO_BODY = new Uint8Array(0);

const plaintextOf = (inner: InnerMessage, start: Uint8Array | undefined): Uint8Array =>
  start === undefined ? encodeInnerMessage(inner) : encodeCompact(start, inner);

const innerOf = (entry: OutboxEntry, nodes: readonly NodeId[], body: Uint8Array): InnerMessage => ({
  mailEpoch: parseHex(entry.epoch, STORE_EPOCH_BYTES)!,
  counter: entry.counter,
  to: entry.to,
  createdAtMs: entry.createdAtMs,
  machines: nodes.length > 1 ? nodes : [],
  failoverDelayMs: entry.failoverDelayMs,
  subject: entry.subject,
  contentType: entry.contentType,
  body,
});

const underOf = ({ key, session }: Target): Under =>
  session ?? (key === null ? undefined : { keyId: key.id, publicKey: parseHex(key.publicHex, 32)! });

/** Whom a sender means: of an address of one machine that one, and not those that may take its place. Locations have no hyphen. */
const addressed = (to: string, nodes: readonly NodeId[]): readonly NodeId[] =>
  to.includes("-") || to.length === NODE_ID_CHARS ? nodes.slice(0, 1) : nodes;

/** Open, and it names that session of `recipient` without what it was agreed by. */
const isSealedIn = ({ state, targets }: OutboxEntry, recipient: NodeId, id: Uint8Array): boolean =>
  !finalStates.includes(state) &&
  targets.some(
    ({ node, session }) =>
      node === recipient &&
      session !== undefined &&
      session.agreed === undefined &&
      Buffer.compare(session.id, id) === 0,
  );

const SEQUENCE_DIGITS = 12;

/** A key that its owner does not have, and the newest record that named it or another: what is said later holds, as after an older disk was put back. */
const lostKeyOf = (publicHex: string, newest: SealKey | undefined): string =>
  newest?.sequence === undefined
    ? publicHex
    : `${publicHex}${newest.sequence.toString(16).padStart(SEQUENCE_DIGITS, "0")}`;

function isLostKey(lost: string, { publicKey, sequence }: SealKey): boolean {
  const publicHex = formatHex(publicKey);
  if (!lost.startsWith(publicHex)) return false;
  const told = lost.slice(publicHex.length);
  return told === "" || sequence === undefined || sequence <= Number.parseInt(told, 16);
}
