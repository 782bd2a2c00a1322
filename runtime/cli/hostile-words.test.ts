/** Whatever other nodes and plugins put into an answer of the API, no command lets it drive the terminal that it writes to. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, messageId1, nodeC } from "../api/testing.ts";
import { socket } from "../api/testing-calls.ts";
import { systemClock } from "../kernel/clock.ts";
import { createLog } from "../kernel/log.ts";
import { commands } from "./table.ts";
import { runForTest } from "./testing.ts";

/** A window title, a cleared screen in eight bits, text that turns around, and a line of its own. */
const HOSTILE = "\u001b]0;x\u0007\u009b2J\u202e\u200f\u2028";
/** Words of the API itself. */
const OWN: ReadonlySet<string> = new Set(["status", "state", "level", "code", "id", "section", "change"]);
const ACTED_ON =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|^forged/mu;

const folder = mkdtempSync(join(tmpdir(), "godwit-hostile-"));
const socketPath = join(folder, "node.sock");
const rig = createRig({ clock: systemClock });
let server: Bun.Server<undefined>;

/** The same document, in which every text that is no time ends as a stranger likes. */
const mangled = (value: unknown, key = ""): unknown => {
  if (typeof value === "string") {
    if (OWN.has(key) || /^\d{4}-\d\d-/.test(value)) return value;
    // What the node says of a mistake may have lines, and so may a message.
    return value + (key === "detail" || key === "body" ? HOSTILE : `${HOSTILE}\nforged`);
  }
  if (Array.isArray(value)) return value.map((one) => mangled(one, key));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, mangled(one, name)]));
};

beforeAll(() => {
  const sink = { write() {} };
  const log = createLog({ level: "debug", format: "text", clock: systemClock, sink, recent: rig.recent });
  log.warn("plugin wrote", { text: "x" });
  server = Bun.serve({
    unix: socketPath,
    async fetch(request) {
      const response = await rig.app.fetch(request, { connection: socket });
      if (response.headers.get("content-type")?.includes("json") !== true) return response;
      const { status } = response;
      return Response.json(mangled(await response.json()), { status });
    },
  });
});
afterAll(async () => {
  await server.stop(true);
  rmSync(folder, { recursive: true });
});

const asked = [
  "status",
  "health",
  "peers",
  "members",
  "routes",
  "names",
  "discovery",
  "secret",
  "revocations",
  "inbox",
  "outbox",
  `message ${messageId1}`,
  `inbox read ${messageId1}`,
  "why NYC-C",
  "trace NYC-C",
  "ping NYC-C --count 1",
  "send NYC-C hi --wait",
  "send NYC-C hi",
  "forward --list",
  "plugin list --running",
  "token list",
  "heal",
  "heal run restart-link",
  "engine get redis key",
  "names forget NYC-C",
  `names resolve NYC-C ${nodeC}`,
  "token revoke t1",
  `outbox rm ${messageId1}`,
  "logs",
  "reload",
  "trust NYC-C trusted --reason x",
  "why NOBODY",
];

test.each(asked.flatMap((line) => [`${line}`, `${line} --json`]))("godwit %s", async (line) => {
  for (const columns of [undefined, 60]) {
    const terminal = columns === undefined ? {} : { isStdoutTty: true, columns, stderrColumns: columns };
    const env = { NO_COLOR: "1", TERM: "dumb" };
    const signal = AbortSignal.timeout(2_000);
    const { out, err } = await runForTest([...line.split(" "), "--socket", socketPath], {
      ...terminal,
      env,
      signal,
    });
    expect(`${out}${err}`).not.toMatch(ACTED_ON);
    expect(`${out}${err}`.length).toBeGreaterThan(0);
  }
});

test("these are commands", () => {
  for (const line of asked) expect(commands.some(({ name }) => line.startsWith(name))).toBe(true);
});
