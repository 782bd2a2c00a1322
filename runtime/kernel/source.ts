/** Which strangers count as one: those of one source address. Pure; owns no table. */
import { isIP } from "node:net";

/** All that have no address to tell them apart by: Tor, radio, and overlays where an address costs as little as a key. */
export const NO_ADDRESS = "no address";

/**
 * The source of an endpoint of the far end (`tcp://192.0.2.7:4860`): its IPv4 address, the /64 of its IPv6 address, or NO_ADDRESS.
 */
export function sourceOf(endpoint: string): string {
  const match = /^[a-z0-9+.-]+:\/\/(?:\[([^\]]*)\]|([^:/]*))/i.exec(endpoint);
  const host = (match?.[1] ?? match?.[2] ?? "").replace(/%.*$/, "");
  if (isIP(host) === 4) return host;
  if (isIP(host) !== 6) return NO_ADDRESS;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host);
  if (mapped !== null) return mapped[1]!;
  const groups = groupsOf(host);
  // 200::/7: addresses of Yggdrasil are made from keys.
  if (groups[0]! >> 9 === 1) return NO_ADDRESS;
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(":")}::/64`;
}

function groupsOf(address: string): number[] {
  // The URL parser is the one IPv6 parser that every runtime has: it answers the form of RFC 5952.
  const [head = "", tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split("::");
  const read = (part: string) => (part === "" ? [] : part.split(":").map((group) => parseInt(group, 16)));
  const [front, back] = [read(head), read(tail ?? "")];
  return [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back];
}
