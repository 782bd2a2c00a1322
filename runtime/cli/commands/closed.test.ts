import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runForTest } from "../testing.ts";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-secret-"))));
afterEach(() => rmSync(folder, { recursive: true }));

test("secrets of a first start: those that are missing are made, and a second start leaves them", async () => {
  const [key, password] = [join(folder, "network_key"), join(folder, "telex_password")];
  const first = await runForTest(["secret", "new", key]);
  expect([first.code, first.out]).toEqual([0, `made ${key}\n`]);
  const made = readFileSync(key, "utf8");
  expect(made).toMatch(/^[A-Za-z0-9+/]{43}=\n$/);
  expect(statSync(key).mode & 0o777).toBe(0o600);
  const second = await runForTest(["secret", "new", key, password]);
  expect([second.code, second.out]).toEqual([0, `${key} is there and stays\nmade ${password}\n`]);
  expect(readFileSync(key, "utf8")).toBe(made);
  expect(readFileSync(password, "utf8")).not.toBe(made);
  const asJson = await runForTest(["secret", "new", key, "--json"]);
  expect(JSON.parse(asJson.out)).toEqual({ files: [{ path: key, made: false }] });
});

test("one new secret is never one that is there, and the two ways are not mixed", async () => {
  const key = join(folder, "network.key");
  expect((await runForTest(["secret", "new", "--out", key])).code).toBe(0);
  const again = await runForTest(["secret", "new", "--out", key]);
  expect([again.code, again.err]).toEqual([2, expect.stringContaining("EEXIST")]);
  expect((await runForTest(["secret", "new", key, "--out", join(folder, "other")])).code).toBe(2);
  expect((await runForTest(["secret", "new", join(folder, "no/where")])).err).toContain("mkdir -p");
});
