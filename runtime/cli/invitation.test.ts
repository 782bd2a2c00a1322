import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { invitationOf, readInvitation } from "./invitation.ts";
import { processIo } from "./io.ts";
import { runForTest } from "./testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-invitation-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("an invitation is read from a file of the node's alone, a credential, or is the line itself", () => {
  const path = join(folder, "token");
  writeFileSync(path, "godwit1abc\n", { mode: 0o600 });
  expect(readInvitation(`file:${path}`, {})).toBe("godwit1abc");
  expect(readInvitation("credential:token", { CREDENTIALS_DIRECTORY: folder })).toBe("godwit1abc");
  expect(readInvitation("godwit1abc", {})).toBe("godwit1abc");
  expect(() => readInvitation(`file:${folder}/none`, {})).toThrow("cannot be opened");
  chmodSync(path, 0o644);
  expect(() => readInvitation(`file:${path}`, {})).toThrow("chmod 600");
});

test("join reads standard input or --file, and says when it got nothing", async () => {
  const config = ["--config", join(folder, "godwit.toml")];
  const path = join(folder, "typo");
  writeFileSync(path, "godwit1typo");
  for (const [argv, setup] of [
    [["join", "-"], { stdin: "godwit1typo\n" }],
    [["join"], { stdin: "godwit1typo" }],
    [["join", "--file", path], {}],
    [["join", `env:T`], { env: { T: "godwit1typo" } }],
  ] as const) {
    const { code, err } = await runForTest([...argv, ...config], setup);
    expect(code).toBe(1);
    expect(err).toContain("the invitation");
    expect(err).not.toContain("cannot read");
  }
  expect((await runForTest(["join", ...config])).err).toContain("--file PATH");
  expect((await runForTest(["join", "x", "--file", path, ...config])).code).toBe(2);
  expect((await runForTest(["join", "--file", `${path}.none`, ...config])).err).toContain("cannot read");
});

test("where others can read an invitation too is said, of an argument and of a file", async () => {
  const path = join(folder, "readable");
  writeFileSync(path, "godwit1abc", { mode: 0o644 });
  const notes: string[] = [];
  const io = processIo(false);
  for (const [argument, file] of [["godwit1abc"], [undefined, path]] as const)
    expect(await invitationOf(argument, file, io, {}, (words) => notes.push(words))).toBe("godwit1abc");
  expect(notes).toEqual([expect.stringContaining("an argument"), expect.stringContaining(`chmod 600`)]);
  chmodSync(path, 0o600);
  await invitationOf(undefined, path, io, {}, (words) => notes.push(words));
  await invitationOf(`file:${path}`, undefined, io, {}, (words) => notes.push(words));
  expect(notes.length).toBe(2);
});
