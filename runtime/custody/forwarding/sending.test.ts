import { describe, expect, test } from "bun:test";
import type { BundleId } from "../../kernel/ids.ts";
import { FrameType } from "../../wire/constants.ts";
import { TestMesh, type TestNode, testId } from "../testing.ts";
import type { Holding } from "../context.ts";
import { type Progress, Sendings } from "./sending.ts";

const MEGABYTE = 1_048_576;
const TICK_MS = 50;

/** Two nodes whose wire takes so many bytes of chunks a second. */
async function slowPair(bytesPerSecond: number): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  // The wire is free from then on.
  let freeAtMs = 0;
  mesh.hasRoom = ({ type, bytes }) => {
    const nowMs = mesh.clock.monotonicMs();
    if (type !== FrameType.chunk) return true;
    if (nowMs < freeAtMs) return false;
    freeAtMs = Math.max(freeAtMs, nowMs - TICK_MS) + (bytes.length * 1_000) / bytesPerSecond;
    return true;
  };
  return { mesh, a, b };
}

/** Runs it for so long; `seen` is called after each tick. */
async function run(mesh: TestMesh, a: TestNode, ms: number, seen: () => void = () => {}): Promise<void> {
  for (let at = 0; at < ms; at += TICK_MS) {
    await mesh.clock.advance(TICK_MS);
    for (const to of mesh.linksOf(a)) a.custody!.onWritable(to.id);
    seen();
  }
}

const progressOf = (a: TestNode, id: string): Progress | undefined =>
  a.custody!.sender.progressOf(a.sent(id)!.targets[0]!.bundle);

describe("a large message under way to its next hop", () => {
  test("tells how much has arrived, how fast it goes and how long it takes, until it has arrived", async () => {
    const { mesh, a, b } = await slowPair(250_000); // 2 Mbit/s
    const id = await a.send(b.id, new Uint8Array(4 * MEGABYTE));
    const seen: Progress[] = [];
    let doneMs = 0;
    await run(mesh, a, 20_000, () => {
      const progress = progressOf(a, id);
      if (progress !== undefined) seen.push(progress);
      if (doneMs === 0 && b.delivered.length > 0) doneMs = mesh.clock.monotonicMs();
    });
    expect(a.sent(id)!.state).toBe("delivered");
    expect(seen.map(({ bytes }) => bytes)).toEqual(seen.map(({ bytes }) => bytes).sort((x, y) => x - y));
    expect(new Set(seen.map(({ to, totalBytes }) => `${to} ${totalBytes > 4 * MEGABYTE}`))).toEqual(
      new Set([`${b.id} true`]),
    );
    // What was said half way holds.
    const half = seen.find(({ bytes }) => bytes >= 2 * MEGABYTE)!;
    expect(half.bitsPerSecond).toBeGreaterThan(1_700_000);
    expect(half.bitsPerSecond).toBeLessThan(2_300_000);
    expect(half.secondsLeft).toBeGreaterThanOrEqual(7);
    expect(half.secondsLeft).toBeLessThanOrEqual(10);
    expect(seen.at(-1)!.secondsLeft).toBeLessThanOrEqual(2);
    // Nothing of it is left.
    expect(progressOf(a, id)).toBeUndefined();
  });

  test("is told of once a second at most, and what takes less than that is not", async () => {
    const { mesh, a, b } = await slowPair(500_000);
    const id = await a.send(b.id, new Uint8Array(4 * MEGABYTE));
    await run(mesh, a, 12_000);
    const times = a.progress.map(({ atMs }) => atMs);
    expect(times.length).toBeGreaterThanOrEqual(6);
    for (const [i, atMs] of times.slice(1).entries()) expect(atMs - times[i]!).toBeGreaterThanOrEqual(1_000);
    expect(new Set(a.progress.map((told) => told.id))).toEqual(new Set([id]));
    expect(b.progress).toEqual([]);
    a.progress.length = 0;
    mesh.hasRoom = () => true;
    await a.send(b.id, new Uint8Array(4 * MEGABYTE));
    await run(mesh, a, 3_000);
    expect(b.delivered.length).toBe(2);
    expect(a.progress).toEqual([]);
  });

  test("is not being sent while its link is gone, and goes on from what had arrived, at the pace of then", async () => {
    const { mesh, a, b } = await slowPair(250_000);
    const id = await a.send(b.id, new Uint8Array(4 * MEGABYTE));
    await run(mesh, a, 8_000);
    const before = progressOf(a, id)!.bytes;
    expect(before).toBeGreaterThan(MEGABYTE);
    mesh.cut(a, b);
    expect(progressOf(a, id)).toBeUndefined();
    await run(mesh, a, 60_000);
    mesh.connect(a, b);
    await run(mesh, a, 100);
    const resumed = progressOf(a, id)!;
    expect(resumed.bytes).toBeGreaterThan(before / 2);
    // What it had before says nothing of the pace.
    expect(resumed.bitsPerSecond).toBeUndefined();
  });

  test("of a relay is shown there as well, and no event of the relay's own mail", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.filter = ({ type, from }) => type !== FrameType.chunk || from !== "b";
    await a.send(c.id, new Uint8Array(2 * MEGABYTE));
    await run(mesh, a, 2_000);
    const [carried] = await b.settle(b.custody!.transit.reader.page({ order: "oldest-first", limit: 10 }));
    expect(b.custody!.sender.progressOf(carried!.id)).toMatchObject({ to: c.id, bytes: 0 });
    expect(b.progress).toEqual([]);
  });
});

test("neighbours that ask for whatever was sent to them fill no more than the table, and the last to ask are shown", () => {
  const sendings = new Sendings();
  for (let n = 0; n < 100_000; n++)
    sendings.onWanted(testId("far"), { id: `${n}` as BundleId, sealedBytes: 100 } as Holding, 0, n);
  expect(sendings.count).toBe(1_024);
  expect(sendings.of("99999" as BundleId, 100_000)).toBeDefined();
});

test("the other neighbour of a bundle begins anew, and the end of the first one's transfer is not its end", () => {
  const sendings = new Sendings();
  const [first, second] = [testId("first"), testId("second")];
  const holding = { id: "b" as BundleId, sealedBytes: 100 } as Holding;
  sendings.onWanted(first, holding, 50, 0);
  sendings.onWanted(second, holding, 0, 10);
  sendings.end(first, holding.id);
  expect(sendings.of(holding.id, 10)).toMatchObject({ to: second, bytes: 0 });
  sendings.end(second, holding.id);
  expect([sendings.of(holding.id, 10), sendings.count]).toEqual([undefined, 0]);
});
