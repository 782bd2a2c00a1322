/** Hole punching joined to the mesh: its packets, the nodes it may try, and where its hints go. */
import type { NodeId } from "../kernel/ids.ts";
import type { MembershipView } from "../membership/hints.ts";
import type { RecordBook } from "../membership/records.ts";
import type { Peers } from "../peer/peers.ts";
import type { Packets } from "../route/packets.ts";
import type { Router } from "../route/router.ts";
import { PacketKind } from "../wire/packet.ts";
import { type PunchDeps, Punching } from "../peer/punch.ts";

/** Of the mesh it belongs to; `mesh` is wired only when something happens. */
export function openPunching(
  deps: Pick<PunchDeps, "network" | "clock" | "random" | "log" | "metrics" | "verify"> & {
    readonly identity: { readonly id: NodeId; sign(bytes: Uint8Array): Uint8Array };
  },
  mesh: {
    isRefused(id: NodeId): boolean;
    readonly peers: Peers;
    readonly records: RecordBook;
    readonly router: Router;
    readonly packets: Packets;
    readonly view: MembershipView;
  },
  endpoints: () => readonly string[],
): Punching {
  const { identity, network, clock, random, log, metrics, verify } = deps;
  return new Punching({
    ...{ self: identity.id, network, clock, random, log, metrics, verify, endpoints },
    sign: (bytes) => identity.sign(bytes),
    isBlocked: (id) => mesh.isRefused(id),
    isNeighbour: (id) => mesh.peers.get(id) !== undefined,
    members: () =>
      [...mesh.records.all].map(({ record }) => record.id).filter((id) => mesh.router.reachable(id)),
    sendPacket: (to, payload) => void mesh.packets.send(to, PacketKind.punch, payload, { priority: 1 }),
    hint: (hint) => void mesh.view.hint("punch", hint),
  });
}
