/**
 * The text of an invitation: one line that a person copies, scans or dictates. bech32m (BIP 350) without its limit of
 * length, so that a typo is caught, and one wrong character is named. Pure. Specified by docs/protocol/join.md, "Token".
 */
import { bech32m } from "@scure/base";
import { godwitError, type GodwitError } from "../kernel/errors.ts";
import { formatHex, nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "../wire/bytes.ts";
import { ENDPOINT_CHARS_MAX } from "./record.ts";
import { decodeInvite, encodeInvite, INVITE_BYTES, INVITE_SECRET_BYTES, type Invite } from "./invite.ts";
import { CALLSIGN_CHARS_MAX, parseCallsign } from "./address.ts";

export const TOKEN_PREFIX = "godwit";
const TOKEN_VERSION = 1;
/** Characters; a longer text is no token. */
export const TOKEN_CHARS_MAX = 3_000;
export const TOKEN_ADDRESSES_MAX = 8;
const NETWORK_BYTES_MAX = 256;
/** As much of a node id as a token spends on each member: 2^64 keys would have to be tried to pass for one. */
export const ID_PREFIX_BYTES = 8;

const FLAG_CLOSED = 1;
/** High nibble of an address: how its endpoint is written. Low nibble: whose it is. */
const EndpointForm = { text: 0, tcp4: 1, tcp6: 2 } as const;
const AddressOwner = { inviter: 0, other: 1, sameAsBefore: 2 } as const;

export interface TokenAddress {
  readonly endpoint: string;
  /** First 8 bytes of the id of the member that is reached there. */
  readonly idPrefix: Uint8Array;
}

export interface Token {
  readonly network: string;
  readonly inviter: NodeId;
  /** Undefined for an open mesh, where the addresses are all that is needed. */
  readonly membership: { readonly invite: Invite; readonly secret: Uint8Array } | undefined;
  /** What the inviter would call the newcomer. */
  readonly callsign: string | undefined;
  /** 1 to 8. */
  readonly addresses: readonly TokenAddress[];
}

export const idPrefixOf = (id: NodeId): Uint8Array => nodeIdBytes(id).slice(0, ID_PREFIX_BYTES);
export const hasIdPrefix = (id: NodeId, prefix: Uint8Array): boolean =>
  Buffer.compare(nodeIdBytes(id).subarray(0, ID_PREFIX_BYTES), prefix) === 0;

/** Throws GODWIT_ENCODE when a field is out of bounds. */
export function formatToken(token: Token): string {
  const { network, inviter, membership, callsign = "", addresses } = token;
  if (addresses.length === 0 || addresses.length > TOKEN_ADDRESSES_MAX)
    throw godwitError("GODWIT_ENCODE", `a token holds 1 to ${TOKEN_ADDRESSES_MAX} addresses`);
  const writer = new Writer(256)
    .u8(TOKEN_VERSION)
    .u8(membership === undefined ? 0 : FLAG_CLOSED)
    .text(network)
    .nodeId(inviter);
  if (membership !== undefined) writer.bytes(encodeInvite(membership.invite)).bytes(membership.secret);
  writer.text(callsign).u8(addresses.length);
  let before = "";
  for (const { endpoint, idPrefix } of addresses) {
    const owner = formatHex(idPrefix);
    const whose =
      owner === before
        ? AddressOwner.sameAsBefore
        : hasIdPrefix(inviter, idPrefix)
          ? AddressOwner.inviter
          : AddressOwner.other;
    before = owner;
    writeAddress(writer, endpoint, whose, idPrefix);
  }
  return bech32m.encode(TOKEN_PREFIX, bech32m.toWords(writer.finish()), false);
}

/**
 * Throws GODWIT_TOKEN_INVALID, with words for the person who typed it. White space is dropped, case does not matter. Fields of
 * later versions behind the known ones are skipped.
 */
export function parseToken(text: string): Token {
  if (text.length > 2 * TOKEN_CHARS_MAX) throw invalid("this is no invitation: it is much too long");
  const compact = text.replace(/\s+/g, "").toLowerCase();
  if (!compact.startsWith(`${TOKEN_PREFIX}1`) || compact.length > TOKEN_CHARS_MAX)
    throw invalid(`this is no invitation: one is a single line that begins with ${TOKEN_PREFIX}1`);
  const bytes = decodeText(compact);
  if (bytes === undefined) throw invalid(describeTypo(compact));
  try {
    return decodeToken(new Reader(bytes));
  } catch (error) {
    throw godwitError(
      "GODWIT_TOKEN_INVALID",
      "the invitation is whole but makes no sense to this version: make it anew with the oldest Godwit of the mesh, or update this one",
      error,
    );
  }
}

function decodeText(compact: string): Uint8Array | undefined {
  const decoded = bech32m.decodeUnsafe(compact, false);
  if (decoded === undefined || decoded.prefix !== TOKEN_PREFIX) return undefined;
  const bytes = bech32m.fromWordsUnsafe(decoded.words);
  return bytes === undefined ? undefined : new Uint8Array(bytes);
}

const CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/** Beyond this many characters nobody is told where the typo is: the search costs the square of the length. */
const LOCATED_CHARS_MAX = 600;

/** One wrong character is found by trying; anything else is only known to be wrong. */
function describeTypo(compact: string): string {
  const start = TOKEN_PREFIX.length + 1;
  const strange = compact
    .slice(start)
    .split("")
    .findIndex((char) => !CHARSET.includes(char));
  if (strange >= 0)
    return `the invitation has a typo: character ${start + strange + 1}, "${compact.charAt(start + strange)}", is never part of one`;
  const found = compact.length <= LOCATED_CHARS_MAX ? locateTypo(compact, start) : [];
  if (found.length === 1) {
    const { at, right } = found[0]!;
    return `the invitation has a typo: character ${at + 1} is "${compact.charAt(at)}" and should be "${right}"`;
  }
  return "the invitation has a typo, or a part of it is missing: its checksum is wrong; copy the whole line again";
}

/**
 * Every single substitution that mends the checksum. A bech32 checksum is linear: a change by `difference` at a place
 * changes it by an amount that depends on the place alone, so one pass over the text finds them all.
 */
function locateTypo(compact: string, start: number): { at: number; right: string }[] {
  const values = [
    ...TOKEN_PREFIX.split("").map((char) => char.charCodeAt(0) >> 5),
    0,
    ...TOKEN_PREFIX.split("").map((char) => char.charCodeAt(0) & 31),
    ...compact
      .slice(start)
      .split("")
      .map((char) => CHARSET.indexOf(char)),
  ];
  const wrongBy = values.reduce(polymodStep, 1) ^ BECH32M_CONST;
  const found: { at: number; right: string }[] = [];
  const effects = Array.from({ length: 32 }, (_, difference) => difference);
  for (let at = compact.length - 1; at >= start; at--) {
    const difference = effects.indexOf(wrongBy, 1);
    if (difference > 0) {
      const right = CHARSET.charAt(CHARSET.indexOf(compact.charAt(at)) ^ difference);
      found.push({ at, right });
    }
    for (let index = 1; index < 32; index++) effects[index] = polymodStep(effects[index]!, 0);
  }
  return found;
}

const BECH32M_CONST = 0x2bc830a3;
const GENERATORS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

/** BIP 173: one step of the checksum. */
function polymodStep(checksum: number, value: number): number {
  const top = checksum >>> 25;
  let next = ((checksum & 0x1ffffff) << 5) ^ value;
  for (const [bit, generator] of GENERATORS.entries()) if (((top >>> bit) & 1) === 1) next ^= generator;
  return next;
}

function decodeToken(reader: Reader): Token {
  const version = reader.u8();
  if (version !== TOKEN_VERSION) throw decodeError(`token version ${version} is not known`);
  const flags = reader.u8();
  const network = reader.text(NETWORK_BYTES_MAX);
  if (network === "") throw decodeError("token without a network");
  const inviter = reader.nodeId();
  const membership =
    (flags & FLAG_CLOSED) === 0
      ? undefined
      : {
          invite: decodeInvite(reader.bytes(INVITE_BYTES)),
          secret: new Uint8Array(reader.bytes(INVITE_SECRET_BYTES)),
        };
  const callsign = reader.text(CALLSIGN_CHARS_MAX);
  if (callsign !== "" && parseCallsign(callsign) !== callsign)
    throw decodeError("token has a malformed callsign");
  const count = reader.u8();
  if (count === 0 || count > TOKEN_ADDRESSES_MAX) throw decodeError(`token with ${count} addresses`);
  const addresses: TokenAddress[] = [];
  for (let index = 0; index < count; index++) addresses.push(readAddress(reader, inviter, addresses.at(-1)));
  return { network, inviter, membership, callsign: callsign === "" ? undefined : callsign, addresses };
}

const TCP4 = /^tcp:\/\/(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3}):(\d{1,5})$/;
const TCP6 = /^tcp:\/\/\[([0-9a-f:]+)\]:(\d{1,5})$/;

function writeAddress(writer: Writer, endpoint: string, whose: number, idPrefix: Uint8Array): void {
  const tcp4 = TCP4.exec(endpoint);
  const tcp6 = TCP6.exec(endpoint);
  const packed =
    tcp4 === null ? (tcp6 === null ? undefined : packTcp6(tcp6[1]!, Number(tcp6[2]))) : packTcp4(tcp4);
  // What would not come back as it was is written out.
  const isPacked = packed !== undefined && unpackTcp(new Reader(packed.bytes), packed.form) === endpoint;
  const form = isPacked ? packed.form : EndpointForm.text;
  writer.u8((form << 4) | whose);
  if (whose === AddressOwner.other) writer.bytes(idPrefix);
  if (isPacked) writer.bytes(packed.bytes);
  else {
    if (!isEndpoint(endpoint)) throw godwitError("GODWIT_ENCODE", `${endpoint} is not an endpoint`);
    writer.text(endpoint);
  }
}

function packTcp4(match: RegExpExecArray): { form: number; bytes: Uint8Array } | undefined {
  const numbers = match.slice(1).map(Number);
  if (numbers.slice(0, 4).some((part) => part > 255) || numbers[4]! > 65_535) return undefined;
  const writer = new Writer(6);
  for (const part of numbers.slice(0, 4)) writer.u8(part);
  return { form: EndpointForm.tcp4, bytes: writer.u16(numbers[4]!).finish() };
}

/** Only what needs no dotted tail; the rest is written as text. */
function packTcp6(host: string, port: number): { form: number; bytes: Uint8Array } | undefined {
  const [head = "", tail, ...more] = host.split("::");
  if (more.length > 0 || port > 65_535) return undefined;
  const groups = (text: string) => (text === "" ? [] : text.split(":"));
  const missing = 8 - groups(head).length - groups(tail ?? "").length;
  if (missing < 0 || (tail === undefined && missing > 0)) return undefined;
  const all = [...groups(head), ...Array.from({ length: missing }, () => "0"), ...groups(tail ?? "")];
  if (all.some((group) => !/^[0-9a-f]{1,4}$/.test(group))) return undefined;
  const writer = new Writer(18);
  for (const group of all) writer.u16(Number.parseInt(group, 16));
  return { form: EndpointForm.tcp6, bytes: writer.u16(port).finish() };
}

function unpackTcp(reader: Reader, form: number): string {
  if (form === EndpointForm.tcp4) {
    const host = [...reader.bytes(4)].join(".");
    return `tcp://${host}:${reader.u16()}`;
  }
  const groups = Array.from({ length: 8 }, () => reader.u16().toString(16));
  return `tcp://[${compressIpv6(groups)}]:${reader.u16()}`;
}

/** RFC 5952 section 4.2: the first longest row of two or more zeros. */
function compressIpv6(groups: readonly string[]): string {
  let best = { from: 0, length: 1 };
  for (let from = 0; from < 8; from++) {
    let length = 0;
    while (from + length < 8 && groups[from + length] === "0") length++;
    if (length > best.length) best = { from, length };
  }
  if (best.length < 2) return groups.join(":");
  return `${groups.slice(0, best.from).join(":")}::${groups.slice(best.from + best.length).join(":")}`;
}

function readAddress(reader: Reader, inviter: NodeId, before: TokenAddress | undefined): TokenAddress {
  const head = reader.u8();
  const form = head >> 4;
  const idPrefix = readOwner(reader, head & 15, inviter, before);
  if (form === EndpointForm.tcp4 || form === EndpointForm.tcp6)
    return { endpoint: unpackTcp(reader, form), idPrefix };
  if (form !== EndpointForm.text) throw decodeError(`an endpoint written in form ${form}`);
  const endpoint = reader.text(ENDPOINT_CHARS_MAX);
  if (!isEndpoint(endpoint)) throw decodeError("token has a malformed endpoint");
  return { endpoint, idPrefix };
}

function readOwner(
  reader: Reader,
  owner: number,
  inviter: NodeId,
  before: TokenAddress | undefined,
): Uint8Array {
  if (owner === AddressOwner.inviter) return idPrefixOf(inviter);
  if (owner === AddressOwner.other) return new Uint8Array(reader.bytes(ID_PREFIX_BYTES));
  if (owner === AddressOwner.sameAsBefore && before !== undefined) return before.idPrefix;
  throw decodeError(`an address of owner ${owner}`);
}

const isEndpoint = (text: string): boolean =>
  text.length <= ENDPOINT_CHARS_MAX && /^[a-z][a-z0-9+.-]{0,31}:\/\/[\x21-\x7e]+$/.test(text);

const invalid = (message: string): GodwitError => godwitError("GODWIT_TOKEN_INVALID", message);
