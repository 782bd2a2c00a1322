/** Members as the API and its events show them. */
import { isoTime } from "../kernel/clock.ts";
import type { Clock } from "@godwit/sdk";
import type { MemberView, NodeEvent } from "./contract/node.ts";
import { PROTOCOL_CAPABILITIES } from "../identity/record.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { MemberRow } from "../membership/members.ts";
import type { Mesh } from "../mesh/mesh.ts";

/** This node first, then the others by id. */
export function memberViews(
  { self, mesh, clock }: { self: NodeId; mesh: Mesh; clock: Clock },
  callsignOf: (id: NodeId) => string | null,
): MemberView[] {
  const wallMs = clock.wallMs();
  const peers = new Map([...mesh.peers.connected].map((peer) => [peer.id, peer.best]));
  const nowMs = clock.monotonicMs();
  const tagsOf = (id: NodeId) =>
    (mesh.records.get(id)?.record.capabilities ?? []).filter((word) => !PROTOCOL_CAPABILITIES.includes(word));
  const own: MemberView = {
    id: self,
    callsign: callsignOf(self),
    state: "alive",
    incarnation: mesh.members.own.incarnation,
    since: isoTime(wallMs - (nowMs - mesh.startedAtMs)),
    reason: "this node",
    source: null,
    tags: tagsOf(self),
    last_heard: isoTime(wallMs),
  };
  const others = [...mesh.members.rows()].sort((a, b) => (a.id < b.id ? -1 : 1));
  return [
    own,
    ...others.map((row) => {
      const link = peers.get(row.id);
      const heardWallMs = link === undefined ? row.heardWallMs : wallMs - (nowMs - link.heardAtMs);
      return {
        ...viewOf(row),
        callsign: callsignOf(row.id),
        tags: tagsOf(row.id),
        last_heard: heardWallMs > 0 ? isoTime(heardWallMs) : null,
      };
    }),
  ];
}

const viewOf = ({ id, state, incarnation, sinceWallMs, reason, source }: MemberRow) => ({
  id,
  state,
  incarnation,
  since: isoTime(sinceWallMs),
  reason,
  source: source === "self" ? null : source,
});

export const memberEvent = (row: MemberRow, previous: string | undefined): NodeEvent["data"] => {
  const { id, incarnation, reason, source } = viewOf(row);
  return { id, previous: previous ?? null, incarnation, reason, source };
};
