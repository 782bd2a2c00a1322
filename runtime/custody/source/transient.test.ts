/** Transient messages from end to end, as `Custody.send` takes them: over two custodies and a way between them. */
import { describe, expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { TestMesh, type TestNode } from "../testing.ts";

async function line() {
  const mesh = new TestMesh();
  const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  return { mesh, a, b, c };
}

test("it reaches the inbox of the far end, and is in no box on the way and in no store at its source", async () => {
  const { mesh, a, b, c } = await line();
  const more = { transient: true, subject: "s", contentType: "image/png", priority: 0 } as const;
  const id = await a.send(c.id, "now", more);
  expect(a.sent(id)).toBeUndefined();
  expect(await a.settle(a.store!.load("outbox"))).toEqual([]);
  await mesh.clock.advance(100);
  expect(
    c.delivered.map(({ entry, text }) => [
      entry.id,
      entry.from,
      entry.subject,
      entry.contentType,
      entry.priority,
      text,
    ]),
  ).toEqual([[id, a.id, "s", "image/png", 0, "now"]]);
  expect([a.states, mesh.log.map(({ type }) => type)]).toEqual([[], [FrameType.packet]]);
  expect(b.custody!.transit.count).toBe(0);
});

test("two with the same words are two messages", async () => {
  const { mesh, a, c } = await line();
  const ids = [
    await a.send(c.id, "now", { transient: true }),
    await a.send(c.id, "now", { transient: true }),
  ];
  await mesh.clock.advance(100);
  expect([new Set(ids).size, c.delivered.length]).toEqual([2, 2]);
});

test("a callsign names its node, and this node is a node like others", async () => {
  const { mesh, a, c } = await line();
  a.names.set("NYC-C", [c.id]);
  await a.send("NYC-C", "over", { transient: true });
  await a.send(a.id, "here", { transient: true });
  await mesh.clock.advance(100);
  expect([c.delivered[0]!.entry.to, a.delivered[0]!.text]).toEqual([c.id, "here"]);
});

describe("now or never", () => {
  const failure = (sending: Promise<unknown>) =>
    sending.then(
      () => "sent",
      (error: { code: string; message: string }) => error,
    );

  test("without a route, or without room, it is refused and waits nowhere", async () => {
    const { mesh, a, c } = await line();
    mesh.hasRoom = () => false;
    expect(await failure(a.send(c.id, "x", { transient: true }))).toMatchObject({
      code: "GODWIT_QUEUE_FULL",
      message: "the way there is full or the message too large for it; send it without transient",
    });
    a.routes.delete(c.id);
    expect(await failure(a.send(c.id, "x", { transient: true }))).toMatchObject({
      code: "GODWIT_NO_ROUTE",
      message: "no route there now; send it without transient and it will wait",
    });
    expect(a.custody!.queuedCount).toBe(0);
  });

  test("an address that means nobody, or a place of several, is refused", async () => {
    const { a, b, c } = await line();
    a.names.set("NYC", [b.id, c.id]);
    for (const to of ["NYC", "LON-X"])
      expect(await failure(a.send(to, "x", { transient: true }))).toMatchObject({
        code: "GODWIT_NAME_UNKNOWN",
      });
  });

  test("its bounds are those of every message, and what only waiting has a use for is ignored", async () => {
    const { mesh, a, c } = await line();
    const big = new Uint8Array(16 * 1024 * 1024 + 1);
    expect(await failure(a.send(c.id, big, { transient: true }))).toMatchObject({ code: "GODWIT_TOO_BIG" });
    const more = { transient: true, idempotencyKey: "k", failover: true, ttlSeconds: 1 };
    const ids = [await a.send(c.id, "x", more), await a.send(c.id, "y", more)];
    await mesh.clock.advance(100);
    expect([new Set(ids).size, c.delivered.map(({ text }) => text)]).toEqual([2, ["x", "y"]]);
  });

  test("a node that stops sends nothing", async () => {
    const { a, c } = await line();
    a.custody!.stop();
    expect(await failure(a.send(c.id, "x", { transient: true }))).toMatchObject({ code: "GODWIT_STOPPED" });
  });
});
