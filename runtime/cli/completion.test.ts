/** What the shells are told at a Tab, and that bash and fish do complete with it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";
import { createRig } from "../api/testing.ts";
import { systemClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";

import { commands } from "./table.ts";
import { commandsOf, TASKS } from "./tasks.ts";
import { runForTest, serveAt } from "./testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-completion-"));
const socketPath = join(folder, "node.sock");
const scope = new Scope("api");

beforeAll(async () => {
  const rig = createRig({ clock: systemClock });
  await serveAt(socketPath, rig, scope);
  writeFileSync(
    join(folder, "godwit"),
    `#!/bin/sh\nGODWIT_API__SOCKET=${socketPath} exec ${process.execPath} ${join(root, "runtime/main.ts")} "$@"\n`,
  );
  chmodSync(join(folder, "godwit"), 0o755);
});
afterAll(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const offered = async (...words: string[]): Promise<string[]> => {
  const { code, out, err } = await runForTest(["complete", "--socket", socketPath, "--", ...words]);
  expect([code, err]).toEqual([0, ""]);
  return out.split("\n").filter((line) => line !== "");
};

test("every command is told of in one task, once", () => {
  const told = TASKS.flatMap(([, names]) => commandsOf(commands, names)).map(({ name }) => name);
  const all = commands.filter(({ isHidden }) => isHidden !== true).map(({ name }) => name);
  expect(told.toSorted()).toEqual(all.toSorted());
});

test("commands, their second words, options, and what the node knows", async () => {
  expect(await offered("st")).toEqual(["status", "store"]);
  expect(await offered("")).toContain("send");
  expect(await offered("token", "")).toEqual(["new", "list", "revoke"]);
  expect(await offered("send", "--pri")).toEqual(["--priority"]);
  expect(await offered("send", "NYC-C", "--priority", "")).toEqual(["0", "1", "2", "3"]);
  expect(await offered("trust", "NYC-C", "t")).toEqual(["trusted"]);
  expect(await offered("members", "--state", "a")).toEqual(["alive"]);
  expect(await offered("logs", "--level", "w")).toEqual(["warn"]);
  expect(await offered("serf", "keys", "i")).toEqual(["install"]);
  expect(await offered("man", "sen")).toEqual(["send"]);
  expect(await offered("send", "NY")).toEqual(["NYC-C"]);
  expect((await offered("message", "")).length).toBeGreaterThan(0);
  expect(await offered("nonsense", "")).toEqual([]);
  const nobody = await runForTest(["complete", "--socket", join(folder, "none"), "--", "send", ""]);
  expect(nobody).toMatchObject({ code: 0, out: "", err: "" });
});

test("a shell that is none is refused with those that are", async () => {
  expect((await runForTest(["completion", "ksh"])).err).toContain("bash, zsh, fish");
});

/** The node that it asks is in this process. */
async function inShell(shell: string, code: string): Promise<string> {
  const env = { ...process.env, PATH: `${folder}:${process.env["PATH"]}` };
  const child = Bun.spawn([shell, "-c", code], { env, stdin: "ignore", stdout: "pipe", stderr: "ignore" });
  return (await new Response(child.stdout).text()).trim();
}

test("bash completes a command and a name", async () => {
  const tab = (words: string) =>
    inShell(
      "bash",
      `source <(godwit completion bash); COMP_WORDS=(godwit ${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _godwit; echo "\${COMPREPLY[@]}"`,
    );
  expect(await tab("heal")).toBe("health heal");
  expect(await tab("send NY")).toBe("NYC-C");
}, 30_000);

test.skipIf(Bun.which("fish") === null)(
  Bun.which("fish") === null ? "fish completes [skipped: there is no fish here]" : "fish completes",
  async () => {
    expect(await inShell("fish", "godwit completion fish | source; complete -C 'godwit send NY'")).toContain(
      "NYC-C",
    );
  },
  30_000,
);
