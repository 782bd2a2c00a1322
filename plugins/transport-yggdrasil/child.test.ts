import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@godwit/sdk/testkit";
import { seedOf } from "./child.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "godwit-seed-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const ctx = { random: seededRandom(1), deriveSeed: () => Promise.resolve(new Uint8Array(32)) };
const seed = () => seedOf(ctx, { key: "stored" }, { key: join(folder, "key") });

test("the key is made once", async () => {
  const first = await seed();
  expect(first).toHaveLength(32);
  expect(Buffer.from(await seed()).equals(first)).toBe(true);
});

test("a damaged or unreadable one is never replaced: others know the address", async () => {
  writeFileSync(join(folder, "key"), "0123");
  await expect(seed()).rejects.toThrow("is damaged: restore it");
  expect(readFileSync(join(folder, "key"), "utf8")).toBe("0123");
  rmSync(join(folder, "key"));
  mkdirSync(join(folder, "key"));
  await expect(seed()).rejects.toThrow("EISDIR");
});
