/** Which links lead over one path: two of those carry nothing that one would not. docs/protocol/frames.md "Duplicate links". */

/** The host of an end without an address (`Pipe.isAnonymous` of the SDK). */
const ANONYMOUS = "anonymous";

/** Scheme and the two hosts, the same seen from either end. Where one end has no address, all ways are one. */
export function pathKey(session: { localEndpoint: string; remoteEndpoint: string }): string {
  const local = splitEndpoint(session.localEndpoint);
  const remote = splitEndpoint(session.remoteEndpoint);
  if (local.host === ANONYMOUS || remote.host === ANONYMOUS) return remote.scheme;
  return [remote.scheme, ...[local.host, remote.host].sort()].join(" ");
}

function splitEndpoint(endpoint: string): { scheme: string; host: string } {
  const match = /^([a-z0-9+.-]+):\/\/(.*?)(?::\d+)?(?:\/.*)?$/i.exec(endpoint);
  return { scheme: match?.[1] ?? "", host: match?.[2] ?? endpoint };
}
