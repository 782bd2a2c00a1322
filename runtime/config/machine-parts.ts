/** Lines of the table `[machine]` as text: interfaces and time servers. Pure. */
import { isIP } from "node:net";

/** One interface of `machine.network`. */
export interface InterfacePlan {
  /** Name, or a beginning with `*`. */
  readonly name: string;
  readonly mode: "dhcp" | "static" | "off";
  /** IPv4 or IPv6 with prefix lengths; only of `static`. */
  readonly addresses: readonly { readonly address: string; readonly prefixLength: number }[];
  readonly gateway: string | undefined;
}

const NAME_PATTERN = /^[A-Za-z0-9_.:-]{1,15}\*?$/;
const ADDRESSES_MAX = 16;

/** `eth0=dhcp`, `en*=off`, `eth1=192.0.2.5/24,192.0.2.1` (addresses, then a gateway without prefix); undefined for anything else. */
export function parseInterfacePlan(text: string): InterfacePlan | undefined {
  const at = text.indexOf("=");
  const name = text.slice(0, at);
  const rest = text.slice(at + 1);
  if (at < 1 || !NAME_PATTERN.test(name)) return undefined;
  if (rest === "dhcp" || rest === "off") return { name, mode: rest, addresses: [], gateway: undefined };
  const addresses: { address: string; prefixLength: number }[] = [];
  let gateway: string | undefined;
  for (const part of rest.split(",")) {
    const match = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(part);
    const family = match === null ? 0 : isIP(match[1]!);
    if (match === null || family === 0 || gateway !== undefined) return undefined;
    if (match[2] === undefined) gateway = match[1]!;
    else if (Number(match[2]) > (family === 4 ? 32 : 128)) return undefined;
    else addresses.push({ address: match[1]!, prefixLength: Number(match[2]) });
  }
  if (addresses.length === 0 || addresses.length > ADDRESSES_MAX) return undefined;
  return { name, mode: "static", addresses, gateway };
}

/** `192.0.2.1`, `2001:db8::1`, `192.0.2.1:10123` or `[2001:db8::1]:123`; undefined for anything else. */
export function parseTimeServer(
  text: string,
): { readonly address: string; readonly port: number } | undefined {
  if (isIP(text) !== 0) return { address: text, port: SNTP_PORT };
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  return isIP(address) === (match?.[1] === undefined ? 4 : 6) && port > 0 && port <= 65_535
    ? { address, port }
    : undefined;
}
const SNTP_PORT = 123;
