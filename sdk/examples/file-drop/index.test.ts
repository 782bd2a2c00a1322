import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "bun:test";
import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { decodeLetter, encodeLetter, type Letter } from "./letter.ts";

transportConformance({
  name: "file-drop",
  kind: "stream",
  setup() {
    const folder = mkdtempSync(join(tmpdir(), "file-drop-"));
    const table = { folder, poll_seconds: 0.02, answer_hours: 0.05 };
    return {
      plugin,
      listenConfig: { ...table, name: "far" },
      dialConfig: { ...table, name: "near" },
      badEndpoints: ["drop://", "drop://A", "drop://a/b", "drop://../far"],
      badConfigs: [{ folder, name: "../x" }, { folder: "relative", name: "x" }, { name: "x" }],
      clockStepMs: 10,
      dispose: () => rmSync(folder, { recursive: true }),
    };
  },
});

const letter: Letter = {
  isOpener: true,
  isEnd: false,
  isReset: false,
  base: 7,
  read: 2 ** 40,
  bytes: new TextEncoder().encode("what the far end has not confirmed"),
};

test("a letter comes back as it was written", () => {
  const found = decodeLetter(encodeLetter(letter))!;
  expect({ ...found, bytes: Buffer.from(found.bytes) }).toEqual({
    ...letter,
    bytes: Buffer.from(letter.bytes),
  });
});

test("half a letter, and one that was changed, is none", () => {
  const whole = encodeLetter(letter);
  for (let length = 0; length < whole.length; length++)
    expect(decodeLetter(whole.subarray(0, length))).toBeUndefined();
  for (let at = 0; at < whole.length; at++) {
    const changed = whole.slice();
    changed[at]! ^= 1;
    expect(decodeLetter(changed)).toBeUndefined();
  }
});
