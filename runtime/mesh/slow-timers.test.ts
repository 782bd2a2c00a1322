/** Whole nodes over real sessions on a radio with a budget of airtime: what waits there is not said again. docs/protocol/slow.md "Timers" */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { HandshakeGuard } from "../link/guard.ts";
import { openSession } from "../link/handshake.ts";
import { memoryPipePair, type MemoryPace, type MemoryPipe, type MemoryPipeOptions } from "../link/testing.ts";
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

type Wire = Omit<MemoryPipeOptions, "clock" | "random">;
type TestNode = Awaited<ReturnType<typeof node>>;

const FAST = { kind: "stream", linkClass: "fast", rateBitsPerSecond: 1e9 } as const;
const slow = (pace: MemoryPace) =>
  ({
    kind: "datagram",
    scheme: "radio",
    linkClass: "slow",
    mtu: 200,
    rateBitsPerSecond: RATE,
    pace,
  }) as const;

/** A link between two nodes; resolves when both ends have it. */
function connect(clock: ManualClock, [a, b]: readonly [TestNode, TestNode], wire: Wire) {
  const pipes = memoryPipePair({ ...wire, clock, random: a.random });
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
  return { pipes, up: Promise.all([end(pipes.a, a, b), end(pipes.b, b, a)]) };
}

/** Two nodes that hear each other and nobody else. */
async function pair(pace: MemoryPace, more: Partial<Wire> = {}) {
  const clock = new ManualClock();
  const a = await node(clock, 1);
  const b = await node(clock, 2);
  const { pipes, up } = connect(clock, [a, b], { ...slow(pace), ...more });
  await clock.advance(4 * HOUR_MS);
  await up;
  return { clock, a, b, wire: pipes };
}

const count = async ({ metrics }: TestNode, name: string) =>
  Number(new RegExp(`^${name} (\\d+)$`, "m").exec(await metrics.render())?.[1] ?? 0);
const deliveries = ({ heard }: TestNode) => heard.filter((kind) => kind === "delivered").length;

test("a bundle that waits for 1 % of the airtime is written once until its answer could have come", async () => {
  const { clock, a, b, wire } = await pair({ ...RADIO, share: 0.01 });
  expect([a.mesh.peers.count, b.mesh.peers.count]).toEqual([1, 1]);
  for (let i = 0; i < 5; i++)
    await settled(clock, a.mesh.custody.send({ to: b.identity.id, body: new Uint8Array(100).fill(i) }));
  await clock.advance(203_000);
  expect(await count(a, "godwit_custody_offers_total")).toBe(5);
  await clock.advance(4 * HOUR_MS);
  expect(deliveries(b)).toBe(5);
  expect(await count(a, "godwit_custody_offers_total")).toBe(5);
  expect(wire.a.airMs).toBeLessThan(clock.monotonicMs() / 100 + 2_000);
});

test("a bundle, or its acknowledgement, that is lost on the air is sent again once its answer could have come, and not before", async () => {
  for (const from of ["a", "b"]) {
    let isLosing = false;
    let lost = 0;
    const tamper = (bytes: Uint8Array, sender: string) => (isLosing && sender === from ? void lost++ : bytes);
    const { clock, a, b } = await pair({ ...RADIO, share: 0.05 }, { tamper });
    isLosing = true;
    await settled(clock, a.mesh.custody.send({ to: b.identity.id, body: new Uint8Array(20).fill(1) }));
    // Twice the answer of the pipe and the airtime of two full datagrams.
    const dueMs = 2 * (RADIO.answerMs + 2 * RADIO.airtimeMs(200));
    await clock.advance(dueMs);
    expect([from, lost > 0, await count(a, "godwit_custody_offers_total")]).toEqual([from, true, 1]);
    // Else the receipt, which is said again as well, may be there first.
    const isOfferedOnce = async () => (await count(a, "godwit_custody_offers_total")) === 1;
    if (from === "b") while (await isOfferedOnce()) await clock.advance(dueMs / 10);
    isLosing = false;
    await clock.advance(HOUR_MS);
    expect([from, deliveries(b), await count(a, "godwit_custody_offers_total")]).toEqual([from, 1, 2]);
  }
});

test("3 KB go whole over a radio of 200 bytes, without an offer", async () => {
  const { clock, a, b, wire } = await pair(RADIO);
  const before = wire.a.sentBytes;
  await settled(clock, a.mesh.custody.send({ to: b.identity.id, body: new Uint8Array(3_000).fill(1) }));
  await clock.advance(HOUR_MS / 4);
  expect(deliveries(b)).toBe(1);
  expect(wire.a.sentBytes - before).toBeLessThan(3_000 * 1.15 + 400);
});

describe("20 KB to a node that only a radio leads to", () => {
  const TOO_LARGE = "too large for the slow links that lead there: waits for a faster way";

  async function three() {
    const clock = new ManualClock();
    const [source, gateway, edge] = [await node(clock, 1), await node(clock, 2), await node(clock, 3)];
    const radio = connect(clock, [gateway, edge], slow(RADIO));
    const { up } = connect(clock, [source, gateway], FAST);
    await clock.advance(HOUR_MS);
    await Promise.all([radio.up, up]);
    return { clock, source, gateway, edge, radio: radio.pipes };
  }

  test("waits at its source, which says why; what is small passes it, and it goes when a faster way is there", async () => {
    const { clock, source, gateway, edge, radio } = await three();
    const send = (bytes: number) =>
      settled(clock, source.mesh.custody.send({ to: edge.identity.id, body: new Uint8Array(bytes).fill(1) }));
    const large = await send(20_000);
    await send(100);
    await clock.advance(HOUR_MS);
    const reason = () => source.mesh.custody.outbox.waitReason(source.mesh.custody.outbox.peek(large)!);
    expect([deliveries(edge), reason()]).toEqual([1, TOO_LARGE]);
    expect(radio.a.sentBytes).toBeLessThan(5_000);
    const { up } = connect(clock, [gateway, edge], FAST);
    await clock.advance(60_000);
    await up;
    expect(deliveries(edge)).toBe(2);
    expect(radio.a.sentBytes).toBeLessThan(5_000);
  });

  test("that a gateway took while there was a faster way waits there, and it says why", async () => {
    const { clock, source, gateway, edge, radio } = await three();
    const { pipes, up } = connect(clock, [gateway, edge], FAST);
    await clock.advance(10_000);
    await up;
    pipes.vanish();
    await settled(
      clock,
      source.mesh.custody.send({ to: edge.identity.id, body: new Uint8Array(20_000).fill(1) }),
    );
    await clock.advance(HOUR_MS);
    const { reader } = gateway.mesh.custody.transit;
    const [held] = await settled(clock, reader.page({ order: "oldest-first", limit: 10 }));
    expect([deliveries(edge), held?.waitReason]).toEqual([0, TOO_LARGE]);
    expect(radio.a.sentBytes).toBeLessThan(5_000);
    const faster = connect(clock, [gateway, edge], FAST);
    await clock.advance(60_000);
    await faster.up;
    expect(deliveries(edge)).toBe(1);
  });
});
