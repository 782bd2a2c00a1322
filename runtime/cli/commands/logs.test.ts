import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig } from "../../api/testing.ts";
import { systemClock } from "../../kernel/clock.ts";
import { createLog } from "../../kernel/log.ts";
import { RECENT_LINES_MAX } from "../../kernel/recent-log.ts";
import { Scope } from "../../kernel/scope.ts";
import { runForTest, serveAt } from "../testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-logs-"));
const socketPath = join(folder, "node.sock");

/** A node at the socket, until it is closed. */
async function startNode() {
  const scope = new Scope("api");
  const rig = createRig({ clock: systemClock });
  await serveAt(socketPath, rig, scope);
  const sink = { write() {} };
  const log = createLog({ level: "debug", format: "text", clock: systemClock, sink, recent: rig.recent });
  return { log, close: () => scope.close() };
}

let node: Awaited<ReturnType<typeof startNode>>;
beforeEach(async () => {
  node = await startNode();
  node.log.debug("frame seen");
  node.log.warn("link down", { peer: "LON-B", reason: "it went\u001b[2J" });
});
afterEach(() => node.close());
afterAll(() => rmSync(folder, { recursive: true }));

const logs = (...words: string[]) => runForTest(["logs", ...words, "--socket", socketPath]);

test("a line has time, level, event and fields, and drives no terminal", async () => {
  const { code, out } = await logs("--level", "info");
  expect(code).toBe(0);
  expect(out).toMatch(
    /^\d{4}-\d\d-\d\dT[\d:.]+Z warn {2}link down peer=LON-B reason="it went\\u001b\[2J"\n$/,
  );
  expect((await logs()).out.trimEnd().split("\n")).toHaveLength(2);
  expect((await logs("--since", "0")).out).toBe("nothing of the kind was logged lately\n");
  expect((await logs("--level", "wran")).err).toContain("did you mean warn?");
  expect((await logs("--since", "5")).err).toContain("did you mean 5s");
});

test("-f goes on with what comes, over a restart of the node, and ends with 0 at Ctrl-C", async () => {
  const stop = new AbortController();
  let seen = "";
  const until = async (text: string) => {
    while (!seen.includes(text)) await Bun.sleep(5);
  };
  const following = runForTest(["logs", "-f", "--level", "info", "--socket", socketPath], {
    signal: stop.signal,
    onOut: (text) => void (seen += text),
  });
  await until("link down");
  node.log.info("link up");
  await until("link up");
  await node.close();
  node = await startNode();
  // As many lines as the node before had, so that a number alone would not tell.
  for (let i = 0; i < 5; i++) node.log.info(`started anew ${i}`);
  await until("started anew 4");
  stop.abort();
  const { code, out, err } = await following;
  expect(code).toBe(0);
  expect(out.split("\n").map((line) => line.slice(31))).toEqual([
    'link down peer=LON-B reason="it went\\u001b[2J"',
    "link up",
    ...[0, 1, 2, 3, 4].map((i) => `started anew ${i}`),
    "",
  ]);
  expect(err === "" || err === "the node is away: waiting for it\n").toBe(true);
});

test("-f says how many lines it was too slow for", async () => {
  const stop = new AbortController();
  let seen = "";
  const following = runForTest(["logs", "-f", "--level", "info", "--socket", socketPath], {
    signal: stop.signal,
    onOut: (text) => void (seen += text),
  });
  while (!seen.includes("link down")) await Bun.sleep(5);
  for (let i = 0; i < RECENT_LINES_MAX + 100; i++) node.log.info(`line ${i}`);
  while (!seen.includes(`line ${RECENT_LINES_MAX + 99}`)) await Bun.sleep(5);
  stop.abort();
  expect((await following).err).toMatch(/^\d+ lines gave way to newer ones before they were read\n$/);
});

test("where no node runs it is said where its log is", async () => {
  const { code, err } = await runForTest(["logs", "-f", "--socket", join(folder, "none")]);
  expect(code).toBe(1);
  expect(err).toContain("journalctl -u godwit");
});
