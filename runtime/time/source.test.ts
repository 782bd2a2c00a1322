import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { machineTimeSource } from "./source.ts";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-source-"));
  file = join(folder, "clock");
});
afterEach(() => rmSync(folder, { recursive: true }));

const kernel =
  (state: number, seconds = 0n) =>
  (timex: Uint8Array) => {
    new DataView(timex.buffer).setBigInt64(72, seconds, true);
    return state;
  };

test("a synchronised kernel vouches with its own time, not with the one of this process", () => {
  expect(machineTimeSource(() => 7, file, kernel(0, 1_800_000_000n))()).toBe(1_800_000_000_000);
});

test("a kernel that nobody synchronises, a call that fails and a libc without it vouch for nothing", () => {
  for (const adjtimex of [kernel(5), kernel(-1), undefined])
    expect(machineTimeSource(() => 7, file, adjtimex)()).toBeUndefined();
});

test("PID 1 vouches once a time server has spoken", () => {
  const vouched = machineTimeSource(() => 7, file, kernel(5));
  writeFileSync(file, "floor\n");
  expect(vouched()).toBeUndefined();
  writeFileSync(file, "server\n");
  expect(vouched()).toBe(7);
});

test("this machine's kernel is asked, and names the time of day where it is synchronised", () => {
  const vouchedMs = machineTimeSource(() => 0, file)();
  if (vouchedMs !== undefined) expect(Math.abs(vouchedMs - Date.now())).toBeLessThan(60_000);
});
