/** What the sender of a text or a file is told, and that a file keeps its name and type. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, messageId1, type Rig, sampleMessage } from "../../api/testing.ts";
import { systemClock } from "../../kernel/clock.ts";
import { Scope } from "../../kernel/scope.ts";
import type { MessageView } from "../../view/contract/node.ts";
import { runForTest, serveAt } from "../testing.ts";

let folder: string;
let scope: Scope;
let rig: Rig;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "godwit-send-"));
  scope = new Scope("api");
  rig = createRig({ clock: systemClock });
  const socketPath = join(folder, "node.sock");
  await serveAt(socketPath, rig, scope);
});
afterEach(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const godwit = (...words: string[]) => runForTest([...words, "--socket", join(folder, "node.sock")]);
const box = (view: Partial<MessageView>, body = "hello") =>
  rig.node.boxed.set(messageId1, {
    view: { ...sampleMessage, ...view },
    body: new TextEncoder().encode(body),
  });

test("who writes to a name that nobody has is told so, what may be meant, and until when it waits", async () => {
  const reason = "nobody called LONDON has been heard of yet";
  rig.node.names = () => [
    { name: "LON-B", node: sampleMessage.from, source: "pinned", vouched: false, held: true, conflict: null },
  ];
  box({ state: "queued", to: "LONDON", reason, expires_in_seconds: 259_199 });
  const { code, out, err } = await godwit("send", "LONDON", "hi");
  expect([code, out]).toEqual([0, `${messageId1} is queued\n`]);
  expect(err).toBe(
    `${reason}; did you mean LON? It waits and expires in 3 d, or \`godwit outbox rm 01234567\` withdraws it\n`,
  );
});

test("the outbox and the message show when it expires, and nothing of one that is over", async () => {
  box({ state: "queued", expires_in_seconds: 7_200 });
  expect((await godwit("outbox")).out).toMatch(/EXPIRES[^]*in 2 h/);
  expect((await godwit("message", messageId1)).out).toMatch(/^expires +in 2 h$/m);
  expect((await godwit("inbox")).out).not.toContain("EXPIRES");
  box({});
  expect((await godwit("message", messageId1)).out).not.toContain("expires");
});

test("a message says how many hops nobody noted, before those that are", async () => {
  for (const [hops_untraced, words] of [
    [2, "2 hops not traced"],
    [1, "1 hop not traced"],
  ] as const) {
    box({ hops_untraced });
    const { out } = await godwit("message", messageId1);
    expect(out).toMatch(new RegExp(`^HOP +AT *\\n${words} +- *\\nNYC-C`, "m"));
  }
  for (const hops_untraced of [0, null]) {
    box({ hops_untraced });
    expect((await godwit("message", messageId1)).out).not.toContain("traced");
  }
});

test("a file keeps its name and type from send to inbox read --save, and nothing is written over", async () => {
  const path = join(folder, "map of it.json");
  writeFileSync(path, '{"a":1}');
  await godwit("send", "NYC-C", "--file", path);
  const [sent] = rig.node.sent;
  expect(sent!.contentType).toBe('application/json;charset=utf-8; name="map of it.json"');
  box({ content_type: sent!.contentType!, subject: null }, '{"a":1}');
  expect((await godwit("inbox")).out).toContain("map of it.json");
  expect((await godwit("inbox", "read", messageId1)).out).toMatch(/^file +map of it.json$/m);
  const into = mkdtempSync(join(folder, "into-"));
  const saved = await godwit("inbox", "read", messageId1, "--save", into);
  expect([saved.code, saved.out]).toEqual([0, `${join(into, "map of it.json")}\n`]);
  expect(readFileSync(join(into, "map of it.json"), "utf8")).toBe('{"a":1}');
  const again = await godwit("inbox", "read", messageId1, "--save", into);
  expect([again.code, again.err]).toEqual([
    2,
    expect.stringContaining("it is there already; name another folder"),
  ]);
  writeFileSync(join(folder, "README"), "read me");
  await godwit("send", "NYC-C", "--file", join(folder, "README"));
  expect(rig.node.sent.at(-1)!.contentType).toBe('text/plain; charset=utf-8; name="README"');
  // Without a name, or with one that points elsewhere.
  box({ content_type: 'x/y; name="../../evil"' });
  expect((await godwit("inbox", "read", messageId1, "--save", into)).out).toBe(`${join(into, "evil")}\n`);
  box({ content_type: "x/y" });
  expect((await godwit("inbox", "read", messageId1, "--save", into)).out).toBe(`${join(into, messageId1)}\n`);
});

test("what is larger than a message can be is answered with the ways that there are", async () => {
  const path = join(folder, "film.mkv");
  writeFileSync(path, "");
  truncateSync(path, 16 * 1024 * 1024 + 1);
  const { code, err } = await godwit("send", "NYC-C", "--file", path);
  expect(code).toBe(1);
  expect(err).toContain("at most 16.0 MiB");
  expect(err).toContain(`split -b 16M ${path}`);
  expect(err).toContain("godwit forward 127.0.0.1:2222 NYC-C 127.0.0.1:22");
  expect(rig.node.sent).toEqual([]);
  truncateSync(path, 16 * 1024 * 1024);
  expect((await godwit("send", "NYC-C", "--file", path)).code).toBe(0);
});
