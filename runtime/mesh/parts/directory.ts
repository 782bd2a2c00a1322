/** What an address means: which nodes are named by it now. */
import { parseAddress, type Names } from "../../identity/names.ts";
import type { NodeId } from "../../kernel/ids.ts";
import type { RecordBook } from "../../membership/records.ts";
import type { Directory } from "../../custody/context.ts";

/** What an address means: which nodes are named by it now. */
export function createDirectory(
  { self, callsign, location }: { self: NodeId; callsign: string | undefined; location: string | undefined },
  { names, records }: { names: Names; records: RecordBook },
): Directory {
  const machinesAt = (place: string): NodeId[] => {
    const found = names.machinesAt(place).filter((id) => id !== self && !records.isRevoked(id));
    return location === place ? [self, ...found] : found;
  };
  return {
    canonical: (text) => {
      const address = parseAddress(text);
      return address.kind === "node"
        ? address.id
        : address.kind === "machine"
          ? address.callsign
          : address.location;
    },
    resolve: (text, failover) => {
      const address = parseAddress(text);
      if (address.kind === "location") {
        const nodes = machinesAt(address.location);
        return nodes.length > 0 ? { kind: "nodes", nodes } : { kind: "unknown" };
      }
      if (address.kind === "node") {
        // A revoked node has no key to seal to, and mail for it shall not leave.
        const isKnown =
          address.id === self || (records.get(address.id) !== undefined && !records.isRevoked(address.id));
        return isKnown ? { kind: "nodes", nodes: [address.id] } : { kind: "unknown" };
      }
      if (address.callsign === callsign) return { kind: "nodes", nodes: [self] };
      const named = names.resolve(address.callsign);
      if (named.kind === "conflict") return { kind: "conflict" };
      const others = failover ? machinesAt(locationOf(address.callsign)) : [];
      const isHeld = named.kind === "node" && !records.isRevoked(named.id);
      const nodes = [...new Set([...(isHeld ? [named.id] : []), ...others])];
      return nodes.length > 0 ? { kind: "nodes", nodes } : { kind: "unknown" };
    },
  };
}

const locationOf = (callsign: string): string => callsign.slice(0, callsign.indexOf("-"));
