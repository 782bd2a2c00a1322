/** Disks that give back something else than was written: nobody is shown it, nobody is handed it, and it costs itself alone. */
import { expect, test } from "bun:test";
import { GodwitError } from "../kernel/errors.ts";
import type { MessageId } from "../kernel/ids.ts";
import type { Collection } from "../store/types.ts";
import type { Holding } from "./context.ts";
import { TestMesh, type TestNode } from "./testing.ts";

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "resolved",
    (error: unknown) => (error instanceof GodwitError ? error.code : String(error)),
  );
const damaged = (node: TestNode) => node.store!.state.damage.map((row) => `${row.in} ${row.key}`);
const entryOf = (node: TestNode, id: MessageId) => node.sent(id)!;

async function line() {
  const mesh = new TestMesh();
  const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  const restart = async (node: TestNode) => {
    node.crash();
    await node.start();
    await mesh.clock.advance(20);
  };
  const rewrite = async (node: TestNode, collection: Collection, key: string, fields: object) => {
    const row = (await node.settle(node.store!.load(collection))).find((one) => one.key === key)!;
    const meta = JSON.stringify({ ...(JSON.parse(row.meta) as object), ...fields });
    await node.settle(node.store!.commit([{ op: "put", in: collection, key, meta }]));
  };
  return { mesh, a, b, c, restart, rewrite };
}

test("a body that the disk damaged is not shown as its sender's words: it is named, and in the inbox no more", async () => {
  const { mesh, a, c } = await line();
  const [bad, good] = [await a.send(c.id, "what was said"), await a.send(c.id, "what else was said")];
  await mesh.clock.advance(500);
  c.disk.rot("inbox", bad);
  const { inbox } = c.custody!;
  expect(await codeOf(c.settle(inbox.body(bad)))).toBe("GODWIT_MESSAGE_DAMAGED");
  expect([await c.settle(inbox.get(bad)), inbox.count, damaged(c)]).toEqual([undefined, 1, [`inbox ${bad}`]]);
  expect(await codeOf(inbox.body(bad))).toBe("GODWIT_MESSAGE_UNKNOWN");
  expect(Buffer.from(await c.settle(inbox.body(good))).toString()).toBe("what else was said");
});

test("a body of another length than was delivered is not shown either, whatever the store says of it", async () => {
  const { mesh, a, c } = await line();
  const id = await a.send(c.id, "what was said");
  await mesh.clock.advance(500);
  const row = (await c.settle(c.store!.load("inbox")))[0]!;
  await c.settle(
    c.store!.commit([{ op: "put", in: "inbox", key: id, meta: row.meta, body: Buffer.from("what") }]),
  );
  expect(await codeOf(c.settle(c.custody!.inbox.body(id)))).toBe("GODWIT_MESSAGE_DAMAGED");
  expect(c.custody!.inbox.count).toBe(0);
});

test("mail of this node that its disk damaged before it left ends with a word to its sender, and nothing is sent", async () => {
  const { mesh, a, b, c, restart } = await line();
  mesh.cut(a, b);
  const [bad, good] = [await a.send(c.id, "lost words"), await a.send(c.id, "kept words")];
  a.disk.rot("outbox", bad);
  // The list of the outbox reads no bodies; what is rotten here is the body alone.
  await restart(a);
  mesh.connect(a, b);
  await mesh.clock.advance(1_000);
  expect(c.delivered.map(({ text }) => text)).toEqual(["kept words"]);
  expect(entryOf(a, good).state).toBe("delivered");
  expect(damaged(a)).toEqual([`outbox ${bad}`]);
});

test("a body that was replaced under a sealed message is sent to nobody, and its sender is told", async () => {
  const { mesh, a, b, c, restart } = await line();
  mesh.cut(a, b);
  const id = await a.send(c.id, "the words of a");
  const row = (await a.settle(a.store!.load("outbox")))[0]!;
  const body = Buffer.from("the wards of a");
  await a.settle(a.store!.commit([{ op: "put", in: "outbox", key: id, meta: row.meta, body }]));
  await restart(a);
  mesh.connect(a, b);
  await mesh.clock.advance(1_000);
  expect(c.delivered).toEqual([]);
  expect([entryOf(a, id).state, entryOf(a, id).reason]).toEqual([
    "refused",
    "this disk damaged it: send it again",
  ]);
  expect(await codeOf(a.settle(a.custody!.outbox.body(id)))).toBe("GODWIT_MESSAGE_DAMAGED");
  // And so it stays.
  await restart(a);
  expect(entryOf(a, id).state).toBe("refused");
});

test("a relay passes on no bundle that its disk damaged; its source, which still has it, brings it again", async () => {
  const { mesh, a, b, c, restart } = await line();
  mesh.cut(b, c);
  const id = await a.send(c.id, "by way of b");
  await mesh.clock.advance(500);
  const [row] = await b.settle(b.store!.load("transit"));
  await b.settle(
    b.store!.commit([
      { op: "put", in: "transit", key: row!.key, meta: row!.meta, body: new Uint8Array(row!.bodyBytes) },
    ]),
  );
  await restart(b);
  expect(b.custody!.transit.count).toBe(1);
  mesh.connect(b, c);
  await mesh.clock.advance(500);
  expect([b.custody!.transit.count, c.delivered.length]).toEqual([0, 0]);
  expect(damaged(b)).toEqual([`transit ${row!.key}`]);
  await mesh.clock.advance(20_000);
  expect(c.delivered.map(({ text }) => text)).toEqual(["by way of b"]);
  expect(entryOf(a, id).state).toBe("delivered");
});

test("rows whose fields are of a wrong type or out of range are damage of these rows, and the node goes on", async () => {
  const { mesh, a, b, c, restart, rewrite } = await line();
  mesh.cut(b, c);
  const ids: MessageId[] = [];
  for (let i = 0; i < 4; i++) ids.push(await a.send(c.id, `message ${i}`, { idempotencyKey: `key ${i}` }));
  await mesh.clock.advance(500);
  const transit = (await b.settle(b.store!.load("transit"))).map(({ key }) => key);
  await rewrite(b, "transit", transit[0]!, { hops: "three" });
  await rewrite(b, "transit", transit[1]!, { trace: [{ node: 7, atMs: 1 }] });
  await rewrite(a, "outbox", ids[0]!, { n: "long" });
  await rewrite(a, "outbox", ids[1]!, { g: [null] });
  await rewrite(a, "outbox", ids[2]!, { s: 99 });
  await rewrite(a, "idempotency", "key 3", { digest: 5 });
  await restart(a);
  await restart(b);
  expect(damaged(a).toSorted()).toEqual(
    ids
      .slice(0, 3)
      .map((id) => `outbox ${id}`)
      .toSorted(),
  );
  // Looked at when it is used: it keeps nobody from sending.
  expect(await a.send(c.id, "message 3", { idempotencyKey: "key 3" })).not.toBe(ids[3]!);
  expect(damaged(a)).toContain("idempotency key 3");
  expect(damaged(b).toSorted()).toEqual(
    transit
      .slice(0, 2)
      .map((key) => `transit ${key}`)
      .toSorted(),
  );
  mesh.connect(b, c);
  await mesh.clock.advance(30_000);
  expect(entryOf(a, ids[3]!).state).toBe("delivered");
  const inboxed = c.delivered.map(({ entry }) => entry.id);
  await rewrite(c, "inbox", inboxed[0]!, { size: -1 });
  await restart(c);
  expect([c.custody!.inbox.count, damaged(c)]).toEqual([inboxed.length - 1, [`inbox ${inboxed[0]}`]]);
});

test("a set of what was delivered that makes no sense is believed in no part", async () => {
  const { mesh, a, c, restart } = await line();
  await a.send(c.id, "one");
  await mesh.clock.advance(500);
  const [row] = await c.settle(c.store!.load("seen"));
  for (const meta of ["[[5,1]]", "[[0,4],[3,9]]", "[[0,1e99]]", '[["0",1]]', "[[-3,1]]", "{}"]) {
    await c.settle(c.store!.commit([{ op: "put", in: "seen", key: row!.key, meta }]));
    await restart(c);
    expect([meta, damaged(c)]).toEqual([meta, [`seen ${row!.key}`]]);
  }
});

test("a withdrawn message makes room: its body goes with it", async () => {
  const { mesh, a, b, c } = await line();
  mesh.cut(a, b);
  const id = await a.send(c.id, new Uint8Array(50_000));
  await a.settle(a.custody!.outbox.withdraw(id));
  expect((await a.settle(a.store!.load("outbox")))[0]!.bodyBytes).toBe(0);
  expect(await codeOf(a.settle(a.custody!.outbox.body(id)))).toBe("GODWIT_MESSAGE_UNKNOWN");
});

test("a message that a relay takes while it is being withdrawn stays withdrawn, over a crash as well, and is no damage", async () => {
  const { mesh, a, b, c, restart } = await line();
  mesh.cut(a, b);
  const id = await a.send(c.id, "better not");
  const withdrawn = a.custody!.outbox.withdraw(id);
  // The acknowledgement comes in while the withdrawal is on its way to the disk.
  a.custody!.outbox.onAcknowledged({ messageId: id, header: { destination: c.id } } as Holding, b.id);
  await a.settle(withdrawn);
  await mesh.clock.advance(100);
  await restart(a);
  await mesh.clock.advance(60_000);
  expect([entryOf(a, id).state, damaged(a)]).toEqual(["withdrawn", []]);
});

test("a message that a neighbour could take while it is being withdrawn is no damage: its body went on purpose", async () => {
  const { mesh, a, b, c, restart } = await line();
  mesh.cut(a, b);
  const id = await a.send(c.id, "on second thoughts");
  await restart(a);
  const withdrawn = a.custody!.outbox.withdraw(id);
  await mesh.clock.advance(1);
  mesh.connect(a, b);
  await mesh.clock.advance(1_000);
  await withdrawn;
  expect([entryOf(a, id).state, damaged(a), c.delivered.length]).toEqual(["withdrawn", [], 0]);
});

test("a message that is removed while somebody reads it is no damage, and leaves the counts of the inbox once", async () => {
  for (const size of [100, 1_500_000]) {
    const { mesh, a, c } = await line();
    const id = await a.send(c.id, new Uint8Array(size).fill(7));
    await a.send(c.id, "stays");
    await mesh.clock.advance(1_000);
    const store = c.store!;
    const late =
      <A extends unknown[], R>(read: (...asked: A) => Promise<R>) =>
      (...asked: A) =>
        new Promise<R>((resolve) => mesh.clock.after(20, () => resolve(read(...asked))));
    Object.assign(store, { piece: late(store.piece.bind(store)), body: late(store.body.bind(store)) });
    const { inbox } = c.custody!;
    const reading = codeOf(inbox.body(id));
    await mesh.clock.advance(1);
    await c.settle(inbox.remove(id));
    await mesh.clock.advance(500);
    expect(await reading).toBe("GODWIT_MESSAGE_UNKNOWN");
    expect([inbox.count, inbox.bytes, damaged(c)]).toEqual([1, "stays".length, []]);
  }
});
