import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readPrivate, writePrivate } from "./index.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "godwit-private-"))));
afterEach(() => rmSync(folder, { recursive: true }));

test("the last of many writes stays, for its owner alone, and nothing beside it", async () => {
  const path = join(folder, "key");
  writeFileSync(`${path}.new`, "left by a crash", { mode: 0o666 });
  await Promise.all(Array.from({ length: 20 }, (_, i) => writePrivate(path, `number ${i}`)));
  expect(await readPrivate(path)).toBe("number 19");
  expect([statSync(path).mode & 0o777, readdirSync(folder)]).toEqual([0o600, ["key"]]);
});

test("what is not there is undefined, what cannot be read or written rejects, and the next write goes on", async () => {
  expect(await readPrivate(join(folder, "none"))).toBeUndefined();
  mkdirSync(join(folder, "folder"));
  await expect(readPrivate(join(folder, "folder"))).rejects.toThrow("EISDIR");
  const path = join(folder, "later/key");
  await expect(writePrivate(path, "x")).rejects.toThrow("ENOENT");
  mkdirSync(join(folder, "later"));
  await writePrivate(path, "y");
  expect(await readPrivate(path)).toBe("y");
});
