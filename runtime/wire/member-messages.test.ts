import { describe, expect, test } from "bun:test";
import frames from "../../test/vectors/members.json";
import { formatHex, formatNodeId, parseHex } from "../kernel/ids.ts";
import { Writer } from "./bytes.ts";
import * as wire from "./member-messages.ts";

const idA = formatNodeId(new Uint8Array(32).fill(0x0a));
const idB = formatNodeId(new Uint8Array(32).fill(0x0b));
const alive: wire.MemberFact = {
  kind: wire.MemberEntryKind.alive,
  node: idA,
  incarnation: 0x010000000002,
  signature: new Uint8Array(64).fill(0x51),
};
const left: wire.MemberFact = { ...alive, kind: wire.MemberEntryKind.left, node: idB };
const accusation: wire.Accusation = {
  kind: wire.MemberEntryKind.accusation,
  node: idA,
  incarnation: 0x010000000002,
  reason: wire.AccusationReason.silent,
  accuser: idB,
  signature: new Uint8Array(64).fill(0x52),
};
const nonce = new Uint8Array(8).fill(0x4e);
const sums = Uint32Array.from({ length: 16 }, (_, i) => i * 0x01010101);

const samples = {
  memberFacts: wire.encodeMemberFacts({ isRepair: true, entries: [alive, left, accusation] }),
  memberDigest: wire.encodeMemberDigest(0xdeadbeef),
  memberBuckets: wire.encodeMemberBuckets({ depth: 2, prefix: 0xab000000, sums }),
  memberSync: wire.encodeMemberSync({ depth: 8, prefix: 0xabcdef01, entries: [alive] }),
  memberQuery: wire.encodeMemberQuery(idB),
  memberPing: wire.encodeMemberPing({ nonce, accusation }),
  memberPong: wire.encodeMemberPong({ nonce, signature: new Uint8Array(64).fill(0x53), fact: alive }),
  memberSigningBytes: wire.memberSigningBytes("telex", accusation),
  pongSigningBytes: wire.pongSigningBytes("telex", idA, nonce),
};

describe("golden vectors", () => {
  for (const [name, bytes] of Object.entries(samples))
    test(name, () => expect(formatHex(bytes)).toBe(frames[name as keyof typeof samples]));
});

test("what was written is read", () => {
  const bytes = (name: keyof typeof samples) => parseHex(frames[name], frames[name].length / 2)!;
  expect(wire.decodeMemberFacts(bytes("memberFacts"))).toEqual({
    isRepair: true,
    entries: [alive, left, accusation],
  });
  expect(wire.decodeMemberDigest(bytes("memberDigest"))).toBe(0xdeadbeef);
  expect(wire.decodeMemberBuckets(bytes("memberBuckets"))).toEqual({ depth: 2, prefix: 0xab000000, sums });
  expect(wire.decodeMemberSync(bytes("memberSync"))).toEqual({
    depth: 8,
    prefix: 0xabcdef01,
    entries: [alive],
  });
  expect(wire.decodeMemberQuery(bytes("memberQuery"))).toBe(idB);
  expect(wire.decodeMemberPing(bytes("memberPing"))).toEqual({ nonce, accusation });
  expect(wire.decodeMemberPing(nonce)).toEqual({ nonce, accusation: undefined });
  expect(wire.decodeMemberPong(bytes("memberPong")).fact).toEqual(alive);
});

test("an entry of a later kind is skipped, one of a known kind that is short is not", () => {
  const writer = new Writer()
    .u8(0x40)
    .u8(0)
    .u8(9)
    .varint(3)
    .bytes(Uint8Array.of(1, 2, 3));
  wire.appendMemberEntry(writer, alive);
  expect(wire.decodeMemberFacts(writer.finish()).entries).toEqual([alive]);
  const short = new Writer()
    .u8(0x40)
    .u8(0)
    .u8(1)
    .varint(3)
    .bytes(Uint8Array.of(1, 2, 3))
    .finish();
  expect(() => wire.decodeMemberFacts(short)).toThrow("truncated");
});

test("a prefix with bits behind its length, or too long, is refused", () => {
  const buckets = (depth: number, prefix: number) =>
    wire.decodeMemberBuckets(wire.encodeMemberBuckets({ depth, prefix, sums }));
  expect(() => buckets(2, 0xab100000)).toThrow("bits behind");
  expect(() => buckets(0, 1)).toThrow("bits behind");
  expect(() => buckets(8, 0)).toThrow("at most 7");
  expect(() => wire.decodeMemberSync(wire.encodeMemberSync({ depth: 9, prefix: 0, entries: [] }))).toThrow(
    "at most 8",
  );
});

test("a pong must carry the node's own living word", () => {
  const pong = wire.encodeMemberPong({ nonce, signature: new Uint8Array(64), fact: left });
  expect(() => wire.decodeMemberPong(pong)).toThrow("own fact");
});
