/**
 * The operator's rules about nodes by what they are called, come from or come over. Pure. The first rule that matches
 * counts; what was decided about one node by id stands above all rules.
 */
import { BlockList, isIP } from "node:net";
import { parseCidr } from "../kernel/cidr.ts";
import type { TrustLevel } from "./book.ts";

export interface TrustRule {
  readonly level: TrustLevel;
  /** `LON-B` or `LON-*`; only a name that the node holds here counts, never one that it claims. */
  readonly callsigns: readonly string[];
  /** Schemes: `tcp`, `tor`. */
  readonly transports: readonly string[];
  /** CIDR ranges of the far end's address. */
  readonly networks: readonly string[];
}

export interface TrustFacts {
  readonly callsign: string | undefined;
  /** Remote endpoints of its live links: `tcp://10.0.0.7:4860`. */
  readonly endpoints: readonly string[];
}

export class TrustRules {
  readonly #rules: readonly { rule: TrustRule; networks: BlockList }[];

  /** Ranges were checked with `parseCidr` before. */
  constructor(rules: readonly TrustRule[]) {
    this.#rules = rules.map((rule) => {
      const networks = new BlockList();
      for (const text of rule.networks) {
        const range = parseCidr(text);
        if (range !== undefined) networks.addSubnet(range.address, range.bits, range.family);
      }
      return { rule, networks };
    });
  }

  /** The first rule whose every given condition some fact meets. */
  match({ callsign, endpoints }: TrustFacts): TrustRule | undefined {
    return this.#rules.find(({ rule, networks }) => {
      if (rule.callsigns.length > 0 && !rule.callsigns.some((pattern) => isNamed(callsign, pattern)))
        return false;
      if (rule.transports.length === 0 && rule.networks.length === 0) return true;
      return endpoints.some((endpoint) => {
        const { scheme, host } = partsOf(endpoint);
        if (rule.transports.length > 0 && !rule.transports.includes(scheme)) return false;
        if (rule.networks.length === 0) return true;
        const version = isIP(host);
        return version !== 0 && networks.check(host, version === 4 ? "ipv4" : "ipv6");
      });
    })?.rule;
  }
}

function isNamed(callsign: string | undefined, pattern: string): boolean {
  if (callsign === undefined) return false;
  return pattern.endsWith("*") ? callsign.startsWith(pattern.slice(0, -1)) : callsign === pattern;
}

function partsOf(endpoint: string): { scheme: string; host: string } {
  const match = /^([a-z0-9+.-]+):\/\/(?:\[([^\]]*)\]|([^:/]*))/i.exec(endpoint);
  const host = (match?.[2] ?? match?.[3] ?? "").replace(/%.*$/, "");
  return { scheme: match?.[1] ?? "", host: host.replace(/^::ffff:(?=\d+\.)/i, "") };
}
