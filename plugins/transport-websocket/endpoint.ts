/** Text forms of WebSocket endpoints: `ws://host:port/path`, `wss://...`. Pure. */
import { formatEndpoint, GodwitError, isWildcard } from "@godwit/sdk";

export const PROTOCOL = "godwit.1";
export const PATH_DEFAULT = "/godwit";

export interface WebSocketEndpoint {
  readonly scheme: "ws" | "wss";
  /** A name, an IPv4 address, or an IPv6 address without brackets, with its zone if it has one. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** `Host` of a request: without the zone, which is this machine's, and without the port that goes without saying. */
  readonly hostHeader: string;
}

/** The one form of all spellings. */
export const formatWebSocketEndpoint = ({ scheme, host, port, path }: WebSocketEndpoint): string =>
  // A zone that itself begins as RFC 6874 does would lose that.
  formatEndpoint(scheme, host.replace(/%(?=25.)/, "%25"), port) + path;

/**
 * The zone of an address stands as in other endpoints, `[fe80::1%eth0]`, or as RFC 6874 writes it, `[fe80::1%25eth0]`.
 * Throws GODWIT_ENDPOINT_INVALID for what is no endpoint, or carries more than a host, a port and a path.
 */
export function parseWebSocketEndpoint(endpoint: string): WebSocketEndpoint {
  const invalid = (why: string) =>
    new GodwitError(
      "GODWIT_ENDPOINT_INVALID",
      `"${endpoint}" is not ws://host:port/path or wss://...: ${why}`,
      {
        kind: "config",
      },
    );
  // A URL cannot hold a zone.
  const [, front = endpoint, zone, back = ""] =
    /^(wss?:\/\/\[[0-9a-fA-F:.]+)%(?:25(?=[\w.-]))?([\w.-]{1,15})(\].*)$/s.exec(endpoint) ?? [];
  const text = front + back;
  if (!/^wss?:\/\/[^\s/@?#]+(?:\/[^\s?#]*)?$/.test(text))
    throw invalid("scheme, host, port and path are all it may have");
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw invalid("it is no URL");
  }
  if (url.hostname === "" || url.port === "0") throw invalid("it has no host or no port");
  // Certificates, and the names that a server knows itself by, have no dot at the end.
  url.hostname = url.hostname.replace(/\.$/, "");
  if (url.hostname.endsWith(".")) throw invalid("its host is no name");
  const plain = url.hostname.replace(/^\[|\]$/g, "");
  const scheme = url.protocol === "wss:" ? "wss" : "ws";
  return {
    scheme,
    host: zone === undefined ? plain : `${plain}%${zone}`,
    port: url.port === "" ? (scheme === "wss" ? 443 : 80) : Number(url.port),
    path: url.pathname,
    hostHeader: url.host,
  };
}

export const withoutZone = (host: string): string => host.replace(/%.*$/, "");

/** Whether a `Host` header names this listener: an address, `localhost`, or a name that it was told of. */
export function isHostAllowed(header: string | null, names: readonly string[]): boolean {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]/]+)(?::\d{1,5})?$/.exec(header ?? "");
  const host = match?.[1]?.toLowerCase().replace(/\.$/, "");
  if (host === undefined) return false;
  return (
    host.startsWith("[") || /^\d+(?:\.\d+){3}$/.test(host) || host === "localhost" || names.includes(host)
  );
}

/** Names by which a listener is known, in lower case: those of `hosts` and of what it advertises. */
export const namesOf = (hosts: readonly string[], advertise: readonly string[]): string[] => [
  ...hosts.map((host) => host.toLowerCase().replace(/\.$/, "")),
  ...advertise
    .map((endpoint) => parseWebSocketEndpoint(endpoint).host.toLowerCase())
    .filter((host) => !isWildcard(host)),
];
