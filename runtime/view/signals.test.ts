/** What happens in the mesh, as plugins and subscribers of the API are told of it. */
import { expect, test } from "bun:test";
import { Hub } from "../kernel/hub.ts";
import { formatNodeId } from "../kernel/ids.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { Peer } from "../peer/peer.ts";
import { LiveView } from "./live-view.ts";
import { type HubEvents, NodeEvents } from "./node-events.ts";
import { createPeersBackend } from "./peers-for-plugins.ts";
import { ManualClock } from "../kernel/clock.ts";

const id = formatNodeId(new Uint8Array(32).fill(1));

test("a plugin that watches the others is told of records, links and routes, and of nothing once it has ended", () => {
  const hub = new Hub<MeshEvents>(() => {});
  const backend = createPeersBackend({ id, callsign: undefined, network: "x" }, {} as Mesh, hub);
  let told = 0;
  const end = backend.watch(() => told++);
  const tell = () => {
    hub.emit("recordChanged", id);
    hub.emit("peerUp", { id } as Peer);
    hub.emit("peerDown", { peer: { id } as Peer, reason: "closed" });
    hub.emit("routeChanged", { destination: id, isReachable: true });
  };
  tell();
  expect(told).toBe(4);
  end();
  tell();
  expect(told).toBe(4);
});

test("the event of a resolved name has the node's whole id, whatever was typed", async () => {
  const hub = new Hub<HubEvents>(() => {});
  const mesh = {
    custody: { directory: { nodeOf: () => id } },
    names: { resolveConflict: async () => {} },
    records: { get: () => undefined },
  } as unknown as Mesh;
  const view = new LiveView(
    { mesh, hub } as unknown as ConstructorParameters<typeof LiveView>[0],
    new NodeEvents(hub, new ManualClock()),
  );
  const data: unknown[] = [];
  view.subscribe((event) => data.push([event.type, event.data]));
  await view.resolveName("DUN-A", "LON-B");
  expect(data).toEqual([["name.resolved", { name: "DUN-A", id }]]);
});
