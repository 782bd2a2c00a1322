/** More mail than is kept in memory: what waits on the disk goes when it can, in order, once, and is shown as what it is meanwhile. */
import { describe, expect, test } from "bun:test";
import {
  encodeReceipt,
  encodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
} from "../../wire/message.ts";
import { numbers, sendNumbers, TestMesh, testSign, type TestNode, texts } from "../testing.ts";
import type { OutboxEntry } from "./entry.ts";
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

describe("mail for somebody who is not there", () => {
  test("waits for its name as well", async () => {
    const { mesh, a, b } = await pair();
    await sendNumbers(a, "LON-B", 500);
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([500, 0]);
    a.names.set("LON-B", [b.id]);
    a.custody!.onDirectory();
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b).toSorted()).toEqual(numbers(500).toSorted());
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
    expect(texts(b).toSorted()).toEqual(
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
    expect(texts(b).toSorted()).toEqual(numbers(200).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
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
    expect(texts(b)).toEqual(numbers(200));
  });
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
  expect(texts(b)).toEqual(numbers(200).filter((_, i) => ![100, 101, 150].includes(i)));
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
  expect(texts(b)).toEqual(numbers(500));
});
