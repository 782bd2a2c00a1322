/**
 * Messages of DHCPv4 (RFC 2131, RFC 2132) as a client needs them. Pure.
 *
 *   | op 1 | htype 1 | hlen 1 | hops 1 | xid 4 | secs 2 | flags 2 | ciaddr 4 | yiaddr 4 | siaddr 4 | giaddr 4 |
 *   | chaddr 16 | sname 64 | file 128 | cookie 63 82 53 63 | options: code 1, length 1, value ... | ff |
 */
import { formatIp } from "@godwit/sdk/netlink";
import { godwitError } from "../kernel/errors.ts";

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;

export const DhcpType = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
} as const;

const Option = {
  pad: 0,
  mask: 1,
  router: 3,
  nameServers: 6,
  hostname: 12,
  mtu: 26,
  timeServers: 42,
  requestedAddress: 50,
  leaseTime: 51,
  overload: 52,
  messageType: 53,
  server: 54,
  wanted: 55,
  sizeMax: 57,
  renewal: 58,
  rebinding: 59,
  clientId: 61,
  end: 255,
} as const;

const HEADER_BYTES = 236;
const COOKIE = [0x63, 0x82, 0x53, 0x63] as const;
/** Some servers and relays drop what is shorter (RFC 1542 section 2.1). */
const MESSAGE_BYTES_MIN = 300;
/** What we take. */
const MESSAGE_BYTES_MAX = 1_500;
const SNAME_OFFSET = 44;
const FILE_OFFSET = 108;
const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const ETHERNET = 1;
const BROADCAST_FLAG = 0x8000;
/** Of a list of addresses, those that are kept. */
const ADDRESSES_MAX = 8;
const LEASE_FOREVER = 0xffff_ffff;
/** A lease shorter than this would be nothing but renewing. */
const LEASE_SECONDS_MIN = 30;
const MTU_MIN = 576;
const MTU_MAX = 65_535;

export interface DhcpRequest {
  readonly type: "discover" | "request" | "release";
  readonly transaction: number;
  /** Since the exchange began. */
  readonly seconds: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly hostname: string;
  /** The address in use, of a client that renews; 4 bytes. */
  readonly current?: Uint8Array;
  /** The address that was offered. */
  readonly requested?: Uint8Array;
  /** Whose offer it was. */
  readonly server?: Uint8Array;
}

export function encodeDhcp(request: DhcpRequest): Uint8Array {
  const { type, mac, current, requested, server, hostname } = request;
  const out = new Uint8Array(MESSAGE_BYTES_MIN + 64);
  const view = new DataView(out.buffer);
  out.set([BOOT_REQUEST, ETHERNET, mac.length, 0]);
  view.setUint32(4, request.transaction);
  view.setUint16(8, Math.min(Math.floor(request.seconds), 0xffff));
  // Without an address we cannot be answered but by broadcast; with one, by none.
  if (current === undefined) view.setUint16(10, BROADCAST_FLAG);
  else out.set(current, 12);
  out.set(mac, 28);
  let at = HEADER_BYTES;
  const put = (bytes: Iterable<number>) => {
    for (const byte of bytes) out[at++] = byte;
  };
  const option = (code: number, bytes: readonly number[] | Uint8Array) => put([code, bytes.length, ...bytes]);
  put(COOKIE);
  option(Option.messageType, [DhcpType[type]]);
  option(Option.clientId, [ETHERNET, ...mac]);
  if (requested !== undefined) option(Option.requestedAddress, requested);
  if (server !== undefined) option(Option.server, server);
  if (type !== "release") {
    option(Option.sizeMax, [MESSAGE_BYTES_MAX >> 8, MESSAGE_BYTES_MAX & 255]);
    option(Option.hostname, new TextEncoder().encode(hostname.slice(0, 63)));
    option(Option.wanted, [
      ...[Option.mask, Option.router, Option.nameServers, Option.mtu, Option.timeServers],
      ...[Option.leaseTime, Option.server, Option.renewal, Option.rebinding],
    ]);
  }
  put([Option.end]);
  return out.subarray(0, Math.max(at, MESSAGE_BYTES_MIN));
}

export interface DhcpReply {
  readonly type: "offer" | "ack" | "nak";
  readonly transaction: number;
  /** 16 bytes: the client's address of hardware, padded. */
  readonly hardware: Uint8Array;
  /** 4 bytes; zeros in a refusal. */
  readonly address: Uint8Array;
  readonly server: Uint8Array | undefined;
  readonly prefixLength: number | undefined;
  readonly router: Uint8Array | undefined;
  /** As text. */
  readonly nameServers: readonly string[];
  readonly timeServers: readonly string[];
  readonly mtu: number | undefined;
  /** Seconds; Infinity: for ever; undefined where the server does not say. */
  readonly leaseSeconds: number | undefined;
  readonly renewSeconds: number | undefined;
  readonly rebindSeconds: number | undefined;
}

const malformed = (what: string) => godwitError("GODWIT_DECODE", `DHCP: ${what}`);

/** Throws GODWIT_DECODE. What is returned owns its bytes. */
export function decodeDhcp(bytes: Uint8Array): DhcpReply {
  if (bytes.length < HEADER_BYTES + COOKIE.length || bytes.length > MESSAGE_BYTES_MAX)
    throw malformed(`a message of ${bytes.length} bytes`);
  if (bytes[0] !== BOOT_REPLY || bytes[1] !== ETHERNET || bytes[2] !== 6)
    throw malformed("no reply on Ethernet");
  if (!COOKIE.every((byte, i) => bytes[HEADER_BYTES + i] === byte)) throw malformed("no options");
  const options = readOptions(bytes);
  const type = replyTypes[options.get(Option.messageType)?.[0] ?? 0];
  if (type === undefined) throw malformed("no type that a client takes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const mask = fixed(options, Option.mask, 4);
  const mtu = number(options, Option.mtu, 2);
  const lease = number(options, Option.leaseTime, 4);
  return {
    type,
    transaction: view.getUint32(4),
    hardware: bytes.slice(28, 44),
    address: bytes.slice(16, 20),
    server: fixed(options, Option.server, 4),
    prefixLength: mask === undefined ? undefined : prefixLengthOf(mask),
    router: addresses(options, Option.router)[0],
    nameServers: addresses(options, Option.nameServers).map(formatIp),
    timeServers: addresses(options, Option.timeServers).map(formatIp),
    mtu: mtu !== undefined && mtu >= MTU_MIN && mtu <= MTU_MAX ? mtu : undefined,
    leaseSeconds:
      lease === undefined
        ? undefined
        : lease === LEASE_FOREVER
          ? Number.POSITIVE_INFINITY
          : Math.max(lease, LEASE_SECONDS_MIN),
    renewSeconds: number(options, Option.renewal, 4),
    rebindSeconds: number(options, Option.rebinding, 4),
  };
}

const replyTypes: Readonly<Record<number, DhcpReply["type"]>> = { 2: "offer", 5: "ack", 6: "nak" };

type Options = ReadonlyMap<number, Uint8Array>;

/** The options, also those in the fields of boot files (RFC 2131 section 4.1); parts of one option are joined (RFC 3396). */
function readOptions(bytes: Uint8Array): Options {
  const found = new Map<number, Uint8Array>();
  readField(bytes.subarray(HEADER_BYTES + COOKIE.length), found);
  const overload = found.get(Option.overload)?.[0] ?? 0;
  if ((overload & 1) !== 0) readField(bytes.subarray(FILE_OFFSET, FILE_OFFSET + 128), found);
  if ((overload & 2) !== 0) readField(bytes.subarray(SNAME_OFFSET, SNAME_OFFSET + 64), found);
  return found;
}

function readField(field: Uint8Array, found: Map<number, Uint8Array>): void {
  for (let at = 0; at < field.length;) {
    const code = field[at++]!;
    if (code === Option.pad) continue;
    if (code === Option.end) return;
    const length = field[at++];
    if (length === undefined || at + length > field.length) throw malformed("an option is cut short");
    const before = found.get(code);
    const value = field.slice(at, at + length);
    found.set(code, before === undefined ? value : new Uint8Array([...before, ...value]));
    at += length;
  }
}

function fixed(options: Options, code: number, length: number): Uint8Array | undefined {
  const value = options.get(code);
  if (value === undefined) return undefined;
  if (value.length !== length) throw malformed(`option ${code} has ${value.length} bytes, not ${length}`);
  return value;
}

function number(options: Options, code: number, length: 2 | 4): number | undefined {
  return fixed(options, code, length)?.reduce((sum, byte) => sum * 256 + byte, 0);
}

function addresses(options: Options, code: number): Uint8Array[] {
  const value = options.get(code) ?? new Uint8Array();
  if (value.length % 4 !== 0) throw malformed(`option ${code} is no list of addresses`);
  return Array.from({ length: Math.min(value.length / 4, ADDRESSES_MAX) }, (_, i) =>
    value.slice(4 * i, 4 * i + 4),
  );
}

/** Throws GODWIT_DECODE for a mask with holes. */
function prefixLengthOf(mask: Uint8Array): number {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  if (!/^1*0*$/.test(bits)) throw malformed("a netmask with holes");
  return bits.lastIndexOf("1") + 1;
}
