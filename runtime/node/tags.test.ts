import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tagsOf } from "./tags.ts";

let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "godwit-tags-"))));
afterAll(() => rmSync(dir, { recursive: true }));

const bare = () => ({ arch: "x64", cores: 2, memoryBytes: 7.7 * 2 ** 30, root: join(dir, "bare") });

test("auto is architecture, processors and memory by class, in the place where it stands; a word twice is once", () => {
  expect(tagsOf(["storage", "auto", "arch-x64"], bare)).toEqual([
    "storage",
    "arch-x64",
    "cores-2",
    "memory-8g",
  ]);
  expect(tagsOf(["auto"], () => ({ ...bare(), cores: 6, memoryBytes: 2 ** 29 }))).toEqual([
    "arch-x64",
    "cores-4",
    "memory-below-1g",
  ]);
  expect(tagsOf([], () => expect.unreachable())).toEqual([]);
});

test("radios and a GPU are found where they are", () => {
  const root = join(dir, "rich");
  for (const folder of [
    "sys/class/net/wlan0/wireless",
    "sys/class/net/eth0",
    "sys/class/bluetooth/hci0",
    "dev/dri",
  ])
    mkdirSync(join(root, folder), { recursive: true });
  expect(tagsOf(["auto"], () => ({ ...bare(), root })).slice(3)).toEqual(["radio-wifi", "radio-bluetooth"]);
  writeFileSync(join(root, "dev/dri/renderD128"), "");
  expect(tagsOf(["auto"], () => ({ ...bare(), root })).slice(3)).toEqual([
    "radio-wifi",
    "radio-bluetooth",
    "gpu",
  ]);
});

test("a record never gets more than it holds", () => {
  expect(
    tagsOf(
      Array.from({ length: 20 }, (_, i) => `t${i}`),
      bare,
    ).length,
  ).toBe(14);
});

test("of this machine there is something to say", () => {
  const tags = tagsOf(["auto"]);
  expect(tags.length).toBeGreaterThanOrEqual(3);
  for (const tag of tags) expect(tag).toMatch(/^[a-z0-9]+(?:-[a-z0-9]+)*$/);
});
