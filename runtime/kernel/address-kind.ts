/**
 * What an IP address is, whatever it is written like: how far it reaches, and whether anything may ever be sent there because another said
 * so. An IPv6 address that stands for an IPv4 one is judged as that one. Pure. Sources: IANA's special-purpose registries (RFC 6890), RFC 4291,
 * RFC 6052, RFC 3056; the addresses of metadata services are those that clouds document.
 */
import { tryParseIp } from "@godwit/sdk/netlink";

export type AddressKind =
  | "global"
  | "private"
  | "link_local"
  | "loopback"
  | "unspecified"
  | "multicast"
  | "broadcast"
  | "metadata"
  /** Reserved, or no address at all. */
  | "invalid";

/** Of clouds: keys of the machine are to be had there for the asking. */
const METADATA = [
  ...[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
  ],
  ...["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"],
].map((text) => keyOf(tryParseIp(text)!));
const metadata: ReadonlySet<string> = new Set(METADATA);

/** Prefixes of IPv6 behind which an IPv4 address stands, and at which byte: mapped, translated, compatible, NAT64 (two), 6to4. */
const EMBEDDINGS: readonly { readonly prefix: readonly number[]; readonly at: number }[] = [
  { prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], at: 12 },
  { prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], at: 12 },
  { prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], at: 12 },
  { prefix: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0], at: 12 },
  { prefix: [0, 0x64, 0xff, 0x9b, 0, 1], at: 12 },
  { prefix: [0x20, 0x02], at: 2 },
];

function keyOf(bytes: Uint8Array): string {
  return bytes.join(".");
}

/** 4 or 16 bytes of an address with or without a zone, an IPv4 one in its own form; undefined for what is none. */
export function plainBytes(address: string): Uint8Array | undefined {
  const bytes = tryParseIp(address.replace(/%.*$/, ""));
  if (bytes?.length !== 16) return bytes;
  const inner = EMBEDDINGS.find(({ prefix }) => prefix.every((byte, i) => bytes[i] === byte));
  // `::` and `::1` are addresses of IPv6 themselves.
  if (inner === undefined || bytes.subarray(0, 15).every((byte) => byte === 0)) return bytes;
  return bytes.slice(inner.at, inner.at + 4);
}

export function addressKind(address: string): AddressKind {
  const bytes = plainBytes(address);
  if (bytes === undefined) return "invalid";
  if (metadata.has(keyOf(bytes))) return "metadata";
  return bytes.length === 4 ? kindOfV4(bytes) : kindOfV6(bytes);
}

function kindOfV4(bytes: Uint8Array): AddressKind {
  const [a = 0, b = 0] = bytes;
  if (a === 0) return "unspecified";
  if (a === 127) return "loopback";
  if (a === 10 || (a === 172 && (b & 0xf0) === 16) || (a === 192 && b === 168)) return "private";
  if (a === 100 && (b & 0xc0) === 64) return "private";
  if (a === 169 && b === 254) return "link_local";
  if (bytes.every((byte) => byte === 255)) return "broadcast";
  if (a >= 240) return "invalid";
  return a >= 224 ? "multicast" : "global";
}

function kindOfV6(bytes: Uint8Array): AddressKind {
  const [a = 0, b = 0] = bytes;
  if (bytes.every((byte) => byte === 0)) return "unspecified";
  if (bytes.subarray(0, 15).every((byte) => byte === 0)) return "loopback";
  if (a === 0xff) return "multicast";
  if (a === 0xfe && (b & 0xc0) === 0x80) return "link_local";
  // Site-local is deprecated and still means the site.
  if ((a & 0xfe) === 0xfc || (a === 0xfe && (b & 0xc0) === 0xc0)) return "private";
  return "global";
}

/** Whether both are of one family and share so many bits. */
export function isWithin(address: Uint8Array, network: Uint8Array, bits: number): boolean {
  if (address.length !== network.length) return false;
  for (let i = 0, left = bits; left > 0; i++, left -= 8) {
    const mask = left >= 8 ? 255 : (0xff << (8 - left)) & 255;
    if (((address[i]! ^ network[i]!) & mask) !== 0) return false;
  }
  return true;
}

/** Host and port of `scheme://host:port/...`, an IPv6 host without brackets; port 0: none is written. Undefined for other forms. */
export function placeOf(endpoint: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^[a-z][a-z0-9+.-]*:\/\/(?:\[([^\]/]+)\]|([^\s:[\]/?#@]+))(?::(\d{1,5}))?(?:[/?#]|$)/i.exec(
    endpoint,
  );
  const host = match?.[1] ?? match?.[2];
  return host === undefined ? undefined : { host, port: Number(match?.[3] ?? 0) };
}

/** Whether a dial of the endpoint would look a name up here: `tor://` and overlays have names and keys of their own. */
export function isNamed(endpoint: string): boolean {
  return /^(?:tcp|udp|wss?):\/\//.test(endpoint) && literalOf(endpoint) === undefined;
}

/** The address that an endpoint names; undefined where it is a name, or something else. */
export function literalOf(endpoint: string): string | undefined {
  const host = placeOf(endpoint)?.host;
  return host !== undefined && tryParseIp(host.replace(/%.*$/, "")) !== undefined ? host : undefined;
}
