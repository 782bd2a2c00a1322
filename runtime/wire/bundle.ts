/**
 * Frames of hop-by-hop custody and the bundle inside them. docs/protocol/delivery.md is normative.
 *
 * A bundle is an immutable header and sealed bytes; its id is SHA-256 over both, cut to 16 bytes. What changes on the
 * way (remaining lifetime, hops, trace) travels beside it and is not covered by the id.
 */
import { sha256, sha256Hex } from "../kernel/sha256.ts";
import { BUNDLE_ID_BYTES, formatBundleId, idBytes, type BundleId, type NodeId } from "../kernel/ids.ts";
import {
  BLOCK_BYTES,
  BLOCK_SUM_BYTES,
  BODY_BYTES_MAX,
  FrameType,
  LIFETIME_MAX_MS,
  type Priority,
} from "./constants.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";

export const BUNDLE_VERSION = 1;
/** What the sealed bytes hold; relays treat all kinds alike. */
export const BundleKind = { message: 0, receipt: 1, claim: 2, claimAnswer: 3, system: 4 } as const;

/** Longest trace that travels; later hops are not recorded. */
export const TRACE_MAX = 32;
/** A body of 16 MiB with its inner header, chunk tags and seal. */
export const SEALED_BYTES_MAX = BODY_BYTES_MAX + 64 * 1024;
const BUNDLE_HEADER_MAX = 96;

export interface BundleHeader {
  readonly kind: number;
  readonly priority: Priority;
  readonly source: NodeId;
  readonly destination: NodeId;
  /** Whole lifetime in ms as the source set it. */
  readonly lifetimeMs: number;
}

export interface TraceEntry {
  readonly node: NodeId;
  /** Wall clock of that node, ms since 1970: an indication only. */
  readonly atMs: number;
}

/** What changes at every hop. */
export interface Journey {
  readonly remainingMs: number;
  readonly hops: number;
  readonly trace: readonly TraceEntry[];
}

/** Links behind it that no entry of the trace stands for: slow ones, and those beyond the longest trace. */
export const untracedHops = ({ hops, trace }: Pick<Journey, "hops" | "trace">): number =>
  Math.max(0, hops - trace.length);

export interface Bundle {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly sealed: Uint8Array;
}

export function encodeBundleHeader(header: BundleHeader): Uint8Array {
  return new Writer(80)
    .u8(BUNDLE_VERSION)
    .u8(header.kind)
    .u8(header.priority)
    .nodeId(header.source)
    .nodeId(header.destination)
    .varint(header.lifetimeMs)
    .finish();
}

export function decodeBundleHeader(bytes: Uint8Array): BundleHeader {
  const reader = new Reader(bytes);
  const version = reader.u8();
  if (version !== BUNDLE_VERSION)
    throw decodeError(`bundle version ${version}, this node speaks ${BUNDLE_VERSION}`);
  const kind = reader.u8();
  const priority = reader.u8();
  if (priority > 3) throw decodeError(`bundle priority ${priority}, at most 3`);
  const header = {
    kind,
    priority: priority as Priority,
    source: reader.nodeId(),
    destination: reader.nodeId(),
    lifetimeMs: reader.varint(),
  };
  if (header.lifetimeMs > LIFETIME_MAX_MS)
    throw decodeError(`bundle lifetime ${header.lifetimeMs} ms is above 30 days`);
  // The id covers the header: bytes that we would not send on would give the bundle another id at the next hop.
  if (reader.remaining > 0) throw decodeError(`bundle header has ${reader.remaining} bytes too many`);
  return header;
}

/** SHA-256(header || sealed), first 16 bytes. */
export function bundleIdOf(headerBytes: Uint8Array, sealed: Uint8Array): BundleId {
  return sha256Hex(BUNDLE_ID_BYTES, headerBytes, sealed) as BundleId;
}

export function makeBundle(header: BundleHeader, sealed: Uint8Array): Bundle {
  return { id: bundleIdOf(encodeBundleHeader(header), sealed), header, sealed };
}

function writeJourney(writer: Writer, journey: Journey): Writer {
  writer
    .varint(Math.max(0, Math.floor(journey.remainingMs)))
    .u8(Math.min(journey.hops, 255))
    .u8(journey.trace.length);
  for (const { node, atMs } of journey.trace) writer.nodeId(node).u48(Math.max(0, Math.floor(atMs)));
  return writer;
}

function readJourney(reader: Reader): Journey {
  const remainingMs = Math.min(reader.varint(), LIFETIME_MAX_MS);
  const hops = reader.u8();
  const count = reader.u8();
  if (count > TRACE_MAX) throw decodeError(`trace of ${count} nodes, at most ${TRACE_MAX}`);
  const trace: TraceEntry[] = [];
  for (let i = 0; i < count; i++) trace.push({ node: reader.nodeId(), atMs: reader.u48() });
  return { remainingMs, hops, trace };
}

/** BUNDLE: type | journey | header (sized) | sealed to the end. */
export function encodeBundleFrame(bundle: Bundle, journey: Journey): Uint8Array {
  const writer = new Writer(160 + journey.trace.length * 38 + bundle.sealed.length).u8(FrameType.bundle);
  return writeJourney(writer, journey)
    .sizedBytes(encodeBundleHeader(bundle.header))
    .bytes(bundle.sealed)
    .finish();
}

/** `sealed` is a copy owned by the caller. */
export function decodeBundleFrame(frame: Uint8Array): { bundle: Bundle; journey: Journey } {
  const reader = frameReader(frame, FrameType.bundle);
  const journey = readJourney(reader);
  const headerBytes = reader.sizedBytes(BUNDLE_HEADER_MAX);
  const header = decodeBundleHeader(headerBytes);
  const sealed = reader.rest().slice();
  return {
    bundle: { id: bundleIdOf(headerBytes, sealed), header, sealed },
    journey: within(journey, header),
  };
}

/** An offer of a bundle too large for one frame. */
export interface Offer {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly journey: Journey;
  readonly sealedBytes: number;
  /** One sum for each block of the sealed bytes, in order. Undefined: the neighbour told none. */
  readonly sums?: Uint8Array | undefined;
}

export const blocksIn = (sealedBytes: number): number => Math.ceil(sealedBytes / BLOCK_BYTES);
/** What the sums of a bundle add to an offer. */
export const sumsBytes = (sealedBytes: number): number => 1 + blocksIn(sealedBytes) * BLOCK_SUM_BYTES;
/** Names the size of a block on the wire. */
const BLOCK_SIZE_LOG2 = Math.log2(BLOCK_BYTES);

/** The sum of one block. Owned by the caller. */
export const blockSum = (block: Uint8Array): Uint8Array => sha256(block).subarray(0, BLOCK_SUM_BYTES);

/** OFFER: type | bundle id 16 | journey | header (sized) | length of the sealed bytes (varint) [| log2 of the block's size u8 | sums]. */
export function encodeOffer(offer: Offer): Uint8Array {
  const { sealedBytes, sums } = offer;
  const writer = new Writer(160 + (sums?.length ?? 0)).u8(FrameType.offer).bytes(idBytes(offer.id));
  writeJourney(writer, offer.journey).sizedBytes(encodeBundleHeader(offer.header)).varint(sealedBytes);
  if (sums !== undefined) writer.u8(BLOCK_SIZE_LOG2).bytes(sums);
  return writer.finish();
}

export function decodeOffer(frame: Uint8Array): Offer {
  const reader = frameReader(frame, FrameType.offer);
  const id = formatBundleId(reader.bytes(BUNDLE_ID_BYTES));
  const journey = readJourney(reader);
  const header = decodeBundleHeader(reader.sizedBytes(BUNDLE_HEADER_MAX));
  const sealedBytes = reader.varint();
  if (sealedBytes === 0 || sealedBytes > SEALED_BYTES_MAX)
    throw decodeError(`offer of ${sealedBytes} sealed bytes`);
  return { id, header, journey: within(journey, header), sealedBytes, sums: readSums(reader, sealedBytes) };
}

/** Those over blocks of another size are of a later version, and as good as none. */
function readSums(reader: Reader, sealedBytes: number): Uint8Array | undefined {
  if (reader.remaining < sumsBytes(sealedBytes) || reader.u8() !== BLOCK_SIZE_LOG2) return undefined;
  return reader.bytes(blocksIn(sealedBytes) * BLOCK_SUM_BYTES).slice();
}

/** No neighbour can give a bundle more life than its source did. */
const within = (journey: Journey, { lifetimeMs }: BundleHeader): Journey =>
  journey.remainingMs <= lifetimeMs ? journey : { ...journey, remainingMs: lifetimeMs };

/** WANT: type | bundle id 16 | offset (varint) | length (varint): credit for the bytes [offset, offset + length). */
export const encodeWant = (id: BundleId, offset: number, length: number): Uint8Array =>
  new Writer(32).u8(FrameType.want).bytes(idBytes(id)).varint(offset).varint(length).finish();

export function decodeWant(frame: Uint8Array): { id: BundleId; offset: number; length: number } {
  const reader = frameReader(frame, FrameType.want);
  return {
    id: formatBundleId(reader.bytes(BUNDLE_ID_BYTES)),
    offset: reader.varint(),
    length: reader.varint(),
  };
}

/** What stands before the bytes of a chunk, at most. */
export const CHUNK_HEAD_BYTES_MAX = 32;

/** CHUNK: type | bundle id 16 | offset (varint) | bytes to the end. With `into`, which has room for it, at the beginning of that. */
export const encodeChunk = (id: BundleId, offset: number, bytes: Uint8Array, into?: Uint8Array): Uint8Array =>
  new Writer(into ?? CHUNK_HEAD_BYTES_MAX + bytes.length)
    .u8(FrameType.chunk)
    .bytes(idBytes(id))
    .varint(offset)
    .bytes(bytes)
    .finish();

/** `bytes` shares the frame's memory. */
export function decodeChunk(frame: Uint8Array): { id: BundleId; offset: number; bytes: Uint8Array } {
  const reader = frameReader(frame, FrameType.chunk);
  return { id: formatBundleId(reader.bytes(BUNDLE_ID_BYTES)), offset: reader.varint(), bytes: reader.rest() };
}

/** CUSTODY-ACK: type | bundle ids, 16 bytes each, to the end. The receiver holds them durably (or needs them no more). */
export function encodeCustodyAck(ids: readonly BundleId[]): Uint8Array {
  const writer = new Writer(1 + ids.length * BUNDLE_ID_BYTES).u8(FrameType.custodyAck);
  for (const id of ids) writer.bytes(idBytes(id));
  return writer.finish();
}

export function decodeCustodyAck(frame: Uint8Array): BundleId[] {
  const reader = frameReader(frame, FrameType.custodyAck);
  const ids: BundleId[] = [];
  while (reader.remaining >= BUNDLE_ID_BYTES) ids.push(formatBundleId(reader.bytes(BUNDLE_ID_BYTES)));
  return ids;
}

/** Why a neighbour does not take a bundle. Append-only. */
export const RefuseReason = {
  full: 1,
  quota: 2,
  storeFailed: 3,
  damaged: 4,
  expired: 5,
  blocked: 6,
  busy: 7,
  senders: 8,
} as const;
export const refuseReasonNames: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(RefuseReason).map(([name, code]) => [code, name]),
);

/** CUSTODY-REFUSE: type | bundle id 16 | reason u8 | retry after (varint, ms). */
export const encodeCustodyRefuse = (id: BundleId, reason: number, retryAfterMs: number): Uint8Array =>
  new Writer(32).u8(FrameType.custodyRefuse).bytes(idBytes(id)).u8(reason).varint(retryAfterMs).finish();

export function decodeCustodyRefuse(frame: Uint8Array): {
  id: BundleId;
  reason: number;
  retryAfterMs: number;
} {
  const reader = frameReader(frame, FrameType.custodyRefuse);
  return {
    id: formatBundleId(reader.bytes(BUNDLE_ID_BYTES)),
    reason: reader.u8(),
    retryAfterMs: reader.varint(),
  };
}
