/**
 * Questions for names and records over slow links, and their answers. Pure. docs/protocol/slow.md "Asking for names" draws them:
 *
 *   lookup       | 0x17 | flags | subject | sequence u48, with flag bit 2 |
 *   lookupReply  | 0x18 | kind | ... |
 */
import type { NodeId } from "../kernel/ids.ts";
import { decodeError, type Reader, Writer } from "./bytes.ts";
import { FrameType, RECORD_BYTES_MAX } from "./constants.ts";
import { frameReader } from "./peer-messages.ts";

/** What a question is about: the lowest two bits of its flags. Others are skipped. */
export const LookupSubject = { node: 0, name: 1 } as const;
/** Second byte of a reply. Others are skipped. */
export const LookupReplyKind = { record: 0, nameProof: 1, none: 2 } as const;

const SUBJECT_BITS = 3;
const FLAG_NEWER = 4;
const FLAG_PROOF = 8;
const HOPS_SHIFT = 4;
/** Of a question, how far it may be asked on. */
export const LOOKUP_HOPS_MAX = 15;
/** Of a callsign, bytes. */
export const LOOKUP_NAME_BYTES_MAX = 17;
const SIGNATURE_BYTES = 64;

/** A node, or a callsign or location in canonical form. */
export type Subject =
  { readonly kind: "node"; readonly id: NodeId } | { readonly kind: "name"; readonly name: string };

/** What one question is told by from another. */
export const subjectKey = (subject: Subject): string => (subject.kind === "node" ? subject.id : subject.name);

export interface Lookup {
  readonly subject: Subject;
  /** Only a record of a higher sequence is of use. */
  readonly newerThan?: number | undefined;
  /** The asker takes names of its authority alone. */
  readonly wantsProof: boolean;
  /** Whoever does not know asks on, so many times in a row: 0 to 15; absent: 0. */
  readonly hopsLeft?: number | undefined;
}

export type LookupReply =
  /** The record is not verified, and shares the memory of the frame. */
  | { readonly kind: "record"; readonly record: Uint8Array }
  | {
      readonly kind: "nameProof";
      readonly id: NodeId;
      readonly callsign: string;
      readonly serial: number;
      readonly signature: Uint8Array;
    }
  /** Nothing that would answer it is known. */
  | { readonly kind: "none"; readonly subject: Subject };

/** Throws GODWIT_ENCODE for a sequence beyond 48 bits. */
export function encodeLookup({ subject, newerThan, wantsProof, hopsLeft = 0 }: Lookup): Uint8Array {
  const flags =
    (newerThan === undefined ? 0 : FLAG_NEWER) | (wantsProof ? FLAG_PROOF : 0) | (hopsLeft << HOPS_SHIFT);
  const writer = new Writer(48).u8(FrameType.lookup).u8(LookupSubject[subject.kind] | flags);
  appendSubject(writer, subject);
  if (newerThan !== undefined) writer.u48(newerThan);
  return writer.finish();
}

/** Undefined: it is about something that a later version knows. Throws GODWIT_DECODE. */
export function decodeLookup(frame: Uint8Array): Lookup | undefined {
  const reader = frameReader(frame, FrameType.lookup);
  const flags = reader.u8();
  const subject = readSubject(reader, flags & SUBJECT_BITS);
  if (subject === undefined) return undefined;
  const newerThan = (flags & FLAG_NEWER) === 0 ? undefined : reader.u48();
  const hopsLeft = flags >> HOPS_SHIFT;
  const told = { subject, newerThan, wantsProof: (flags & FLAG_PROOF) !== 0 };
  return hopsLeft === 0 ? told : { ...told, hopsLeft };
}

export function encodeLookupReply(reply: LookupReply): Uint8Array {
  const writer = new Writer(192).u8(FrameType.lookupReply).u8(LookupReplyKind[reply.kind]);
  switch (reply.kind) {
    case "record":
      return writer.sizedBytes(reply.record).finish();
    case "nameProof":
      return writer.nodeId(reply.id).text(reply.callsign).u32(reply.serial).bytes(reply.signature).finish();
    case "none":
      appendSubject(writer.u8(LookupSubject[reply.subject.kind]), reply.subject);
      return writer.finish();
  }
}

/** Undefined: of a kind, or about something, that a later version knows. Throws GODWIT_DECODE. */
export function decodeLookupReply(frame: Uint8Array): LookupReply | undefined {
  const reader = frameReader(frame, FrameType.lookupReply);
  switch (reader.u8()) {
    case LookupReplyKind.record:
      return { kind: "record", record: reader.sizedBytes(RECORD_BYTES_MAX) };
    case LookupReplyKind.nameProof:
      return {
        kind: "nameProof",
        id: reader.nodeId(),
        callsign: readName(reader),
        serial: reader.u32(),
        signature: reader.bytes(SIGNATURE_BYTES),
      };
    case LookupReplyKind.none: {
      const subject = readSubject(reader, reader.u8() & SUBJECT_BITS);
      return subject === undefined ? undefined : { kind: "none", subject };
    }
    default:
      return undefined;
  }
}

function appendSubject(writer: Writer, subject: Subject): void {
  if (subject.kind === "node") writer.nodeId(subject.id);
  else writer.text(subject.name);
}

function readSubject(reader: Reader, kind: number): Subject | undefined {
  if (kind === LookupSubject.node) return { kind: "node", id: reader.nodeId() };
  if (kind === LookupSubject.name) return { kind: "name", name: readName(reader) };
  return undefined;
}

/** Canonical: what means one thing is said in one way. */
function readName(reader: Reader): string {
  const name = reader.text(LOOKUP_NAME_BYTES_MAX);
  if (!/^[A-Z0-9]{2,8}(-[A-Z0-9]{1,8})?$/.test(name)) throw decodeError("that is no callsign or location");
  return name;
}
