/** Internet addresses: where the console listens, and who may call it (RFC 4632 and RFC 4291 prefixes). */
import { isIP } from "node:net";

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:8023`, `[::1]:8023` or `localhost:8023`; undefined for anything else: there may be no DNS. */
export function parseListen(text: string): Listen | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text);
  if (match === null || Number(match[3]) > 65_535) return undefined;
  const host = match[1] ?? (match[2] === "localhost" ? "127.0.0.1" : match[2]!);
  return isIP(host) === (match[1] === undefined ? 4 : 6) ? { host, port: Number(match[3]) } : undefined;
}

export const formatListen = ({ host, port }: Listen): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

export const isLoopback = (host: string): boolean => {
  const bytes = parseIp(host);
  if (bytes === undefined) return false;
  return bytes.length === 4 ? bytes[0] === 127 : bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
};

export interface Prefix {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** `10.0.0.0/8`, `fd00::/8`, or one address. Bits behind the prefix must be zero: else it is a typing error. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf("/");
  const bytes = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (bytes === undefined) return undefined;
  const length = slash < 0 ? String(bytes.length * 8) : text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(length) || Number(length) > bytes.length * 8) return undefined;
  const bits = Number(length);
  const isClean = bytes.every((byte, i) => (byte & ~maskOf(bits, i) & 0xff) === 0);
  return isClean ? { bytes, bits } : undefined;
}

/** False for text that is no address. `::ffff:a.b.c.d` counts as the IPv4 address it carries. */
export function isWithin(address: string, prefixes: readonly Prefix[]): boolean {
  const bytes = parseIp(address);
  if (bytes === undefined) return false;
  return prefixes.some(
    (prefix) =>
      prefix.bytes.length === bytes.length &&
      bytes.every((byte, i) => ((byte ^ prefix.bytes[i]!) & maskOf(prefix.bits, i)) === 0),
  );
}

const maskOf = (bits: number, index: number): number => {
  const here = Math.min(8, Math.max(0, bits - index * 8));
  return (0xff << (8 - here)) & 0xff;
};

/** 4 or 16 bytes. Zone ids are left out: they say which interface, not who. */
function parseIp(text: string): Uint8Array | undefined {
  const plain = text.replace(/%.*$/s, "");
  if (isIP(plain) === 4) return Uint8Array.from(plain.split("."), Number);
  if (isIP(plain) !== 6) return undefined;
  const bytes = parseIpv6(plain);
  const isMapped =
    bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return isMapped ? bytes.slice(12) : bytes;
}

/** `text` is known to be well formed. */
function parseIpv6(text: string): Uint8Array {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = (high: string, low: string) => ((Number(high) << 8) | Number(low)).toString(16);
  const whole =
    dotted === null ? text : `${dotted[1]}${hex(dotted[2]!, dotted[3]!)}:${hex(dotted[4]!, dotted[5]!)}`;
  const [head = "", tail] = whole.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => parseInt(group, 16)));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return Uint8Array.from([...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 255]));
}
