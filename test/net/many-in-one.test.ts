/** Many messages in one request, on real nodes: what was answered with an id survives a kill at once, and arrives once. */
import { expect, test } from "bun:test";
import { Lab, type LabNode } from "../../scripts/lab.ts";

type Answer = { readonly id?: string; readonly code?: string };

async function post(node: LabNode, messages: readonly unknown[], isLines: boolean): Promise<Answer[]> {
  const body = isLines ? messages.map((one) => JSON.stringify(one)).join("\n") : JSON.stringify(messages);
  const headers = { "content-type": isLines ? "application/x-ndjson" : "application/json" };
  const response = await node.api("/messages", { method: "POST", headers, body });
  expect(response.status).toBe(207);
  const text = await response.text();
  const answers = isLines ? text.trimEnd().split("\n") : undefined;
  return (answers?.map((line) => JSON.parse(line) as unknown) ?? JSON.parse(text)) as Answer[];
}

test("what one request of many was answered for is there after a kill at once, each arrives once, and keys are those of single ones", async () => {
  const lab = await Lab.create();
  try {
    const target = await lab.add({ callsign: "MNY-B" });
    const source = await lab.add({ callsign: "MNY-A", peers: [target.endpoint] });
    await source.start();
    const one = (n: number) => ({ to: "MNY-B", body: `text ${n}`, idempotency_key: `key-${n}` });
    const single = await source.send(one(0));
    const all = Array.from({ length: 150 }, (_, n) => one(n));
    // The same once more, another under the same key, and one that is none.
    const answers = await post(source, [...all, one(7), { ...one(8), body: "other" }, { to: "MNY-B" }], true);
    await source.kill("SIGKILL");
    expect(answers[0]).toEqual({ id: single });
    expect(answers[150]).toEqual(answers[7]);
    expect(answers.slice(151).map(({ code }) => code)).toEqual([
      "GODWIT_IDEMPOTENCY_CONFLICT",
      "GODWIT_REQUEST_INVALID",
    ]);
    const ids = answers.slice(0, 150).map(({ id }) => id!);
    expect(new Set(ids).size).toBe(150);
    await source.start();
    // After the kill, and as an array: the keys are known still.
    expect(await post(source, all, false)).toEqual(ids.map((id) => ({ id })));
    await target.start();
    await target.until("all of them", async () => (await target.box("inbox")).length >= 150, 30_000);
    const inbox = await target.box<{ id: string }>("inbox");
    expect(inbox.map(({ id }) => id).sort()).toEqual([...ids].sort());
    const outbox = async () => await source.box<{ id: string; state: string }>("outbox");
    const isDone = async () => (await outbox()).every(({ state }) => state === "delivered");
    await source.until("the receipts", isDone, 30_000);
    expect((await outbox()).map(({ id }) => id).sort()).toEqual([...ids].sort());
  } finally {
    await lab.close();
  }
}, 90_000);
