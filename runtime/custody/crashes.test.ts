/** What a crash takes along of the running time, and what mail makes of it: each test is named after what was seen. */
import { expect, test } from "bun:test";
import { TestMesh, type TestNode } from "./testing.ts";

const SECOND_MS = 1_000;

/** Killed before its running time was written, and up again. */
async function crash(mesh: TestMesh, node: TestNode): Promise<void> {
  node.crash({ losesTime: true });
  await mesh.clock.advance(SECOND_MS);
  await node.start();
  await mesh.clock.advance(SECOND_MS);
}

async function pair(limits = {}): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"], limits)) as [TestNode, TestNode];
  return { mesh, a, b };
}

test("what was delivered since a crash is not forgotten before what is older", async () => {
  const { mesh, a, b } = await pair({ historyMessagesMax: 3 });
  const send = async (text: string) => {
    const id = await a.send(b.id, text);
    await mesh.clock.advance(20 * SECOND_MS);
    return id;
  };
  const ids = [await send("1"), await send("2")];
  for (const text of ["3", "4", "5"]) {
    await crash(mesh, a);
    ids.push(await send(text));
  }
  await crash(mesh, a);
  ids.push(await send("6"));
  const states = ids.map((id) => a.sent(id)?.state);
  expect(states).toEqual([undefined, undefined, undefined, "delivered", "delivered", "delivered"]);
});

test("boxes list what came since a crash behind what came before", async () => {
  const { mesh, a, b } = await pair();
  const sent: string[] = [];
  for (const [life, text] of ["1", "2", "3", "4"].entries()) {
    // Each life is shorter than the one before.
    await mesh.clock.advance((4 - life) * 20 * SECOND_MS);
    sent.push(await a.send(b.id, text));
    await mesh.clock.advance(SECOND_MS);
    for (const node of [a, b]) await crash(mesh, node);
  }
  const page = { limit: 10, order: "oldest-first" } as const;
  expect((await a.settle(a.custody!.outbox.page(page))).map(({ id }) => id as string)).toEqual(sent);
  expect((await b.settle(b.custody!.inbox.page(page))).map(({ id }) => id as string)).toEqual(sent);
});

test("mail grows older in a crash loop", async () => {
  const { mesh, a, b } = await pair();
  mesh.cut(a, b);
  const id = await a.send(b.id, "short", { ttlSeconds: 600 });
  for (let life = 0; life < 25; life++) {
    await mesh.clock.advance(30 * SECOND_MS);
    await a.send(b.id, `of life ${life}`);
    await crash(mesh, a);
  }
  expect(a.sent(id)?.state).toBe("expired");
});
