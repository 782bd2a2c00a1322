/**
 * What custody sees of the mesh: a carrier that knows the next hop and reaches neighbours, and a directory that knows
 * who an address names.
 */
import { parseAddress, type Names } from "./identity/names.ts";
import type { NameProof } from "./identity/record.ts";
import { formatHex, parseHex, type NodeId } from "./kernel/ids.ts";
import type { RecordBook } from "./membership/records.ts";
import type { QuarantineDeps } from "./mesh-quarantine.ts";
import type { Peers } from "./peer/peers.ts";
import type { Mesh } from "./mesh.ts";
import { packetAssociated } from "./route/packets.ts";
import { decideForward, type NextHop } from "./route/decide.ts";
import type { Router } from "./route/router.ts";
import type { Carrier, Directory } from "./store/context.ts";
import type { Custody } from "./store/custody.ts";
import type { Store, StoreOp } from "./store/types.ts";
import { BULK_BYTES } from "./store/ready-queue.ts";
import { HOP_LIMIT } from "./wire/constants.ts";
import { type PacketHeader, PacketKind } from "./wire/packet.ts";

/** A packet that has reached its end here, by its kind. */
export function deliverPacket(mesh: Mesh, header: PacketHeader, payload: Uint8Array): void {
  const { source, kind, priority } = header;
  if (mesh.isRefused(source)) return;
  if (kind === PacketKind.stream) return mesh.streams.onPacket(header, payload);
  if (kind === PacketKind.punch) return mesh.punching.onPacket(source, payload);
  if (kind === PacketKind.memberPing) return mesh.members.handlePing(source, payload);
  if (kind === PacketKind.memberPong) return mesh.members.handlePong(source, payload);
  if (kind === PacketKind.transient)
    mesh.custody.deliverTransient(source, payload, packetAssociated(header), priority);
}

/** How custody reaches the neighbours: by the routes, over the peers. */
export function createCarrier(
  self: NodeId,
  { router, peers }: { router: Router; peers: Peers },
  queueDelay: (id: NodeId) => number,
  noteTraffic: (destination: NodeId, bytes: number) => void,
): Carrier {
  return {
    nextHop: ({ destination, arrivedFrom, bytes }, avoid, shun) => {
      const plane = bytes > BULK_BYTES ? "bulk" : "any";
      let hops: readonly NextHop[] = router.nextHops(destination, plane);
      if (hops.some((hop) => avoid(hop.neighbour))) hops = hops.filter((hop) => !avoid(hop.neighbour));
      // Back where it came from is no other way.
      const others = hops.filter(({ neighbour }) => neighbour !== shun && neighbour !== arrivedFrom);
      if (shun !== undefined && others.length > 0) hops = others;
      const request = {
        destination,
        self,
        hopsLeft: HOP_LIMIT,
        arrivedFrom,
        size: 0,
        plane,
        isCustody: true,
      } as const;
      const decision = decideForward(request, hops, queueDelay);
      if (decision.kind === "forward" && decision.to !== destination) noteTraffic(destination, bytes);
      return decision.kind === "forward"
        ? { kind: "forward", to: decision.to }
        : {
            kind: "wait",
            reason:
              plane === "bulk" && router.reachable(destination)
                ? "no route fit for bulk yet"
                : "no route yet",
          };
    },
    isConnected: (id) => peers.get(id) !== undefined,
    send: (to, lane, frame) => peers.get(to)?.send(lane, frame) ?? false,
    frameBytesMax: (to) => peers.get(to)?.frameBytesMax ?? 0,
    rttMs: (to) => peers.get(to)?.best?.rttMs ?? 1_000,
    isReliable: (to) => peers.get(to)?.best?.session.isReliable ?? false,
  };
}

/** What trials need of custody: test bundles, and the messages whose receipt is missing. */
export function createTrialBench({ tests, forwarder }: Custody): QuarantineDeps["custody"] {
  const waiting = function* (via: NodeId, destination: NodeId) {
    for (const holding of forwarder.holdings)
      if (
        holding.relayedTo === via &&
        holding.state === "relayed" &&
        holding.header.destination === destination &&
        holding.via === undefined
      )
        yield holding;
  };
  return {
    sendTest: (destination, via, priority) => tests.send(destination, via, priority),
    repeatTest: (id) => tests.repeat(id),
    isTestTaken: (id) => tests.isTaken(id),
    endTest: (id) => tests.end(id),
    overdue: (via, destination, beforeMs) => {
      for (const { relayedAtMs, header } of waiting(via, destination))
        if (relayedAtMs !== undefined && relayedAtMs <= beforeMs) return header;
      return undefined;
    },
    isAwaiting: (via, destination) => waiting(via, destination).next().done !== true,
    reoffer: (via, destination) => {
      for (const { id } of [...waiting(via, destination)]) forwarder.retry(id);
    },
  };
}

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

const NAME_PROOF_KEY = "name-proof";

export const nameProofRow = (callsign: string, { serial, signature }: NameProof): StoreOp => ({
  op: "put",
  in: "setting",
  key: NAME_PROOF_KEY,
  meta: `${callsign} ${serial} ${formatHex(signature)}`,
});

/** The proof for `callsign` that the operator adopted; one for a name that the node had before is of no use. */
export async function loadNameProof(
  store: Store,
  callsign: string | undefined,
): Promise<NameProof | undefined> {
  const row = (await store.load("setting")).find(({ key }) => key === NAME_PROOF_KEY);
  const match = /^(\S+) (\d{1,10}) ([0-9a-f]{128})$/.exec(row?.meta ?? "");
  return match === null || match[1] !== callsign
    ? undefined
    : { serial: Number(match[2]), signature: parseHex(match[3]!, match[3]!.length / 2)! };
}

const locationOf = (callsign: string): string => callsign.slice(0, callsign.indexOf("-"));
