/**
 * Node records: what a node says about itself, signed, at most 1,000 bytes, carried by everything that spreads facts.
 * Owns their encoding, verification and precedence. Pure: no I/O, no clock. A record is a hint about endpoints and a
 * claim to a name; only the handshake proves a node, and names.ts decides about names. docs/protocol/records.md draws it.
 */
import { createHash } from "node:crypto";
import { assert, godwitError } from "../kernel/errors.ts";
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { concatBytes, decodeError, Reader, Writer } from "../wire/bytes.ts";
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, RECORD_BYTES_MAX } from "../wire/constants.ts";
import {
  CALLSIGN_CHARS_MAX,
  LOCATION_CHARS_MAX,
  locationOf,
  parseCallsign,
  parseLocation,
} from "./address.ts";
import { decodeAbilities, encodeAbilities } from "./abilities.ts";
import { DH_KEY_BYTES, SIGNATURE_BYTES, type Identity } from "./keys.ts";

export { COMPACT_MAIL, MAIL_SESSIONS, PROTOCOL_CAPABILITIES } from "./abilities.ts";

export const RECORD_VERSION = 1;
export const RECORD_HASH_BYTES = 8;
export const SEQUENCE_MAX = 2 ** 48 - 1;
export const ENDPOINTS_MAX = 16;
export const ENDPOINT_CHARS_MAX = 200;
export const CAPABILITIES_MAX = 16;
export const CAPABILITY_CHARS_MAX = 32;
/** UTF-8 bytes of why a node was revoked: the whole revocation still fits one frame of a slow link. */
export const REVOCATION_REASON_BYTES_MAX = 64;

/** Append-only; a receiver skips what it does not know. */
export const RecordField = {
  callsign: 1,
  location: 2,
  endpoint: 3,
  capability: 4,
  prekey: 5,
  nameProof: 6,
  signer: 7,
  reason: 8,
  brief: 9,
  abilities: 10,
} as const;

const FLAG_REVOKED = 1;
export const FLAG_BRIEF = 2;
/** Fields of a brief record that are no copies of others, bytes: all of it fits one packet of a slow link. */
export const BRIEF_EXTRA_BYTES_MAX = 20;

/** A rotating X25519 key that mail may be sealed to. `keyId` is never 0: that one means the identity key. */
export interface Prekey {
  readonly keyId: number;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** The name authority's word that a callsign belongs to a node. Of two for one callsign the higher serial counts. */
export interface NameProof {
  readonly serial: number;
  /** 64 bytes. */
  readonly signature: Uint8Array;
}

export interface RecordFields {
  /** 48 bits; a newer record has a higher one. Persist it before the record leaves. */
  readonly sequence: number;
  readonly callsign?: string | undefined;
  /** For a node without callsign; with one it is the callsign's own and not sent. */
  readonly location?: string | undefined;
  /** Most useful first: those that do not fit are left out from the end. */
  readonly endpoints?: readonly string[];
  /** Kebab-case words. */
  readonly capabilities?: readonly string[];
  readonly prekey?: Prekey | undefined;
  readonly nameProof?: NameProof | undefined;
  /** Signs a brief record as well, which others make of this one where a link has no room for more. */
  readonly withBrief?: boolean;
}

/** What signs a record: an identity, or the stand-in of a simulation. */
export type Signer = Pick<Identity, "id" | "sign">;

export interface NodeRecord {
  readonly id: NodeId;
  readonly sequence: number;
  /** The node must not be used any more, for good. */
  readonly isRevoked: boolean;
  /** It says what the seal needs, and nothing of where the node is: another of its number says more. */
  readonly isBrief: boolean;
  /** Versions of the mesh protocol that it speaks. */
  readonly protocolMin: number;
  readonly protocolMax: number;
  readonly callsign: string | undefined;
  readonly location: string | undefined;
  readonly endpoints: readonly string[];
  readonly capabilities: readonly string[];
  readonly prekey: Prekey | undefined;
  readonly nameProof: NameProof | undefined;
  /** The node itself, or the name authority for a revocation of its. */
  readonly signer: NodeId;
  /** Of a revocation, for people; untrusted text. */
  readonly reason: string | undefined;
  /** The whole record with its signature, for passing on. A copy, owned by the record: never write to it. */
  readonly bytes: Uint8Array;
  /** As `recordHash(bytes)`. */
  readonly hash: Uint8Array;
}

export type Verify = (id: NodeId, message: Uint8Array, signature: Uint8Array) => boolean;

const sha256 = (bytes: Uint8Array | string): Uint8Array =>
  new Uint8Array(createHash("sha256").update(bytes).digest());

/** First 8 bytes of SHA-256 of the whole record: its name in routing. Owned by the caller. */
export const recordHash = (bytes: Uint8Array): Uint8Array => sha256(bytes).slice(0, RECORD_HASH_BYTES);

/** The network is signed but not sent: a record of another mesh with the same key does not verify here. */
const domain = (label: string, network: string): Writer =>
  new Writer(128).bytes(new TextEncoder().encode(`${label}\0`)).bytes(sha256(network));

const recordMessage = (body: Uint8Array, network: string): Uint8Array =>
  domain("godwit node record 1", network).bytes(body).finish();

const nameMessage = (callsign: string, id: NodeId, serial: number, network: string): Uint8Array =>
  domain("godwit name 1", network).text(callsign).nodeId(id).u32(serial).finish();

/** Signed by this node, at most 1,000 bytes, owned by the caller. Throws GODWIT_ENCODE when a field is out of bounds. */
export function encodeRecord(identity: Signer, fields: RecordFields, network: string): Uint8Array {
  const named: Uint8Array[] = [];
  if (fields.callsign !== undefined) {
    fits(parseCallsign(fields.callsign) === fields.callsign, "callsign is not canonical");
    fits(
      fields.location === undefined || fields.location === locationOf(fields.callsign),
      "location differs from that of the callsign",
    );
    named.push(field(RecordField.callsign, ascii(fields.callsign)));
  } else if (fields.location !== undefined) {
    fits(parseLocation(fields.location) === fields.location, "location is not canonical");
    named.push(field(RecordField.location, ascii(fields.location)));
  }
  const behind: Uint8Array[] = [];
  const { sequence, capabilities = [], prekey, nameProof } = fields;
  fits(capabilities.length <= CAPABILITIES_MAX, `more than ${CAPABILITIES_MAX} capabilities`);
  for (const capability of capabilities) {
    fits(isCapability(capability), `${capability} is not a capability`);
    behind.push(field(RecordField.capability, ascii(capability)));
  }
  const keys: Uint8Array[] = [];
  if (prekey !== undefined) {
    fits(prekey.keyId > 0 && prekey.publicKey.length === DH_KEY_BYTES, "prekey is malformed");
    keys.push(field(RecordField.prekey, new Writer(36).u32(prekey.keyId).bytes(prekey.publicKey).finish()));
  }
  behind.push(...keys);
  if (nameProof !== undefined) {
    fits(fields.callsign !== undefined, "a name proof needs a callsign");
    behind.push(
      field(RecordField.nameProof, new Writer(68).u32(nameProof.serial).bytes(nameProof.signature).finish()),
    );
  }
  if (fields.withBrief === true) {
    const abilities = encodeAbilities(capabilities);
    const extra = abilities.length === 0 ? abilities : field(RecordField.abilities, abilities);
    const start = [headOf(identity.id, sequence, FLAG_BRIEF), ...named, ...keys];
    const { signature } = sign(identity, [...start, extra], network);
    behind.push(field(RecordField.brief, concatBytes([extra, signature])));
  }
  const parts = [...named];
  const head = headOf(identity.id, sequence, 0);
  const size = (list: readonly Uint8Array[]) => list.reduce((total, part) => total + part.length, 0);
  let room = RECORD_BYTES_MAX - SIGNATURE_BYTES - head.length - size(parts) - size(behind);
  for (const endpoint of (fields.endpoints ?? []).slice(0, ENDPOINTS_MAX)) {
    fits(isEndpoint(endpoint), `${endpoint} is not an endpoint`);
    const part = field(RecordField.endpoint, ascii(endpoint));
    room -= part.length;
    if (room < 0) break;
    parts.push(part);
  }
  return signed(identity, [head, ...parts, ...behind], network);
}

/**
 * The last record of a node, signed by itself or, with `of`, by the name authority about another. It outranks every
 * other whatever its sequence, for good.
 */
export function encodeRevocation(signer: Signer, of: NodeId, network: string, reason = ""): Uint8Array {
  const head = headOf(of, SEQUENCE_MAX, FLAG_REVOKED);
  const parts = of === signer.id ? [] : [field(RecordField.signer, nodeIdBytes(signer.id))];
  const text = new TextEncoder().encode(reason);
  fits(
    text.length <= REVOCATION_REASON_BYTES_MAX,
    `a reason has at most ${REVOCATION_REASON_BYTES_MAX} bytes`,
  );
  if (text.length > 0) parts.push(field(RecordField.reason, text));
  return signed(signer, [head, ...parts], network);
}

/**
 * Borrows `bytes`. Throws GODWIT_DECODE unless the record is well-formed and signed by the node itself or, for a
 * revocation, by `authority`. Fields of later versions are skipped and stay in `bytes`.
 */
export function decodeRecord(
  bytes: Uint8Array,
  network: string,
  verify: Verify,
  authority?: NodeId,
): NodeRecord {
  if (bytes.length > RECORD_BYTES_MAX) throw decodeError("record is longer than 1,000 bytes");
  const bodyLength = bytes.length - SIGNATURE_BYTES;
  if (bodyLength < 0) throw decodeError("record is shorter than its signature");
  const owned = Uint8Array.from(bytes);
  const record = decodeBody(new Reader(owned.subarray(0, bodyLength)), owned);
  const { id, signer, isRevoked } = record;
  if (signer !== id && !(isRevoked && authority !== undefined && signer === authority))
    throw decodeError("record is signed by a node that has no say in it");
  const message = recordMessage(owned.subarray(0, bodyLength), network);
  if (!verify(signer, message, owned.subarray(bodyLength)))
    throw decodeError("record has a wrong signature, or belongs to another network");
  return record;
}

/** What an unverified record claims: enough to see that it cannot replace a held one. Throws GODWIT_DECODE. */
export function peekRecord(bytes: Uint8Array): NodeRecord {
  if (bytes.length > RECORD_BYTES_MAX || bytes.length < SIGNATURE_BYTES)
    throw decodeError("record has an impossible length");
  const owned = Uint8Array.from(bytes);
  return decodeBody(new Reader(owned.subarray(0, owned.length - SIGNATURE_BYTES)), owned);
}

/** Whether `candidate` replaces `held`: a revocation always, else the higher sequence, of equal ones the one that says more. */
export function isNewerRecord(candidate: NodeRecord, held: NodeRecord | undefined): boolean {
  if (held === undefined) return true;
  if (candidate.isRevoked !== held.isRevoked) return candidate.isRevoked;
  if (candidate.sequence === held.sequence) return held.isBrief && !candidate.isBrief;
  return candidate.sequence > held.sequence;
}

/** The authority's proof for one binding; goes into the record of the node. `serial` 0 to 2^32-1. */
export function signName(
  authority: Signer,
  binding: { readonly callsign: string; readonly id: NodeId; readonly serial: number },
  network: string,
): NameProof {
  const { callsign, id, serial } = binding;
  return { serial, signature: authority.sign(nameMessage(callsign, id, serial, network)) };
}

/** Whether the record carries the authority's proof for its callsign. */
export function hasNameProof(
  record: NodeRecord,
  authority: NodeId,
  network: string,
  verify: Verify,
): boolean {
  const { callsign, nameProof, id } = record;
  if (callsign === undefined || nameProof === undefined) return false;
  return hasNameGrant({ ...nameProof, callsign, id }, authority, network, verify);
}

/** Whether the authority signed that `callsign` belongs to `id`. */
export const hasNameGrant = (
  { callsign, id, serial, signature }: NameProof & { readonly callsign: string; readonly id: NodeId },
  authority: NodeId,
  network: string,
  verify: Verify,
): boolean => verify(authority, nameMessage(callsign, id, serial, network), signature);

function headOf(id: NodeId, sequence: number, flags: number): Uint8Array {
  return new Writer(48)
    .u8(RECORD_VERSION)
    .u8(flags)
    .bytes(nodeIdBytes(id))
    .u48(sequence)
    .u8(PROTOCOL_VERSION_MIN)
    .u8(PROTOCOL_VERSION_MAX)
    .finish();
}

function sign(identity: Signer, parts: readonly Uint8Array[], network: string) {
  const body = concatBytes(parts);
  return { body, signature: identity.sign(recordMessage(body, network)) };
}

function signed(identity: Signer, parts: readonly Uint8Array[], network: string): Uint8Array {
  const { body, signature } = sign(identity, parts, network);
  const bytes = concatBytes([body, signature]);
  assert(bytes.length <= RECORD_BYTES_MAX, "a record fits its bound once its endpoints are trimmed");
  return bytes;
}

const field = (type: number, value: Uint8Array): Uint8Array =>
  new Writer(value.length + 4).varint(type).sizedBytes(value).finish();

const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

interface Draft {
  callsign?: string;
  location?: string;
  prekey?: Prekey;
  nameProof?: NameProof;
  signer?: NodeId;
  reason?: string;
  readonly endpoints: string[];
  readonly capabilities: string[];
}

/** Thousands of records without endpoints hold one list. */
const NONE: readonly string[] = [];

/** `owned` is the whole record. */
function decodeBody(reader: Reader, owned: Uint8Array): NodeRecord {
  const version = reader.u8();
  if (version !== RECORD_VERSION) throw decodeError(`record version ${version} is not known`);
  const flags = reader.u8();
  const id = reader.nodeId();
  const sequence = reader.u48();
  const protocolMin = reader.u8();
  const protocolMax = reader.u8();
  if (protocolMin > protocolMax) throw decodeError("record has an empty version range");
  const draft: Draft = { endpoints: [], capabilities: [] };
  let last = 0;
  while (reader.remaining > 0) {
    const type = reader.varint();
    // One order for all: a record has one encoding, and a field that stands once cannot stand twice.
    const isRepeated = type === RecordField.endpoint || type === RecordField.capability;
    const isKnown = type <= RecordField.abilities;
    if (type === 0 || type < last || (type === last && isKnown && !isRepeated))
      throw decodeError("record fields are out of order");
    last = type;
    decodeField(type, new Reader(reader.sizedBytes(RECORD_BYTES_MAX)), draft);
  }
  const { callsign, signer = id } = draft;
  if (callsign !== undefined && draft.location !== undefined)
    throw decodeError("record has both a callsign and a location of its own");
  if (draft.nameProof !== undefined && callsign === undefined)
    throw decodeError("record has a name proof and no callsign");
  if (draft.reason !== undefined && (flags & FLAG_REVOKED) === 0)
    throw decodeError("record has a reason and is no revocation");
  return {
    id,
    sequence,
    isRevoked: (flags & FLAG_REVOKED) !== 0,
    isBrief: (flags & FLAG_BRIEF) !== 0,
    protocolMin,
    protocolMax,
    callsign,
    location: callsign === undefined ? draft.location : locationOf(callsign),
    endpoints: draft.endpoints.length === 0 ? NONE : draft.endpoints,
    capabilities: draft.capabilities.length === 0 ? NONE : draft.capabilities,
    prekey: draft.prekey,
    nameProof: draft.nameProof,
    signer,
    reason: draft.reason,
    // Without the buffer object that parsing made of it: thousands of records are held.
    bytes: owned.slice(),
    hash: recordHash(owned),
  };
}

function decodeField(type: number, value: Reader, draft: Draft): void {
  switch (type) {
    case RecordField.callsign: {
      const text = latin1(value, CALLSIGN_CHARS_MAX);
      if (parseCallsign(text) !== text) throw decodeError("record has a malformed callsign");
      draft.callsign = text;
      return;
    }
    case RecordField.location: {
      const text = latin1(value, LOCATION_CHARS_MAX);
      if (parseLocation(text) !== text) throw decodeError("record has a malformed location");
      draft.location = text;
      return;
    }
    case RecordField.endpoint: {
      const text = latin1(value, ENDPOINT_CHARS_MAX);
      if (!isEndpoint(text) || draft.endpoints.length >= ENDPOINTS_MAX)
        throw decodeError("record has a malformed endpoint or too many");
      draft.endpoints.push(text);
      return;
    }
    case RecordField.capability: {
      const text = latin1(value, CAPABILITY_CHARS_MAX);
      if (!isCapability(text) || draft.capabilities.length >= CAPABILITIES_MAX)
        throw decodeError("record has a malformed capability or too many");
      draft.capabilities.push(text);
      return;
    }
    case RecordField.prekey: {
      const keyId = value.u32();
      if (keyId === 0) throw decodeError("record has a prekey with id 0");
      draft.prekey = { keyId, publicKey: value.bytes(DH_KEY_BYTES) };
      break;
    }
    case RecordField.nameProof:
      draft.nameProof = { serial: value.u32(), signature: value.bytes(SIGNATURE_BYTES) };
      break;
    case RecordField.signer:
      draft.signer = value.nodeId();
      break;
    case RecordField.reason:
      if (value.remaining > REVOCATION_REASON_BYTES_MAX) throw decodeError("record has too long a reason");
      draft.reason = new TextDecoder().decode(value.rest());
      break;
    case RecordField.brief:
      if (value.remaining < SIGNATURE_BYTES || value.remaining > SIGNATURE_BYTES + BRIEF_EXTRA_BYTES_MAX)
        throw decodeError("record has a brief one of an impossible length");
      return;
    case RecordField.abilities: {
      const words = decodeAbilities(value.rest());
      if (words === undefined) throw decodeError("record has abilities of an impossible length");
      for (const word of words) if (!draft.capabilities.includes(word)) draft.capabilities.push(word);
      break;
    }
    default:
      return;
  }
  if (value.remaining > 0) throw decodeError("record field is too long");
}

function latin1(value: Reader, charsMax: number): string {
  if (value.remaining > charsMax) throw decodeError("record text is too long");
  return Buffer.from(value.rest()).toString("latin1");
}

/** A URL of a transport: scheme, then printable ASCII without space. Whether anybody can dial it is the transport's matter. */
const isEndpoint = (text: string): boolean =>
  text.length <= ENDPOINT_CHARS_MAX && /^[a-z][a-z0-9+.-]{0,31}:\/\/[\x21-\x7e]+$/.test(text);
const isCapability = (text: string): boolean =>
  text.length <= CAPABILITY_CHARS_MAX && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(text);

function fits(condition: boolean, problem: string): void {
  if (!condition) throw godwitError("GODWIT_ENCODE", `record: ${problem}`);
}
