/**
 * The mesh as services get it (`Mesh` of the SDK): turns the living parts into the SDK's plain values. Reads; what
 * changes goes straight to custody. The door in `plugin/host/mesh-door.ts` ends it with each plugin.
 */
import type { Heard } from "../kernel/hub.ts";
import type { CustodyEvents } from "../custody/custody.ts";
import type { IncomingMessage, MeshHop, MeshSelf, MeshStation, SentMessage } from "@godwit/sdk";
import type { MessageId, NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { MeshBackend } from "../plugin/host/mesh-door.ts";
import type { InboxEntry } from "../custody/recipient/inbox.ts";
import type { OutboxEntry } from "../custody/source/entry.ts";
import type { TraceEntry } from "../wire/bundle.ts";
import { shownProof } from "../custody/source/proofs.ts";
import { outboxReason } from "./lives.ts";
import { createStreamsBackend } from "./streams-for-plugins.ts";

const PAGE_MAX = 500;

export function createMeshBackend(
  self: MeshSelf & { readonly id: NodeId },
  mesh: Mesh,
  hub: Heard<CustodyEvents>,
): MeshBackend {
  const { custody, records, router, names } = mesh;
  const callsignOf = (id: NodeId): string | undefined =>
    id === self.id ? self.callsign : records.get(id)?.record.callsign;
  const hops = (trace: readonly TraceEntry[]): MeshHop[] =>
    trace.map(({ node, atMs }) => ({ id: node, callsign: callsignOf(node), atMs }));
  const incoming = (entry: InboxEntry): IncomingMessage => ({
    id: entry.id,
    from: entry.from,
    fromCallsign: callsignOf(entry.from),
    to: entry.to,
    subject: entry.subject,
    contentType: entry.contentType,
    priority: entry.priority,
    size: entry.size,
    createdAtMs: entry.createdAtMs,
    deliveredAtMs: entry.deliveredAtMs,
    trace: hops(entry.trace),
    hopsUntraced: entry.hopsUntraced ?? 0,
  });
  const outgoing = (entry: OutboxEntry): SentMessage => ({
    id: entry.id,
    to: entry.to,
    state: entry.state,
    reason: outboxReason(mesh, entry) ?? undefined,
    createdAtMs: entry.createdAtMs,
    receipt:
      entry.receipt === null
        ? undefined
        : {
            by: entry.receipt.by,
            byCallsign: callsignOf(entry.receipt.by),
            atMs: entry.receipt.atMs,
            ...shownProof(entry.receipt),
            trace: hops(entry.receipt.trace),
          },
  });

  function stations(): MeshStation[] {
    const found = new Map<NodeId, MeshStation>();
    const unreachable = { isReachable: false, costMs: undefined, via: undefined } as const;
    for (const { record } of records.all)
      if (!record.isRevoked)
        found.set(record.id, { id: record.id, callsign: record.callsign, ...unreachable });
    for (const { node, name } of names.list()) {
      const callsign = found.get(node)?.callsign ?? name;
      found.set(node, { id: node, callsign, ...unreachable });
    }
    for (const { destination, nextHop: hop, metric } of router.routes()) {
      found.set(destination, {
        id: destination,
        callsign: found.get(destination)?.callsign,
        isReachable: true,
        costMs: metric / 10,
        via: { id: hop, callsign: callsignOf(hop) },
      });
    }
    found.delete(self.id);
    // What has no route of its own goes by the default route, on an edge node.
    for (const station of found.values()) {
      const hop = station.isReachable ? undefined : router.nextHops(station.id as NodeId, "any")[0];
      if (hop === undefined) continue;
      const via = { id: hop.neighbour, callsign: callsignOf(hop.neighbour) };
      found.set(station.id as NodeId, { ...station, isReachable: true, costMs: hop.metric / 10, via });
    }
    const key = ({ callsign, id }: MeshStation) => callsign ?? `~${id}`;
    return [...found.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  return {
    ...createStreamsBackend(mesh, "plugin:"),
    self,
    stations,
    send: async (message) => ({ id: await custody.send(message) }),
    async sent(id) {
      const entry = await custody.outbox.get(id as MessageId);
      return entry === undefined ? undefined : outgoing(entry);
    },
    inbox: {
      get count() {
        return custody.inbox.count;
      },
      list: async (page) =>
        (await custody.inbox.page({ ...page, limit: Math.min(page.limit, PAGE_MAX) })).map(incoming),
      since: async (place, limit) =>
        (await custody.inbox.since(place, limit)).map(({ order, entry }) => ({
          place: order,
          message: incoming(entry),
        })),
      async get(id) {
        const entry = await custody.inbox.get(id as MessageId);
        return entry === undefined ? undefined : incoming(entry);
      },
      body: (id) => custody.inbox.body(id as MessageId),
      remove: (id) => custody.inbox.remove(id as MessageId),
    },
    onArrival: (handler) => hub.on("delivered", () => handler()),
    onChanged: (handler) => hub.on("outboxChanged", (entry) => handler(outgoing(entry))),
  };
}
