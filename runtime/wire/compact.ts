/**
 * Frames as they cross a link of class slow: bundles, acknowledgements and hellos without what both ends know. Bytes alone; what
 * the two ends know of each other is peer/compact-session.ts. docs/protocol/slow.md "Compact frames" is normative.
 */
import { type BundleId, idBytes, type NodeId } from "../kernel/ids.ts";
import { sha256 } from "../kernel/sha256.ts";
import { BundleKind } from "./bundle.ts";
import { decodeError, type Reader, Writer } from "./bytes.ts";
import { FrameType, LIFETIME_MAX_MS, type Priority } from "./constants.ts";
import { RECEIPTS_MAX, SESSION_RECEIPT_BYTES } from "./message.ts";
import { BOOT_ID_BYTES, frameReader, STORE_EPOCH_BYTES } from "./peer-messages.ts";
import { SealForm, SESSION_ID_BYTES } from "./sealed.ts";

/** Things that one direction of a link has names for. */
export const REFERENCES_MAX = 256;
/** Bundles of one direction, the newest, that their sequences name. */
export const SEQUENCES_MAX = 128;
const SEQUENCE_MODULUS = 256;
/** First bytes of the bundle's id: of one without references, and of one that a reference could make another. */
const CHECK_BYTES = { whole: 2, referred: 3 } as const;
const ACK_CHECK_BYTES = 2;
const RECORD_HASH_BYTES = 8;

/** What `index` stands for; with `is`, from now on. */
export interface Reference<T> {
  readonly index: number;
  readonly is?: T | undefined;
  /** The index is one that the receiver of the frame gave, for its own frames. Of nodes alone. */
  readonly isReceivers?: true;
}

/** How the sealed bytes stand in the frame. */
export type CompactSeal =
  /** All of them. */
  | { readonly kind: "asIs" }
  /** Without the form byte of `SealForm.first`. */
  | { readonly kind: "first" }
  /** Without form and session id of `SealForm.later`. `is`: 8 bytes as hex. */
  | { readonly kind: "later"; readonly session: Reference<string> }
  /** Receipts of a session without the zero and their number. */
  | { readonly kind: "receipts" };

export interface CompactBundle {
  readonly kind: number;
  readonly priority: Priority;
  /** Of the bundles in this direction, modulo 256. */
  readonly sequence: number;
  /** Undefined: who sends the frame. */
  readonly source: Reference<NodeId> | undefined;
  /** Undefined: who receives it. */
  readonly destination: Reference<NodeId> | undefined;
  readonly lifetimeMs: number;
  /** Rounded up to a 255th of the lifetime when it is written; not above it. */
  readonly remainingMs: number;
  readonly hops: number;
  readonly seal: CompactSeal;
  /** What is left of the sealed bytes. Decoded: shares the frame's memory. */
  readonly rest: Uint8Array;
}

const SealCode = { asIs: 0, first: 1, later: 2, laterDefined: 3 } as const;
/** Of receipts, which no session seals. */
const RECEIPTS_CODE = 1;
const PlaceCode = { end: 0, referred: 1, defined: 2, receivers: 3 } as const;

/** What the sealed bytes of a bundle become. `session` names the session of a `later`. */
export function shortenSealed(
  kind: number,
  sealed: Uint8Array,
  session: (id: string) => Reference<string>,
): { readonly seal: CompactSeal; readonly rest: Uint8Array } {
  if (kind === BundleKind.receipt) {
    const count = sealed[1] ?? 0;
    const isOfSession =
      sealed[0] === 0 &&
      count >= 1 &&
      count <= RECEIPTS_MAX &&
      sealed.length === 2 + count * SESSION_RECEIPT_BYTES;
    return isOfSession
      ? { seal: { kind: "receipts" }, rest: sealed.subarray(2) }
      : { seal: { kind: "asIs" }, rest: sealed };
  }
  const head = 1 + SESSION_ID_BYTES;
  if (sealed[0] === SealForm.later && sealed.length >= head)
    return {
      seal: { kind: "later", session: session(sealed.subarray(1, head).toHex()) },
      rest: sealed.subarray(head),
    };
  if (sealed[0] === SealForm.first) return { seal: { kind: "first" }, rest: sealed.subarray(1) };
  return { seal: { kind: "asIs" }, rest: sealed };
}

/** The other way, owned by the caller. `session`: the id of a `later` as hex. */
export function restoreSealed({ seal, rest }: CompactBundle, session: string | undefined): Uint8Array {
  const writer = new Writer(rest.length + 1 + SESSION_ID_BYTES);
  if (seal.kind === "first") writer.u8(SealForm.first);
  else if (seal.kind === "later") writer.u8(SealForm.later).bytes(Uint8Array.fromHex(session!));
  else if (seal.kind === "receipts") writer.u8(0).u8(rest.length / SESSION_RECEIPT_BYTES);
  return writer.bytes(rest).finish();
}

/** BUNDLE: type | flags | [kind] | sequence | source | destination | session | lifetime | remaining | hops | check | rest. `id` is the bundle's. */
export function encodeCompactBundle(bundle: CompactBundle, id: BundleId): Uint8Array {
  const { kind, priority, sequence, source, destination, lifetimeMs, remainingMs, seal, rest } = bundle;
  const writer = new Writer(rest.length + 96).u8(typeOf(kind));
  writer.u8(priority | (placeCode(source) << 2) | (placeCode(destination) << 4) | (sealCode(seal) << 6));
  if (typeOf(kind) === FrameType.compactBundle) writer.u8(kind);
  writer.u8(sequence);
  for (const place of [source, destination]) {
    if (place !== undefined) writer.u8(place.index);
    if (place?.is !== undefined) writer.nodeId(place.is);
  }
  if (seal.kind === "later") {
    writer.u8(seal.session.index);
    if (seal.session.is !== undefined) writer.bytes(Uint8Array.fromHex(seal.session.is));
  }
  writeLifetime(writer, lifetimeMs);
  return writer
    .u8(partsOf(remainingMs, lifetimeMs))
    .u8(Math.min(bundle.hops, 255))
    .bytes(idBytes(id).subarray(0, checkBytes(bundle)))
    .bytes(rest)
    .finish();
}

/** `check`: what the id of the bundle begins with if the references are what the sender means. */
export function decodeCompactBundle(frame: Uint8Array): CompactBundle & { readonly check: Uint8Array } {
  const type = frame[0] ?? 0;
  const reader = frameReader(frame, isCompactBundle(type) ? type : FrameType.compactBundle);
  const flags = reader.u8();
  const kind =
    type === FrameType.compactMessage
      ? BundleKind.message
      : type === FrameType.compactReceipts
        ? BundleKind.receipt
        : reader.u8();
  const sequence = reader.u8();
  const source = readPlace(reader, (flags >> 2) & 3);
  const destination = readPlace(reader, (flags >> 4) & 3);
  const seal = readSeal(reader, kind, flags >> 6);
  const lifetimeMs = readLifetime(reader);
  const remainingMs = Math.floor((reader.u8() * lifetimeMs) / REMAINING_PARTS);
  const hops = reader.u8();
  const priority = (flags & 3) as Priority;
  const known = { kind, priority, sequence, source, destination, lifetimeMs, remainingMs, hops, seal };
  const check = reader.bytes(checkBytes(known));
  const rest = reader.rest();
  if (seal.kind === "receipts" && (rest.length === 0 || rest.length % SESSION_RECEIPT_BYTES > 0))
    throw decodeError(`receipts of ${rest.length} bytes, each has ${SESSION_RECEIPT_BYTES}`);
  if (seal.kind === "receipts" && rest.length > RECEIPTS_MAX * SESSION_RECEIPT_BYTES)
    throw decodeError(`${rest.length / SESSION_RECEIPT_BYTES} receipts, at most ${RECEIPTS_MAX}`);
  return { ...known, check, rest };
}

export const isCompactBundle = (type: number | undefined): boolean =>
  type === FrameType.compactMessage || type === FrameType.compactReceipts || type === FrameType.compactBundle;

const typeOf = (kind: number): number =>
  kind === BundleKind.message
    ? FrameType.compactMessage
    : kind === BundleKind.receipt
      ? FrameType.compactReceipts
      : FrameType.compactBundle;

function placeCode(place: Reference<NodeId> | undefined): number {
  if (place === undefined) return PlaceCode.end;
  if (place.isReceivers === true) return PlaceCode.receivers;
  return place.is === undefined ? PlaceCode.referred : PlaceCode.defined;
}

function readPlace(reader: Reader, code: number): Reference<NodeId> | undefined {
  if (code === PlaceCode.end) return undefined;
  const index = reader.u8();
  if (code === PlaceCode.receivers) return { index, isReceivers: true };
  return code === PlaceCode.referred ? { index } : { index, is: reader.nodeId() };
}

function sealCode(seal: CompactSeal): number {
  if (seal.kind === "later") return seal.session.is === undefined ? SealCode.later : SealCode.laterDefined;
  return seal.kind === "receipts" ? RECEIPTS_CODE : SealCode[seal.kind];
}

function readSeal(reader: Reader, kind: number, code: number): CompactSeal {
  if (code === SealCode.asIs) return { kind: "asIs" };
  if (kind === BundleKind.receipt) {
    if (code !== RECEIPTS_CODE) throw decodeError("receipts are in no known form");
    return { kind: "receipts" };
  }
  if (code === SealCode.first) return { kind: "first" };
  const index = reader.u8();
  const isDefined = code === SealCode.laterDefined;
  return {
    kind: "later",
    session: isDefined ? { index, is: reader.bytes(SESSION_ID_BYTES).toHex() } : { index },
  };
}

const isReferred = (reference: Reference<unknown> | undefined): boolean =>
  reference !== undefined && reference.is === undefined;

/** Whether its receiver must know a reference before. */
export const needsReferences = ({
  source,
  destination,
  seal,
}: Pick<CompactBundle, "source" | "destination" | "seal">): boolean =>
  isReferred(source) || isReferred(destination) || (seal.kind === "later" && isReferred(seal.session));

const checkBytes = (bundle: Pick<CompactBundle, "source" | "destination" | "seal">): number =>
  needsReferences(bundle) ? CHECK_BYTES.referred : CHECK_BYTES.whole;

/** 0: a varint of milliseconds follows. 1 to 60 are minutes, then 2 to 72 hours, then 4 to 30 days. */
const LIFETIME_OTHER = 0;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const USUAL_LIFETIMES_MS: readonly number[] = [
  ...Array.from({ length: 60 }, (_, i) => (i + 1) * MINUTE_MS),
  ...Array.from({ length: 71 }, (_, i) => (i + 2) * HOUR_MS),
  ...Array.from({ length: 27 }, (_, i) => (i + 4) * DAY_MS),
];
const lifetimeCodes = new Map(USUAL_LIFETIMES_MS.map((lifetimeMs, i) => [lifetimeMs, i + 1]));
/** What is left travels in so many parts of the lifetime. */
const REMAINING_PARTS = 255;

/** The fewest that are not less than what remains: what comes of them is written as so many again, so that no hop adds to the last. */
function partsOf(remainingMs: number, lifetimeMs: number): number {
  if (lifetimeMs === 0) return 0;
  const leftMs = Math.min(Math.max(0, Math.floor(remainingMs)), lifetimeMs);
  return Math.ceil((leftMs * REMAINING_PARTS) / lifetimeMs);
}

/** To the millisecond: the bundle's id covers it. */
function writeLifetime(writer: Writer, lifetimeMs: number): void {
  const code = lifetimeCodes.get(lifetimeMs);
  writer.u8(code ?? LIFETIME_OTHER);
  if (code === undefined) writer.varint(lifetimeMs);
}

function readLifetime(reader: Reader): number {
  const code = reader.u8();
  const lifetimeMs = code === LIFETIME_OTHER ? reader.varint() : USUAL_LIFETIMES_MS[code - 1];
  if (lifetimeMs === undefined) throw decodeError(`lifetime code ${code} stands for nothing`);
  if (lifetimeMs > LIFETIME_MAX_MS) throw decodeError(`bundle lifetime ${lifetimeMs} ms is above 30 days`);
  return lifetimeMs;
}

/** First bytes of the SHA-256 of the ids: an acknowledgement that was held back names other bundles by now. */
export const ackCheck = (ids: readonly BundleId[]): Uint8Array =>
  sha256(Uint8Array.fromHex(ids.join(""))).subarray(0, ACK_CHECK_BYTES);

/** How many bundles before `newest` it was, 0 to 255. */
export const sequenceAge = (newest: number, sequence: number): number =>
  (newest - sequence + SEQUENCE_MODULUS) % SEQUENCE_MODULUS;
export const nextSequence = (sequence: number): number => (sequence + 1) % SEQUENCE_MODULUS;

export interface CompactAck {
  /** Oldest first, within 128 of each other, at least one. */
  readonly sequences: readonly number[];
  readonly check: Uint8Array;
}

/** ACK: type | first sequence | check 2 | bitmap to the end, of which bit 0 (the lowest of its first byte) is the sequence behind the first. */
export function encodeCompactAck({ sequences, check }: CompactAck): Uint8Array {
  const [first = 0, ...others] = sequences;
  const offsets = others.map((sequence) => sequenceAge(sequence, first) - 1);
  const bitmap = new Uint8Array(offsets.length === 0 ? 0 : (Math.max(...offsets) >> 3) + 1);
  for (const offset of offsets) bitmap[offset >> 3]! |= 1 << (offset & 7);
  return new Writer(20).u8(FrameType.compactAck).u8(first).bytes(check).bytes(bitmap).finish();
}

/** `check` shares the frame's memory. */
export function decodeCompactAck(frame: Uint8Array): CompactAck {
  const reader = frameReader(frame, FrameType.compactAck);
  const first = reader.u8();
  const check = reader.bytes(ACK_CHECK_BYTES);
  const sequences = [first];
  const bits = Math.min(reader.remaining * 8, SEQUENCES_MAX - 1);
  const bitmap = reader.rest();
  for (let bit = 0; bit < bits; bit++)
    if ((bitmap[bit >> 3]! & (1 << (bit & 7))) !== 0) sequences.push((first + 1 + bit) % SEQUENCE_MODULUS);
  return { sequences, check };
}

export interface CompactRefuse {
  readonly sequence: number;
  readonly check: Uint8Array;
  readonly reason: number;
  /** In whole seconds when it is written, rounded up. */
  readonly retryAfterMs: number;
}

/** REFUSE: type | sequence | check 2 | reason u8 | retry after (varint, s). */
export const encodeCompactRefuse = ({ sequence, check, reason, retryAfterMs }: CompactRefuse): Uint8Array =>
  new Writer(16)
    .u8(FrameType.compactRefuse)
    .u8(sequence)
    .bytes(check)
    .u8(reason)
    .varint(Math.ceil(retryAfterMs / 1_000))
    .finish();

/** `check` shares the frame's memory. */
export function decodeCompactRefuse(frame: Uint8Array): CompactRefuse {
  const reader = frameReader(frame, FrameType.compactRefuse);
  return {
    sequence: reader.u8(),
    check: reader.bytes(ACK_CHECK_BYTES),
    reason: reader.u8(),
    retryAfterMs: Math.min(reader.varint() * 1_000, LIFETIME_MAX_MS),
  };
}

/** UNREADABLE: type | sequence: what its references stand for is not known here, or something else. */
export const encodeUnreadable = (sequence: number): Uint8Array =>
  new Writer(2).u8(FrameType.compactUnreadable).u8(sequence).finish();
export const decodeUnreadable = (frame: Uint8Array): number =>
  frameReader(frame, FrameType.compactUnreadable).u8();

/** As `Hello`, of a session that has agreed on its version, with the record by its hash. */
export interface CompactHello {
  readonly bootId: Uint8Array;
  readonly storeEpoch: Uint8Array;
  /** First 8 bytes of the record's SHA-256. */
  readonly recordHash: Uint8Array;
  readonly wallMs?: number | undefined;
}

export const recordHashOf = (record: Uint8Array): Uint8Array => sha256(record).subarray(0, RECORD_HASH_BYTES);

/** HELLO: type | boot id 8 | store epoch 8 | record hash 8 | time u48, or nothing. */
export function encodeCompactHello(hello: CompactHello): Uint8Array {
  const writer = new Writer(40)
    .u8(FrameType.compactHello)
    .bytes(hello.bootId)
    .bytes(hello.storeEpoch)
    .bytes(hello.recordHash);
  if (hello.wallMs !== undefined) writer.u48(Math.floor(hello.wallMs));
  return writer.finish();
}

/** Shares the frame's memory. */
export function decodeCompactHello(frame: Uint8Array): CompactHello {
  const reader = frameReader(frame, FrameType.compactHello);
  return {
    bootId: reader.bytes(BOOT_ID_BYTES),
    storeEpoch: reader.bytes(STORE_EPOCH_BYTES),
    recordHash: reader.bytes(RECORD_HASH_BYTES),
    wallMs: reader.remaining >= WALL_BYTES ? reader.u48() : undefined,
  };
}

const WALL_BYTES = 6;

/** HELLO WANTED: type: the record that the hello names is not known here. */
export const encodeHelloWanted = (): Uint8Array => new Uint8Array([FrameType.helloWanted]);
