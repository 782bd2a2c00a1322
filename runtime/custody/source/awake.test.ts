/** More mail than is kept in memory: what waits on the disk goes when it can, in order, once, and is shown as what it is meanwhile. */
import { describe, expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { TestMesh, type TestNode } from "../testing.ts";

const SECOND_MS = 1_000;
/** What the forwarder of a node holds at most for one lane. */
const UNREACHABLE_MAX = 32;
const REACHABLE_MAX = 1_024;

async function sendAll(node: TestNode, to: string, count: number, more = {}): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i += 100) {
    const some = Array.from({ length: Math.min(100, count - i) }, (_, j) =>
      node.custody!.send({ to, body: Buffer.from(`${i + j}`), ...more }),
    );
    ids.push(...(await node.settle(Promise.all(some))));
  }
  return ids;
}

const texts = (node: TestNode): string[] => node.delivered.map(({ text }) => text);
const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => `${i}`);
const get = (node: TestNode, id: string) => node.settle(node.custody!.outbox.get(id as never));

async function pair(): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  return { mesh, a, b };
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
  const ids = await sendAll(a, b.id, count, more);
  return { mesh, a, b, ids };
}

describe("mail for somebody who is not there", () => {
  test("is in memory in part, and goes in order and once when there is a way", async () => {
    const { mesh, a, b, ids } = await absent(3_000);
    const { outbox, forwarder } = a.custody!;
    expect([outbox.openCount, forwarder.count]).toEqual([3_000, UNREACHABLE_MAX]);
    expect((await get(a, ids[2_999]!))!.state).toBe("queued");
    expect(outbox.waitReason((await get(a, ids[2_999]!))!)).toContain("behind others");
    setRoute(a, b, true);
    let most = 0;
    for (let i = 0; i < 60; i++) {
      await mesh.clock.advance(100);
      most = Math.max(most, forwarder.count);
    }
    expect(texts(b)).toEqual(numbers(3_000));
    expect([outbox.openCount, outbox.count, outbox.bytes, forwarder.count]).toEqual([0, 3_000, 0, 0]);
    expect(most).toBeLessThanOrEqual(REACHABLE_MAX);
    expect((await get(a, ids[2_999]!))!.state).toBe("delivered");
  });

  test("and that after a restart of either side, at any time", async () => {
    const { mesh, a, b } = await absent(3_000);
    for (const node of [a, a, b, a]) {
      node.crash();
      await mesh.clock.advance(SECOND_MS);
      await node.start();
      expect(a.custody!.forwarder.count).toBeLessThanOrEqual(REACHABLE_MAX);
      setRoute(a, b, true);
      await mesh.clock.advance(700);
    }
    await mesh.clock.advance(120 * SECOND_MS);
    expect(texts(b).toSorted()).toEqual(numbers(3_000).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
  });

  test("is laid down again when the way is lost, and taken up where it was", async () => {
    const { mesh, a, b } = await absent(3_000);
    mesh.hasRoom = () => false;
    setRoute(a, b, true);
    await mesh.clock.advance(SECOND_MS);
    expect(a.custody!.forwarder.count).toBeGreaterThan(500);
    setRoute(a, b, false);
    expect(a.custody!.forwarder.count).toBeLessThanOrEqual(UNREACHABLE_MAX);
    mesh.hasRoom = () => true;
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b)).toEqual(numbers(3_000));
  });

  test("waits for its name as well", async () => {
    const { mesh, a, b } = await pair();
    await sendAll(a, "LON-B", 500);
    expect([a.custody!.outbox.openCount, a.custody!.forwarder.count]).toEqual([500, 0]);
    a.names.set("LON-B", [b.id]);
    a.custody!.onDirectory();
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b).toSorted()).toEqual(numbers(500).toSorted());
  });

  test("lets urgent mail pass", async () => {
    const { mesh, a, b } = await absent(3_000);
    await sendAll(a, b.id, 1, { body: Buffer.from("urgent"), priority: 0 });
    setRoute(a, b, true);
    await mesh.clock.advance(10 * SECOND_MS);
    expect(texts(b)[0]).toBe("urgent");
    expect(texts(b).length).toBe(3_001);
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
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    a.names.set("NYC-C", [c.id]);
    mesh.cut(a, b);
    await sendAll(a, "NYC-C", 200);
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

describe("mail that relays took and no receipt came for", () => {
  async function relayed(count: number) {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const ids = await sendAll(a, c.id, count);
    await mesh.clock.advance(10 * SECOND_MS);
    return { mesh, a, b, c, ids };
  }

  test("is all with the relay, in memory in part, shown as relayed, and ended by its receipts", async () => {
    const { mesh, a, b, c, ids } = await relayed(3_000);
    expect(b.custody!.transit.count).toBe(3_000);
    expect(a.custody!.forwarder.count).toBeLessThanOrEqual(REACHABLE_MAX);
    for (const id of [ids[0]!, ids[1_500]!, ids[2_999]!]) expect((await get(a, id))!.state).toBe("relayed");
    mesh.connect(b, c);
    await mesh.clock.advance(20 * SECOND_MS);
    expect(texts(c).toSorted()).toEqual(numbers(3_000).toSorted());
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
    await mesh.clock.advance(12 * SECOND_MS);
    expect(texts(c).toSorted()).toEqual(numbers(2_000).toSorted());
    expect(a.custody!.outbox.openCount).toBe(0);
  });

  test("is known by its bundles: one that comes back is acknowledged and offered again, however long ago it went", async () => {
    const { mesh, a, b, c } = await relayed(2_000);
    const back = mesh.log.filter(({ from, type }) => from === "a" && type === FrameType.bundle);
    const acks = mesh.count("custodyAck", "a>b");
    for (const { bytes } of back.slice(0, 2_000)) a.receive(b.id, bytes);
    await mesh.clock.advance(2 * SECOND_MS);
    expect(mesh.count("custodyAck", "a>b")).toBeGreaterThan(acks);
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
