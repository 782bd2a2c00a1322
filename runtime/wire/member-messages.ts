/**
 * Frames of membership between two neighbours, and the routed ping and pong. Pure. docs/protocol/membership.md draws
 * every one of them. Entries carry their length, so that later versions can add kinds; unknown ones are skipped.
 */
import type { NodeId } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";
import { FrameType } from "./constants.ts";
import { frameReader } from "./peer-messages.ts";

export const MemberEntryKind = { alive: 1, left: 2, accusation: 3 } as const;
export const AccusationReason = { closed: 1, silent: 2, unanswered: 3 } as const;
export type AccusationReasonCode = (typeof AccusationReason)[keyof typeof AccusationReason];

export const MEMBER_SIGNATURE_BYTES = 64;
export const MEMBER_NONCE_BYTES = 8;
export const MEMBER_CHILDREN = 16;
/** Nibbles of a prefix; a bucket of this depth is a leaf whatever it holds. */
export const MEMBER_DEPTH_MAX = 8;
export const INCARNATION_MAX = 2 ** 48 - 1;

/** What a node says of itself, signed by its own key. Nobody else can make one. */
export interface MemberFact {
  readonly kind: typeof MemberEntryKind.alive | typeof MemberEntryKind.left;
  readonly node: NodeId;
  /** Boot epoch (24 bits) and counter (24 bits); only the node itself raises it. */
  readonly incarnation: number;
  readonly signature: Uint8Array;
}

/** What a former neighbour claims of a node, signed by the accuser. A claim, never a state. */
export interface Accusation {
  readonly kind: typeof MemberEntryKind.accusation;
  readonly node: NodeId;
  readonly incarnation: number;
  readonly reason: number;
  readonly accuser: NodeId;
  readonly signature: Uint8Array;
}

export type MemberEntry = MemberFact | Accusation;

const SIGNING_DOMAIN = new TextEncoder().encode("godwit member 1");
const PONG_DOMAIN = new TextEncoder().encode("godwit member pong 1");

/** What the signature of an entry covers. */
export function memberSigningBytes(
  network: string,
  entry: Omit<MemberFact, "signature"> | Omit<Accusation, "signature">,
): Uint8Array {
  const writer = new Writer(160)
    .sizedBytes(SIGNING_DOMAIN)
    .text(network)
    .u8(entry.kind)
    .nodeId(entry.node)
    .u48(entry.incarnation);
  if (entry.kind === MemberEntryKind.accusation) writer.u8(entry.reason).nodeId(entry.accuser);
  return writer.finish();
}

/** What a pong signs: that the node lived when it saw this nonce. */
export const pongSigningBytes = (network: string, node: NodeId, nonce: Uint8Array): Uint8Array =>
  new Writer(128).sizedBytes(PONG_DOMAIN).text(network).nodeId(node).bytes(nonce).finish();

export function appendMemberEntry(writer: Writer, entry: MemberEntry): void {
  const isAccusation = entry.kind === MemberEntryKind.accusation;
  writer.u8(entry.kind).varint(38 + MEMBER_SIGNATURE_BYTES + (isAccusation ? 33 : 0));
  writer.nodeId(entry.node).u48(entry.incarnation);
  if (isAccusation) writer.u8(entry.reason).nodeId(entry.accuser);
  writer.bytes(entry.signature);
}

/** Copies what it answers; undefined: a kind of a later version. */
export function readMemberEntry(reader: Reader): MemberEntry | undefined {
  const kind = reader.u8();
  const body = new Reader(reader.sizedBytes(1_024));
  if (kind !== MemberEntryKind.alive && kind !== MemberEntryKind.left && kind !== MemberEntryKind.accusation)
    return undefined;
  const node = body.nodeId();
  const incarnation = body.u48();
  if (kind !== MemberEntryKind.accusation)
    return { kind, node, incarnation, signature: body.bytes(MEMBER_SIGNATURE_BYTES).slice() };
  const reason = body.u8();
  const accuser = body.nodeId();
  return { kind, node, incarnation, reason, accuser, signature: body.bytes(MEMBER_SIGNATURE_BYTES).slice() };
}

/** Part of the id space: the first `depth` nibbles of `prefix`, whose other bits are zero. */
export interface MemberPrefix {
  readonly depth: number;
  readonly prefix: number;
}

export interface MemberFactsFrame {
  /** Found by comparing digests: the receiver compares on with its other neighbours instead of passing it on. */
  readonly isRepair: boolean;
  readonly entries: readonly MemberEntry[];
}

export function encodeMemberFacts({ isRepair, entries }: MemberFactsFrame): Uint8Array {
  const writer = new Writer(16 + entries.length * 110).u8(FrameType.memberFacts).u8(isRepair ? 1 : 0);
  for (const entry of entries) appendMemberEntry(writer, entry);
  return writer.finish();
}

export function decodeMemberFacts(frame: Uint8Array): MemberFactsFrame {
  const reader = frameReader(frame, FrameType.memberFacts);
  return { isRepair: (reader.u8() & 1) !== 0, entries: readEntries(reader) };
}

export const encodeMemberDigest = (sum: number): Uint8Array =>
  new Writer(5).u8(FrameType.memberDigest).u32(sum).finish();
export const decodeMemberDigest = (frame: Uint8Array): number =>
  frameReader(frame, FrameType.memberDigest).u32();

export interface MemberBuckets extends MemberPrefix {
  /** One sum for each value of the next nibble. */
  readonly sums: Uint32Array;
}

export function encodeMemberBuckets({ depth, prefix, sums }: MemberBuckets): Uint8Array {
  const writer = new Writer(70).u8(FrameType.memberBuckets).u8(depth).u32(prefix);
  for (const sum of sums) writer.u32(sum);
  return writer.finish();
}

export function decodeMemberBuckets(frame: Uint8Array): MemberBuckets {
  const reader = frameReader(frame, FrameType.memberBuckets);
  const { depth, prefix } = readPrefix(reader, MEMBER_DEPTH_MAX - 1);
  const sums = new Uint32Array(MEMBER_CHILDREN);
  for (let child = 0; child < MEMBER_CHILDREN; child++) sums[child] = reader.u32();
  return { depth, prefix, sums };
}

/** All that the sender holds under a prefix; the receiver answers with what is newer or missing there. */
export interface MemberSync extends MemberPrefix {
  readonly entries: readonly MemberEntry[];
}

export function encodeMemberSync({ depth, prefix, entries }: MemberSync): Uint8Array {
  const writer = new Writer(16 + entries.length * 110).u8(FrameType.memberSync).u8(depth).u32(prefix);
  for (const entry of entries) appendMemberEntry(writer, entry);
  return writer.finish();
}

export function decodeMemberSync(frame: Uint8Array): MemberSync {
  const reader = frameReader(frame, FrameType.memberSync);
  return { ...readPrefix(reader, MEMBER_DEPTH_MAX), entries: readEntries(reader) };
}

export const encodeMemberQuery = (subject: NodeId): Uint8Array =>
  new Writer(33).u8(FrameType.memberQuery).nodeId(subject).finish();
export const decodeMemberQuery = (frame: Uint8Array): NodeId =>
  frameReader(frame, FrameType.memberQuery).nodeId();

export interface MemberPing {
  readonly nonce: Uint8Array;
  /** Why it is asked: so that the node can rise above what is claimed of it. */
  readonly accusation: Accusation | undefined;
}

export function encodeMemberPing({ nonce, accusation }: MemberPing): Uint8Array {
  const writer = new Writer(160).bytes(nonce);
  if (accusation !== undefined) appendMemberEntry(writer, accusation);
  return writer.finish();
}

export function decodeMemberPing(payload: Uint8Array): MemberPing {
  const reader = new Reader(payload);
  const nonce = reader.bytes(MEMBER_NONCE_BYTES).slice();
  const entry = reader.remaining > 0 ? readMemberEntry(reader) : undefined;
  return { nonce, accusation: entry?.kind === MemberEntryKind.accusation ? entry : undefined };
}

export interface MemberPong {
  readonly nonce: Uint8Array;
  readonly signature: Uint8Array;
  readonly fact: MemberFact;
}

export function encodeMemberPong({ nonce, signature, fact }: MemberPong): Uint8Array {
  const writer = new Writer(184).bytes(nonce).bytes(signature);
  appendMemberEntry(writer, fact);
  return writer.finish();
}

export function decodeMemberPong(payload: Uint8Array): MemberPong {
  const reader = new Reader(payload);
  const nonce = reader.bytes(MEMBER_NONCE_BYTES).slice();
  const signature = reader.bytes(MEMBER_SIGNATURE_BYTES).slice();
  const fact = readMemberEntry(reader);
  if (fact?.kind !== MemberEntryKind.alive) throw decodeError("pong without the node's own fact");
  return { nonce, signature, fact };
}

function readEntries(reader: Reader): MemberEntry[] {
  const entries: MemberEntry[] = [];
  while (reader.remaining > 0) {
    const entry = readMemberEntry(reader);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

function readPrefix(reader: Reader, depthMax: number): MemberPrefix {
  const depth = reader.u8();
  const prefix = reader.u32();
  if (depth > depthMax) throw decodeError(`prefix of ${depth} nibbles, at most ${depthMax} allowed`);
  if (depth < 8 && prefix % 2 ** (32 - 4 * depth) !== 0)
    throw decodeError("prefix has bits behind its length");
  return { depth, prefix };
}
