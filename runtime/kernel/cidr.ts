/** Ranges of addresses in CIDR notation (RFC 4632, RFC 4291 section 2.3). */
import { isIP } from "node:net";

/** `10.0.0.0/8`, `2001:db8::/32` or one address without a zone; undefined for anything else. */
export function parseCidr(
  text: string,
): { address: string; bits: number; family: "ipv4" | "ipv6" } | undefined {
  const match = /^([^/\s%]+?)(?:\/(\d{1,3}))?$/.exec(text);
  const version = match === null ? 0 : isIP(match[1]!);
  if (match === null || version === 0) return undefined;
  const width = version === 4 ? 32 : 128;
  const bits = match[2] === undefined ? width : Number(match[2]);
  return bits > width ? undefined : { address: match[1]!, bits, family: version === 4 ? "ipv4" : "ipv6" };
}
