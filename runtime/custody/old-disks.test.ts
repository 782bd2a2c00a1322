/** Disks that are older than the mesh remembers, and two lives of one node: what either accepted is delivered, once. */
import { describe, expect, test } from "bun:test";
import { namedRow, TestMesh, type TestNode } from "./testing.ts";

const stateOf = (node: TestNode, id: string) => node.sent(id)?.state;
const texts = (node: TestNode) => node.delivered.map(({ text }) => text).toSorted();

/** `a` wrote `before`, its disk was copied, it wrote `after` and everything arrived. */
async function withCopy(before: number, after: number) {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  for (let i = 0; i < before; i++) await a.send(b.id, `before ${i}`);
  await mesh.clock.advance(500);
  const copy = a.disk.copy();
  for (let i = 0; i < after; i++) await a.send(b.id, `after ${i}`);
  await mesh.clock.advance(500);
  expect(texts(b)).toHaveLength(before + after);
  b.delivered.length = 0;
  return { mesh, a, b, copy };
}

describe("an older copy of the disk put back", () => {
  test("mail that a relay took over, and that comes back to a source that has forgotten it, is carried on", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const copy = a.disk.copy();
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(100);
    expect(stateOf(a, id)).toBe("relayed");
    a.crash();
    a.disk = copy;
    await a.start();
    mesh.connect(a, b);
    b.routes.set(c.id, [a.id]);
    mesh.connect(a, c);
    a.routes.set(c.id, [c.id]);
    c.routes.set(a.id, [a.id]);
    b.reroute();
    await mesh.clock.advance(2_000);
    expect([b.custody!.forwarder.count, texts(c), stateOf(a, id)]).toEqual([0, ["x"], undefined]);
  });

  test("new mail is not swallowed as a duplicate, has ids of its own and its own receipts", async () => {
    const { mesh, a, b, copy } = await withCopy(3, 5);
    const used = new Set(
      (await b.settle(b.custody!.inbox.page({ limit: 100 } as never))).map(({ id }) => id),
    );
    a.crash();
    a.disk = copy;
    await a.start();
    const ids: string[] = [];
    for (let i = 0; i < 8; i++) ids.push(await a.send(b.id, `new ${i}`));
    await mesh.clock.advance(1_000);
    expect(texts(b)).toEqual(Array.from({ length: 8 }, (_, i) => `new ${i}`));
    expect(ids.map((id) => [stateOf(a, id), used.has(id as never)])).toEqual(
      ids.map(() => ["delivered", false]),
    );
    for (const id of ids)
      expect(
        b.delivered.some(({ entry, text }) => entry.id === id && text === `new ${ids.indexOf(id)}`),
      ).toBe(true);
  });

  test("what had waited in the copy keeps its name, and is delivered once though it was delivered since", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    mesh.cut(a, b);
    const id = await a.send(b.id, "waited");
    const bundle = a.sent(id)!.targets[0]!.bundle;
    const copy = a.disk.copy();
    mesh.connect(a, b);
    await mesh.clock.advance(500);
    expect([texts(b), stateOf(a, id)]).toEqual([["waited"], "delivered"]);
    a.crash();
    a.disk = copy;
    await a.start();
    expect(a.sent(id)!.targets[0]!.bundle).toBe(bundle);
    await mesh.clock.advance(1_000);
    expect([texts(b), stateOf(a, id)]).toEqual([["waited"], "delivered"]);
  });

  test("a plain restart seals what waits into the same bundle, and its mail is delivered once", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    mesh.cut(a, b);
    const id = await a.send(b.id, "kept");
    const { epoch, targets } = a.sent(id)!;
    a.crash();
    await a.start();
    const kept = a.sent(id)!;
    expect([kept.epoch, kept.targets[0]!.bundle]).toEqual([epoch, targets[0]!.bundle]);
    const next = await a.send(b.id, "next");
    expect(a.sent(next)!.epoch).not.toBe(epoch);
    mesh.connect(a, b);
    await mesh.clock.advance(1_000);
    expect([texts(b), stateOf(a, id), stateOf(a, next)]).toEqual([
      ["kept", "next"],
      "delivered",
      "delivered",
    ]);
  });
});

test("a row of an earlier release keeps the name that the store's epoch gave it", async () => {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  mesh.cut(a, b);
  const id = await a.send(b.id, "from before");
  const { epoch: _epoch, ...old } = namedRow(a.sent(id)!);
  a.crash();
  a.disk.apply([{ op: "put", in: "outbox", key: id, meta: JSON.stringify({ ...old, targets: [] }) }]);
  await a.start();
  expect(a.sent(id)!.epoch).toBe(a.epochHex);
  mesh.connect(a, b);
  await mesh.clock.advance(1_000);
  expect(texts(b)).toEqual(["from before"]);
});

describe("a snapshot of the machine resumed: the same process lives twice", () => {
  test("mail that its other life had named is delivered under another name, and no receipt of the other counts", async () => {
    const { mesh, a, b, copy } = await withCopy(0, 3);
    a.crash();
    a.disk = copy;
    a.life--; // draws what the first life drew
    await a.start();
    const ids: string[] = [];
    ids.push(await a.send(b.id, "resumed 0"));
    const { epoch } = a.sent(ids[0]!)!;
    for (let i = 1; i < 5; i++) ids.push(await a.send(b.id, `resumed ${i}`));
    await mesh.clock.advance(60_000);
    expect(texts(b)).toEqual(Array.from({ length: 5 }, (_, i) => `resumed ${i}`));
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
    const later = await a.send(b.id, "later");
    expect(a.sent(later)!.epoch).not.toBe(epoch);
    // Also after a restart, while a renamed message still waits for its receipt.
    await mesh.clock.advance(1_000);
    expect(stateOf(a, later)).toBe("delivered");
  });

  test("a renamed message that waits survives a restart, and its receipt finds it", async () => {
    const { mesh, a, b, copy } = await withCopy(0, 1);
    a.crash();
    a.disk = copy;
    a.life--;
    await a.start();
    const id = await a.send(b.id, "resumed");
    for (let ms = 0; ms < 1_000 && a.sent(id)!.isRenamed !== true; ms++) await mesh.clock.advance(1);
    mesh.cut(a, b);
    expect(a.sent(id)!.isRenamed).toBe(true);
    await mesh.clock.advance(50);
    a.life += 10;
    a.crash();
    await a.start();
    mesh.connect(a, b);
    await mesh.clock.advance(60_000);
    expect([texts(b), stateOf(a, id)]).toEqual([["resumed"], "delivered"]);
  });
});
