/** How old the oldest mail is, and what it waits for, as /metrics says it: in memory and on the disk, at its source and in transit. */
import { beforeAll, expect, test } from "bun:test";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { FrameType } from "../wire/constants.ts";
import { Oldest } from "./oldest.ts";
import { sendNumbers, TestMesh, type TestNode } from "./testing.ts";

const SECOND_MS = 1_000;

// What renders is loaded by the first who asks, from a disk that keeps no virtual time.
beforeAll(async () => void (await new Metrics().render()));

async function ages(node: TestNode, box: "outbox" | "transit"): Promise<Record<string, number>> {
  const text = await node.settle(node.metrics.render());
  const lines = text.matchAll(/^godwit_queue_oldest_seconds\{box="(\w+)",reason="(\w+)"\} (.+)$/gm);
  return Object.fromEntries(
    [...lines]
      .filter(([, of]) => of === box)
      .map(([, , reason, value]) => [reason, Math.round(Number(value))]),
  );
}

async function line(names: readonly string[], limits = {}) {
  const mesh = new TestMesh();
  const nodes = await mesh.line(names, { laneAwakeMax: 256, ...limits });
  return { mesh, nodes: nodes as [TestNode, TestNode, TestNode] };
}

const none = { address: 0, way: 0, turn: 0, receipt: 0 };

test("nothing waits: every age is 0", async () => {
  const { nodes } = await line(["a", "b"]);
  for (const box of ["outbox", "transit"] as const) expect(await ages(nodes[0], box)).toEqual(none);
});

test("mail without a way and mail for nobody are as old as their first, on the disk as well, over a restart too", async () => {
  const { mesh, nodes } = await line(["a", "b"]);
  const [a, b] = nodes;
  mesh.cut(a, b);
  await sendNumbers(a, b.id, 1);
  await mesh.clock.advance(20 * SECOND_MS);
  // More than memory has places for without a way.
  await sendNumbers(a, b.id, 300);
  await a.send("NOBODY-A", "x");
  await mesh.clock.advance(40 * SECOND_MS);
  const found = await ages(a, "outbox");
  expect(found).toEqual({ ...none, way: expect.closeTo(60, -1), address: 40 });
  a.crash();
  await a.start();
  await mesh.clock.advance(10 * SECOND_MS);
  const later = await ages(a, "outbox");
  expect(later["way"]! - found["way"]!).toBe(10);
  mesh.connect(a, b);
  await mesh.clock.advance(20 * SECOND_MS);
  expect(await ages(a, "outbox")).toEqual({ ...none, address: 70 });
});

test("what a neighbour took waits for its receipt; what none takes, for its turn", async () => {
  const { mesh, nodes } = await line(["a", "b", "c"]);
  const [a, b, c] = nodes;
  mesh.cut(b, c);
  await a.send(c.id, "x");
  await mesh.clock.advance(5 * SECOND_MS);
  expect(await ages(a, "outbox")).toEqual({ ...none, receipt: 5 });
  expect(await ages(b, "transit")).toEqual({ ...none, way: 5 });
  mesh.filter = ({ type }) => type !== FrameType.custodyAck;
  await a.send(b.id, "y");
  await mesh.clock.advance(3 * SECOND_MS);
  const { turn, receipt } = await ages(a, "outbox");
  expect([turn, receipt]).toEqual([0, 8]);
  mesh.filter = ({ type }) => type !== FrameType.bundle;
  await a.send(b.id, "z");
  await mesh.clock.advance(2 * SECOND_MS);
  expect((await ages(a, "outbox"))["turn"]).toBe(2);
});

test("however many wait for whom, the oldest are asked about and no more than the bound", () => {
  const oldest = new Oldest();
  const asked: string[] = [];
  for (let i = 999; i >= 0; i--) oldest.noteToward(`to ${i}`, i);
  const judge = (whom: string) => {
    asked.push(whom);
    return whom === "to 200" ? ("turn" as const) : ("way" as const);
  };
  const found = [...oldest.ages("outbox", judge, (since) => (1_000 - since) * 1_000)];
  expect(found.map(([value]) => value)).toEqual([0, 1_000, 800, 0]);
  expect(asked).toHaveLength(256);
  expect(asked[0]).toBe("to 0");
});

test("of however many, those that came first are asked about, by the oldest of each, and no more is kept", () => {
  const random = seededRandom(5);
  for (let round = 0; round < 20; round++) {
    const oldest = new Oldest();
    const model = new Map<string, number>();
    for (let n = 0; n < 5_000; n++) {
      const whom = `${random.below(3_000)}`;
      const sinceRunMs = random.below(1_000_000);
      oldest.noteToward(whom, sinceRunMs);
      model.set(whom, Math.min(sinceRunMs, model.get(whom) ?? sinceRunMs));
      expect(oldest.count).toBeLessThan(512);
    }
    const asked: number[] = [];
    oldest.ages(
      "outbox",
      (whom) => (asked.push(model.get(whom)!), "way"),
      (sinceRunMs) => sinceRunMs,
    );
    expect(asked).toEqual([...model.values()].toSorted((a, b) => a - b).slice(0, 256));
  }
});
