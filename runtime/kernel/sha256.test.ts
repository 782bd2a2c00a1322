import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { sha256, sha256Hex } from "./sha256.ts";

test("each digest is of its own parts alone, and its bytes are the caller's", () => {
  for (const [first, second] of [
    ["", undefined],
    ["abc", undefined],
    ["a", "bc"],
    ["x".repeat(1_000), ""],
  ] as const) {
    const parts = [first, second].map((text) => (text === undefined ? undefined : Buffer.from(text)));
    const wanted = createHash("sha256")
      .update(first + (second ?? ""))
      .digest();
    const digest = sha256(parts[0]!, parts[1]);
    expect(Buffer.from(digest).equals(wanted)).toBe(true);
    digest.fill(0);
    expect(Buffer.from(sha256(parts[0]!, parts[1])).equals(wanted)).toBe(true);
    expect(sha256Hex(16, parts[0]!, parts[1])).toBe(wanted.toString("hex", 0, 16));
  }
});
