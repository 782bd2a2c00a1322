/**
 * Frames of the routing protocol between two neighbours: updates, acknowledgements, sequence number requests, digests,
 * resyncs, node records, and the beacons of slow links. Pure. docs/protocol/routing.md draws every one of them.
 * Decoders skip bytes behind the fields they know, except in a table update, whose entries run to the end of the frame.
 */
import { NODE_ID_BYTES, type NodeId } from "../kernel/ids.ts";
import { FrameType, RECORD_BYTES_MAX, type Bottleneck } from "./constants.ts";
import { decodeError, Writer, type Reader } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";

/** A metric of this value or more means unreachable; finite metrics are 0..2^32-2, in units of 0.1 ms. */
export const METRIC_INFINITE = 0xffff_ffff;
export const MTU_MAX = 0xffff;
export const SEQNO_MAX = 2 ** 48 - 1;
export const RECORD_HASH_BYTES = 8;
export const SIGNATURE_BYTES = 64;
export const DIGEST_BUCKETS = 16;
export const ALL_BUCKETS = 0xffff;

/** Second byte of a routeUpdate frame; others are skipped. */
export const UpdateKind = {
  table: 0,
  beacon: 1,
  proof: 2,
  pathQuestion: 3,
  pathAnswer: 4,
  pathGone: 5,
} as const;

/** Bits that name planes in masks. */
export const PLANE_ANY = 1;
export const PLANE_BULK = 2;

const FLAG_ANY = 1;
const FLAG_BULK = 2;
/** The bulk route equals the any route in every field, which then stand once. */
const FLAG_SHARED = 4;
const FLAG_PROOF = 8;

export const UPDATE_HEADER_BYTES = 12;
const PLANE_BYTES_MAX = 6 + 5 + 3;
export const PROOF_BYTES = 6 + RECORD_HASH_BYTES + SIGNATURE_BYTES;
export const UPDATE_ENTRY_BYTES_MAX = NODE_ID_BYTES + 1 + 2 * PLANE_BYTES_MAX + PROOF_BYTES;
/** Largest beacon, in bytes: what a slow link's airtime allows. */
export const BEACON_BYTES_MAX = 40;

/** What one neighbour says about one destination on one plane. Immutable, so that planes can share it. */
export interface PlaneRoute {
  /** Boot epoch (24 bits) and counter (24 bits) of the originator. */
  readonly seqno: number;
  /** 0.1 ms units; METRIC_INFINITE: unreachable. */
  readonly metric: number;
  /** Smallest frame limit of the path, bytes, 0..65535. */
  readonly mtu: number;
  readonly bottleneck: Bottleneck;
}

export const UNREACHABLE: PlaneRoute = { seqno: 0, metric: METRIC_INFINITE, mtu: 0, bottleneck: 2 };

/** The originator's signature over one of its sequence numbers and the hash of its node record. */
export interface SeqnoProof {
  readonly seqno: number;
  /** First 8 bytes of SHA-256 of the node record; zeros when the originator has none. */
  readonly recordHash: Uint8Array;
  readonly signature: Uint8Array;
}

const SIGNING_DOMAIN = new TextEncoder().encode("godwit route seqno 1");

/** What a proof signs. */
export function seqnoSigningBytes(
  network: string,
  destination: NodeId,
  seqno: number,
  recordHash: Uint8Array,
): Uint8Array {
  return new Writer(128)
    .sizedBytes(SIGNING_DOMAIN)
    .text(network)
    .nodeId(destination)
    .u48(seqno)
    .bytes(recordHash)
    .finish();
}

/** A table update under construction. `tag` is the one the receiver gave out in its last resync frame. */
export function beginUpdate(tag: number, serial: number, capacity: number): Writer {
  return new Writer(capacity).u8(FrameType.routeUpdate).u8(UpdateKind.table).u32(tag).u48(serial);
}

/** Whole state of one destination: a plane that is not reachable here is a retraction of it. */
export function appendUpdateEntry(
  writer: Writer,
  destination: NodeId,
  any: PlaneRoute,
  bulk: PlaneRoute,
  proof: SeqnoProof | undefined,
): void {
  const hasAny = any.metric < METRIC_INFINITE;
  const hasBulk = bulk.metric < METRIC_INFINITE;
  const isShared = hasAny && hasBulk && isSameRoute(any, bulk);
  writer
    .nodeId(destination)
    .u8(
      (hasAny ? FLAG_ANY | (any.bottleneck << 4) : 0) |
        (hasBulk ? FLAG_BULK | (bulk.bottleneck << 6) : 0) |
        (isShared ? FLAG_SHARED : 0) |
        (proof !== undefined ? FLAG_PROOF : 0),
    );
  if (hasAny) writer.u48(any.seqno).varint(any.metric).varint(any.mtu);
  if (hasBulk && !isShared) writer.u48(bulk.seqno).varint(bulk.metric).varint(bulk.mtu);
  if (proof !== undefined) appendProof(writer, proof);
}

export const isSameRoute = (a: PlaneRoute, b: PlaneRoute): boolean =>
  a === b ||
  (a.metric === b.metric && a.seqno === b.seqno && a.mtu === b.mtu && a.bottleneck === b.bottleneck);

export interface UpdateHeader {
  readonly kind: number;
  readonly tag: number;
  readonly serial: number;
  /** Stands before the first entry: pass it to `readUpdateEntry` until nothing remains. */
  readonly entries: Reader;
}

export interface UpdateEntry {
  readonly destination: NodeId;
  readonly any: PlaneRoute;
  readonly bulk: PlaneRoute;
  /** Its byte fields share the frame's memory. */
  readonly proof: SeqnoProof | undefined;
}

export const updateKind = (frame: Uint8Array): number => {
  const reader = frameReader(frame, FrameType.routeUpdate);
  return reader.u8();
};

export function decodeUpdateHeader(frame: Uint8Array): UpdateHeader {
  const reader = frameReader(frame, FrameType.routeUpdate);
  return { kind: reader.u8(), tag: reader.u32(), serial: reader.u48(), entries: reader };
}

export function readUpdateEntry(reader: Reader): UpdateEntry {
  const destination = reader.nodeId();
  const flags = reader.u8();
  const hasBulk = (flags & FLAG_BULK) !== 0;
  const isShared = (flags & FLAG_SHARED) !== 0;
  if (isShared && (flags & (FLAG_ANY | FLAG_BULK)) !== (FLAG_ANY | FLAG_BULK))
    throw decodeError("route entry shares a plane that it does not have");
  const any = (flags & FLAG_ANY) !== 0 ? readPlane(reader, (flags >> 4) & 3) : UNREACHABLE;
  if (isShared && flags >> 6 !== ((flags >> 4) & 3))
    throw decodeError("route entry shares a plane but not its class");
  const bulk = !hasBulk ? UNREACHABLE : isShared ? any : readPlane(reader, flags >> 6);
  if (hasBulk && bulk.bottleneck === 2) throw decodeError("route entry offers bulk over a slow path");
  return { destination, any, bulk, proof: (flags & FLAG_PROOF) !== 0 ? readProof(reader) : undefined };
}

function readPlane(reader: Reader, bottleneck: number): PlaneRoute {
  if (bottleneck === 3) throw decodeError("route entry has an unknown bottleneck class");
  const seqno = reader.u48();
  const metric = reader.varint();
  const mtu = reader.varint();
  if (metric >= METRIC_INFINITE) throw decodeError(`metric ${metric} is not below 2^32-1`);
  if (mtu > MTU_MAX) throw decodeError(`mtu ${mtu} is above ${MTU_MAX}`);
  return { seqno, metric, mtu, bottleneck: bottleneck as Bottleneck };
}

export const appendProof = (writer: Writer, proof: SeqnoProof): Writer =>
  writer.u48(proof.seqno).bytes(proof.recordHash).bytes(proof.signature);

export const readProof = (reader: Reader): SeqnoProof => ({
  seqno: reader.u48(),
  recordHash: reader.bytes(RECORD_HASH_BYTES),
  signature: reader.bytes(SIGNATURE_BYTES),
});

export interface RouteAck {
  readonly tag: number;
  readonly serial: number;
}

export const encodeRouteAck = ({ tag, serial }: RouteAck): Uint8Array =>
  new Writer(11).u8(FrameType.routeAck).u32(tag).u48(serial).finish();

export function decodeRouteAck(frame: Uint8Array): RouteAck {
  const reader = frameReader(frame, FrameType.routeAck);
  return { tag: reader.u32(), serial: reader.u48() };
}

export interface SeqnoRequest {
  readonly tag: number;
  readonly destination: NodeId;
  /** The smallest sequence number that helps the one who asks. */
  readonly seqno: number;
  /** PLANE_ANY | PLANE_BULK. */
  readonly planes: number;
  readonly hopsLeft: number;
}

export const encodeSeqnoRequest = (request: SeqnoRequest): Uint8Array =>
  new Writer(45)
    .u8(FrameType.seqnoRequest)
    .u32(request.tag)
    .nodeId(request.destination)
    .u48(request.seqno)
    .u8(request.planes)
    .u8(request.hopsLeft)
    .finish();

export function decodeSeqnoRequest(frame: Uint8Array): SeqnoRequest {
  const reader = frameReader(frame, FrameType.seqnoRequest);
  return {
    tag: reader.u32(),
    destination: reader.nodeId(),
    seqno: reader.u48(),
    planes: reader.u8() & (PLANE_ANY | PLANE_BULK),
    hopsLeft: reader.u8(),
  };
}

export interface RouteDigest {
  readonly tag: number;
  /** Serial of the newest update sent to this neighbour. */
  readonly serial: number;
  /** DIGEST_BUCKETS sums of `entryDigest`, modulo 2^32. */
  readonly sums: Uint32Array;
}

export function encodeRouteDigest({ tag, serial, sums }: RouteDigest): Uint8Array {
  const writer = new Writer(11 + 4 * DIGEST_BUCKETS).u8(FrameType.routeDigest).u32(tag).u48(serial);
  for (const sum of sums) writer.u32(sum);
  return writer.finish();
}

export function decodeRouteDigest(frame: Uint8Array): RouteDigest {
  const reader = frameReader(frame, FrameType.routeDigest);
  const tag = reader.u32();
  const serial = reader.u48();
  const sums = new Uint32Array(DIGEST_BUCKETS);
  for (let bucket = 0; bucket < DIGEST_BUCKETS; bucket++) sums[bucket] = reader.u32();
  return { tag, serial, sums };
}

const stir = (hash: number, word: number): number => {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
};

/** Folds the first 16 bytes of an id, as four big-endian words. */
export function destinationDigest(id: Uint8Array): number {
  let hash = 0x811c9dc5;
  // No view: it would give the bytes of every id that is held a buffer object of their own.
  for (let at = 0; at < 16; at += 4)
    hash = stir(hash, (id[at]! << 24) | (id[at + 1]! << 16) | (id[at + 2]! << 8) | id[at + 3]!);
  return hash;
}

/** Hash of one destination's advertised state; 0 when no plane is reachable, so that the absent and the retracted agree. */
export function entryDigest(destinationHash: number, any: PlaneRoute, bulk: PlaneRoute): number {
  if (any.metric === METRIC_INFINITE && bulk.metric === METRIC_INFINITE) return 0;
  return stirRoute(stirRoute(destinationHash, any), bulk) >>> 0;
}

function stirRoute(hash: number, route: PlaneRoute): number {
  if (route.metric === METRIC_INFINITE) return stir(hash, 0);
  const withSeqno = stir(stir(hash, Math.floor(route.seqno / 2 ** 32)), (route.seqno % 2 ** 32) | 0);
  return stir(stir(withSeqno, route.metric), (route.mtu << 8) | (route.bottleneck + 1));
}

export interface RouteResync {
  /** Bit n asks for bucket n (the low four bits of the destination's first byte). */
  readonly buckets: number;
  /** The tag that frames to the sender of this must carry; never 0. */
  readonly ownTag: number;
  /** The receiver's tag as the sender knows it; 0 when it does not yet. */
  readonly peerTag: number;
}

export const encodeRouteResync = ({ buckets, ownTag, peerTag }: RouteResync): Uint8Array =>
  new Writer(11).u8(FrameType.routeResync).u16(buckets).u32(ownTag).u32(peerTag).finish();

export function decodeRouteResync(frame: Uint8Array): RouteResync {
  const reader = frameReader(frame, FrameType.routeResync);
  const resync = { buckets: reader.u16(), ownTag: reader.u32(), peerTag: reader.u32() };
  if (resync.ownTag === 0) throw decodeError("resync without a tag");
  return resync;
}

export interface RecordRequest {
  readonly destination: NodeId;
  /** 8 bytes. Shares the frame's memory when decoded. */
  readonly recordHash: Uint8Array;
}

export const encodeRecordRequest = ({ destination, recordHash }: RecordRequest): Uint8Array =>
  new Writer(41).u8(FrameType.recordRequest).nodeId(destination).bytes(recordHash).finish();

export function decodeRecordRequest(frame: Uint8Array): RecordRequest {
  const reader = frameReader(frame, FrameType.recordRequest);
  return { destination: reader.nodeId(), recordHash: reader.bytes(RECORD_HASH_BYTES) };
}

export interface RecordReply {
  readonly destination: NodeId;
  /** The signed node record, not yet verified. Shares the frame's memory when decoded. */
  readonly record: Uint8Array;
}

export const encodeRecordReply = ({ destination, record }: RecordReply): Uint8Array =>
  new Writer(40 + record.length).u8(FrameType.record).nodeId(destination).sizedBytes(record).finish();

export function decodeRecordReply(frame: Uint8Array): RecordReply {
  const reader = frameReader(frame, FrameType.record);
  return { destination: reader.nodeId(), record: reader.sizedBytes(RECORD_BYTES_MAX) };
}

/** What a node says about itself on a slow link; the session authenticates it, so it carries no signature. */
export interface Beacon {
  readonly seqno: number;
  /** The sender holds the receiver's proof for the receiver's newest sequence number known here. */
  readonly hasProof: boolean;
  /** Cost from the sender into the faster mesh, 0.1 ms units; undefined: the sender is no gateway. */
  readonly gatewayMetric: number | undefined;
  /** The receiver's beacon on this link is missing here, or not what is heard of it: it shall say it again. */
  readonly wantsBeacon?: boolean;
}

const BEACON_GATEWAY = 1;
const BEACON_HAS_PROOF = 2;
const BEACON_WANTED = 4;

export function encodeBeacon({ seqno, hasProof, gatewayMetric, wantsBeacon = false }: Beacon): Uint8Array {
  const writer = new Writer(BEACON_BYTES_MAX)
    .u8(FrameType.routeUpdate)
    .u8(UpdateKind.beacon)
    .u8(
      (gatewayMetric !== undefined ? BEACON_GATEWAY : 0) |
        (hasProof ? BEACON_HAS_PROOF : 0) |
        (wantsBeacon ? BEACON_WANTED : 0),
    )
    .u48(seqno);
  if (gatewayMetric !== undefined) writer.varint(gatewayMetric);
  return writer.finish();
}

export function decodeBeacon(frame: Uint8Array): Beacon {
  const reader = kindReader(frame, UpdateKind.beacon);
  const flags = reader.u8();
  const seqno = reader.u48();
  const gatewayMetric = (flags & BEACON_GATEWAY) !== 0 ? reader.varint() : undefined;
  if (gatewayMetric !== undefined && gatewayMetric >= METRIC_INFINITE)
    throw decodeError("beacon has an infinite gateway metric");
  return {
    seqno,
    hasProof: (flags & BEACON_HAS_PROOF) !== 0,
    gatewayMetric,
    wantsBeacon: (flags & BEACON_WANTED) !== 0,
  };
}

export interface ProofFrame {
  /** `sender`: for a gateway that speaks for it in the faster mesh. `receiver`: it has forgotten how far it had counted. */
  readonly of: "sender" | "receiver";
  readonly proof: SeqnoProof;
}

export const encodeProofFrame = ({ of, proof }: ProofFrame): Uint8Array =>
  appendProof(
    new Writer(3 + PROOF_BYTES)
      .u8(FrameType.routeUpdate)
      .u8(UpdateKind.proof)
      .u8(of === "sender" ? 0 : 1),
    proof,
  ).finish();

/** Byte fields share the frame's memory. */
export function decodeProofFrame(frame: Uint8Array): ProofFrame {
  const reader = kindReader(frame, UpdateKind.proof);
  const of = reader.u8();
  if (of > 1) throw decodeError("proof of neither sender nor receiver");
  return { of: of === 0 ? "sender" : "receiver", proof: readProof(reader) };
}

/** Behind the kind. Throws GODWIT_DECODE for another one. */
export function kindReader(frame: Uint8Array, kind: number): Reader {
  const reader = frameReader(frame, FrameType.routeUpdate);
  const found = reader.u8();
  if (found !== kind) throw decodeError(`update kind ${found}, expected ${kind}`);
  return reader;
}
