/**
 * Addresses inside the tunnel, which every node computes for every other. Pure.
 *
 *   | fd 1 | network 5 | node 8 | 00 01 |     hashes of the mesh's name, and of the node's id with it
 *
 * The last two bytes are 1 for the node itself and others for plain devices behind it: all of its /112 leads to it.
 */
import { createHash } from "node:crypto";
import { formatIp, tryParseIp } from "@godwit/sdk/netlink";

export const NETWORK_BITS = 48;
export const NODE_BITS = 112;
const OWN_SUFFIX = 1;
const GUEST_SUFFIXES = 65_534;

const hash = (...parts: readonly string[]): Buffer =>
  createHash("sha256")
    .update(parts.map((part) => `${part}\0`).join(""))
    .digest();

/** 16 bytes of the mesh's /48. */
export function networkPrefix(network: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes.set(hash("godwit wireguard network", network).subarray(0, 5), 1);
  return bytes;
}

function addressWith(network: string, id: string, suffix: number): Uint8Array {
  const bytes = networkPrefix(network);
  bytes.set(hash("godwit wireguard node", network, id).subarray(0, 8), 6);
  bytes[14] = suffix >> 8;
  bytes[15] = suffix & 0xff;
  return bytes;
}

export const nodeAddress = (network: string, id: string): Uint8Array => addressWith(network, id, OWN_SUFFIX);
/** `fd..::/112`: the node and the plain devices behind it. */
export const nodeRange = (network: string, id: string): string =>
  `${formatIp(addressWith(network, id, 0))}/${NODE_BITS}`;

/** Of a plain device behind a node. Two names of one node share an address about once in 65,534: the caller refuses the second. */
export const guestAddress = (network: string, id: string, name: string): Uint8Array =>
  addressWith(
    network,
    id,
    2 + (hash("godwit wireguard device", name).readUInt32BE(0) % (GUEST_SUFFIXES - 1)),
  );

export interface Pool {
  /** Host byte order. */
  readonly base: number;
  readonly prefixLength: number;
}

/** `10.77.0.0/16`, /8 to /29, host bits zero; undefined for anything else. */
export function parsePool(text: string): Pool | undefined {
  const match = /^([\d.]{7,15})\/(\d{1,2})$/.exec(text);
  const bytes = match === null ? undefined : tryParseIp(match[1]!);
  const prefixLength = Number(match?.[2]);
  if (bytes === undefined || prefixLength < 8 || prefixLength > 29) return undefined;
  const base = new DataView(bytes.buffer).getUint32(0);
  return base % 2 ** (32 - prefixLength) === 0 ? { base, prefixLength } : undefined;
}

/** Places of one node that are tried; a node for which none is free gets no IPv4 address. */
const POOL_TRIES_MAX = 64;

/**
 * IPv4 addresses of the pool by node id: each takes the first free place of its own row, ids in order, so that all who know the same
 * nodes agree. `moved`: those whose first place was another's.
 */
export function assignPool(
  { base, prefixLength }: Pool,
  ids: Iterable<string>,
): { readonly byId: ReadonlyMap<string, string>; readonly moved: readonly string[] } {
  const places = 2 ** (32 - prefixLength) - 2;
  const taken = new Set<number>();
  const byId = new Map<string, string>();
  const moved: string[] = [];
  for (const id of [...new Set(ids)].sort()) {
    for (let attempt = 0; attempt < POOL_TRIES_MAX; attempt++) {
      const place = 1 + (hash("godwit wireguard ipv4", id, String(attempt)).readUInt32BE(0) % places);
      if (taken.has(place)) continue;
      taken.add(place);
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, base + place);
      byId.set(id, formatIp(bytes));
      if (attempt > 0) moved.push(id);
      break;
    }
    if (!byId.has(id)) moved.push(id);
  }
  return { byId, moved };
}
