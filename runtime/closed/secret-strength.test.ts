import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { whyMadeUp } from "./secret-strength.ts";

const of = (text: string) => new TextEncoder().encode(text);

test.each([
  "correct horse battery staple",
  "correct-horse-battery-staple-41",
  "CorrectHorseBatteryStaple",
  "a network secret of the test",
  "0123456789abcdef",
  "0123456789abcdef0123456789abcdef",
  "passwordpassword",
  "P4ssw0rdP4ssw0rd",
  "godwit-mesh-2026",
  "geheimesnetzwerk1",
  "qwertyuiopasdfgh",
  "aaaaaaaaaaaaaaaa",
  "12345678901234567890",
  "1111222233334444",
  "our-village-mesh-key-do-not-share",
  "\u043f\u0430\u0440\u043e\u043b\u044c \u0441\u0435\u0442\u0438",
])("a network secret like %p was made up", (text) => {
  expect(whyMadeUp(of(text))).toBeString();
});

test("random bytes are not taken for made up, as they are or as text", () => {
  const forms: readonly (() => Uint8Array)[] = [
    () => of(randomBytes(32).toString("base64")),
    () => of(randomBytes(32).toString("base64url")),
    () => of(randomBytes(32).toString("hex")),
    () => of(randomBytes(16).toString("hex")),
    () => randomBytes(32),
    () => randomBytes(16),
  ];
  const runs = 2_000;
  for (const make of forms) {
    let refused = 0;
    for (let i = 0; i < runs; i++) if (whyMadeUp(make()) !== undefined) refused++;
    // One in ten thousand is.
    expect(refused).toBeLessThan(8);
  }
});

test("what repeats a few bytes in any order was made up, though no keyboard has them", () => {
  const few = Uint8Array.from(
    { length: 32 },
    (_, n) => [0x91, 0xe7, 0xc2, 0xd9, 0xb4][(n * n + (n >> 2)) % 5]!,
  );
  expect(whyMadeUp(few)).toBe("repeats few characters");
});
