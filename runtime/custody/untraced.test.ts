/** What slow links leave out of the trace: how many hops nobody noted, in the inbox, in transit and to people. */
import { expect, test } from "bun:test";
import { decodeBundleFrame, encodeBundleFrame, TRACE_MAX, untracedHops } from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import { TestMesh, type TestNode } from "./testing.ts";

/** As a slow link does with what `from` sends. */
function leaveOut(mesh: TestMesh, from: TestNode): void {
  mesh.filter = (sent) => {
    if (sent.from !== from.name || sent.type !== FrameType.bundle) return true;
    const { bundle, journey } = decodeBundleFrame(sent.bytes);
    Object.assign(sent, { bytes: encodeBundleFrame(bundle, { ...journey, trace: [] }) });
    return true;
  };
}

test("the inbox and what is in transit say how many hops nobody noted; the trace goes on behind them", async () => {
  const mesh = new TestMesh();
  const [a, b, c, d] = (await mesh.line(["a", "b", "c", "d"])) as [TestNode, TestNode, TestNode, TestNode];
  leaveOut(mesh, b);
  mesh.cut(c, d);
  const id = await a.send(d.id, "hello");
  await mesh.clock.advance(60_000);
  const [waiting] = await c.settle(c.custody!.transit.reader.page({ order: "newest-first", limit: 9 }));
  expect([waiting!.hops, waiting!.trace.length, untracedHops(waiting!)]).toEqual([2, 0, 2]);
  expect(waiting!.ageMs).toBeGreaterThan(59_000);
  expect(waiting!.ageMs).toBeLessThan(61_000);
  mesh.connect(c, d);
  await mesh.clock.advance(10_000);
  const entry = await d.settle(d.custody!.inbox.get(id));
  expect(entry!.trace.map(({ node }) => node)).toEqual([c.id, d.id]);
  expect(entry!.hopsUntraced).toBe(2);
});

test("nothing is said where every hop is noted", async () => {
  const mesh = new TestMesh();
  const [a, , c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  const id = await a.send(c.id, "hello");
  await mesh.clock.advance(1_000);
  const entry = await c.settle(c.custody!.inbox.get(id));
  expect([entry!.trace.length, entry!.hopsUntraced]).toEqual([3, undefined]);
});

test("hops that count anew, and those behind the longest trace", () => {
  const trace = Array.from({ length: TRACE_MAX }, (_, atMs) => ({ node: "" as never, atMs }));
  expect(untracedHops({ hops: 3, trace })).toBe(0);
  expect(untracedHops({ hops: TRACE_MAX + 8, trace })).toBe(8);
});
