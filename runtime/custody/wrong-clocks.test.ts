/** Mail, on machines whose clocks are wrong at a start: each test is named after what was seen. */
import { describe, expect, test } from "bun:test";
import { namedRow, TestMesh, type TestNode } from "./testing.ts";

const RIGHT_MS = 1_800_000_000_000;
const DAY_MS = 24 * 3_600_000;
const DECADES_MS = 40 * 365 * DAY_MS;
const WRONG: readonly [string, number][] = [
  ["decades ahead", RIGHT_MS + DECADES_MS],
  ["in 1970", 0],
  ["a year behind", RIGHT_MS - 365 * DAY_MS],
];

const stateOf = (node: TestNode, id: string) => node.sent(id)?.state;
const texts = (node: TestNode) => node.delivered.map(({ text }) => text);

/** Off for a while, then up with this clock for a minute. */
async function restart(mesh: TestMesh, node: TestNode, wallOffsetMs: number, offMs = 1_000): Promise<void> {
  node.crash();
  await mesh.clock.advance(offMs);
  mesh.clock.wallOffsetMs = wallOffsetMs;
  await node.start();
  await mesh.clock.advance(60_000);
  node.time.time.check();
}

/** A line of three whose end is off: `a` has mail of its own, `b` holds it and has some of its own. */
async function waiting(): Promise<{ mesh: TestMesh; nodes: [TestNode, TestNode, TestNode]; own: string }> {
  const mesh = new TestMesh();
  const nodes = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  const [a, b, c] = nodes;
  for (const node of nodes) node.time.vouchedMs = () => RIGHT_MS + mesh.clock.monotonicMs();
  for (const node of nodes) node.time.time.check();
  c.crash();
  await a.send(c.id, "through the relay");
  const own = await b.send(c.id, "of the relay");
  await mesh.clock.advance(1_000);
  expect(b.custody!.transit.count).toBe(1);
  return { mesh, nodes, own };
}

describe("one start with a wrong clock loses no mail", () => {
  test.each(WRONG)("%s", async (_, wrongMs) => {
    const { mesh, nodes, own } = await waiting();
    const [, b, c] = nodes;
    await restart(mesh, b, wrongMs);
    expect(b.time.time.view.state).toBe("doubted");
    expect([stateOf(b, own), b.custody!.transit.count]).toEqual(["queued", 1]);
    await restart(mesh, b, RIGHT_MS);
    expect([stateOf(b, own), b.custody!.transit.count]).toEqual(["queued", 1]);
    await c.start();
    await mesh.clock.advance(120_000);
    expect(texts(c).sort()).toEqual(["of the relay", "through the relay"]);
    expect(stateOf(b, own)).toBe("delivered");
  });

  test("nor mail for a name that nobody has yet", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const id = await a.send("LATER-A", "wait");
    await restart(mesh, a, RIGHT_MS + DECADES_MS);
    await restart(mesh, a, RIGHT_MS);
    a.names.set("LATER-A", [b.id]);
    a.custody!.onDirectory();
    await mesh.clock.advance(1_000);
    expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["wait"]]);
  });

  test("an idempotency key is still that of its message, and what was delivered comes no second time", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const order = { idempotencyKey: "once" };
    const id = await a.send(b.id, "x", order);
    await mesh.clock.advance(1_000);
    for (const node of [a, b]) await restart(mesh, node, RIGHT_MS + DECADES_MS);
    for (const node of [a, b]) await restart(mesh, node, RIGHT_MS);
    expect(await a.send(b.id, "x", order)).toBe(id);
    await mesh.clock.advance(1_000);
    expect(texts(b)).toEqual(["x"]);
  });

  test("no gap of what was delivered is dated by that clock, or it would be closed and its mail lost", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    await restart(mesh, b, RIGHT_MS + DECADES_MS);
    await a.send(b.id, "x");
    await mesh.clock.advance(1_000);
    const rows = await b.settle(b.store!.load("seen"));
    const hours = rows.flatMap(({ meta }) => (JSON.parse(meta) as number[][]).map(([, , hour]) => hour!));
    expect(hours).toHaveLength(1);
    expect(hours[0]! * 3_600_000).toBeLessThan(RIGHT_MS);
  });

  test("mail of that start stands between what came before and after it", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const ids: string[] = [];
    for (const wallOffsetMs of [RIGHT_MS, RIGHT_MS + DECADES_MS, 0, RIGHT_MS]) {
      for (const node of [a, b]) await restart(mesh, node, wallOffsetMs);
      ids.unshift(await a.send(b.id, "x"));
      await mesh.clock.advance(1_000);
    }
    for (const node of [a, b]) await restart(mesh, node, RIGHT_MS);
    const page = { order: "newest-first", limit: 10 } as const;
    expect((await b.settle(b.custody!.inbox.page(page))).map(({ id }) => id as string)).toEqual(ids);
    expect((await a.settle(a.custody!.outbox.page(page))).map(({ id }) => id as string)).toEqual(ids);
  });

  test("the inbox keeps what nobody has read, however long that start lasts short of its retention", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    await a.send(b.id, "x");
    await mesh.clock.advance(1_000);
    await restart(mesh, b, RIGHT_MS + DECADES_MS);
    await mesh.clock.advance(29 * DAY_MS);
    expect(b.custody!.inbox.count).toBe(1);
    await mesh.clock.advance(2 * DAY_MS);
    expect(b.custody!.inbox.count).toBe(0);
  });
});

describe("the time that a node was off", () => {
  test("ends no mail while nobody confirms the clock, and all of it at the stated time once somebody does", async () => {
    const { mesh, nodes, own } = await waiting();
    const [, b] = nodes;
    const vouched = b.time.vouchedMs;
    b.time.vouchedMs = () => undefined;
    const unknown = await b.send("LATER-A", "wait", { ttlSeconds: 10 * 24 * 3_600 });
    await restart(mesh, b, RIGHT_MS, 4 * DAY_MS);
    expect(b.time.time.view.state).toBe("unconfirmed");
    expect([stateOf(b, own), stateOf(b, unknown), b.custody!.transit.count]).toEqual(["queued", "queued", 1]);
    b.time.vouchedMs = vouched;
    b.time.time.check();
    await mesh.clock.advance(1_000);
    // Three days are the default: that is over, ten are not.
    expect([stateOf(b, own), stateOf(b, unknown), b.custody!.transit.count]).toEqual([
      "expired",
      "queued",
      0,
    ]);
    await mesh.clock.advance(6 * DAY_MS);
    expect(stateOf(b, unknown)).toBe("expired");
  });

  test("is counted over several starts, and running time alone ends mail as well", async () => {
    const { mesh, nodes, own } = await waiting();
    const [, b] = nodes;
    b.time.vouchedMs = () => undefined;
    for (let day = 0; day < 5; day++) {
      await restart(mesh, b, RIGHT_MS, DAY_MS);
      expect(stateOf(b, own)).toBe("queued");
    }
    for (let day = 0; day < 4; day++) {
      await mesh.clock.advance(0.8 * DAY_MS);
      await restart(mesh, b, RIGHT_MS);
    }
    expect([stateOf(b, own), b.custody!.transit.count]).toEqual(["expired", 0]);
  });
});

test("rows of a release that counted no running time begin to age with the first start that does, once", async () => {
  const { mesh, nodes, own } = await waiting();
  const [, b] = nodes;
  for (const collection of ["outbox", "transit"] as const)
    for (const { key, meta } of await b.settle(b.store!.load(collection))) {
      const row = collection === "outbox" ? namedRow(b.sent(key)!) : JSON.parse(meta);
      const { atRunMs: _, ...old } = row as Record<string, unknown>;
      await b.settle(b.store!.commit([{ op: "put", in: collection, key, meta: JSON.stringify(old) }]));
    }
  await restart(mesh, b, RIGHT_MS + DECADES_MS);
  for (let day = 0; day < 4; day++) {
    expect([stateOf(b, own), b.custody!.transit.count]).toEqual(["queued", 1]);
    await mesh.clock.advance(0.7 * DAY_MS);
    await restart(mesh, b, RIGHT_MS);
  }
  await mesh.clock.advance(0.3 * DAY_MS);
  expect([stateOf(b, own), b.custody!.transit.count]).toEqual(["expired", 0]);
});
