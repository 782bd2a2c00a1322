/** Far more mail than is kept in memory and than one page of the disk holds. */
import { describe, expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { numbers, sendNumbers, TestMesh, type TestNode, texts } from "../testing.ts";
import {
  SECOND_MS,
  UNREACHABLE_MAX,
  AWAKE_MAX,
  get,
  pair,
  withRelay,
  setRoute,
  absent,
} from "./testing-awake.ts";

const LARGE = new Uint8Array(6_000);

describe("mail for somebody who is not there", () => {
  test("does not wait behind large mail that no way is fit for, over a restart as well", async () => {
    for (const isRestarted of [false, true]) {
      const { mesh, a, b } = await pair();
      setRoute(a, b, false);
      a.takesBulk = () => false;
      for (let i = 0; i < 300; i += 100) {
        const large = Array.from({ length: 100 }, () => a.custody!.send({ to: b.id, body: LARGE }));
        await a.settle(Promise.all(large));
      }
      await sendNumbers(a, b.id, 300);
      if (isRestarted) {
        a.crash();
        await a.start();
      }
      setRoute(a, b, true);
      await mesh.clock.advance(5 * SECOND_MS);
      expect(texts(b)).toEqual(numbers(300));
      a.takesBulk = () => true;
      a.custody!.onRoute(b.id);
      await mesh.clock.advance(60 * SECOND_MS);
      expect([b.delivered.length, a.custody!.outbox.openCount]).toEqual([600, 0]);
    }
  });

  test("is in memory in part, and goes in order and once when there is a way", async () => {
    const { mesh, a, b, ids } = await absent(1_500);
    const { outbox, forwarder } = a.custody!;
    expect([outbox.openCount, forwarder.count]).toEqual([1_500, UNREACHABLE_MAX]);
    expect((await get(a, ids[1_499]!))!.state).toBe("queued");
    for (const id of [ids[1]!, ids[31]!, ids[32]!, ids[1_499]!])
      expect(outbox.waitReason((await get(a, id))!)).toContain("behind others: no route");
    setRoute(a, b, true);
    let most = 0;
    for (let i = 0; i < 60; i++) {
      await mesh.clock.advance(100);
      most = Math.max(most, forwarder.count);
    }
    expect(texts(b)).toEqual(numbers(1_500));
    expect([outbox.openCount, outbox.count, outbox.bytes, forwarder.count]).toEqual([0, 1_500, 0, 0]);
    expect(most).toBeLessThanOrEqual(AWAKE_MAX);
    expect((await get(a, ids[1_499]!))!.state).toBe("delivered");
  });

  test("and that after a restart of either side, at any time", async () => {
    const { mesh, a, b } = await absent(1_500);
    for (const node of [a, a, b, a]) {
      node.crash();
      await mesh.clock.advance(SECOND_MS);
      await node.start();
      expect(a.custody!.forwarder.count).toBeLessThanOrEqual(AWAKE_MAX);
      setRoute(a, b, true);
      await mesh.clock.advance(700);
    }
    await mesh.clock.advance(120 * SECOND_MS);
    expect(texts(b).toSorted()).toEqual(numbers(1_500).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
  });

  test("is laid down again when the way is lost, and taken up where it was", async () => {
    const { mesh, a, b } = await absent(1_500);
    mesh.hasRoom = () => false;
    setRoute(a, b, true);
    await mesh.clock.advance(SECOND_MS);
    expect(a.custody!.forwarder.count).toBeGreaterThan(AWAKE_MAX / 2);
    setRoute(a, b, false);
    expect(a.custody!.forwarder.count).toBeLessThanOrEqual(UNREACHABLE_MAX);
    mesh.hasRoom = () => true;
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b)).toEqual(numbers(1_500));
  });

  test("lets urgent mail pass", async () => {
    const { mesh, a, b } = await absent(1_500);
    await sendNumbers(a, b.id, 1, { body: Buffer.from("urgent"), priority: 0 });
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b)[0]).toBe("urgent");
    expect(texts(b).length).toBe(1_501);
  });
});

describe("mail that relays took and no receipt came for", () => {
  async function relayed(count: number) {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"], { laneAwakeMax: AWAKE_MAX })) as [
      TestNode,
      TestNode,
      TestNode,
    ];
    mesh.cut(b, c);
    const ids = await sendNumbers(a, c.id, count);
    await mesh.clock.advance(10 * SECOND_MS);
    return { mesh, a, b, c, ids };
  }

  test("is all with the relay, in memory in part, shown as relayed, and ended by its receipts", async () => {
    const { mesh, a, b, c, ids } = await relayed(1_500);
    expect(b.custody!.transit.count).toBe(1_500);
    expect(a.custody!.forwarder.count).toBeLessThanOrEqual(AWAKE_MAX);
    for (const id of [ids[0]!, ids[700]!, ids[1_499]!]) expect((await get(a, id))!.state).toBe("relayed");
    mesh.connect(b, c);
    await mesh.clock.advance(20 * SECOND_MS);
    expect(texts(c).toSorted()).toEqual(numbers(1_500).toSorted());
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([0, 0]);
  });

  test("is offered again when its time has come, from the disk as well, and taken for what it is", async () => {
    const { mesh, a, b, c } = await relayed(2_000);
    const before = mesh.count("bundle", "a>b");
    await mesh.clock.advance(60 * SECOND_MS);
    expect(mesh.count("bundle", "a>b") - before).toBeGreaterThanOrEqual(2_000);
    expect(b.custody!.transit.count).toBe(2_000);
    mesh.connect(b, c);
    await mesh.clock.advance(60 * SECOND_MS);
    expect(c.delivered.length).toBe(2_000);
    expect(a.custody!.outbox.openCount).toBe(0);
  });

  test("is offered again at once where the relay lost its store", async () => {
    const { mesh, a, b, c } = await relayed(2_000);
    b.destroy();
    await b.start();
    mesh.connect(b, c);
    // Long before anything would be offered again by itself.
    await mesh.clock.advance(2 * SECOND_MS);
    expect(texts(c).toSorted()).toEqual(numbers(2_000).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
  });

  test("is known by its bundles: one that comes back is acknowledged and offered again, however long ago it went", async () => {
    const { mesh, a, b, c } = await relayed(2_000);
    const back = mesh.log.filter(({ from, type }) => from === "a" && type === FrameType.bundle);
    const acks = mesh.count("custodyAck", "a>b");
    const sent = mesh.count("bundle", "a>b");
    for (const { bytes } of back.slice(0, 2_000)) a.receive(b.id, bytes);
    // Long before anything would be offered again by itself.
    await mesh.clock.advance(2 * SECOND_MS);
    expect(mesh.count("custodyAck", "a>b")).toBeGreaterThan(acks);
    expect(mesh.count("bundle", "a>b") - sent).toBeGreaterThanOrEqual(2_000);
    expect(a.custody!.transit.count).toBe(0);
    mesh.connect(b, c);
    await mesh.clock.advance(60 * SECOND_MS);
    expect(c.delivered.length).toBe(2_000);
  });

  test("is ended by receipts that come after a restart of its source", async () => {
    const { mesh, a, b, c } = await relayed(2_000);
    a.crash();
    await mesh.clock.advance(SECOND_MS);
    await a.start();
    mesh.connect(b, c);
    await mesh.clock.advance(60 * SECOND_MS);
    expect(c.delivered.length).toBe(2_000);
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([0, 0]);
  });
});

test("however many wait behind them, those without receipts stay in memory: they show that a neighbour loses mail", async () => {
  const { mesh, a, b, c } = await withRelay();
  mesh.cut(a, b);
  const ids = await sendNumbers(a, c.id, 1_500);
  mesh.connect(a, b);
  await mesh.clock.advance(3 * SECOND_MS);
  const waiting = [...a.custody!.forwarder.awaiting(b.id, c.id)].map(({ messageId }) => messageId as string);
  expect(waiting.slice(0, UNREACHABLE_MAX).toSorted()).toEqual(ids.slice(0, UNREACHABLE_MAX).toSorted());
  expect(waiting.length).toBe(AWAKE_MAX / 2);
  expect(b.custody!.transit.count).toBe(1_500);
  expect(a.custody!.forwarder.count).toBeLessThanOrEqual(AWAKE_MAX);
});

test("what a liar took is offered again at once when it is found out, from the disk as well", async () => {
  const { mesh, a, b, c } = await withRelay();
  await sendNumbers(a, c.id, 1_000);
  await mesh.clock.advance(5 * SECOND_MS);
  const before = mesh.count("bundle", "a>b");
  a.custody!.outbox.reoffer(b.id, c.id);
  await mesh.clock.advance(2 * SECOND_MS);
  expect(mesh.count("bundle", "a>b") - before).toBeGreaterThanOrEqual(1_000 - AWAKE_MAX);
});
