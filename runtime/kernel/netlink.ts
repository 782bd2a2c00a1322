/**
 * Messages of Linux's rtnetlink about interfaces and addresses (rtnetlink(7), netlink(7)). Pure: bytes in, values out;
 * host-network.ts owns the socket. Numbers are in the machine's byte order, which on every target of ours is little-endian.
 *
 *   | length 4 | type 2 | flags 2 | sequence 4 | port 4 | body ...          aligned to 4; length counts all of it
 *   body of an address: | family 1 | prefix 1 | flags 1 | scope 1 | index 4 | attributes ...
 *   body of a link:     | family 1 | 0 1 | type 2 | index 4 | flags 4 | change 4 | attributes ...
 *   attribute:          | length 2 | type 2 | value ... |                     aligned to 4; length counts its head
 */
import { godwitError } from "./errors.ts";

export const NetlinkType = {
  error: 2,
  done: 3,
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
} as const;

/** `running`: it has carrier (RFC 2863 operational state up). */
export const LinkFlag = { up: 0x1, loopback: 0x8, running: 0x40 } as const;
export const AddressFlag = { temporary: 0x01, failed: 0x08, deprecated: 0x20, tentative: 0x40 } as const;

const HEADER_BYTES = 16;
const REQUEST_DUMP = 0x0301;
const Attribute = { linkName: 3, address: 1, local: 2, addressFlags: 8 } as const;
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const FAMILY_V4 = 2;
const FAMILY_V6 = 10;
/** IFNAMSIZ, without the NUL. */
const NAME_BYTES_MAX = 15;

export interface NetlinkMessage {
  readonly type: number;
  readonly sequence: number;
  /** Shares the datagram's memory. */
  readonly body: Uint8Array;
}

export interface LinkFacts {
  readonly index: number;
  readonly flags: number;
  readonly name: string;
}

export interface AddressFacts {
  readonly index: number;
  readonly family: 4 | 6;
  readonly prefixLength: number;
  readonly flags: number;
  /** 4 or 16 bytes, owned by the caller. */
  readonly address: Uint8Array;
}

const align = (length: number): number => (length + 3) & ~3;
const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const malformed = (what: string) => godwitError("GODWIT_DECODE", `netlink: ${what}`);

/** Asks for all links (`getLink`) or all addresses (`getAddress`). */
export function encodeDumpRequest(type: number, sequence: number): Uint8Array {
  const out = new Uint8Array(HEADER_BYTES + (type === NetlinkType.getLink ? 16 : 8));
  const view = viewOf(out);
  view.setUint32(0, out.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, REQUEST_DUMP, true);
  view.setUint32(8, sequence, true);
  return out;
}

/** Every message of one datagram. Throws GODWIT_DECODE. */
export function decodeNetlink(datagram: Uint8Array): NetlinkMessage[] {
  const view = viewOf(datagram);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < datagram.length;) {
    const rest = datagram.length - at;
    const length = rest < HEADER_BYTES ? 0 : view.getUint32(at, true);
    if (length < HEADER_BYTES || length > rest)
      throw malformed(`a message of ${length} bytes where ${rest} are left`);
    messages.push({
      type: view.getUint16(at + 4, true),
      sequence: view.getUint32(at + 8, true),
      body: datagram.subarray(at + HEADER_BYTES, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** Body of `newLink` or `delLink`. Throws GODWIT_DECODE. */
export function decodeLink(body: Uint8Array): LinkFacts {
  if (body.length < 16) throw malformed("a link is cut short");
  const view = viewOf(body);
  const name = attributes(body.subarray(16)).get(Attribute.linkName);
  if (name === undefined) throw malformed("a link without a name");
  const end = name.indexOf(0);
  const text = name.subarray(0, Math.min(end < 0 ? name.length : end, NAME_BYTES_MAX));
  return {
    index: view.getUint32(4, true),
    flags: view.getUint32(8, true),
    name: new TextDecoder().decode(text),
  };
}

/** Body of `newAddress` or `delAddress`; undefined for families other than IP. Throws GODWIT_DECODE. */
export function decodeAddress(body: Uint8Array): AddressFacts | undefined {
  if (body.length < 8) throw malformed("an address is cut short");
  const family = body[0];
  if (family !== FAMILY_V4 && family !== FAMILY_V6) return undefined;
  const found = attributes(body.subarray(8));
  // On a point-to-point link `address` is the far end's; `local` is always ours where it is given.
  const address = found.get(Attribute.local) ?? found.get(Attribute.address);
  const bytes = family === FAMILY_V4 ? 4 : 16;
  if (address?.length !== bytes) throw malformed("an address of the wrong length");
  const wide = found.get(Attribute.addressFlags);
  return {
    index: viewOf(body).getUint32(4, true),
    family: family === FAMILY_V4 ? 4 : 6,
    prefixLength: Math.min(body[1]!, bytes * 8),
    flags: wide?.length === 4 ? viewOf(wide).getUint32(0, true) : body[2]!,
    address: new Uint8Array(address),
  };
}

function attributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = viewOf(bytes);
  const found = new Map<number, Uint8Array>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || length > bytes.length - at) throw malformed("an attribute does not fit");
    found.set(view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return found;
}

/** Text of 4 or 16 address bytes; IPv6 in the form of RFC 5952. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const view = viewOf(bytes);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i));
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = (from: number, to?: number) =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  return best.length < 2 ? hex(0) : `${hex(0, best.at)}::${hex(best.at + best.length)}`;
}
