/**
 * What the command line says, word by word, in __snapshots__: a change of it is seen by who reads the change.
 * `bun test runtime/cli/golden.test.ts -u` writes it anew.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig } from "../api/testing.ts";
import { ManualClock, systemClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { commands } from "./table.ts";
import { runForTest, serveAt } from "./testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-golden-"));
const socketPath = join(folder, "node.sock");
const scope = new Scope("api");

beforeAll(async () => {
  const rig = createRig({ clock: systemClock });
  const { node } = rig;
  node.healthNow = {
    status: "down",
    checks: [
      { name: "transport.lan", status: "down", reason: "address already in use: 0.0.0.0:4860" },
      {
        name: "links",
        status: "degraded",
        reason:
          "no neighbour is linked for 70 s; tcp://192.0.2.1:4860 failed last: connection refused; `godwit discovery` shows all",
      },
      { name: "store", status: "ok", reason: "" },
    ],
  };
  await serveAt(socketPath, rig, scope);
  writeFileSync(join(folder, "bad.toml"), '[node]\ncallsign = "dun a"\n');
});
afterAll(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const clock = new ManualClock(Date.parse("2026-01-01T00:05:00.000Z"));
const withoutFolder = (text: string) => text.replaceAll(folder, "FOLDER");

describe("help", () => {
  test("of all", async () => {
    expect((await runForTest(["--help"])).out).toMatchSnapshot();
  });
  test("of what everybody needs, where nothing was asked for", async () => {
    const { code, out, err } = await runForTest([]);
    expect([code, out]).toEqual([2, ""]);
    expect(err.split("\n").length).toBeLessThanOrEqual(24);
    expect(err).toMatchSnapshot();
  });
  test("of all at 60 columns", async () => {
    const { out } = await runForTest(["--help"], { isStdoutTty: true, columns: 60 });
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(60);
    expect(out).toMatchSnapshot();
  });
  test.each(commands.filter(({ isHidden }) => isHidden !== true).map(({ name }) => name))(
    "of %s",
    async (name) => {
      const { code, out, err } = await runForTest([...name.split(" "), "--help"]);
      expect([code, err]).toEqual([0, ""]);
      expect(out).toMatchSnapshot();
    },
  );
});

describe("errors", () => {
  test.each([
    "statsu",
    "token",
    "send",
    "why NOBODY",
    "ping NYC-C --interval 1",
    "send NYC-C hi --ttl 5",
    "send NYC-C hi --priority high",
    "send NYC-C --file /nowhere/at/all",
    "send NYC-C hi --bogus",
    "members --state dead",
    "trust NYC-C truste --reason x",
    "token new --scope root",
    "inbox read xyz",
    "logs --level loud",
    "status --watch 0",
    "status --socket /nowhere/at/all/node.sock",
    "logs --socket /nowhere/at/all/node.sock",
    "config check --config FOLDER/bad.toml",
    "init --config FOLDER/new.toml --state-dir FOLDER/s --listen 4860",
    "radio setup --port ttyUSB0",
    "radio setup --host a b",
    "radio setup --host 192.0.2.7 --region Mars",
    "radio setup --host 192.0.2.7 --channel twelve-bytes",
    "radio setup --confirm !0a1b2c3d",
  ])("godwit %s", async (line) => {
    const words = line.replaceAll("FOLDER", folder).split(" ");
    const asks = !words.includes("--socket") && !["config", "init"].includes(words[0]!);
    const { code, out, err } = await runForTest([...words, ...(asks ? ["--socket", socketPath] : [])]);
    expect(out).toBe("");
    expect(`exit ${code}\n${withoutFolder(err)}`).toMatchSnapshot();
  });
});

describe("screens", () => {
  const lines = ["status", "members", "peers", "why NYC-C", "outbox", "health", "discovery"];
  const sizes = [60, 80, 200];
  test.each(lines.flatMap((line) => sizes.map((columns): [string, number] => [line, columns])))(
    "godwit %s at %p columns",
    async (line, columns) => {
      const words = [...line.split(" "), "--socket", socketPath];
      const { out } = await runForTest(words, { isStdoutTty: true, env: { NO_COLOR: "1" }, columns, clock });
      // An id is never broken, so that it can be copied.
      for (const text of out.split("\n"))
        if (!/[a-z2-7]{52}/.test(text)) expect(Bun.stringWidth(text)).toBeLessThanOrEqual(columns);
      expect(out).toMatchSnapshot();
    },
  );
});
