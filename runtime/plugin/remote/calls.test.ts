/** Calls of a service over frames, as they reach the mesh of its node: the two ends without the channel between them. */
import { expect, test } from "bun:test";
import { type EngineContext, GodwitError, type HealContext, type ServiceContext } from "@godwit/sdk";
import { FakeMesh, ManualClock } from "@godwit/sdk/testkit";
import type { Flows } from "../frames/flow.ts";
import { decodeParts, encodeParts, errorOfWire } from "../frames/frames.ts";
import type { FramePort } from "../frames/port.ts";
import type { GuestCalls } from "../guest/calls.ts";
import { createMesh } from "../guest/mesh.ts";
import type { ContextParts } from "../guest/parts.ts";
import { RemoteCalls } from "./calls.ts";

/** What crosses is encoded and decoded, as on a channel. */
function rig() {
  const mesh = new FakeMesh(new ManualClock());
  const answers = new Map<number, (json: unknown) => void>();
  const across = (json: unknown, tail?: Uint8Array) => decodeParts(encodeParts(json, tail));
  const port = {
    sendParts: (_type: number, id: number, json: unknown) => answers.get(id)!(across(json).json),
  } as unknown as FramePort;
  const remote = new RemoteCalls(
    "service",
    { mesh } as unknown as ServiceContext & EngineContext & HealContext,
    port,
    {} as Flows,
  );
  let next = 1;
  const calls = {
    call: (
      method: string,
      args: object,
      settle: (answer: { value: unknown }) => unknown,
      { bytes }: { bytes?: Uint8Array } = {},
    ) =>
      new Promise((resolve, reject) => {
        const id = next++;
        answers.set(id, (json) => {
          const { error, value } = json as { error?: unknown; value?: unknown };
          if (error === undefined) resolve(settle({ value }));
          else reject(errorOfWire(error));
        });
        const call = across({ method, ...args }, bytes);
        remote.onCall(id, call.json, call.bytes);
      }),
  } as unknown as GuestCalls;
  const guest = createMesh({ calls, scope: { isClosed: false } } as unknown as ContextParts, mesh.self);
  return { mesh, guest: guest.mesh };
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
