/** Text forms of WebSocket endpoints: `ws://host:port/path`, `wss://...`. Pure. */
import { GodwitError, isWildcard } from "@godwit/sdk";

export const PROTOCOL = "godwit.1";
export const PATH_DEFAULT = "/godwit";

/** A canonical URL. Throws GODWIT_ENDPOINT_INVALID for what is none, or carries more than a host, a port and a path. */
export function parseWebSocketEndpoint(endpoint: string): URL {
  const invalid = (why: string) =>
    new GodwitError(
      "GODWIT_ENDPOINT_INVALID",
      `"${endpoint}" is not ws://host:port/path or wss://...: ${why}`,
      {
        kind: "config",
      },
    );
  if (/^wss?:\/\/\[[^\]]*%/.test(endpoint))
    throw invalid("a URL cannot hold the zone of an address (%eth0); dial it with tcp:// instead");
  if (!/^wss?:\/\/[^\s/@?#]+(?:\/[^\s?#]*)?$/.test(endpoint))
    throw invalid("scheme, host, port and path are all it may have");
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw invalid("it is no URL");
  }
  if (url.hostname === "" || url.port === "0") throw invalid("it has no host or no port");
  // Certificates, and the names that a server knows itself by, have no dot at the end.
  url.hostname = url.hostname.replace(/\.$/, "");
  return url;
}

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
    .map((endpoint) => parseWebSocketEndpoint(endpoint).hostname.toLowerCase())
    .filter((host) => !isWildcard(host)),
];
