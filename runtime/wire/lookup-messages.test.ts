import { expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import vectors from "../../test/vectors/lookups.json";
import { formatHex, formatNodeId } from "../kernel/ids.ts";
import {
  decodeLookup,
  decodeLookupReply,
  encodeLookup,
  encodeLookupReply,
  type Lookup,
  type LookupReply,
} from "./lookup-messages.ts";

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
const id = formatNodeId(new Uint8Array(32).fill(0x0a));
const lookups: Record<"lookupName" | "lookupNode" | "lookupOn", Lookup> = {
  lookupOn: {
    subject: { kind: "name", name: "LON-B" },
    newerThan: undefined,
    wantsProof: false,
    hopsLeft: 8,
  },
  lookupName: { subject: { kind: "name", name: "LON-B" }, newerThan: undefined, wantsProof: true },
  lookupNode: { subject: { kind: "node", id }, newerThan: 0x0102030405, wantsProof: false },
};
const replies: Record<"replyRecord" | "replyProof" | "replyNone", LookupReply> = {
  replyRecord: { kind: "record", record: hex(vectors.brief) },
  replyProof: {
    kind: "nameProof",
    id,
    callsign: "LON-B",
    serial: 7,
    signature: new Uint8Array(64).fill(0x55),
  },
  replyNone: { kind: "none", subject: { kind: "name", name: "LON-B" } },
};

test("golden vectors, which stand in the protocol page", async () => {
  const page = await Bun.file(join(import.meta.dir, "../../docs/protocol/slow.md")).text();
  const drawn = page.replaceAll("\n", "");
  for (const name of Object.keys(lookups) as (keyof typeof lookups)[]) {
    expect(formatHex(encodeLookup(lookups[name]))).toBe(vectors[name]);
    expect(decodeLookup(hex(vectors[name]))).toEqual(lookups[name]);
    expect(drawn).toContain(vectors[name]);
  }
  for (const name of Object.keys(replies) as (keyof typeof replies)[]) {
    expect(formatHex(encodeLookupReply(replies[name]))).toBe(vectors[name]);
    expect(decodeLookupReply(hex(vectors[name]))).toEqual(replies[name]);
    if (name !== "replyRecord") expect(drawn).toContain(vectors[name]);
  }
});

test("what they take of a packet", () => {
  const bytes = (text: string) => text.length / 2;
  expect([bytes(vectors.lookupName), bytes(vectors.lookupNode)]).toEqual([8, 40]);
  expect([bytes(vectors.replyRecord), bytes(vectors.replyProof), bytes(vectors.replyNone)]).toEqual([
    158, 108, 9,
  ]);
});

test("what a later version says is skipped: bytes behind, subjects and kinds", () => {
  expect(decodeLookup(hex(`${vectors.lookupName}0102`))).toEqual(lookups.lookupName);
  expect(decodeLookupReply(hex(`${vectors.replyNone}0102`))).toEqual(replies.replyNone);
  expect(decodeLookup(hex("1702aabbcc"))).toBeUndefined();
  expect(decodeLookupReply(hex("1809aabbcc"))).toBeUndefined();
  expect(decodeLookupReply(hex("180203"))).toBeUndefined();
});

test("names that are none, and what is cut short, are refused", () => {
  const named = (name: string) => new Uint8Array([0x17, 1, name.length, ...Buffer.from(name)]);
  for (const name of [
    "",
    "A",
    "lon",
    "LON-",
    "-A",
    "LON-B-C",
    "LON_B",
    "ABCDEFGHI",
    "LON-ABCDEFGHI",
    "LON B",
  ])
    expect(() => decodeLookup(named(name))).toThrow(expect.objectContaining({ code: "GODWIT_DECODE" }));
  for (const [text, read] of [
    [vectors.lookupNode, decodeLookup],
    [vectors.replyProof, decodeLookupReply],
    [vectors.replyRecord, decodeLookupReply],
  ] as const)
    for (let length = 1; length < text.length / 2; length++)
      expect(() => read(hex(text).subarray(0, length))).toThrow(
        expect.objectContaining({ code: "GODWIT_DECODE" }),
      );
});

test("every question and answer survives", () => {
  const node = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => {
    bytes[31]! &= 0x7f;
    return { kind: "node", id: formatNodeId(bytes) } as const;
  });
  const name = fc
    .stringMatching(/^[A-Z0-9]{2,8}(-[A-Z0-9]{1,8})?$/)
    .map((text) => ({ kind: "name", name: text }) as const);
  const subject = fc.oneof(node, name);
  const lookup = fc.record({
    subject,
    newerThan: fc.option(fc.integer({ min: 0, max: 2 ** 48 - 1 }), { nil: undefined }),
    wantsProof: fc.boolean(),
  });
  fc.assert(fc.property(lookup, (one) => expect(decodeLookup(encodeLookup(one))).toEqual(one)));
  const reply = fc.oneof(
    fc.record({ kind: fc.constant("record" as const), record: fc.uint8Array({ maxLength: 1_000 }) }),
    fc.record({ kind: fc.constant("none" as const), subject }),
  );
  fc.assert(fc.property(reply, (one) => expect(decodeLookupReply(encodeLookupReply(one))).toEqual(one)));
});
