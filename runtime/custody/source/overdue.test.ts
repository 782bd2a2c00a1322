/** Which own mail waits for too long, as health asks for it: at its source, in memory and on the disk. */
import { expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { sendNumbers, TestMesh, type TestNode } from "../testing.ts";

const MINUTE_MS = 60_000;
/** A look is made at most so often. */
const LOOK_MS = 10_000;

async function line(names: readonly string[]): Promise<{ mesh: TestMesh; nodes: TestNode[] }> {
  const mesh = new TestMesh();
  return { mesh, nodes: await mesh.line(names, { overdueAfterMs: 15 * MINUTE_MS }) };
}
const overdue = (node: TestNode) =>
  node.custody!.outbox.awake.overdue.map(({ ageMs, ...rest }) => ({
    ...rest,
    minutes: Math.round(ageMs / MINUTE_MS),
  }));

test("mail is overdue after its bound, one for each that it is for, oldest first", async () => {
  const { mesh, nodes } = await line(["a", "b", "c"]);
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  mesh.cut(a, b);
  await a.send("NOBODY-A", "x");
  await mesh.clock.advance(MINUTE_MS);
  // More than memory has places for without a way.
  await sendNumbers(a, b.id, 100);
  await mesh.clock.advance(10 * MINUTE_MS);
  expect(overdue(a)).toEqual([]);
  await mesh.clock.advance(3 * MINUTE_MS);
  expect(overdue(a)).toEqual([]);
  await mesh.clock.advance(2 * MINUTE_MS);
  expect(overdue(a)).toEqual([
    { whom: "NOBODY-A", waitsFor: "address", isMoving: false, minutes: 16 },
    { whom: b.id, waitsFor: "way", isMoving: false, minutes: 15 },
  ]);
  mesh.connect(a, b);
  await mesh.clock.advance(MINUTE_MS);
  expect(overdue(a)).toEqual([{ whom: "NOBODY-A", waitsFor: "address", isMoving: false, minutes: 17 }]);
  expect(overdue(c)).toEqual([]);
});

test("what a neighbour took and nobody confirmed waits for its receipt", async () => {
  const { mesh, nodes } = await line(["a", "b", "c"]);
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  await a.send(c.id, "x");
  await mesh.clock.advance(16 * MINUTE_MS);
  expect(overdue(a)).toMatchObject([{ whom: c.id, waitsFor: "receipt" }]);
});

test("what waits for its turn is moving while others to the same node go, or some more of a large one", async () => {
  const { mesh, nodes } = await line(["a", "b"]);
  const [a, b] = nodes as [TestNode, TestNode];
  mesh.filter = ({ type }) => type !== FrameType.bundle;
  await a.send(b.id, "stuck");
  await mesh.clock.advance(16 * MINUTE_MS);
  expect(overdue(a)).toMatchObject([{ whom: b.id, waitsFor: "turn", isMoving: false }]);
  // A large one creeps past it.
  let chunks = 0;
  mesh.filter = ({ type }) => type !== FrameType.bundle && (type !== FrameType.chunk || chunks++ < 6);
  await a.send(b.id, new Uint8Array(400_000));
  await mesh.clock.advance(LOOK_MS);
  expect(overdue(a)).toMatchObject([{ waitsFor: "turn", isMoving: true }]);
  // And then it does not, for as long as the bound.
  await mesh.clock.advance(16 * MINUTE_MS);
  expect(overdue(a)).toMatchObject([{ waitsFor: "turn", isMoving: false }]);
});

test("however often it is asked, mail is looked at every ten seconds", async () => {
  const { mesh, nodes } = await line(["a"]);
  const [a] = nodes as [TestNode];
  const { directory } = a.custody!;
  let asked = 0;
  const resolve = directory.resolve.bind(directory);
  directory.resolve = (...to) => (asked++, resolve(...to));
  await a.send("NOBODY-A", "x");
  await mesh.clock.advance(16 * MINUTE_MS);
  asked = 0;
  const found = overdue(a);
  const once = asked;
  for (let i = 0; i < 100; i++) expect(overdue(a)).toEqual(found);
  expect([found.length, asked]).toEqual([1, once]);
  await mesh.clock.advance(LOOK_MS);
  overdue(a);
  expect(asked).toBeGreaterThan(once);
});
