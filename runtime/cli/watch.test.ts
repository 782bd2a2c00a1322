import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, type Rig } from "../api/testing.ts";
import { systemClock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { Scope } from "../kernel/scope.ts";
import { type CliSetup, runForTest, serveAt } from "./testing.ts";

let folder: string;
let scope: Scope;
let rig: Rig;
let socketPath: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "godwit-watch-"));
  socketPath = join(folder, "node.sock");
  scope = new Scope("api");
  rig = createRig({ clock: systemClock });
  await serveAt(socketPath, rig, scope);
});
afterEach(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

/** Runs until so many writes have been made; `onPicture` hears of each, from 1. */
async function watch(line: string, pictures: number, setup: CliSetup, onPicture?: (at: number) => void) {
  const stop = new AbortController();
  const wrote: string[] = [];
  const result = await runForTest([...line.split(" "), "--socket", socketPath], {
    ...setup,
    signal: stop.signal,
    onOut(text) {
      wrote.push(text);
      onPicture?.(wrote.length);
      if (wrote.length === pictures) stop.abort();
    },
  });
  return { ...result, wrote };
}

const terminal = { isStdoutTty: true, env: { NO_COLOR: "1" }, columns: 80, rows: 24 };

/** What a terminal shows of it: enough of one for what is written here. */
function shown(text: string, columns: number): string[] {
  const lines: string[] = [""];
  // oxlint-disable-next-line no-control-regex
  const parts = /\x1b\[(\??\d*)([A-Za-z])|[^]/g;
  let row = 0;
  let column = 0;
  for (const [part] of text.matchAll(parts)) {
    // oxlint-disable-next-line no-control-regex
    const escape = /^\x1b\[(\??)(\d*)([A-Za-z])$/.exec(part);
    if (part === "\n") {
      row++;
      column = 0;
      lines[row] ??= "";
    } else if (part === "\r") column = 0;
    else if (escape === null) {
      lines[row] = lines[row]!.slice(0, column).padEnd(column) + part + lines[row]!.slice(column + 1);
      column++;
      expect(column).toBeLessThanOrEqual(columns);
    } else if (escape[3] === "A") row -= Number(escape[2]);
    else if (escape[3] === "K") lines[row] = lines[row]!.slice(0, column);
    else if (escape[3] === "J") {
      lines[row] = lines[row]!.slice(0, column);
      lines.length = row + 1;
    } else expect(escape[1] + escape[3]!).toMatch(/^\?[hl]$/);
  }
  return lines;
}

test("on a terminal each picture takes the place of the one before, and nothing else is touched", async () => {
  const { code, out, err, wrote } = await watch("health --watch 0.1", 3, terminal, (at) => {
    rig.node.healthNow =
      at === 1
        ? {
            status: "degraded",
            checks: [{ name: "links", status: "degraded", reason: "x ".repeat(70).trim() }],
          }
        : { status: "ok", checks: [] };
  });
  expect([code, err]).toEqual([0, ""]);
  expect(shown(wrote[0]!, 80)).toEqual(["ok", "  ok  store", ""]);
  const second = shown(wrote.slice(0, 2).join(""), 80);
  expect(second[0]).toBe("degraded");
  expect(second.length).toBeGreaterThan(3);
  expect(shown(wrote.slice(0, 3).join(""), 80)).toEqual(["ok", ""]);
  // One write a picture, and the cursor is back in the end.
  expect(wrote).toHaveLength(4);
  expect(out).toStartWith("\x1b[?25l");
  expect(out).toEndWith("\x1b[?25h");
  expect(out).not.toContain("\x1b[2J");
});

test("what is higher than the terminal is cut, and said", async () => {
  const checks = Array.from({ length: 30 }, (_, i) => ({
    name: `check${i}`,
    status: "ok" as const,
    reason: "",
  }));
  rig.node.healthNow = { status: "ok", checks };
  const { wrote } = await watch("health --watch 0.1", 2, { ...terminal, rows: 10 });
  const lines = shown(wrote.join(""), 80);
  expect(lines).toHaveLength(10);
  expect(lines.at(-2)).toBe("... 23 more lines");
});

test("a word that is wider than the terminal takes lines of its own, and the next picture begins where this one did", async () => {
  const reason = `${"x".repeat(100)}日本語`;
  rig.node.healthNow = { status: "ok", checks: [{ name: "store", status: "ok", reason }] };
  const { wrote } = await watch("health --watch 0.1", 3, { ...terminal, columns: 40 });
  const lines = shown(wrote.slice(0, 2).join(""), 40);
  expect(lines.join("").replaceAll(/\s/g, "")).toBe(`okokstore:${reason}`);
  expect(lines).toEqual(shown(wrote[0]!, 40));
});

test("elsewhere one follows the other, each below its time; --json is a document a line", async () => {
  const { code, out } = await watch("health --watch 0.1", 2, {});
  expect(code).toBe(0);
  expect(out).toMatch(/^(?:--- \d{4}-\d\d-\d\dT[\d:.]+Z\nok\n {2}ok {2}store\n){2}$/);
  const dumb = await watch("health --watch 0.1", 2, { ...terminal, env: { TERM: "dumb" } });
  expect(dumb.out).toStartWith("--- ");
  expect(dumb.out).not.toContain("\x1b");
  const json = await watch("health --watch 0.1 --json", 2, terminal);
  expect(
    json.out
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { status: string }).status),
  ).toEqual(["ok", "ok"]);
});

test("a node that goes away is told of where the picture was, and looked at again", async () => {
  const { code, out, err, wrote } = await watch("status --watch 0.1", 3, terminal, (at) => {
    rig.node.failure = at === 1 ? godwitError("GODWIT_STORE_FAILED", "the disk is full") : undefined;
  });
  expect([code, err]).toEqual([0, ""]);
  expect(shown(wrote.slice(0, 2).join(""), 80)).toEqual(["godwit: the disk is full", ""]);
  expect(shown(out, 80)[0]).toContain("DUN-A");
});

test("a command that is wrong from the beginning ends, and the terminal is as it was", async () => {
  rig.node.failure = godwitError("GODWIT_STORE_FAILED", "the disk is full");
  const { code, out, err } = await watch("status --watch", 9, terminal);
  expect([code, out, err]).toEqual([1, "", "godwit: the disk is full\n"]);
  for (const value of ["0", "0.01", "99999999"]) {
    const refused = await watch(`health --watch ${value}`, 9, terminal);
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("--watch takes seconds")]);
  }
  expect((await watch("id --watch", 9, terminal)).err).toContain("see godwit id --help");
  expect((await watch("forward --watch a b c", 9, terminal)).err).toContain("--watch goes with --list");
});
