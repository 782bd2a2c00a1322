/**
 * The rule of docs/decisions/0019 on real processes: this build and a planted next release use one store in turns, stopped and killed, with
 * mail in between. Nothing is lost, nothing comes twice, and what the next release added is there when it comes back.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { nextReleaseBinary } from "./next-release.ts";

const DELIVERY_MS = 30_000;
const LARGE = "x".repeat(120_000);
let lab: Lab;
let next: string;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  next = await nextReleaseBinary();
  lab = await Lab.create();
}, 240_000);

afterAll(async () => {
  await lab?.close();
});

const states = async (node: LabNode, ids: readonly string[]): Promise<Set<string>> => {
  const found = new Set<string>();
  for (const id of ids) found.add((await node.json<{ state: string }>(`/messages/${id}`)).state);
  return found;
};

const bodiesOf = async (node: LabNode): Promise<string[]> => {
  const bodies: string[] = [];
  for (const { id } of await node.box<{ id: string }>("inbox"))
    bodies.push(await (await node.api(`/messages/${id}/body`)).text());
  return bodies.sort();
};

async function turn(node: LabNode, signal: NodeJS.Signals, command: string): Promise<void> {
  await node.kill(signal);
  await node.reconfigure({ command: [command] });
  await node.start();
}

function look(node: LabNode, sql: string): unknown[][] {
  const db = new Database(join(node.stateDir, "godwit.db"));
  try {
    return db.query(sql).values();
  } finally {
    db.close();
  }
}

test("this release and the next one use one store in turns, with mail in between", async () => {
  const sender = await lab.add({ callsign: "NXT-A", network: "nxt", command: [next] });
  const recipient = await lab.add({
    callsign: "NXT-B",
    network: "nxt",
    command: [next],
    peers: [sender.endpoint],
  });
  const expected: string[] = [];
  const ids: string[] = [];
  const planted: string[] = [];
  const send = async (text: string, isOfNext: boolean): Promise<void> => {
    const id = await sender.send({ to: "NXT-B", body: text, idempotency_key: `key of ${text.slice(0, 20)}` });
    expected.push(text);
    ids.push(id);
    if (isOfNext) planted.push(id);
  };
  const delivered = (): Promise<void> =>
    sender.until(
      "receipts",
      async () => [...(await states(sender, ids))].join(" ") === "delivered",
      DELIVERY_MS,
    );
  await sender.start();
  for (const text of ["next 1", "next 2", `next ${LARGE}`]) await send(text, true);
  // With the mail in the log alone, and a collection there that this release does not know.
  await turn(sender, "SIGKILL", binaryPath);
  expect(await states(sender, ids)).toEqual(new Set(["queued"]));
  expect(await sender.send({ to: "NXT-B", body: "next 1", idempotency_key: "key of next 1" })).toBe(ids[0]!);
  for (const text of ["this 1", `this ${LARGE}`]) await send(text, false);
  // Its stop brings to the database what the log holds of both.
  await turn(sender, "SIGTERM", next);
  expect(await states(sender, ids)).toEqual(new Set(["queued"]));
  await send("next 3", true);
  await turn(sender, "SIGKILL", binaryPath);
  await recipient.start();
  await delivered();

  // The other end changes as well, with mail in its inbox.
  await turn(recipient, "SIGKILL", binaryPath);
  expect(await bodiesOf(recipient)).toEqual([...expected].sort());
  await send("this 2", false);
  await delivered();
  await turn(recipient, "SIGTERM", next);
  await turn(sender, "SIGTERM", next);
  await send("next 4", true);
  await delivered();
  expect(await bodiesOf(recipient)).toEqual([...expected].sort());

  await sender.kill("SIGTERM");
  await recipient.kill("SIGTERM");
  // What the next release wrote stood through the stays of this one, in rows that were written anew as delivered.
  expect(look(sender, "SELECT key FROM planted ORDER BY key").flat()).toEqual(
    expect.arrayContaining([...planted].sort()),
  );
  for (const id of planted) {
    const [meta, column] = look(sender, `SELECT meta, planted FROM outbox WHERE key = '${id}'`)[0]!;
    expect(JSON.parse(String(meta))).toMatchObject({ planted: "by the next" });
    expect(column).toBe(id);
  }
  expect(look(recipient, "SELECT DISTINCT planted FROM inbox")).toEqual([["none"]]);
  const [stays] = look(sender, "SELECT older_stays FROM store_usage")[0]!;
  expect(stays).toBe(2);
}, 90_000);
