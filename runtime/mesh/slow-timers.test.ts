/** Whole nodes over real sessions on a radio with a budget of airtime: what waits there is not said again. docs/protocol/slow.md "Timers" */
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { HandshakeGuard } from "../link/guard.ts";
import { openSession } from "../link/handshake.ts";
import { memoryPipePair, type MemoryPace, type MemoryPipe } from "../link/testing.ts";
import { Mesh } from "./mesh.ts";
import { depsFor, settled } from "./testing.ts";

const RATE = 1_074;
const RADIO = { answerMs: 400, airtimeMs: (bytes: number) => 300 + (bytes * 8_000) / RATE };
const HOUR_MS = 3_600_000;

async function node(clock: ManualClock, seed: number) {
  const made = await depsFor(clock, seed);
  const mesh = await settled(clock, Mesh.open(made.deps));
  mesh.start();
  return { ...made, mesh };
}

type TestNode = Awaited<ReturnType<typeof node>>;

/** Two nodes that hear each other and nobody else. */
async function pair(pace: MemoryPace) {
  const clock = new ManualClock();
  const a = await node(clock, 1);
  const b = await node(clock, 2);
  const wire = memoryPipePair({
    ...{ kind: "datagram", linkClass: "slow", mtu: 200, rateBitsPerSecond: RATE },
    ...{ clock, random: a.random, pace, isRecording: true },
  });
  const end = (pipe: MemoryPipe, { mesh, identity, random }: TestNode, remote: TestNode) =>
    openSession(
      pipe,
      {
        ...{ role: pipe.direction === "outbound" ? "initiator" : "responder", remote: remote.identity.id },
        ...{
          identity,
          network: "test",
          secrets: [],
          clock,
          random,
          guard: new HandshakeGuard(clock, random),
        },
      },
      new AbortController().signal,
    ).then((session) => mesh.adopt(session));
  const up = Promise.all([end(wire.a, a, b), end(wire.b, b, a)]);
  await clock.advance(4 * HOUR_MS);
  await up;
  return { clock, a, b, wire };
}

const count = async ({ metrics }: TestNode, name: string) =>
  Number(new RegExp(`^${name} (\\d+)$`, "m").exec(await metrics.render())?.[1] ?? 0);

test("a bundle that waits for 1 % of the airtime is written once until its answer could have come", async () => {
  const { clock, a, b, wire } = await pair({ ...RADIO, share: 0.01 });
  expect([a.mesh.peers.count, b.mesh.peers.count]).toEqual([1, 1]);
  for (let i = 0; i < 5; i++)
    await settled(clock, a.mesh.custody.send({ to: b.identity.id, body: new Uint8Array(100).fill(i) }));
  await clock.advance(203_000);
  expect(await count(a, "godwit_custody_offers_total")).toBe(5);
  await clock.advance(4 * HOUR_MS);
  expect(b.heard.filter((kind) => kind === "delivered")).toHaveLength(5);
  expect(await count(a, "godwit_custody_offers_total")).toBe(5);
  expect(wire.a.airMs).toBeLessThan(clock.monotonicMs() / 100 + 2_000);
});
