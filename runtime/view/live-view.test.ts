import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Hub } from "../kernel/hub.ts";
import { formatNodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { LiveView } from "./live-view.ts";
import { type HubEvents, NodeEvents } from "./node-events.ts";

const id = formatNodeId(new Uint8Array(32).fill(1));

test("a bundle whose trace was left behind says how many hops nobody noted, and when it was made by its age", async () => {
  const clock = new ManualClock(1_800_000_000_000);
  const header = { kind: 0, priority: 2, source: id, destination: id, lifetimeMs: 60_000 };
  const common = { id: "b1", header, sealedBytes: 9, state: "ready", ageMs: 5_000 };
  const items = [
    { ...common, hops: 2, trace: [] },
    { ...common, hops: 3, trace: [{ node: id, atMs: 1_799_999_999_000 }] },
    { ...common, hops: 1, trace: [{ node: id, atMs: 1_799_999_990_000 }] },
  ];
  const mesh = {
    custody: { transit: { reader: { page: async () => items } }, sender: { progressOf: () => undefined } },
    records: { get: () => undefined },
  } as unknown as Mesh;
  const view = new LiveView(
    { mesh, clock } as unknown as ConstructorParameters<typeof LiveView>[0],
    new NodeEvents(new Hub<HubEvents>(() => {}), clock),
  );
  const { messages } = await view.messages("transit", { limit: 9 });
  expect(messages.map(({ hops_untraced, created_at }) => [hops_untraced, Date.parse(created_at)])).toEqual([
    [2, 1_799_999_995_000],
    [2, 1_799_999_995_000],
    [0, 1_799_999_990_000],
  ]);
});
