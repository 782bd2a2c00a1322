import { describe, expect, test } from "bun:test";
import type { OutgoingMessage } from "@godwit/sdk";
import { checkContent, checkOrder } from "./order.ts";

const DAY_MS = 24 * 3_600_000;
const base: OutgoingMessage = { to: "dun-a", body: Uint8Array.of(1) };
const order = (more: Partial<OutgoingMessage> = {}) =>
  checkOrder({ ...base, ...more }, 3 * DAY_MS, (to) => to.toUpperCase());
const codeOf = (work: () => unknown): string | undefined => {
  try {
    return void work();
  } catch (error) {
    return (error as { code: string }).code;
  }
};

test("what is not said is filled in, and the address is canonical", () => {
  expect(order()).toEqual({
    to: "DUN-A",
    body: Uint8Array.of(1),
    subject: "",
    contentType: "text/plain",
    priority: 2,
    lifetimeMs: 3 * DAY_MS,
    failover: false,
  });
  expect(order({ failover: true, idempotencyKey: "k", priority: 0 })).toMatchObject({
    failover: true,
    idempotencyKey: "k",
    priority: 0,
  });
});

test("the body is copied, so that the caller may write to its own again", () => {
  const body = Uint8Array.of(1, 2);
  const { body: copy } = order({ body });
  body[0] = 9;
  expect(copy).toEqual(Uint8Array.of(1, 2));
});

test("a lifetime is taken to the nearer bound, and must be a number", () => {
  expect(
    [0.5, 1, 4.003, 1e9, Number.POSITIVE_INFINITY].map((ttlSeconds) => order({ ttlSeconds }).lifetimeMs),
  ).toEqual([1_000, 1_000, 4_003, 30 * DAY_MS, 30 * DAY_MS]);
  expect(codeOf(() => order({ ttlSeconds: Number.NaN }))).toBe("GODWIT_REQUEST_INVALID");
});

describe("bounds, each at its last byte and one beyond", () => {
  const twoBytes = "é";
  const cases: [string, (bytes: number) => Partial<OutgoingMessage>, number][] = [
    ["body", (bytes) => ({ body: new Uint8Array(bytes) }), 16 * 1024 * 1024],
    ["subject", (bytes) => ({ subject: twoBytes.repeat(bytes / 2) + "x".repeat(bytes % 2) }), 1_024],
    ["content type", (bytes) => ({ contentType: "x".repeat(bytes) }), 255],
    [
      "idempotency key",
      (bytes) => ({ idempotencyKey: twoBytes.repeat(bytes / 2) + "x".repeat(bytes % 2) }),
      1_024,
    ],
  ];
  test.each(cases)("%s", (_what, make, max) => {
    expect(codeOf(() => order(make(max)))).toBeUndefined();
    expect(codeOf(() => order(make(max + 1)))).toBe("GODWIT_TOO_BIG");
  });

  test("priority", () => {
    for (const priority of [4, -1, 1.5, "2"] as unknown as NonNullable<OutgoingMessage["priority"]>[])
      expect(codeOf(() => checkContent({ ...base, priority }))).toBe("GODWIT_REQUEST_INVALID");
  });
});

test("half a surrogate pair is refused: no store keeps such a key, and nobody would get that subject", () => {
  for (const text of ["\ud800", "a\udc00b"]) {
    expect(codeOf(() => order({ idempotencyKey: text }))).toBe("GODWIT_REQUEST_INVALID");
    expect(codeOf(() => checkContent({ ...base, subject: text }))).toBe("GODWIT_REQUEST_INVALID");
  }
  expect(codeOf(() => order({ idempotencyKey: "\u{1f600}", subject: "\u{1f600}" }))).toBeUndefined();
});
