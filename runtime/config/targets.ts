/** Targets of forwards as text: `HOST:PORT`, and the patterns of `[[forward_allow]]`. Pure. */
import { isIP } from "node:net";

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface TargetPattern {
  readonly host: string;
  /** Bits of an address that count; undefined: the whole host, as text. */
  readonly bits: number | undefined;
  readonly port: number | undefined;
}

const HOST_PATTERN = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$/i;

/**
 * `HOST:PORT`: an IPv4 address, an IPv6 address in brackets, or a name. Undefined for anything else, an address with a zone
 * (RFC 4007) among it: that names an interface of one machine, which the other end does not know.
 */
export function parseTarget(text: string): Target | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:\s[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) return undefined;
  const host = (match[1] ?? match[2]!).toLowerCase();
  if (match[1] !== undefined) return isIP(host) === 6 && !host.includes("%") ? { host, port } : undefined;
  // 1.2.3 and 0x7f000001 are addresses to some resolvers: a name has a letter in its last part.
  if (isIP(host) === 4) return { host, port };
  return HOST_PATTERN.test(host) && /[a-z][^.]*$/i.test(host) && !/^0x/i.test(host.split(".").at(-1)!)
    ? { host, port }
    : undefined;
}

export const formatTarget = ({ host, port }: Target): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

/** `HOST:PORT`, `ADDRESS/BITS:PORT`, and `*` for any port. IPv6 in brackets: `[fd00::/8]:22`. */
export function parsePattern(text: string): TargetPattern | undefined {
  const match = /^(?:\[([^\]/]+)(?:\/(\d{1,3}))?\]|([^:\s[\]/]+)(?:\/(\d{1,2}))?):(\d{1,5}|\*)$/.exec(text);
  if (match === null) return undefined;
  const target = parseTarget(
    `${match[1] === undefined ? match[3]! : `[${match[1]}]`}:${match[5] === "*" ? 1 : match[5]!}`,
  );
  if (target === undefined) return undefined;
  const bitsText = match[2] ?? match[4];
  const bits = bitsText === undefined ? undefined : Number(bitsText);
  const bitsMax = isIP(target.host) === 6 ? 128 : 32;
  if (bits !== undefined && (isIP(target.host) === 0 || bits > bitsMax)) return undefined;
  return { host: target.host, bits, port: match[5] === "*" ? undefined : target.port };
}
