/** Which links lead over one path: two of those carry nothing that one would not. docs/protocol/frames.md "Duplicate links". */

/** The host of an end without an address (`Pipe.isAnonymous` of the SDK). */
const ANONYMOUS = "anonymous";

interface Ends {
  readonly localEndpoint: string;
  readonly remoteEndpoint: string;
}

/** What is asked of a link. */
interface WayOut {
  readonly session: Ends & { readonly direction: "inbound" | "outbound" };
  readonly isRetiring: boolean;
  readonly isDoubted: boolean;
}

/** Scheme and the two hosts, the same seen from either end. Where one end has no address, all ways are one. */
export function pathKey(session: Ends): string {
  const local = splitEndpoint(session.localEndpoint);
  const remote = splitEndpoint(session.remoteEndpoint);
  if (local.host === ANONYMOUS || remote.host === ANONYMOUS) return remote.scheme;
  return [remote.scheme, ...[local.host, remote.host].sort()].join(" ");
}

/** Which interface of this machine has an address, without zone; undefined: none. */
export type InterfaceOf = (address: string) => string | undefined;

/** No interface is called that. */
const WITHIN = "within this machine";

/**
 * Where a link leaves this machine, with its scheme: two links to one node that leave over one interface lead to one machine by two of its
 * addresses, as IPv4 and IPv6. Undefined: not known, or not over addresses.
 */
function exitKey(session: Ends, interfaceOf: InterfaceOf): string | undefined {
  const remote = splitEndpoint(session.remoteEndpoint);
  const isWithin = interfaceOf(bare(remote.host)) !== undefined;
  const exit = isWithin ? WITHIN : interfaceOf(bare(splitEndpoint(session.localEndpoint).host));
  return exit === undefined ? undefined : `${remote.scheme} ${exit}`;
}

/** Whether a link that this node dialled leads where another one of `links`, which it dialled and which gives answers, leads already. */
export function leadsWhere(link: WayOut, links: readonly WayOut[], interfaceOf: InterfaceOf): boolean {
  const key = link.session.direction === "outbound" ? exitKey(link.session, interfaceOf) : undefined;
  if (key === undefined) return false;
  const isIt = (other: WayOut) =>
    other !== link && other.session.direction === "outbound" && !other.isRetiring && !other.isDoubted;
  return links.some((other) => isIt(other) && exitKey(other.session, interfaceOf) === key);
}

/** Without brackets and zone. */
const bare = (host: string): string => host.replace(/^\[|\]$/g, "").replace(/%.*$/, "");

function splitEndpoint(endpoint: string): { scheme: string; host: string } {
  const match = /^([a-z0-9+.-]+):\/\/(.*?)(?::\d+)?(?:\/.*)?$/i.exec(endpoint);
  return { scheme: match?.[1] ?? "", host: match?.[2] ?? endpoint };
}
