import { describe, expect, test } from "bun:test";
import type { OutgoingMessage } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import { JSON_MARKS_MAX } from "./body.ts";
import type { Problem } from "./problem.ts";
import { BATCH_BYTES_MAX, BATCH_MESSAGES_MAX } from "./bounds.ts";
import { sentAll } from "./schemas.ts";
import { call, json, problemIn, remote } from "./testing-calls.ts";
import { createRig, type Rig } from "./testing.ts";

const lines = (text: string | Uint8Array): RequestInit => ({
  body: text as string,
  headers: { "content-type": "application/x-ndjson" },
});
const post = (rig: Rig, init: RequestInit) => call(rig, "POST", "/messages", init);
type Answer = { readonly id: string } | Problem;
const linesOf = async (response: Response): Promise<Answer[]> => {
  expect(response.status).toBe(207);
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const all = (await response.text()).split("\n");
  expect(all.pop()).toBe("");
  return sentAll.parse(all.map((line) => JSON.parse(line) as unknown)) as Answer[];
};
const codes = (answers: readonly Answer[]) => answers.map((one) => ("id" in one ? "id" : one.code));

/** A node whose ids say the order in which it was asked. */
function counting(rig: Rig, send: (message: OutgoingMessage, nth: number) => Promise<void>): void {
  let count = 0;
  rig.node.send = async (message) => {
    const nth = count++;
    await send(message, nth);
    return { id: nth.toString(16).padStart(32, "0") };
  };
}

describe("many messages in one request", () => {
  test("an array is answered by an array, each with its own id, in their order", async () => {
    const rig = createRig();
    counting(rig, async (message, nth) => {
      expect(message).toEqual({
        to: `DUN-${nth}`,
        body: new TextEncoder().encode(`text ${nth}`),
        contentType: "text/plain; charset=utf-8",
        idempotencyKey: `key-${nth}`,
      });
      // The first are the last to become durable.
      for (let i = 0; i < 200 - nth; i++) await Promise.resolve();
    });
    const messages = Array.from({ length: 200 }, (_, i) => ({
      to: `DUN-${i}`,
      body: `text ${i}`,
      idempotency_key: `key-${i}`,
    }));
    const response = await post(rig, json(messages));
    expect(response.status).toBe(207);
    expect(response.headers.get("content-type")).toBe("application/json");
    const answers = sentAll.parse(await response.json());
    expect(answers).toEqual(messages.map((_, i) => ({ id: i.toString(16).padStart(32, "0") })));
  });

  test("what is wrong with one is told of that one, and costs the others nothing", async () => {
    const rig = createRig();
    counting(rig, async ({ to }) => {
      if (to === "FULL") throw godwitError("GODWIT_QUEUE_FULL", "the outbox is full");
      if (to === "TWICE") throw godwitError("GODWIT_IDEMPOTENCY_CONFLICT", "another message");
      if (to === "BUG") throw new TypeError("an insider's word");
    });
    const good = { to: "DUN", body: "x" };
    const all = [good, { ...good, to: "FULL" }, { to: "DUN" }, { ...good, to: "TWICE" }, 7, good];
    const array = await post(rig, json([...all, { ...good, to: "BUG" }]));
    const answers = sentAll.parse(await array.json()) as Answer[];
    const wanted = ["id", "GODWIT_QUEUE_FULL", "GODWIT_REQUEST_INVALID", "GODWIT_IDEMPOTENCY_CONFLICT"];
    expect(codes(answers)).toEqual([...wanted, "GODWIT_REQUEST_INVALID", "id", "GODWIT_BUG"]);
    expect(answers[1]).toMatchObject({ status: 503, retry: "later" });
    expect(answers[2]).toMatchObject({ status: 400, errors: [{ path: "body" }] });
    expect(JSON.stringify(answers)).not.toContain("insider");
    const text = all.map((one) => JSON.stringify(one)).join("\r\n");
    expect(codes(await linesOf(await post(rig, lines(text))))).toEqual(codes(answers).slice(0, -1));
  });

  test("a line that is no JSON, no UTF-8 or nested costs that line; empty ones are none", async () => {
    const rig = createRig();
    const good = JSON.stringify({ to: "DUN", body: "x" });
    const nested = `${"[".repeat(JSON_MARKS_MAX + 1)}`;
    const bytes = Buffer.concat([
      Buffer.from(`\n${good}\n  \n{"to": \n`),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from(`${nested}\n[${good}]\n\n${good}`),
    ]);
    const answers = await linesOf(await post(rig, lines(bytes)));
    expect(codes(answers)).toEqual(["id", ...Array<string>(4).fill("GODWIT_REQUEST_INVALID"), "id"]);
    expect(rig.node.sent.length).toBe(2);
  });

  test("millions of empty lines and spaces are passed over as fast as memory is read", async () => {
    const rig = createRig();
    const mostly = (text: string, end = "") =>
      Buffer.from(text.repeat((BATCH_BYTES_MAX - end.length) / text.length) + end);
    const before = process.cpuUsage();
    for (let round = 0; round < 3; round++) {
      for (const text of ["\n", " \n"]) expect((await post(rig, lines(mostly(text)))).status).toBe(400);
      expect((await post(rig, { ...json(0), body: mostly(" ", "[]") })).status).toBe(400);
    }
    const { user, system } = process.cpuUsage(before);
    // With some calls for each line it is above 2,000.
    expect((user + system) / 1_000).toBeLessThan(1_000);
    expect(codes(await linesOf(await post(rig, lines('\n \r\n {"to":"DUN","body":"x"} \n\t'))))).toEqual([
      "id",
    ]);
  });

  test("is bounded in messages, in bytes and in what its JSON may build; nothing of what is refused is sent", async () => {
    const rig = createRig();
    const good = JSON.stringify({ to: "DUN", body: "x" });
    const many = Array<string>(BATCH_MESSAGES_MAX + 1).fill(good);
    for (const init of [lines(many.join("\n")), { ...json(0), body: `[${many.join(",")}]` }])
      expect((await problemIn(await post(rig, init))).detail).toContain(`at most ${BATCH_MESSAGES_MAX}`);
    const large = JSON.stringify({ to: "DUN", body: "x".repeat(BATCH_BYTES_MAX) });
    for (const init of [lines(large), { ...json(0), body: ` [${large}]` }])
      expect((await problemIn(await post(rig, init))).code).toBe("GODWIT_TOO_BIG");
    expect((await post(rig, { ...json(0), body: large })).status).toBe(202);
    const nested = { ...json(0), body: "[".repeat(24 * BATCH_MESSAGES_MAX + 1) };
    expect((await problemIn(await post(rig, nested))).detail).toContain("nested");
    for (const init of [lines("\n \n"), json([])])
      expect((await problemIn(await post(rig, init))).detail).toContain("no message");
    expect((await post(rig, json(many.slice(1).map((one) => JSON.parse(one) as unknown)))).status).toBe(207);
    expect(rig.node.sent.length).toBe(1 + BATCH_MESSAGES_MAX);
  });

  test("others have their turn before a large one is through", async () => {
    const rig = createRig();
    const told = Promise.withResolvers<void>();
    let sent = 0;
    counting(rig, async () => {
      sent++;
      told.resolve();
    });
    const many = Array.from({ length: BATCH_MESSAGES_MAX }, () => ({ to: "DUN", body: "x" }));
    const all = post(rig, json(many));
    await told.promise;
    expect(sent).toBeLessThan(100);
    expect((await post(rig, json({ to: "DUN", body: "alone" }))).status).toBe(202);
    expect(sent).toBeLessThan(200);
    expect((await all).status).toBe(207);
  });

  test("needs the scope of a single one, and no field of a single one in the query", async () => {
    const rig = createRig();
    const text = JSON.stringify({ to: "DUN", body: "x" });
    expect((await call(rig, "POST", "/messages", lines(text), remote)).status).toBe(401);
    const stray = await call(rig, "POST", "/messages?priority=1", lines(text));
    expect((await problemIn(stray)).errors?.[0]?.path).toBe("to");
    // With `to` the lines are the body of one message.
    expect((await call(rig, "POST", "/messages?to=DUN", lines(text))).status).toBe(202);
    expect(rig.node.sent[0]?.contentType).toBe("application/x-ndjson");
  });
});
