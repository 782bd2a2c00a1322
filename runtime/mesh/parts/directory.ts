/** What an address means: which nodes are named by it now, for mail, streams and people. Reads; binds no name. */
import { locationOf, parseAddress, type Names } from "../../identity/names.ts";
import { godwitError } from "../../kernel/errors.ts";
import { NODE_ID_CHARS, parseNodeId, type NodeId } from "../../kernel/ids.ts";
import type { RecordBook } from "../../membership/records.ts";
import type { Directory } from "../../custody/context.ts";
import type { PeerBook } from "../../trust/book.ts";

const SHORT_ID_CHARS = 10;

export function createDirectory(
  { self, callsign, location }: { self: NodeId; callsign: string | undefined; location: string | undefined },
  {
    names,
    records,
    book,
  }: { names: Names; records: RecordBook; book: Pick<PeerBook, "isTrustedByOperator"> },
): Directory {
  const machinesAt = (place: string): NodeId[] => {
    const isTrusted = (id: NodeId) => book.isTrustedByOperator(id);
    const found = names.machinesAt(place, isTrusted).filter((id) => id !== self && !records.isRevoked(id));
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
    nodeOf: (text) => {
      if (text.length === NODE_ID_CHARS) return parseNodeId(text);
      if (text.length === SHORT_ID_CHARS && !text.includes("-")) {
        const lower = text.toLowerCase();
        const known = [self, ...[...records.all].map(({ record }) => record.id)];
        const found = new Set(known.filter((id) => id.startsWith(lower)));
        if (found.size === 1) return [...found][0]!;
      }
      const address = parseAddress(text);
      if (address.kind === "machine") {
        if (address.callsign === callsign) return self;
        const named = names.resolve(address.callsign);
        if (named.kind === "node") return named.id;
        if (named.kind === "conflict")
          throw godwitError(
            "GODWIT_NAME_CONFLICT",
            `nobody holds ${address.callsign}, and others claim it; settle it with godwit names resolve`,
          );
      }
      throw godwitError(
        "GODWIT_NAME_UNKNOWN",
        `no node called ${text.slice(0, 60)} has been heard of; see godwit peers and godwit names`,
      );
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
