/** More mail than is kept in memory: what waits on the disk goes when it can, in order, once, and is shown as what it is meanwhile. */
import { describe, expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import {
  encodeReceipt,
  encodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
} from "../../wire/message.ts";
import { numbers, sendNumbers, TestMesh, testSign, type TestNode, textsOf } from "../testing.ts";
import type { OutboxEntry } from "./entry.ts";

const SECOND_MS = 1_000;
/** What the forwarder of a node holds at most for one lane. */
const UNREACHABLE_MAX = 32;
const AWAKE_MAX = 256;
const LARGE = new Uint8Array(6_000);

const get = (node: TestNode, id: string) => node.settle(node.custody!.outbox.get(id as never));

async function pair(): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"], { laneAwakeMax: AWAKE_MAX })) as [TestNode, TestNode];
  return { mesh, a, b };
}

/** A relay whose way on is cut. */
async function withRelay() {
  const mesh = new TestMesh();
  const nodes = await mesh.line(["a", "b", "c"], { laneAwakeMax: AWAKE_MAX });
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  return { mesh, a, b, c };
}

/** `b` cannot be reached any more, or again. */
function setRoute(a: TestNode, b: TestNode, isThere: boolean): void {
  if (isThere) a.mesh.connect(a, b);
  else a.mesh.cut(a, b);
  a.custody!.onRoute(b.id);
}

async function absent(count: number, more = {}) {
  const { mesh, a, b } = await pair();
  setRoute(a, b, false);
  const ids = await sendNumbers(a, b.id, count, more);
  return { mesh, a, b, ids };
}

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
      expect(textsOf(b)).toEqual(numbers(300));
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
    expect(textsOf(b)).toEqual(numbers(1_500));
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
    expect(textsOf(b).toSorted()).toEqual(numbers(1_500).toSorted());
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
    expect(textsOf(b)).toEqual(numbers(1_500));
  });

  test("waits for its name as well", async () => {
    const { mesh, a, b } = await pair();
    await sendNumbers(a, "LON-B", 500);
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([500, 0]);
    a.names.set("LON-B", [b.id]);
    a.custody!.onDirectory();
    await mesh.clock.advance(10 * SECOND_MS);
    expect(textsOf(b).toSorted()).toEqual(numbers(500).toSorted());
  });

  test("lets urgent mail pass", async () => {
    const { mesh, a, b } = await absent(1_500);
    await sendNumbers(a, b.id, 1, { body: Buffer.from("urgent"), priority: 0 });
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(textsOf(b)[0]).toBe("urgent");
    expect(textsOf(b).length).toBe(1_501);
  });

  test("ends when its life is over, on the disk as in memory, and says so", async () => {
    const { mesh, a, ids } = await absent(500, { ttlSeconds: 60 });
    await mesh.clock.advance(59 * SECOND_MS);
    expect(a.custody!.outbox.openCount).toBe(500);
    await mesh.clock.advance(10 * SECOND_MS);
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count, a.custody!.outbox.bytes]).toEqual([
      0, 0, 0,
    ]);
    for (const id of [ids[0]!, ids[499]!])
      expect(await get(a, id)).toMatchObject({
        state: "expired",
        reason: "its lifetime ended before a receipt came",
      });
    expect(a.states.filter((state) => state === "expired").length).toBe(500);
  });

  test("is withdrawn from where it is", async () => {
    const { mesh, a, b, ids } = await absent(200);
    const { outbox } = a.custody!;
    for (const id of [ids[0]!, ids[150]!]) await a.settle(outbox.withdraw(id as never));
    expect(outbox.openCount).toBe(198);
    expect((await get(a, ids[150]!))!.state).toBe("withdrawn");
    const again = a.settle(outbox.withdraw(ids[150] as never)).catch((error: { code: string }) => error.code);
    expect(await again).toBe("GODWIT_MESSAGE_FINAL");
    a.crash();
    await a.start();
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(textsOf(b).toSorted()).toEqual(
      numbers(200)
        .filter((_, i) => i !== 0 && i !== 150)
        .toSorted(),
    );
  });

  test("is listed in order of arrival, whole, from either end and from any place", async () => {
    const { a, ids } = await absent(300);
    const { outbox } = a.custody!;
    const page = async (order: "oldest-first" | "newest-first", limit: number, after?: string) =>
      (await a.settle(outbox.page({ order, limit, ...(after === undefined ? {} : { after }) }))).map(
        ({ id }) => id as string,
      );
    expect(await page("oldest-first", 1_000)).toEqual(ids);
    expect(await page("newest-first", 10)).toEqual(ids.slice(-10).toReversed());
    expect(await page("newest-first", 5, ids[100])).toEqual(ids.slice(95, 100).toReversed());
    expect(await page("oldest-first", 5, ids[100])).toEqual(ids.slice(101, 106));
    expect(await page("oldest-first", 5, "0".repeat(32))).toEqual([]);
    expect(Buffer.from(await a.settle(outbox.body(ids[222] as never))).toString()).toBe("222");
  });

  test("goes to whom its address means when its recipient was revoked meanwhile", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"], { laneAwakeMax: AWAKE_MAX })) as [
      TestNode,
      TestNode,
      TestNode,
    ];
    a.names.set("NYC-C", [c.id]);
    mesh.cut(a, b);
    await sendNumbers(a, "NYC-C", 200);
    a.refused.add(c.id);
    a.names.set("NYC-C", [b.id]);
    a.custody!.onRevoked(c.id);
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(c.delivered).toEqual([]);
    expect(textsOf(b).toSorted()).toEqual(numbers(200).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
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
    expect(textsOf(c).toSorted()).toEqual(numbers(1_500).toSorted());
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
    expect(textsOf(c).toSorted()).toEqual(numbers(2_000).toSorted());
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

describe("receipts for what is on the disk", () => {
  /** As `signer` would send them. */
  function receipts(signer: TestNode, a: TestNode, entries: readonly OutboxEntry[]): Uint8Array {
    const encoded = entries.map(({ id, targets }) =>
      encodeReceipt({
        status: ReceiptStatus.delivered,
        messageId: id,
        bundleId: targets[0]!.bundle,
        atMs: 1_800_000_000_000,
        isUnconfirmed: false,
        trace: [],
      }),
    );
    const signed = receiptSigningBytes("test", signer.id, a.id, encoded.map(receiptHash));
    return encodeReceiptBody(encoded, testSign(signer.id, signed));
  }

  async function parked(count: number) {
    const found = await absent(count);
    const { a, ids } = found;
    const last: OutboxEntry[] = [];
    for (const id of ids.slice(-4)) last.push((await get(a, id))!);
    return { ...found, last };
  }

  test("end it once, however many come at one time", async () => {
    const { a, b, last } = await parked(200);
    const bytes = receipts(b, a, last);
    const { outbox } = a.custody!;
    await a.settle(Promise.all(Array.from({ length: 3 }, () => outbox.onReceipts(b.id, bytes))));
    expect(outbox.openCount).toBe(196);
    expect(a.states.filter((state) => state === "delivered").length).toBe(4);
    expect(outbox.bytes).toBe(10 + 90 * 2 + 100 * 3 - 4 * 3);
  });

  test("and while it is being fetched", async () => {
    const { mesh, a, b, last } = await parked(200);
    const { outbox } = a.custody!;
    mesh.hasRoom = () => false;
    setRoute(a, b, true);
    await a.settle(outbox.onReceipts(b.id, receipts(b, a, last)));
    expect(outbox.openCount).toBe(196);
    mesh.hasRoom = () => true;
    await mesh.clock.advance(10 * SECOND_MS);
    expect([outbox.openCount, b.delivered.length]).toEqual([0, 196]);
  });

  test("change nothing when they are of somebody else", async () => {
    const { mesh, a, b, last } = await parked(200);
    const c = await mesh.add("c");
    await a.settle(a.custody!.outbox.onReceipts(c.id, receipts(c, a, last)));
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([200, UNREACHABLE_MAX]);
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(textsOf(b)).toEqual(numbers(200));
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

test("what was relayed before an orderly end is offered again soon after the next start, all of it", async () => {
  const { mesh, a, c } = await withRelay();
  await sendNumbers(a, c.id, 200);
  await mesh.clock.advance(12 * SECOND_MS);
  a.custody!.stop();
  await mesh.clock.advance(100);
  a.crash();
  await a.start();
  // No word of the relay wakes anything.
  mesh.filter = ({ from, to }) => from !== "b" || to !== "a";
  const before = mesh.count("bundle", "a>b");
  await mesh.clock.advance(18 * SECOND_MS);
  expect(mesh.count("bundle", "a>b") - before).toBeGreaterThanOrEqual(200);
});

test("what the disk damaged of it costs these messages alone, and does not count as open for ever", async () => {
  const { mesh, a, b, ids } = await absent(200);
  const { outbox } = a.custody!;
  // A row that nobody can read, one that is gone, and a body that is another.
  const op = { op: "put", in: "outbox", key: ids[100]!, meta: "{" } as const;
  await a.settle(a.store!.commit([op, { op: "delete", in: "outbox", key: ids[101]! }]));
  a.disk.rot("outbox", ids[150]!);
  expect(Buffer.from(await a.settle(outbox.body(ids[180] as never))).toString()).toBe("180");
  expect([outbox.openCount, a.custody!.forwarder.count]).toEqual([200, UNREACHABLE_MAX]);
  setRoute(a, b, true);
  await mesh.clock.advance(10 * SECOND_MS);
  expect(textsOf(b)).toEqual(numbers(200).filter((_, i) => ![100, 101, 150].includes(i)));
  expect([outbox.openCount, outbox.bytes]).toEqual([0, 0]);
});

test("whoever reads a damaged body of it is told, and so is its sender", async () => {
  const { mesh, a, b, ids } = await absent(200);
  const { outbox } = a.custody!;
  const row = a.disk.rows("outbox").get(ids[150]!)!;
  const body = Buffer.from("another");
  await a.settle(a.store!.commit([{ op: "put", in: "outbox", key: ids[150]!, meta: row.meta, body }]));
  const reading = outbox.body(ids[150] as never).catch((error: { code: string }) => error.code);
  expect(await a.settle(reading)).toBe("GODWIT_MESSAGE_DAMAGED");
  await mesh.clock.advance(100);
  expect([(await get(a, ids[150]!))!.state, outbox.openCount]).toEqual(["refused", 199]);
  setRoute(a, b, true);
  await mesh.clock.advance(10 * SECOND_MS);
  expect([b.delivered.length, outbox.openCount, outbox.bytes]).toEqual([199, 0, 0]);
});

test("a store that cannot be read keeps the rest waiting, and loses nothing", async () => {
  const { mesh, a, b } = await absent(500);
  const { page } = a.store!;
  a.store!.page = () => Promise.reject(new Error("not now"));
  setRoute(a, b, true);
  await mesh.clock.advance(SECOND_MS);
  expect(b.delivered.length).toBe(UNREACHABLE_MAX);
  a.store!.page = page;
  await mesh.clock.advance(20 * SECOND_MS);
  expect(textsOf(b)).toEqual(numbers(500));
});
