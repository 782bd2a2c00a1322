import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemRandom } from "../kernel/random.ts";
import { loadOrCreateIdentity } from "./keystore.ts";
import { judgeStateFolder } from "./state-folder.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-state-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const made = (mode: number): string => {
  const path = join(folder, "state");
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
};

test("a state_dir that everybody may write to is refused before a key lies in it", () => {
  for (const mode of [0o777, 0o1777, 0o702]) {
    const path = made(mode);
    expect(() => loadOrCreateIdentity(path, systemRandom)).toThrow("everybody on this machine may write");
    expect(readdirSync(path)).toEqual([]);
    rmSync(path, { recursive: true });
  }
  const real = made(0o777);
  symlinkSync(real, join(folder, "link"));
  expect(() => loadOrCreateIdentity(join(folder, "link"), systemRandom)).toThrow("everybody");
  // What is made in it is the node's alone.
  expect(loadOrCreateIdentity(join(real, "godwit"), systemRandom).created).toBe(true);
});

test("a state_dir that a group may write to, or another user owns, is told and used", () => {
  const path = made(0o770);
  expect(judgeStateFolder(path).warnings.join()).toContain("may write");
  expect(loadOrCreateIdentity(path, systemRandom).created).toBe(true);
  chmodSync(path, 0o700);
  expect(judgeStateFolder(path)).toEqual({ refusal: undefined, warnings: [] });
  expect(judgeStateFolder(join(folder, "not there"))).toEqual({ refusal: undefined, warnings: [] });
});

const isRoot = process.getuid?.() === 0;
test.skipIf(!isRoot)(
  `a state_dir that somebody else owns is told${isRoot ? "" : " [skipped: needs root]"}`,
  () => {
    const path = made(0o700);
    chownSync(path, 65_534, 65_534);
    expect(judgeStateFolder(path).warnings.join()).toContain("the user 65534 owns");
  },
);

test("a folder above state_dir in which everybody may rename it is told; a sticky one, like /tmp, is none", () => {
  const path = made(0o700);
  chmodSync(folder, 0o777);
  expect(judgeStateFolder(path).warnings.join()).toContain(`everybody may write to ${folder}`);
  chmodSync(folder, 0o1777);
  expect(judgeStateFolder(path).warnings).toEqual([]);
});
