import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatHex } from "../kernel/ids.ts";
import { Writer } from "./bytes.ts";
import {
  COUNTER_MAX,
  decodeSessionHead,
  encodeSessionHead,
  isSessionForm,
  namedSession,
  SealForm,
  type SessionHead,
} from "./sealed.ts";

const id = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const agreed = { keyId: 0x01020304, ephemeral: new Uint8Array(32).fill(9) };
const forms: readonly ((counter: number) => SessionHead)[] = [
  (counter) => ({ isSegmented: false, counter, agreed }),
  (counter) => ({ isSegmented: false, counter, id }),
  (counter) => ({ isSegmented: true, counter, agreed }),
  (counter) => ({ isSegmented: true, counter, id }),
];

/** The head of `form` with these bytes as its counter. */
const withCounter = (form: number, ...counter: number[]): Uint8Array =>
  form === SealForm.first || form === SealForm.firstSegmented
    ? new Writer().u8(form).u32(agreed.keyId).bytes(agreed.ephemeral).bytes(Uint8Array.from(counter)).finish()
    : new Writer().u8(form).bytes(id).bytes(Uint8Array.from(counter)).finish();
const sessionForms = [SealForm.first, SealForm.later, SealForm.firstSegmented, SealForm.laterSegmented];

describe("the head of a session's mail", () => {
  test("is what the page draws", () => {
    const ephemeral = "09".repeat(32);
    expect(forms.map((head) => formatHex(encodeSessionHead(head(300))))).toEqual([
      `0301020304${ephemeral}ac02`,
      "040102030405060708ac02",
      `0501020304${ephemeral}ac02`,
      "060102030405060708ac02",
    ]);
  });

  test("comes back whatever follows it, with the bytes that it takes", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...forms),
        fc.integer({ min: 0, max: COUNTER_MAX }),
        fc.uint8Array({ maxLength: 40 }),
        (form, counter, rest) => {
          const bytes = encodeSessionHead(form(counter));
          const decoded = decodeSessionHead(Uint8Array.of(...bytes, ...rest));
          expect(decoded).toEqual({ ...form(counter), bytes: bytes.length });
        },
      ),
    );
  });

  test("cut at any length it is refused", () => {
    for (const head of forms) {
      const bytes = encodeSessionHead(head(COUNTER_MAX));
      for (let length = 0; length < bytes.length; length++)
        expect(() => decodeSessionHead(bytes.subarray(0, length))).toThrow("truncated");
    }
  });

  test("a counter above 65,535, however far, is refused, and one that is not in its shortest form", () => {
    for (const form of sessionForms) {
      expect(decodeSessionHead(withCounter(form, 0xff, 0xff, 3)).counter).toBe(COUNTER_MAX);
      for (const above of [
        [0x80, 0x80, 4],
        [0x80, 0x80, 0x80, 0x80, 0x10],
        [...Array<number>(7).fill(0xff), 0x0f],
      ])
        expect(() => decodeSessionHead(withCounter(form, ...above))).toThrow("at most 65535");
      for (const long of [
        [0x80, 0],
        [0x85, 0x80, 0],
        [0xff, 0xff, 0x83, 0],
      ])
        expect(() => decodeSessionHead(withCounter(form, ...long))).toThrow("shortest form");
      expect(() => decodeSessionHead(withCounter(form, ...Array<number>(9).fill(0x80)))).toThrow(
        "longer than 8",
      );
      expect(() => decodeSessionHead(withCounter(form, ...Array<number>(7).fill(0xff), 0x7f))).toThrow(
        "2^53",
      );
    }
  });

  test("of another form it is refused", () => {
    for (let form = 0; form < 256; form++) {
      const isOurs = form >= 3 && form <= 6;
      expect(isSessionForm(form)).toBe(isOurs);
      if (!isOurs) expect(() => decodeSessionHead(withCounter(form, 0))).toThrow("none of a session");
    }
    expect(isSessionForm(undefined)).toBe(false);
  });

  test("the id of a session stands in those alone that do not say what it was agreed by", () => {
    const named = forms.map((head) => namedSession(encodeSessionHead(head(1))));
    expect(named).toEqual([undefined, "0102030405060708", undefined, "0102030405060708"]);
    for (const head of forms) expect(namedSession(encodeSessionHead(head(1)).subarray(0, 8))).toBeUndefined();
    expect(namedSession(new Uint8Array(0))).toBeUndefined();
  });
});
