import { expect, test } from "bun:test";
import vectors from "../../test/vectors/join.json";
import { formatHex, parseHex } from "../kernel/ids.ts";
import * as join from "./join-messages.ts";

const bytes = (name: keyof typeof vectors) => parseHex(vectors[name], vectors[name].length / 2)!;
const fill = (length: number, value: number) => new Uint8Array(length).fill(value);
const grant = { secrets: [fill(16, 0x51), fill(17, 0x52)], records: [fill(4, 0x4e)], lives: [] };
const lives = [
  { generation: 3, retiresInMs: undefined, signature: fill(64, 0x53) },
  { generation: 0, retiresInMs: 259_200_000, signature: undefined },
];

test("golden vectors", () => {
  expect(formatHex(join.encodeEnrolRequest("DUN-B"))).toBe(vectors.enrolRequest);
  expect(join.decodeEnrolRequest(bytes("enrolRequest"))).toBe("DUN-B");
  expect(formatHex(join.encodeEnrolGrant(grant, 1_000)!)).toBe(vectors.enrolGrant);
  expect(join.decodeEnrolGrant(bytes("enrolGrant"))).toEqual(grant);
  const full = formatHex(join.encodeEnrolGrant({ ...grant, lives }, 1_000)!);
  expect(full).toBe(vectors.enrolGrantLives);
  // An earlier version reads the same secrets and records, and skips the rest.
  expect(full).toStartWith(vectors.enrolGrant);
  expect(join.decodeEnrolGrant(bytes("enrolGrantLives"))).toEqual({ ...grant, lives });
  expect(formatHex(join.encodeEnrolRefuse(join.EnrolRefusal.used))).toBe(vectors.enrolRefuse);
  expect(join.decodeEnrolRefuse(bytes("enrolRefuse"))).toBe(2);
  expect(join.encodeRedemptions([fill(147, 0x61)], 1_000).map(formatHex)).toEqual([vectors.redemptions]);
  expect(join.decodeRedemptions(bytes("redemptions"))).toEqual([fill(147, 0x61)]);
});

test("records give way to the size of a frame, secrets do not", () => {
  const records = Array.from({ length: 20 }, () => fill(300, 2));
  const many = { secrets: [fill(32, 1)], records, lives: [] };
  expect(join.decodeEnrolGrant(join.encodeEnrolGrant(many, 61_440)!).records.length).toBe(16);
  const small = join.encodeEnrolGrant(many, 700)!;
  expect(small.length).toBeLessThanOrEqual(700);
  expect(join.decodeEnrolGrant(small).records.length).toBe(2);
  expect(join.encodeEnrolGrant(many, 30)).toBeUndefined();
});

test("many redemptions go in as many frames as it takes", () => {
  const all = Array.from({ length: 1_024 }, (_, index) => fill(147, index & 255));
  const frames = join.encodeRedemptions(all, 61_440);
  for (const frame of frames) expect(frame.length).toBeLessThanOrEqual(61_440);
  expect(frames.flatMap(join.decodeRedemptions)).toEqual(all);
  expect(join.encodeRedemptions(all, 100)).toEqual([]);
});

test("counts above the bounds and empty secrets are refused", () => {
  const four = bytes("enrolGrant");
  expect(() => join.decodeEnrolGrant(four.with(2, 5))).toThrow("5 secrets");
  expect(() => join.decodeEnrolGrant(four.with(2, 0))).toThrow("0 secrets");
  expect(() => join.decodeEnrolGrant(Uint8Array.of(0x55, 1, 1, 0, 0))).toThrow("empty secret");
  expect(() => join.decodeRedemptions(bytes("redemptions").with(1, 2))).toThrow("do not fit");
  const full = bytes("enrolGrantLives");
  const at = vectors.enrolGrant.length / 2;
  expect(() => join.decodeEnrolGrant(full.with(at, 1))).toThrow("1 lives of 2 secrets");
  expect(() => join.decodeEnrolGrant(full.with(at + 11, 63))).toThrow("63 bytes");
  expect(() => join.decodeEnrolGrant(full.subarray(0, at + 9))).toThrow();
});
