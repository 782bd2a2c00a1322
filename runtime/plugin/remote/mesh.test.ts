/** Calls of a service over frames, as they reach the mesh of its node: the two ends without the channel between them. */
import { expect, test } from "bun:test";
import { GodwitError } from "@godwit/sdk";
import { FakeMesh, ManualClock } from "@godwit/sdk/testkit";
import { Scope } from "../../kernel/scope.ts";
import { FrameBed } from "../frames/testing.ts";
import { createMesh } from "../guest/mesh.ts";
import type { ContextParts } from "../guest/parts.ts";
import { addMeshCalls } from "./mesh.ts";
import type { RemoteParts } from "./parts.ts";

/** What crosses is frames; nothing waits for a turn that a test would have to give. */
function rig() {
  const mesh = new FakeMesh(new ManualClock());
  const bed = new FrameBed(true);
  addMeshCalls({ ...bed.node, ctx: { mesh } } as unknown as RemoteParts);
  const parts = { ...bed.plugin, scope: new Scope("test") } as unknown as ContextParts;
  return { mesh, guest: createMesh(parts, mesh.self).mesh };
}

test("a message crosses with all that it says", async () => {
  const { mesh, guest } = rig();
  mesh.setStations([{ id: "b".repeat(52), callsign: "LON-B", isReachable: true, costMs: 1, via: undefined }]);
  const said = {
    to: "LON-B",
    body: Uint8Array.of(0, 255),
    subject: "s",
    contentType: "image/png",
    priority: 1,
    ttlSeconds: 9,
    failover: true,
    idempotencyKey: "x:1",
    transient: true,
  } as const;
  const { id } = await guest.send(said);
  expect(mesh.outgoing).toEqual([{ ...said, id }]);
});

test("what is too big or goes nowhere is refused with the node's words, and the plugin lives", async () => {
  const { mesh, guest } = rig();
  const message = { to: "LON-B", body: new Uint8Array(1) };
  await expect(guest.send({ ...message, subject: "x".repeat(1_025) })).rejects.toMatchObject({
    code: "GODWIT_TOO_BIG",
  });
  mesh.failure = new GodwitError("GODWIT_QUEUE_FULL", "the way is full", {
    kind: "capacity",
    retry: "later",
  });
  await expect(guest.send({ ...message, transient: true })).rejects.toMatchObject({
    code: "GODWIT_QUEUE_FULL",
    retry: "later",
  });
});
