/**
 * Text forms: endpoints `yggdrasil://[200:...]:port`, with what to call to get there if the far end says so
 * (`?peer=tls://192.0.2.7:9001`), and addresses of Yggdrasil's own peerings. Pure.
 */
import { isIP } from "node:net";
import { formatEndpoint, GodwitError, parseHostPort } from "@godwit/sdk";

export const SCHEME = "yggdrasil";
/** Peerings that one endpoint may name. */
const PEERS_MAX = 4;

export interface OverlayTarget {
  /** IPv6 without brackets, within 200::/7. */
  readonly host: string;
  /** 1 to 65,535. */
  readonly port: number;
  /** Where its daemon takes peerings; may be empty. */
  readonly peers: readonly string[];
}

/** Addresses of nodes (200::/8) and of machines behind them (300::/8). */
export const isOverlayAddress = (text: string): boolean =>
  isIP(text) === 6 && /^0?[23][0-9a-fA-F]{2}:/.test(text);

/** Throws GODWIT_ENDPOINT_INVALID for whatever is no address of 200::/7: a hint must not lead out of the overlay. */
export function parseEndpoint(endpoint: string): OverlayTarget {
  const [place = "", query, ...more] = endpoint.split("?");
  const { host, port } = parseHostPort(place.replace(/^yggdrasil:\/\//, ""));
  const peers = query?.split("&").map((word) => word.replace(/^peer=/, "")) ?? [];
  const isFine = peers.length <= PEERS_MAX && more.length === 0 && peers.every(isCallable);
  if (place.startsWith("yggdrasil://") && isOverlayAddress(host) && port > 0 && isFine)
    return { host, port, peers };
  throw new GodwitError(
    "GODWIT_ENDPOINT_INVALID",
    `"${endpoint.slice(0, 100)}" is no address of 200::/7 with a port`,
    { kind: "config" },
  );
}

export const formatTarget = ({ host, port, peers }: OverlayTarget): string =>
  formatEndpoint(SCHEME, host, port) +
  (peers.length === 0 ? "" : `?${peers.map((peer) => `peer=${peer}`).join("&")}`);

/** A peering that others may be told of and call: an address and a port, no name to look up, nothing secret. */
export function isCallable(peer: string): boolean {
  const match = /^(?:tcp|tls|quic|ws|wss):\/\/(?:\[([0-9a-fA-F:]+)\]|(\d+\.\d+\.\d+\.\d+)):(\d{1,5})$/.exec(
    peer,
  );
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  return isIP(host) !== 0 && !isOverlayAddress(host) && port > 0 && port <= 65_535;
}

/** What may stand in the daemon's list of peers, as it writes it itself. */
export const isPeer = (peer: string): boolean =>
  /^(?:tcp|tls|quic|ws|wss|unix|socks|sockstls):\/\/[\x21-\x7e]{1,240}$/.test(peer);

/** Fit for people, and as the daemon lists it: without what may be a password. */
export const shownPeer = (peer: string): string =>
  peer
    .replace(/[?#].*$/s, "")
    .replace(/\/+$/, "")
    .replace(/^([a-z]+:\/\/)[^/]*@/, "$1");

/** The address in `tls://192.0.2.7:9001`; undefined for names and for what leads through something else. */
export function hostOf(peer: string): string | undefined {
  const match =
    /^(?:tcp|tls|quic|ws|wss):\/\/(?:\[([0-9a-fA-F:.]+)(?:%[^\]]*)?\]|([0-9.]+)):\d{1,5}(?:\/|$)/.exec(peer);
  const host = match?.[1] ?? match?.[2] ?? "";
  return isIP(host) === 0 ? undefined : host.toLowerCase();
}

/** On the same wire: how the daemon's multicast finds its neighbours. */
export const isLinkLocal = (remote: string): boolean => /^[a-z]+:\/\/\[fe[89ab][0-9a-f]?:/i.test(remote);
