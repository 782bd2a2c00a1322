/** Addresses as operators write them and endpoints as nodes tell them: text in, plain values out, no I/O. */
import { GodwitError } from "./errors.ts";
import type { HostAddress } from "./network.ts";

export interface HostPort {
  /** A name, an IPv4 address, or an IPv6 address without brackets, with its zone if it has one. */
  readonly host: string;
  /** 0 to 65,535. */
  readonly port: number;
}

/** Throws GODWIT_ENDPOINT_INVALID naming what was expected. IPv6 hosts stand in brackets. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]{1,15})?)\]|([^\s:[\]/%?#@]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535 || (match[1] !== undefined && !match[1].includes(":"))) {
    throw new GodwitError("GODWIT_ENDPOINT_INVALID", `"${text}" is not host:port or [IPv6]:port`, {
      kind: "config",
    });
  }
  return { host: match[1] ?? match[2]!, port };
}

/** `tcp://192.0.2.1:4860`, `tcp://[2001:db8::1]:4860`. */
export const formatEndpoint = (scheme: string, host: string, port: number): string =>
  host.includes(":") ? `${scheme}://[${host}]:${port}` : `${scheme}://${host}:${port}`;

export const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::";
const isIp = (host: string): boolean => host.includes(":") || /^\d+(?:\.\d+){3}$/.test(host);

/** What an entry of `listen` may be: an address, `localhost`, or an interface with whatever addresses it has. */
export function isListen(text: string): boolean {
  try {
    const { host } = parseHostPort(text);
    return isIp(host) || /^[\w.-]{1,15}$/.test(host);
  } catch {
    return false;
  }
}

/** One socket to open. */
export interface ListenAddress extends HostPort {
  /** False: on `::`, IPv4 is meant as well. */
  readonly isIpv6Only: boolean;
}

/**
 * What `listen` means on this machine now. `eth0:4860` is one socket for each address of that interface, link-local
 * ones with their zone. `[::]` takes IPv4 too, unless `0.0.0.0` has the same port; without any IPv6 it is `0.0.0.0`.
 */
export function planListen(listen: readonly string[], addresses: readonly HostAddress[]): ListenAddress[] {
  const wanted = listen.map((text) => parseHostPort(text));
  const hasIpv6 = addresses.length === 0 || addresses.some(({ family }) => family === 6);
  const plan = new Map<string, ListenAddress>();
  const add = (host: string, port: number, isIpv6Only: boolean) =>
    plan.set(`${host} ${port}`, { host, port, isIpv6Only });
  for (const { host, port } of wanted) {
    const isTakenByIpv4 = wanted.some(
      (other) => other.host === "0.0.0.0" && other.port === port && port !== 0,
    );
    if (host === "::" && !hasIpv6) {
      if (!isTakenByIpv4) add("0.0.0.0", port, false);
    } else if (host === "::") add(host, port, isTakenByIpv4);
    else if (isIp(host) || host === "localhost") add(host, port, true);
    else
      for (const { address, family, scope, interface: name } of addresses)
        if (name === host) add(family === 6 && scope === "link" ? `${address}%${name}` : address, port, true);
  }
  return [...plan.values()];
}

/**
 * Hosts to tell others of for a socket bound to `host`, what to try first in front. A wildcard stands for the machine's
 * advertisable addresses of its families, maybe none; an address for itself, but a link-local IPv6 one for nothing,
 * because its zone has a meaning on this machine only.
 */
export function advertisedHosts(
  { host, isIpv6Only }: Pick<ListenAddress, "host" | "isIpv6Only">,
  addresses: readonly HostAddress[],
): string[] {
  if (host.includes("%") || /^fe[89ab]/i.test(host)) return [];
  if (!isWildcard(host)) return [host];
  return addresses
    .filter(
      ({ family, isAdvertisable }) =>
        isAdvertisable && (family === 4 ? host === "0.0.0.0" || !isIpv6Only : host === "::"),
    )
    .map(({ address }) => address);
}

/** By what connections of strangers are counted: an IPv4 address, or the network of 64 bits that one host has in IPv6. */
export function sourceGroup(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
  if (!plain.includes(":")) return plain;
  const [head = "", tail = ""] = plain.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === "" ? [] : tail.split(":");
  const missing = plain.includes("::") ? Math.max(0, 8 - front.length - back.length) : 0;
  return [...front, ...Array.from({ length: missing }, () => "0"), ...back].slice(0, 4).join(":");
}
