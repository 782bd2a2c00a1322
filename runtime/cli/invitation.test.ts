import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readInvitation } from "./invitation.ts";
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
  const notes = async (...argv: string[]) =>
    (await runForTest(["join", ...argv, ...config], { stdin: "godwit1typo" })).err.match(/every user/g)
      ?.length ?? 0;
  chmodSync(path, 0o644);
  expect([await notes("godwit1typo"), await notes("--file", path)]).toEqual([1, 1]);
  chmodSync(path, 0o600);
  expect([await notes("-"), await notes("--file", path), await notes("godwit1typo", "--json")]).toEqual([
    0, 0, 0,
  ]);
  expect((await runForTest(["join", ...config])).err).toContain("--file PATH");
  expect((await runForTest(["join", "x", "--file", path, ...config])).code).toBe(2);
  expect((await runForTest(["join", "--file", `${path}.none`, ...config])).err).toContain("cannot read");
});
