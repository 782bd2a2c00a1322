/**
 * What the store-and-forward parts share: their dependencies as seams, and the vocabulary of a bundle in custody.
 * docs/protocol/delivery.md is normative.
 */
import type { Clock, Log, Random, Urgency } from "@godwit/sdk";
import type { Departure } from "../kernel/departure.ts";
import type { BundleId, MessageId, NodeId } from "../kernel/ids.ts";
import type { FullTables } from "../kernel/full-tables.ts";
import type { Regard } from "../kernel/room.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { type Check, hasFields, isListOf, isText, isTime } from "../kernel/json.ts";
import { type Bundle, type BundleHeader, TRACE_MAX, type TraceEntry } from "../wire/bundle.ts";
import type { Priority } from "../wire/constants.ts";
import type { InnerMessage } from "../wire/message.ts";
import type { MailContext } from "../wire/mail-compact.ts";
import type { SessionAgreement } from "../wire/sealed.ts";
import type { BodyHead, Store } from "../store/types.ts";
import type { NodeTime } from "../time/node-time.ts";

/** A key to seal to: the recipient's prekey. */
export interface SealKey {
  readonly keyId: number;
  readonly publicKey: Uint8Array;
  /** Of the record that names it, which grows; undefined: it was read from elsewhere. */
  readonly sequence?: number;
}

/** How one copy of a message is sealed in a mail session: enough to seal it again, and to open that copy and no other. */
export interface SessionSeal {
  /** Of the session, or of what its recipient keeps of that, which is `context` then: 8 bytes. */
  readonly id: Uint8Array;
  /** What it was agreed by, where that travels along. */
  readonly agreed: SessionAgreement | undefined;
  /** 0 to COUNTER_MAX. */
  readonly counter: number;
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** What the message may refer to, where it is sealed for the first time. */
  readonly context?: MailContext | undefined;
}

/** What mail of a session is opened with: the recipient's half. */
export interface SessionKeys {
  /** 32 bytes: opens all of the session. */
  readonly root: Uint8Array;
  /** Of one message, owned by the caller. `counter`: 0 to COUNTER_MAX. */
  key(counter: number): Uint8Array;
}

/** A session whose mail this node can open. */
export interface KnownSession {
  readonly keys: SessionKeys;
  /** Of the prekey that it was agreed to. */
  readonly keyId: number;
  /** What is kept of it, where it was asked for by the name of that. */
  readonly context?: MailContext | undefined;
}

/** Sessions whose mail this node can open. */
export interface SessionRoots {
  /** By the id of the session, or that of what is kept of it; borrowed. */
  find(from: NodeId, id: Uint8Array): KnownSession | undefined;
  /** Sequence of the newest record of `from` by which mail of it came in a session that is kept; undefined: none is. */
  since(from: NodeId): number | undefined;
}

/** Of who has none. */
export const noRoots: SessionRoots = { find: () => undefined, since: () => undefined };

/** The session that a message came in. */
export interface OpenedSession {
  /** As the message named it. */
  readonly id: Uint8Array;
  /** Of the prekey that it was agreed to, where the message tells it. */
  readonly keyId: number | undefined;
  readonly keys: SessionKeys;
  /** What the message may refer to: the callsign that its prekey was published with, and what is kept of the session. */
  readonly callsign: string | undefined;
  readonly context: MailContext | undefined;
  /** The name that the session has once `context`, of this message, is kept of it: 8 bytes. */
  contextId(context: MailContext): Uint8Array;
  /** 8 bytes over `said` that prove to the sender, and to nobody else, that this very message was opened here. */
  receiptCode(said: Uint8Array): Uint8Array;
}

export interface Opened {
  readonly forwardSecret: boolean;
  readonly session?: OpenedSession | undefined;
}

/** Mail sessions of this node (docs/protocol/sealing.md). */
export interface MailSessions {
  /** Its signed record says that it has them. */
  isKnownTo(id: NodeId): boolean;
  /**
   * Its signed record says that it reads the compact form, and goes with the callsign in it: every record that ever named its prekey has the same. Undefined:
   * it does not.
   */
  compactTo(id: NodeId): { readonly callsign: string | undefined } | undefined;
  /** The private half of that prekey of this node is still here. */
  holdsPrekey(keyId: number): boolean;
  /** `listener` is told when some of those are deleted. */
  onPrekeysGone(listener: () => void): void;
  /** A place in the session with `to`, given to nobody else; undefined where none can be had. Throws what sealing throws. */
  take(to: NodeId): SessionSeal | undefined;
  /** `to` has delivered mail of it: it has the root on its disk; and `context`, which it keeps of the message that was sealed under `key`, if it said so. */
  proven(
    to: NodeId,
    id: Uint8Array,
    kept?: { readonly key: Uint8Array; readonly context: MailContext },
  ): void;
  /** `to` signed that it does not know it. `isUsed`: open mail is sealed in it; any other counts only if it is the one for new mail. */
  lost(to: NodeId, id: Uint8Array, isUsed: boolean): void;
  isLost(to: NodeId, id: Uint8Array): boolean;
  /** Nothing new is sealed in it. */
  end(to: NodeId, id: Uint8Array): void;
  /** From the root that a `SessionKeys` had. */
  keysOf(root: Uint8Array): SessionKeys;
  /** As `OpenedSession.receiptCode`, by the sender's key of that message. */
  receiptCode(key: Uint8Array, said: Uint8Array): Uint8Array;
}

/** A message whose segments are sealed each for itself, as often as they are wanted. */
export interface SegmentSealing {
  /** What stands before the first segment. */
  readonly opening: Uint8Array;
  /** Plaintext of one segment, the last one shorter, and what sealing adds to each. */
  readonly segmentBytes: number;
  readonly tagBytes: number;
  /** That segment, owned by the caller; with `into`, which has room for it, at the beginning of that. `plaintext` is borrowed. */
  segment(index: number, plaintext: Uint8Array, into?: Uint8Array): Uint8Array;
}

/** A message whose segments are opened each for itself. Nobody may be shown any of it before every segment was opened. */
export interface SegmentOpening {
  /** Sealed bytes before the first segment. */
  readonly openingBytes: number;
  /** Plaintext of one segment, the last one shorter, and what sealing added to each. */
  readonly segmentBytes: number;
  readonly tagBytes: number;
  /** Of all segments. */
  readonly plainBytes: number;
  /** 32 bytes: opens this message and no other. */
  readonly key: Uint8Array;
  /** Plaintext of a whole sealed segment. Throws GODWIT_DECODE. */
  segment(index: number, sealed: Uint8Array): Uint8Array;
}

export interface SealedInSegments {
  /** The next part of the plaintext, from its beginning. */
  tell(part: Uint8Array): void;
  /** Call once all of it was told. */
  sealing(): SegmentSealing;
}

/** Sealing end to end (identity/seal.ts); the simulator brings a cheap one for large meshes. */
export interface Sealer {
  /** The recipient's current prekey, if its record is known. */
  keyFor(to: NodeId): SealKey | undefined;
  /**
   * Same arguments, same bytes: outside of a session `unique` (a message id) seeds the ephemeral key, so that a re-offer after a restart is
   * the same bundle. Without `under` seals to the identity key: no forward secrecy.
   */
  seal(
    to: NodeId,
    under: SealKey | SessionSeal | undefined,
    plaintext: Uint8Array,
    associated: Uint8Array,
    unique: Uint8Array,
  ): Uint8Array;
  /** The same of what is sealed once and kept as that: no mail of an outbox. */
  sealOnce(to: NodeId, plaintext: Uint8Array, associated: Uint8Array, unique: Uint8Array): Uint8Array;
  /** As `seal`, of a plaintext that nobody holds at once. Undefined: it is too short to be cut into segments. */
  inSegments?(
    to: NodeId,
    under: SealKey | SessionSeal | undefined,
    plaintextBytes: number,
    associated: Uint8Array,
    unique: Uint8Array,
  ): SealedInSegments | undefined;
  /**
   * Throws GODWIT_DECODE; GODWIT_SEAL_SESSION for one that `roots` does not know, GODWIT_SEAL_FORGED for what does not open in one that it knows,
   * GODWIT_SEAL_OUTDATED for what is not sealed in one although its sender has them.
   */
  open(
    from: NodeId,
    sealed: Uint8Array,
    associated: Uint8Array,
    roots: SessionRoots,
  ): Opened & { readonly plaintext: Uint8Array };
  /**
   * As `open`, of sealed bytes that nobody holds at once, by their first bytes, which are borrowed. Undefined: they were not sealed in segments. Throws as `open`.
   */
  openInSegments?(
    from: NodeId,
    opening: Uint8Array,
    sealedBytes: number,
    associated: Uint8Array,
    roots: SessionRoots,
  ): (SegmentOpening & Opened) | undefined;
  /** What was opened before, by the key that this gave, and its `openingBytes`; without those, of the first form. Undefined: so many sealed bytes are no message. */
  segmentsUnder?(key: Uint8Array, sealedBytes: number, openingBytes?: number): SegmentOpening | undefined;
  /** Undefined: none are to be had. */
  readonly sessions?: MailSessions | undefined;
}

/** Who an address means right now. The first node is the preferred one. */
export type Resolution =
  | { readonly kind: "nodes"; readonly nodes: readonly NodeId[] }
  | { readonly kind: "unknown" }
  | { readonly kind: "conflict" };

export interface Directory {
  /** `address` is canonical. With `failover` a machine address means every machine of its location, it first. */
  resolve(address: string, failover: boolean): Resolution;
  /** Canonical form. Throws GODWIT_ADDRESS_INVALID. */
  canonical(address: string): string;
  /**
   * The one node that an id, a callsign or a short id names; a location names none. Throws GODWIT_NAME_UNKNOWN,
   * GODWIT_NAME_CONFLICT, GODWIT_ADDRESS_INVALID, GODWIT_ID_INVALID.
   */
  nodeOf(text: string): NodeId;
}

export interface HopChoice {
  readonly kind: "forward" | "wait";
  readonly to?: NodeId;
  readonly reason?: string;
}

/** The way to neighbours: routing decides, peers carry. */
export interface Carrier {
  /**
   * Picks the neighbour for a bundle among those not in `avoid`; `shun` is taken only if no other is left. Where a channel admits nothing of its urgency now none is
   * picked; without one only ways count.
   */
  nextHop(
    bundle: { destination: NodeId; arrivedFrom: NodeId | undefined; bytes: number; urgency?: Urgency },
    avoid: (id: NodeId) => boolean,
    shun: NodeId | undefined,
  ): HopChoice;
  isConnected(id: NodeId): boolean;
  /** Sends a custody control frame or a bundle; false when there is no room or no link now. Borrowed. `departure` is told when it has really left. */
  send(to: NodeId, lane: "control" | Priority, frame: Uint8Array, departure?: Departure): boolean;
  /** Sends a packet of this node, now or never; to itself, too. Borrowed. */
  sendPacket(
    to: NodeId,
    kind: number,
    payload: Uint8Array,
    priority: Priority,
  ): "sent" | "no_route" | "no_room";
  /** Largest frame towards a neighbour in bytes; 0 without link. */
  frameBytesMax(to: NodeId): number;
  /** Smoothed round trip to a neighbour, ms. */
  rttMs(to: NodeId): number;
  /** From when something has left until an answer can be there, ms, where the medium says so: it is carried, or frames wait for long. 0: it does not. */
  answerMs?(to: NodeId): number;
  /** The medium is carried: it takes much, and answers come after hours or days. */
  isCarried?(to: NodeId): boolean;
  isReliable(to: NodeId): boolean;
  /** Ways lead there, and each of them over a slow link. */
  isSlow(to: NodeId): boolean;
}

/** Whom this node knows for a reason of its own: they keep their places when strangers have taken all others. */
export interface CustodyRegard extends Regard {
  isKnown(id: NodeId): boolean;
  /** Mail of this node is for it. */
  wrote(id: NodeId): void;
  /** Mail of this node waits until that address means somebody whose keys are known. `awaited`: all such addresses, from now on. */
  waits(address: string, awaited: AwaitedAddresses): void;
}

/** Addresses that mail of this node waits for, as it is whenever it is asked. */
export interface AwaitedAddresses {
  readonly addresses: readonly string[];
  has(address: string): boolean;
}

/** For what comes: a smaller one takes nothing back that was accepted. Looked at for each message, because an operator may change it. */
export interface CustodyLimits {
  readonly transitMessagesMax: number;
  readonly transitBytesMax: number;
  /** Share of the transit store that one neighbour may fill, 0 to 1. */
  readonly neighbourShare: number;
  readonly outboxMessagesMax: number;
  readonly outboxBytesMax: number;
  readonly inboxMessagesMax: number;
  readonly inboxBytesMax: number;
  /** Share of the inbox that one sender may fill, 0 to 1. */
  readonly senderShare: number;
  readonly inboxRetentionMs: number;
  /** Finished messages kept for the record. */
  readonly historyMessagesMax: number;
  /** Open messages of the outbox in memory, of one address and priority: above what its windows take and what waits for receipts meanwhile. */
  readonly laneAwakeMax: number;
  /** The same where the address cannot be reached, or is not known. */
  readonly laneUnreachableMax: number;
  readonly lifetimeDefaultMs: number;
  /** Mail of this node that waits for longer is told of. */
  readonly overdueAfterMs: number;
  readonly failoverDelayMs: number;
  /** First pause before a relayed message without receipt is offered again; doubles up to `reofferCapMs`. */
  readonly reofferFirstMs: number;
  readonly reofferCapMs: number;
}

export const custodyLimitsDefault: CustodyLimits = {
  transitMessagesMax: 100_000,
  transitBytesMax: 1024 ** 3,
  neighbourShare: 0.5,
  outboxMessagesMax: 100_000,
  outboxBytesMax: 1024 ** 3,
  inboxMessagesMax: 100_000,
  inboxBytesMax: 1024 ** 3,
  senderShare: 0.5,
  inboxRetentionMs: 30 * 24 * 3_600_000,
  historyMessagesMax: 10_000,
  laneAwakeMax: 4_096,
  laneUnreachableMax: 32,
  lifetimeDefaultMs: 72 * 3_600_000,
  overdueAfterMs: 15 * 60_000,
  failoverDelayMs: 60_000,
  reofferFirstMs: 15_000,
  reofferCapMs: 3_600_000,
};

/** What is known of whether another node is there. */
export interface Presence {
  /** `left`: by a farewell that it signed itself; `failed`: this node found it gone; else `there`, and be it that nobody knows. */
  of(id: NodeId): "there" | "failed" | "left";
  /** `fn` hears of each node of which that may have changed, until the answer is called. */
  watch(fn: (id: NodeId) => void): () => void;
}

export interface CustodyContext {
  readonly self: NodeId;
  readonly network: string;
  readonly clock: Clock;
  readonly time: NodeTime;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly store: Store;
  readonly storeEpoch: Uint8Array;
  readonly limits: CustodyLimits;
  readonly sealer: Sealer;
  readonly directory: Directory;
  readonly carrier: Carrier;
  sign(bytes: Uint8Array): Uint8Array;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** Blocked or revoked: nothing from it or for it is taken. */
  isRefused(id: NodeId): boolean;
  /** Another machine may run under this identity, and which of the two goes on is not known yet: no new mail comes into this inbox. */
  isContested(): boolean;
  readonly presence: Presence;
  readonly regard: CustodyRegard;
  readonly fullTables: Pick<FullTables, "refused">;
}

/** Sealed bytes of a bundle, one reader at a time. */
export interface SealedPieces {
  /**
   * Some bytes from `offset` on, which is inside of the bundle: at least one, at most a block. What is answered at once is lent within this turn of the
   * event loop, and written over later; what comes by a promise is owned by the caller. Waits until they are there; undefined: they will never be. Never rejects.
   */
  read(offset: number): Uint8Array | Promise<Uint8Array | undefined>;
}

/** A large message for this node whose sealed bytes come in order. */
export interface OpeningBody {
  /** What they begin with, once that came, names this session and not what it was agreed by: hex. */
  readonly namedSession: string | undefined;
  /** The next of them, borrowed. What is wrong with them `opened` tells. */
  take(bytes: Uint8Array): void;
  /** Once all of them were taken. Undefined: they are not sealed in segments. Throws GODWIT_DECODE unless each segment was opened. */
  opened(): OpenedBody | undefined;
}

export interface OpenedBody extends Opened {
  /** Its body is the beginning of it. */
  readonly inner: InnerMessage;
  /** Plaintext before the body, and of all of it. */
  readonly before: number;
  readonly plainBytes: number;
  /** 32 bytes: opens this message and no other; and the sealed bytes before its first segment. */
  readonly key: Uint8Array;
  readonly openingBytes: number;
}

/** A bundle of which the store has the beginning, as chunks, already. Nobody holds all of it in memory. */
export interface StoredBundle {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly sealedBytes: number;
  readonly head: BodyHead;
  /** What follows the head. */
  readonly rest: Uint8Array;
  readonly sums: Uint8Array;
  /** All of it, while its chunks are there. */
  readonly pieces: SealedPieces;
  /** Of a message for this node. */
  readonly opening: OpeningBody | undefined;
}

/** A bundle that came whole: its id is right. */
export type ArrivedBundle = Bundle | StoredBundle;

export const sealedBytesOf = (bundle: ArrivedBundle): number =>
  "sealed" in bundle ? bundle.sealed.length : bundle.sealedBytes;

/** A bundle that this node holds durably and owes a next hop. */
export interface Holding {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly sealedBytes: number;
  /** `source`: kept until receipt or expiry. `relay`: dropped on the next hop's acknowledgement. */
  readonly role: "source" | "relay";
  /** It is not here as a whole: what is durable of it goes on already. Nothing is acknowledged yet, and no row is there. */
  isArriving?: boolean;
  /** The message of the outbox that it carries, for `source`. */
  readonly messageId?: MessageId;
  readonly arrivedFrom?: NodeId;
  readonly trace: readonly TraceEntry[];
  hops: number;
  /** What is left of its life; undefined: it does not outlive this process. */
  readonly lifetime?: Lifetime;
  /** Monotonic ms. Comes nearer when time off is confirmed. */
  deadlineMs: number;
  state: "ready" | "inflight" | "paused" | "relayed";
  /** Monotonic ms at which `paused` or `relayed` becomes ready again. */
  wakeAtMs: number;
  /** The neighbour whose answer is awaited, while `inflight`. */
  inflightTo?: NodeId | undefined;
  /** Neighbours that were given it, latest last: only their acknowledgement counts. */
  offeredTo?: readonly NodeId[];
  /** Goes to this neighbour or nowhere (test bundles). */
  readonly via?: NodeId;
  /** Monotonic ms at which a next hop last had more of it, of what goes in pieces. */
  movedAtMs?: number;
  /** Who acknowledged it last: when no receipt comes, another way is tried first. */
  relayedTo?: NodeId;
  /** Monotonic ms of that, and how often one did, for `source`. */
  relayedAtMs?: number;
  /** Monotonic ms of the first acknowledgement since it was last offered, for `source`. */
  slowSinceMs?: number;
  relays?: number;
  /** Refusals in a row for want of room: each makes the next pause longer. */
  refusals?: number;
  /** Of what goes where answers wait for airtime: how often none came in time since the last one, and when it left first, monotonic ms. */
  unanswered?: { times: number; sinceMs: number };
  /** Neighbours that refused it, until when (monotonic ms). */
  refusedBy?: Map<NodeId, number>;
  /** The sealed bytes; loaded again from the store when not in memory. */
  load(): Uint8Array | Promise<Uint8Array | undefined>;
  /** The same block by block, of a large one. */
  pieces?: (() => Promise<SealedPieces | undefined>) | undefined;
  /** One for each block, where they are known. */
  sums?: Uint8Array | undefined;
  waitReason: string | undefined;
}

/** Part of a box, in the order of arrival. */
export interface Page {
  readonly order: "newest-first" | "oldest-first";
  /** Entries on it, at most. */
  readonly limit: number;
  /** The last one of the page before; absent: the first page. */
  readonly after?: string;
}

/** Holders of a bundle, as they lie in rows. */
export const isTrace: Check = isListOf(hasFields({ node: isText(64), atMs: isTime }), TRACE_MAX);

/** How long mail lives, as its row says. Neither changes while it is held: its age is counted anew from them. */
export interface Lifetime {
  /** Ms that were left at `atRunMs`. */
  readonly remainingMs: number;
  /** Running time of this node at that moment; undefined: a release wrote it that counted none. */
  readonly atRunMs?: number;
}

/** Monotonic ms at which a life is over, as far as is known now. */
export const deadlineOf = (
  { clock, time }: Pick<CustodyContext, "clock" | "time">,
  { remainingMs, atRunMs }: Lifetime,
): number => clock.monotonicMs() + Math.max(0, remainingMs - time.ageMs(atRunMs));
