/** Which strangers count as one: those of one source address. Pure; owns no table. */
import { isIP } from "node:net";
import { sourceGroup } from "@godwit/sdk";

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
  const group = sourceGroup(host);
  if (isIP(group) === 4) return group;
  // 200::/7: addresses of Yggdrasil are made from keys.
  return parseInt(group, 16) >> 9 === 1 ? NO_ADDRESS : `${group}::/64`;
}
