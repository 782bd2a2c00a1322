/** The members of the mesh as engines get them (`Members` of the SDK): the living parts turned into plain values. */
import type { Member } from "@godwit/sdk";
import type { Heard } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { MemberRow } from "../membership/members.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { MembersBackend } from "../plugin/host/members-door.ts";

export function createMembersBackend(mesh: Mesh, hub: Heard<MeshEvents>): MembersBackend {
  const memberOf = ({ id, state, incarnation, sinceWallMs }: MemberRow): Member => ({
    id,
    callsign: mesh.records.get(id)?.record.callsign,
    state,
    incarnation,
    sinceMs: sinceWallMs,
  });
  return {
    get(id) {
      const row = mesh.isRefused(id as NodeId) ? undefined : mesh.members.row(id as NodeId);
      return row === undefined ? undefined : memberOf(row);
    },
    list(limit, after = "") {
      const rows = [...mesh.members.rows()].filter(({ id }) => id > after && !mesh.isRefused(id));
      return rows
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, limit)
        .map(memberOf);
    },
    watch(fn) {
      const ends = [
        hub.on("memberChanged", ({ row }) => fn(row.id)),
        hub.on("memberForgotten", fn),
        // Whom this node refuses is no member, and a record brings the callsign.
        hub.on("trustChanged", ({ id }) => fn(id)),
        hub.on("revoked", ({ id }) => fn(id)),
        hub.on("recordChanged", fn),
      ];
      return () => ends.forEach((end) => end());
    },
  };
}
