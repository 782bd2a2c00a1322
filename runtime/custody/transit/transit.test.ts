/** More of other nodes' bundles than is kept in memory: what waits on the disk of a relay goes when it can, in order, once, and is shown and counted meanwhile. */
import { describe, expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { numbers, sendNumbers, TestMesh, type TestNode, texts } from "../testing.ts";
import { SECOND_MS, AWAKE_MAX, heldOf, full, open } from "./testing-transit.ts";

const LARGE = new Uint8Array(6_000);

describe("bundles for somebody who is not there", () => {
  test("are few in memory although each is for another, and go as well", async () => {
    const mesh = new TestMesh();
    const limits = { laneAwakeMax: 64 };
    const [a, b, c] = (await mesh.line(["a", "b", "c"], limits)) as [TestNode, TestNode, TestNode];
    const others = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const other = await mesh.add(`other ${i}`, limits);
        a.routes.set(other.id, [b.id]);
        return other;
      }),
    );
    for (const [i, { id }] of others.entries()) await a.send(id, `${i}`);
    await mesh.clock.advance(SECOND_MS);
    expect(b.custody!.transit.count).toBe(200);
    expect(b.custody!.forwarder.count).toBeLessThanOrEqual(64);
    for (const other of others) {
      mesh.connect(b, other);
      b.routes.set(other.id, [other.id]);
      b.custody!.onRoute(other.id);
    }
    await mesh.clock.advance(SECOND_MS);
    expect(others.flatMap(texts)).toEqual(numbers(200));
    expect([b.custody!.transit.count, c.delivered.length]).toEqual([0, 0]);
  });

  test("are acknowledged and not kept twice when they come again", async () => {
    const net = await full(300);
    const { mesh, a, b, c } = net;
    const before = mesh.count("custodyAck", "b>a");
    const frames = mesh.log.filter(({ from, type }) => from === "a" && type === FrameType.bundle);
    for (const { bytes } of frames) b.receive(a.id, bytes);
    await mesh.clock.advance(SECOND_MS);
    expect(mesh.count("custodyAck", "b>a")).toBeGreaterThan(before);
    expect(b.custody!.transit.count).toBe(300);
    open(net);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(c)).toEqual(numbers(300));
  });

  test("end when their lives are over, in memory or not, and what they took is free", async () => {
    const net = await full(500, {}, { ttlSeconds: 60 });
    const { mesh, b, c } = net;
    await mesh.clock.advance(55 * SECOND_MS);
    expect(heldOf(b)).toEqual({ count: 0, awake: 0 });
    expect([b.custody!.transit.bytes, (await b.settle(b.store!.load("transit"))).length]).toEqual([0, 0]);
    open(net);
    await mesh.clock.advance(SECOND_MS);
    expect(c.delivered.length).toBe(0);
  });

  test("that are small do not wait behind large ones that no way is fit for", async () => {
    for (const isRestarted of [false, true]) {
      const net = await full(0, { laneAwakeMax: 64 });
      const { mesh, a, b, c } = net;
      b.takesBulk = (neighbour) => neighbour !== c.id;
      const large = Array.from({ length: 100 }, () => a.custody!.send({ to: c.id, body: LARGE }));
      await a.settle(Promise.all(large));
      await sendNumbers(a, c.id, 100);
      await mesh.clock.advance(5 * SECOND_MS);
      expect(b.custody!.transit.count).toBe(200);
      if (isRestarted) {
        b.crash();
        await b.start();
      }
      open(net);
      await mesh.clock.advance(5 * SECOND_MS);
      expect(texts(c)).toEqual(numbers(100));
      b.takesBulk = () => true;
      b.custody!.onRoute(c.id);
      await mesh.clock.advance(5 * SECOND_MS);
      expect(c.delivered.length).toBe(200);
      expect([heldOf(b), b.custody!.transit.bytes]).toEqual([{ count: 0, awake: 0 }, 0]);
    }
  });

  test("are dropped as well that are still being written when who they are from or for is revoked", async () => {
    for (const who of ["a", "c"] as const) {
      const net = await full(0);
      const { mesh, a, b, c } = net;
      await a.send(c.id, "x");
      while (b.custody!.transit.count === 0) await mesh.clock.advance(1);
      expect(b.custody!.forwarder.count).toBe(0);
      b.refused.add(net[who].id);
      b.custody!.onRevoked(net[who].id);
      await mesh.clock.advance(SECOND_MS);
      expect(heldOf(b)).toEqual({ count: 0, awake: 0 });
      expect([b.custody!.transit.bytes, await b.settle(b.store!.load("transit"))]).toEqual([0, []]);
      open(net);
      await mesh.clock.advance(SECOND_MS);
      expect(c.delivered.length).toBe(0);
    }
  });

  test("that arrive when who they are for is revoked free no place in memory that they never had", async () => {
    const { mesh, a, b, c } = await full(0, { laneAwakeMax: 4 });
    let chunks = 0;
    mesh.filter = ({ type }) => type !== FrameType.chunk || ++chunks < 8;
    await a.send(c.id, new Uint8Array(1_000_000));
    while (b.custody!.forwarder.count === 0) await mesh.clock.advance(1);
    expect(b.custody!.transit.count).toBe(0);
    b.refused.add(c.id);
    b.custody!.onRevoked(c.id);
    await mesh.clock.advance(SECOND_MS);
    expect(heldOf(b)).toEqual({ count: 0, awake: 0 });
    for (let i = 0; i < 8; i++) {
      const other = await mesh.add(`other ${i}`);
      a.routes.set(other.id, [b.id]);
      await a.send(other.id, `${i}`);
    }
    await mesh.clock.advance(SECOND_MS);
    expect(heldOf(b)).toEqual({ count: 8, awake: 4 });
  });

  test("of others stay when one whose bundles stand between them is revoked", async () => {
    const { mesh, a, b, c } = await full(0);
    const d = await mesh.add("d", { laneAwakeMax: AWAKE_MAX });
    mesh.connect(d, b);
    d.routes.set(c.id, [b.id]);
    for (let i = 0; i < 400; i += 100) {
      await sendNumbers(a, c.id, 100);
      await sendNumbers(d, c.id, 100);
    }
    await mesh.clock.advance(SECOND_MS);
    expect(b.custody!.transit.count).toBe(800);
    b.refused.add(a.id);
    b.custody!.onRevoked(a.id);
    await mesh.clock.advance(SECOND_MS);
    expect(b.custody!.transit.count).toBe(400);
    expect((await b.settle(b.store!.load("transit"))).length).toBe(400);
    open({ mesh, b, c });
    await mesh.clock.advance(5 * SECOND_MS);
    expect([c.delivered.length, new Set(c.delivered.map(({ entry }) => entry.from)).size]).toEqual([400, 1]);
  });

  test("are shown page by page, in order, whether they are in memory or not", async () => {
    const { b, c, a } = await full(100);
    const { transit } = b.custody!;
    for (const order of ["oldest-first", "newest-first"] as const) {
      const seen: string[] = [];
      for (let after: string | undefined; ;) {
        const page = await b.settle(
          transit.reader.page({ order, limit: 30, ...(after === undefined ? {} : { after }) }),
        );
        seen.push(...page.map(({ id }) => id));
        for (const { header, state, waitReason } of page)
          expect([header.source, header.destination, state, waitReason?.includes("no route")]).toEqual([
            a.id,
            c.id,
            "ready",
            true,
          ]);
        if (page.length < 30) break;
        after = page.at(-1)!.id;
      }
      const rows = (await b.settle(b.store!.page("transit", { order, limit: 200 }))).map(({ key }) => key);
      expect(seen).toEqual(rows);
    }
    expect(
      await b.settle(transit.reader.page({ order: "newest-first", limit: 9, after: "0".repeat(32) })),
    ).toEqual([]);
  });
});

test("no place is given twice that a deleted row still has in the database after a crash", async () => {
  const net = await full(3);
  const { mesh, a, b, c } = net;
  b.crash();
  const table = b.disk.table("transit");
  const { groups } = table.totals;
  Object.defineProperty(table, "totals", { get: () => ({ groups, last: 500 }) });
  await b.start();
  await a.send(c.id, "next");
  await mesh.clock.advance(SECOND_MS);
  const rows = await b.settle(b.store!.page("transit", { order: "oldest-first", limit: 10 }));
  expect(rows.map(({ order }) => order)).toEqual([1, 2, 3, 501]);
});

test("a row that rots on the disk of a relay costs that bundle its way, is counted no more, and comes again", async () => {
  const net = await full(200);
  const { mesh, a, b, c } = net;
  const rows = await b.settle(b.store!.page("transit", { order: "oldest-first", limit: 200 }));
  b.disk.rot("transit", rows[150]!.key);
  open(net);
  await mesh.clock.advance(2 * SECOND_MS);
  expect(c.delivered.length).toBe(199);
  expect([b.custody!.transit.count, b.custody!.transit.bytes]).toEqual([0, 0]);
  // Its source waits for a receipt, and offers it again.
  await mesh.clock.advance(60 * SECOND_MS);
  expect(texts(c).toSorted()).toEqual(numbers(200).toSorted());
  expect(a.custody!.outbox.openCount).toBe(0);
});
