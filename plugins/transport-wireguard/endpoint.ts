/**
 * Endpoints of WireGuard: `wg://KEY/host:port,host:port`. KEY is the public key in base64 for URLs without padding; behind it, maybe
 * nothing, where its UDP packets may be sent. Which node it is, and so its address inside, is said beside the endpoint. Pure.
 */
import { GodwitError, parseHostPort, type HostPort } from "@godwit/sdk";
import { keyText, parseKey } from "./keys.ts";

export const SCHEME = "wg";
/** More of one node are not tried. */
export const HOSTS_MAX = 4;
/** Of a node record. */
const ENDPOINT_CHARS_MAX = 200;

export interface WgEndpoint {
  /** Base64, as `wg` prints it. */
  readonly publicKey: string;
  readonly hosts: readonly HostPort[];
}

export const formatHost = ({ host, port }: HostPort): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

/** As many hosts as there is room for. */
export function formatWgEndpoint({ publicKey, hosts }: WgEndpoint): string {
  const key = Buffer.from(parseKey(publicKey)!).toString("base64url");
  let text = `${SCHEME}://${key}`;
  for (const [i, host] of hosts.slice(0, HOSTS_MAX).entries()) {
    const next = `${text}${i === 0 ? "/" : ","}${formatHost(host)}`;
    if (next.length > ENDPOINT_CHARS_MAX) break;
    text = next;
  }
  return text;
}

/** Undefined for what is no such endpoint. */
export function tryParseWgEndpoint(text: string): WgEndpoint | undefined {
  const match = /^wg:\/\/([A-Za-z0-9_-]{43})(?:\/([^/?#\s]*))?$/.exec(text);
  if (match === null) return undefined;
  const key = keyText(Buffer.from(match[1]!, "base64url"));
  const words = (match[2] ?? "") === "" ? [] : match[2]!.split(",");
  if (parseKey(key) === undefined || words.length > HOSTS_MAX) return undefined;
  try {
    const hosts = words.map((word) => parseHostPort(word));
    return hosts.every(({ host, port }) => port > 0 && !host.includes("%"))
      ? { publicKey: key, hosts }
      : undefined;
  } catch {
    return undefined;
  }
}

/** Throws GODWIT_ENDPOINT_INVALID. */
export function parseWgEndpoint(text: string): WgEndpoint {
  const found = tryParseWgEndpoint(text);
  if (found !== undefined) return found;
  throw new GodwitError(
    "GODWIT_ENDPOINT_INVALID",
    `${text.slice(0, 200)} is not wg://KEY/host:port with a public key of WireGuard`,
    { kind: "config" },
  );
}
