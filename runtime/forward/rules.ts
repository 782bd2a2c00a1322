/** Which forwards this node serves: the rules of its configuration, and the pure decision. */
import { isIP } from "node:net";
import { parsePattern, type Target, type TargetPattern } from "../config/targets.ts";

/** One `[[forward_allow]]`. */
export interface AllowRule {
  /** Node ids, callsigns, or "trusted". */
  readonly from: readonly string[];
  readonly targets: readonly string[];
}

/** Whether some rule lets a node (as `isFrom` knows it) reach the target. Names match only as they are written. */
export function decideAllowed(
  rules: readonly AllowRule[],
  isFrom: (who: string) => boolean,
  target: Target,
): boolean {
  return rules.some(
    ({ from, targets }) => from.some(isFrom) && targets.some((text) => matches(parsePattern(text), target)),
  );
}

function matches(pattern: TargetPattern | undefined, { host, port }: Target): boolean {
  if (pattern === undefined || (pattern.port !== undefined && pattern.port !== port)) return false;
  if (isIP(host) === 0 || isIP(host) !== isIP(pattern.host))
    return pattern.host === host && pattern.bits === undefined;
  const bitsMax = isIP(host) === 6 ? 128 : 32;
  const shift = BigInt(bitsMax - (pattern.bits ?? bitsMax));
  return numberOf(host) >> shift === numberOf(pattern.host) >> shift;
}

function numberOf(address: string): bigint {
  if (isIP(address) === 4) return address.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  // The URL parser is the one IPv6 parser that every runtime has: it answers the form of RFC 5952.
  const text = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head, tail] = text.split("::");
  const groups = (part: string | undefined) => (part === undefined || part === "" ? [] : part.split(":"));
  const [front, back] = [groups(head), groups(tail)];
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => "0"), ...back];
  return all.reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
}
