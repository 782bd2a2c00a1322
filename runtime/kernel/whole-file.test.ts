import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeWhole } from "./whole-file.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "godwit-whole-"))));
afterEach(() => rmSync(folder, { recursive: true }));

test("takes the old one's place, with its own mode whatever the umask says", () => {
  const path = join(folder, "a");
  writeFileSync(path, "an old and longer text", { mode: 0o644 });
  const umask = process.umask(0o077);
  try {
    writeWhole(path, "new", 0o664);
  } finally {
    process.umask(umask);
  }
  expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).toEqual(["new", 0o664]);
  expect(readdirSync(folder)).toEqual(["a"]);
});

test("what a life with the same pid left beside is no obstacle, nor read", () => {
  writeFileSync(join(folder, `a.${process.pid}.new`), "half of", { mode: 0o666 });
  writeWhole(join(folder, "a"), new Uint8Array(3_000_000).fill(7), 0o600);
  expect(readdirSync(folder)).toEqual(["a"]);
  expect([statSync(join(folder, "a")).size, statSync(join(folder, "a")).mode & 0o777]).toEqual([
    3_000_000, 0o600,
  ]);
});

test("where it cannot be, the error is the system's and nothing is left", () => {
  mkdirSync(join(folder, "a"));
  expect(() => writeWhole(join(folder, "a"), "text", 0o600)).toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(readdirSync(folder)).toEqual(["a"]);
  expect(() => writeWhole(join(folder, "none/b"), "text", 0o600)).toThrow("ENOENT");
});
