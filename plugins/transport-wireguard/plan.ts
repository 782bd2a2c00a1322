/** What the device should have, from what is known of the nodes, and what must change for that. Pure. */
import type { HostPort, PeerFacts } from "@godwit/sdk";
import { formatIp, tryParseIp } from "@godwit/sdk/netlink";
import { assignPool, nodeAddress, nodeRange, type Pool } from "./addresses.ts";
import type { WgPeer, WgPeerChange } from "./device.ts";
import { tryParseWgEndpoint, type WgEndpoint } from "./endpoint.ts";
import type { Secret } from "@godwit/sdk/secret";

/** Peers of one device. */
export const PEERS_MAX = 1_024;
/** Towards the internet from behind a NAT: below the 30 s for which the strictest keep a mapping of UDP. */
const KEEPALIVE_SECONDS = 25;

/** A node that has WireGuard. */
export interface Candidate extends WgEndpoint {
  readonly id: string;
  readonly via: string | undefined;
}

/** A plain device behind this node. */
export interface Guest {
  readonly name: string;
  readonly publicKey: string;
  /** Text. */
  readonly address: string;
}

export interface WantedPeer {
  readonly publicKey: string;
  /** Of a node; undefined for a plain device. */
  readonly id: string | undefined;
  readonly hosts: readonly HostPort[];
  readonly allowedIps: readonly string[];
  readonly keepaliveSeconds: number;
}

export interface PlanInput {
  readonly network: string;
  readonly self: string;
  readonly ownKey: string;
  readonly ownHosts: readonly HostPort[];
  readonly candidates: readonly Candidate[];
  readonly guests: readonly Guest[];
  readonly pool: Pool | undefined;
  /** Addresses of nodes that cannot be reached lead to the neighbour on the way. */
  readonly isRouted: boolean;
  /** From the configuration. */
  readonly keepalive: number | undefined;
  /** Whom a key belongs to for certain. */
  ownerOf(publicKey: string): string | undefined;
  /** `fresh`: packets pass. `failed`: it was tried, and nobody answers. */
  reach(publicKey: string): "fresh" | "unknown" | "failed";
}

export interface Plan {
  readonly peers: readonly WantedPeer[];
  /** Of this node; undefined without a pool, or when it is full. */
  readonly ipv4: string | undefined;
  /** In words. */
  readonly conflicts: readonly string[];
}

/** The WireGuard endpoint of a record, if it has one. */
export function candidateOf({ id, endpoints, via }: PeerFacts): Candidate | undefined {
  for (const text of endpoints) {
    const endpoint = tryParseWgEndpoint(text);
    if (endpoint !== undefined) return { ...endpoint, id, via };
  }
  return undefined;
}

export function planPeers(input: PlanInput): Plan {
  const { network, self, pool, guests } = input;
  const conflicts: string[] = [];
  const candidates = withoutConflicts(input, conflicts);
  const { byId, moved } =
    pool === undefined
      ? { byId: new Map<string, string>(), moved: [] }
      : assignPool(pool, [self, ...candidates.map(({ id }) => id)]);
  if (moved.includes(self))
    conflicts.push("the IPv4 address of this node was another's: it has the next one");
  const byNode = new Map(candidates.map((candidate) => [candidate.id, candidate]));
  const isDirect = ({ publicKey, hosts }: Candidate): boolean => {
    const reach = input.reach(publicKey);
    return reach === "fresh" || (reach === "unknown" && (hosts.length > 0 || input.ownHosts.length > 0));
  };
  const allowed = new Map<string, string[]>();
  for (const candidate of candidates) {
    const relay = candidate.via === undefined ? undefined : byNode.get(candidate.via);
    const isRelayed = input.isRouted && !isDirect(candidate) && relay !== undefined && relay !== candidate;
    const { publicKey } = isRelayed && isDirect(relay) ? relay : candidate;
    const ipv4 = byId.get(candidate.id);
    const list = allowed.get(publicKey) ?? [];
    list.push(nodeRange(network, candidate.id), ...(ipv4 === undefined ? [] : [`${ipv4}/32`]));
    allowed.set(publicKey, list);
  }
  const peers: WantedPeer[] = candidates.map(({ publicKey, id, hosts }) => ({
    publicKey,
    id,
    hosts,
    allowedIps: (allowed.get(publicKey) ?? []).toSorted(),
    keepaliveSeconds: keepaliveFor(hosts, input),
  }));
  for (const { publicKey, address } of guests)
    peers.push({
      publicKey,
      id: undefined,
      hosts: [],
      allowedIps: [`${address}/128`],
      keepaliveSeconds: 0,
    });
  return { peers, ipv4: byId.get(self), conflicts };
}

/** One node a key and one node an address: who has proven it, else the smaller id. */
function withoutConflicts(input: PlanInput, conflicts: string[]): Candidate[] {
  const { network, self, ownKey, guests, ownerOf } = input;
  const byKey = new Map<string, Candidate>();
  const guestKeys = new Set(guests.map(({ publicKey }) => publicKey));
  const rank = ({ id, publicKey }: Candidate) => (ownerOf(publicKey) === id ? 0 : 1);
  const ordered = input.candidates.toSorted((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1));
  const addresses = new Map([[formatIp(nodeAddress(network, self)), self]]);
  for (const candidate of ordered) {
    const { id, publicKey } = candidate;
    if (publicKey === ownKey || guestKeys.has(publicKey) || byKey.has(publicKey)) {
      conflicts.push(`node ${id.slice(0, 10)} claims a key that is another's`);
      continue;
    }
    const address = formatIp(nodeAddress(network, id));
    const holder = addresses.get(address);
    if (holder !== undefined) {
      conflicts.push(`node ${id.slice(0, 10)} would have the address of ${holder.slice(0, 10)}`);
      continue;
    }
    if (byKey.size + guests.length >= PEERS_MAX) {
      conflicts.push(`more than ${PEERS_MAX} peers: the rest has no WireGuard`);
      break;
    }
    addresses.set(address, id);
    byKey.set(publicKey, candidate);
  }
  return [...byKey.values()];
}

/** Private, shared and link-local networks, and loopback. */
export function isInternet(host: string): boolean {
  const bytes = tryParseIp(host);
  if (bytes === undefined) return true;
  const [a = 0, b = 0] = bytes;
  if (bytes.length === 16) return (a & 0xe0) === 0x20;
  if (a === 10 || a === 127 || (a === 169 && b === 254) || (a === 192 && b === 168)) return false;
  return !(a === 172 && (b & 0xf0) === 16) && !(a === 100 && (b & 0xc0) === 64);
}

/** Where others may be the way, each peer is asked now and then whether it is there. */
function keepaliveFor(hosts: readonly HostPort[], { keepalive, isRouted, ownHosts }: PlanInput): number {
  if (hosts.length === 0) return 0;
  return keepalive ?? (isRouted ? KEEPALIVE_SECONDS : keepaliveTo(hosts, ownHosts));
}

/** Only who sits behind a NAT must keep it open: it has no address of the internet and talks to one. */
export const keepaliveTo = (hosts: readonly HostPort[], ownHosts: readonly HostPort[]): number =>
  ownHosts.length === 0 ||
  (hosts.some(({ host }) => isInternet(host)) && !ownHosts.some(({ host }) => isInternet(host)))
    ? KEEPALIVE_SECONDS
    : 0;

export interface Wishes {
  presharedKeyOf(publicKey: string): Secret | undefined;
  /** Where to send to from now on; undefined: where its packets came from last. */
  endpointOf(peer: WantedPeer, actual: WgPeer | undefined): HostPort | undefined;
}

/** What makes `actual` what is wanted, removals first. Leaves alone what is right already, so that no session suffers. */
export function planChanges(
  wanted: readonly WantedPeer[],
  actual: readonly WgPeer[],
  wishes: Wishes,
): WgPeerChange[] {
  const have = new Map(actual.map((peer) => [peer.publicKey, peer]));
  const keep = new Set(wanted.map(({ publicKey }) => publicKey));
  const changes: WgPeerChange[] = [];
  for (const { publicKey } of actual) if (!keep.has(publicKey)) changes.push({ publicKey, isRemoved: true });
  for (const peer of wanted) {
    const { publicKey, allowedIps, keepaliveSeconds } = peer;
    const now = have.get(publicKey);
    const preshared = wishes.presharedKeyOf(publicKey);
    const endpoint = wishes.endpointOf(peer, now);
    const change: WgPeerChange = {
      publicKey,
      ...(preshared === undefined
        ? now?.presharedKey === undefined
          ? {}
          : { presharedKey: null }
        : preshared.equals(now?.presharedKey)
          ? {}
          : { presharedKey: preshared }),
      ...(endpoint === undefined ||
      (endpoint.host === now?.endpoint?.host && endpoint.port === now.endpoint.port)
        ? {}
        : { endpoint }),
      ...((now?.keepaliveSeconds ?? 0) === keepaliveSeconds ? {} : { keepaliveSeconds }),
      ...(now !== undefined && now.allowedIps.toSorted().join() === allowedIps.join() ? {} : { allowedIps }),
    };
    if (Object.keys(change).length > 1) changes.push(change);
  }
  return changes;
}
