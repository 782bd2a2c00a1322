/** Text forms of TCP endpoints: `host:port`, `[v6]:port`, and the same behind `tcp://`. */
import { networkInterfaces } from "node:os";
import { GodwitError } from "@godwit/sdk";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Throws GODWIT_ENDPOINT_INVALID naming what was expected. IPv6 hosts stand in brackets. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new GodwitError("GODWIT_ENDPOINT_INVALID", `"${text}" is not host:port or [IPv6]:port`, {
      kind: "config",
    });
  }
  return { host: match[1] ?? match[2]!, port };
}

export const parseTcpEndpoint = (endpoint: string): HostPort =>
  parseHostPort(endpoint.replace(/^tcp:\/\//, ""));

export const formatTcpEndpoint = (host: string, port: number): string =>
  host.includes(":") ? `tcp://[${host}]:${port}` : `tcp://${host}:${port}`;

/**
 * What other machines can dial when we are bound to `host`. A wildcard stands for every address of this machine that
 * is not loopback or link-local; with none of those (a laptop in a tunnel, a container without network), loopback.
 */
export function reachableEndpoints({ host, port }: HostPort): string[] {
  if (host !== "0.0.0.0" && host !== "::") return [formatTcpEndpoint(host, port)];
  const wanted = host === "0.0.0.0" ? ["IPv4"] : ["IPv4", "IPv6"];
  const addresses = Object.values(networkInterfaces())
    .flatMap((found) => found ?? [])
    .filter(({ family, internal, address }) => wanted.includes(family) && !internal && !isLinkLocal(address))
    .map(({ address }) => formatTcpEndpoint(address, port));
  return addresses.length > 0
    ? addresses
    : [formatTcpEndpoint(host === "0.0.0.0" ? "127.0.0.1" : "::1", port)];
}

const isLinkLocal = (address: string): boolean =>
  address.startsWith("169.254.") || /^fe[89ab]/i.test(address);
