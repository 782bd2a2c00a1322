import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { GodwitError } from "../kernel/errors.ts";
import { formatHex, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { Writer } from "../wire/bytes.ts";
import { RECORD_BYTES_MAX } from "../wire/constants.ts";
import { generateIdentity, identityFromSeed, verifySignature, type Identity } from "./keys.ts";
import {
  decodeRecord,
  encodeRecord,
  encodeRevocation,
  hasNameProof,
  isNewerRecord,
  recordHash,
  SEQUENCE_MAX,
  signName,
  type RecordFields,
} from "./record.ts";

const NETWORK = "telex";
const alice = generateIdentity(seededRandom(1));
const bob = generateIdentity(seededRandom(2));
const authority = generateIdentity(seededRandom(3));
const prekey = { keyId: 77, publicKey: bob.dh.publicKey };
const decode = (bytes: Uint8Array, by?: NodeId) => decodeRecord(bytes, NETWORK, verifySignature, by);

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return error instanceof GodwitError ? error.code : String(error);
  }
  return "nothing thrown";
}

/** Signs any bytes as a record, to reach the decoder behind the signature. */
function forge(identity: Identity, body: Uint8Array): Uint8Array {
  const network = new Bun.CryptoHasher("sha256").update(NETWORK).digest();
  const message = Buffer.concat([Buffer.from("godwit node record 1\0"), network, body]);
  return new Uint8Array(Buffer.concat([body, identity.sign(message)]));
}
const head = (identity: Identity, flags = 0): Writer =>
  new Writer().u8(1).u8(flags).nodeId(identity.id).u48(5).u8(1).u8(1);

const full: RecordFields = {
  sequence: 2 ** 40 + 3,
  callsign: "DUN-A",
  endpoints: ["tcp://192.0.2.1:4860", "tor://abcdefgh.onion:4860"],
  capabilities: ["relay", "telex-gateway"],
  prekey,
  nameProof: signName(authority, { callsign: "DUN-A", id: alice.id, serial: 4 }, NETWORK),
};

describe("node records", () => {
  test("the vectors stand in the protocol page", async () => {
    const page = (await Bun.file(join(import.meta.dir, "../../docs/protocol/records.md")).text()).replaceAll(
      "\n",
      "",
    );
    const source = await Bun.file(import.meta.path).text();
    const vectors = [...source.matchAll(/"([0-9a-f]{16}|[0-9a-f]{64,})"/g)].map((match) => match[1]!);
    expect(vectors.length).toBeGreaterThanOrEqual(4);
    for (const vector of vectors) expect(page).toContain(vector);
  });

  test("golden: the bytes of versions 1 to 2", () => {
    const golden = identityFromSeed(GOLDEN_SEED);
    const bytes = encodeRecord(
      golden,
      {
        sequence: 0x0102030405,
        callsign: "LON-B",
        endpoints: ["tcp://192.0.2.1:4860"],
        capabilities: ["relay"],
        prekey: { keyId: 0xa1b2c3d4, publicKey: new Uint8Array(32).fill(9) },
      },
      NETWORK,
    );
    expect(formatHex(bytes)).toBe(
      "0100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a000102030405010201054c4f4e2d4203147463703a2f2f3139322e302e322e313a34383630040572656c61790524a1b2c3d4090909090909090909090909090909090909090909090909090909090909090945e15efe5781fe65c67aa139a6f143714df30cac9da82cffd4d8652b1a1efb93792d3c7d83761eec6bbcf0af49cd2cdc0418607c018bc805fd1d1847c42ec106",
    );
    expect(formatHex(recordHash(bytes))).toBe("07bd6e495a8b6ecc");
    expect(formatHex(encodeRevocation(golden, golden.id, NETWORK))).toBe(
      "0101d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511affffffffffff0102aaa49d985b596faa016441e740370ef795ba8186fc023c14a76cf1db5b15bd6e48003def1d425a4b05578e5026513cd1a927570b125181232a9758dc4d3b6d02",
    );
  });

  test("what a release of version 1 alone signed reads as ever", () => {
    const record = decode(
      Uint8Array.fromHex(
        "0100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a000102030405010101054c4f4e2d4203147463703a2f2f3139322e302e322e313a34383630040572656c61790524a1b2c3d4090909090909090909090909090909090909090909090909090909090909090916e0ff25acb1b323aa3c5df91a4e2769e214855c0cb20da66e192b5328103bf5c94513068e43d7fc8c5f6e6898183bae5a31e5d2b12230ca9b71eebff154a907",
      ),
    );
    expect(record).toMatchObject({ callsign: "LON-B", sequence: 0x0102030405, isRevoked: false });
    expect(formatHex(record.hash)).toBe("0d0d70a17e9e41e8");
    const revoked = decode(
      Uint8Array.fromHex(
        "0101d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511affffffffffff01011aa7a4e475e22586a6cf6dcb944424dce31e70501c7f350b0e5aa5e9dd90d9e521f0807046b2551f950311b6e96d826430cacac4e0929a2a6a96e6de74670703",
      ),
    );
    expect([revoked.id, revoked.isRevoked]).toEqual([record.id, true]);
  });

  test("every field comes back, with the whole bytes and their hash", () => {
    const bytes = encodeRecord(alice, full, NETWORK);
    const record = decode(bytes);
    expect(record).toMatchObject({
      id: alice.id,
      signer: alice.id,
      sequence: full.sequence,
      isRevoked: false,
      callsign: "DUN-A",
      location: "DUN",
      endpoints: [...full.endpoints!],
      capabilities: [...full.capabilities!],
      prekey,
      nameProof: full.nameProof!,
    });
    expect(record.bytes).toEqual(bytes);
    expect(record.hash).toEqual(recordHash(bytes));
    const borrowed = Uint8Array.from(bytes);
    const kept = decode(borrowed);
    borrowed.fill(0);
    expect(kept.bytes).toEqual(bytes);
    expect(kept.prekey).toEqual(prekey);
  });

  test("a bare record, and one with a location only", () => {
    expect(decode(encodeRecord(alice, { sequence: 0 }, NETWORK))).toMatchObject({
      callsign: undefined,
      location: undefined,
      endpoints: [],
      prekey: undefined,
    });
    expect(decode(encodeRecord(alice, { sequence: 1, location: "DUN" }, NETWORK)).location).toBe("DUN");
  });

  test("random fields survive a round trip within 1,000 bytes; endpoints are trimmed from the end", () => {
    const word = fc.stringMatching(/^[a-z0-9]{1,15}(-[a-z0-9]{1,15})?$/);
    const endpoint = fc.stringMatching(/^[a-z]{2,8}:\/\/[!-~]{1,180}$/);
    const fields = fc.record({
      sequence: fc.nat(2 ** 31).map((n) => n * 65_537),
      callsign: fc.stringMatching(/^[A-Z0-9]{2,8}-[A-Z0-9]{1,8}$/),
      endpoints: fc.array(endpoint, { maxLength: 20 }),
      capabilities: fc.array(word, { maxLength: 16 }),
      prekey: fc.option(fc.constant(prekey), { nil: undefined }),
      nameProof: fc.option(fc.constant(full.nameProof!), { nil: undefined }),
    });
    fc.assert(
      fc.property(fields, (input) => {
        const bytes = encodeRecord(alice, input, NETWORK);
        expect(bytes.length).toBeLessThanOrEqual(RECORD_BYTES_MAX);
        const { endpoints, capabilities, callsign, sequence } = decode(bytes);
        expect(endpoints).toEqual(input.endpoints.slice(0, endpoints.length));
        expect({ capabilities, callsign, sequence }).toEqual({
          capabilities: input.capabilities,
          callsign: input.callsign,
          sequence: input.sequence,
        });
        // Nothing is left out that would have fitted.
        const next = input.endpoints[endpoints.length];
        if (next !== undefined && endpoints.length < 16)
          expect(bytes.length + next.length + 3).toBeGreaterThan(RECORD_BYTES_MAX);
      }),
      { numRuns: 60 },
    );
  });

  test("the largest possible fixed fields leave room for an endpoint", () => {
    const bytes = encodeRecord(
      alice,
      {
        ...full,
        callsign: "ABCDEFGH-12345678",
        capabilities: Array.from({ length: 16 }, (_, i) => `c${i}`.padEnd(32, "x")),
        endpoints: [`tcp://${"a".repeat(194)}`, `tcp://${"b".repeat(194)}`],
      },
      NETWORK,
    );
    expect(decode(bytes).endpoints.length).toBe(1);
  });

  test("every changed bit and every cut is refused", () => {
    const bytes = encodeRecord(alice, full, NETWORK);
    for (let at = 0; at < bytes.length; at++) {
      const changed = Uint8Array.from(bytes);
      changed[at]! ^= 1 << (at % 8);
      expect(codeOf(() => decode(changed))).toBe("GODWIT_DECODE");
      if (at % 7 === 0) expect(codeOf(() => decode(bytes.subarray(0, at)))).toBe("GODWIT_DECODE");
    }
    expect(codeOf(() => decode(Uint8Array.of(...bytes, 0)))).toBe("GODWIT_DECODE");
    expect(codeOf(() => decodeRecord(bytes, "other", verifySignature))).toBe("GODWIT_DECODE");
  });

  test("random bytes, signed or not, are a record or GODWIT_DECODE", () => {
    const always = () => true;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1_100 }), (bytes) => {
        expect(["GODWIT_DECODE", "nothing thrown"]).toContain(
          codeOf(() => decodeRecord(bytes, NETWORK, always)),
        );
      }),
      { numRuns: 300 },
    );
    const tail = fc.array(fc.tuple(fc.nat(9), fc.uint8Array({ maxLength: 80 })), { maxLength: 12 });
    fc.assert(
      fc.property(tail, (parts) => {
        const writer = head(alice);
        for (const [type, value] of parts) writer.varint(type).sizedBytes(value);
        const bytes = new Uint8Array(Buffer.concat([writer.finish(), new Uint8Array(64)]));
        expect(["GODWIT_DECODE", "nothing thrown"]).toContain(
          codeOf(() => decodeRecord(bytes, NETWORK, always)),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("fields of later versions are skipped and stay signed", () => {
    const body = head(alice)
      .varint(1)
      .text("DUN-A")
      .varint(900)
      .sizedBytes(Uint8Array.of(1, 2, 3))
      .varint(900)
      .sizedBytes(new Uint8Array(0))
      .finish();
    const bytes = forge(alice, body);
    const record = decode(bytes);
    expect(record.callsign).toBe("DUN-A");
    expect(record.bytes).toEqual(bytes);
  });

  test("malformed fields are refused although their signature is right", () => {
    const text = (type: number, value: string) => head(alice).varint(type).text(value);
    const bad = [
      text(1, "dun-a"),
      text(1, "DUN"),
      text(2, "D"),
      text(1, "DUN-A").varint(2).text("DUN"),
      text(1, "DUN-A").varint(1).text("DUN-B"),
      text(3, "no scheme"),
      text(3, "tcp://a b"),
      text(3, "tcp://a\u0007"),
      text(3, `tcp://${"a".repeat(200)}`),
      text(4, "Relay"),
      text(4, "relay").varint(3).text("tcp://late"),
      head(alice).varint(5).sizedBytes(new Uint8Array(36)),
      head(alice).varint(5).sizedBytes(new Uint8Array(37).fill(1)),
      head(alice).varint(5).sizedBytes(new Uint8Array(35).fill(1)),
      head(alice).varint(6).sizedBytes(new Uint8Array(68)),
      head(alice).varint(0).sizedBytes(new Uint8Array(0)),
      head(alice).varint(900),
      new Writer().u8(2).u8(0).nodeId(alice.id).u48(5).u8(1).u8(1),
      new Writer().u8(1).u8(0).nodeId(alice.id).u48(5).u8(3).u8(2),
    ];
    for (const writer of bad)
      expect(codeOf(() => decode(forge(alice, writer.finish())))).toBe("GODWIT_DECODE");
    const many = head(alice);
    for (let i = 0; i < 17; i++) many.varint(3).text("tcp://a");
    expect(codeOf(() => decode(forge(alice, many.finish())))).toBe("GODWIT_DECODE");
    expect(decode(forge(alice, text(1, "DUN-A").finish())).callsign).toBe("DUN-A");
  });

  test("fields that do not fit are GODWIT_ENCODE", () => {
    const bad: RecordFields[] = [
      { sequence: -1 },
      { sequence: 2 ** 48 },
      { sequence: 1, callsign: "dun-a" },
      { sequence: 1, callsign: "DUN-A", location: "LON" },
      { sequence: 1, location: "TOOLONGLOC" },
      { sequence: 1, endpoints: ["nothing"] },
      { sequence: 1, capabilities: ["UPPER"] },
      { sequence: 1, capabilities: Array.from({ length: 17 }, () => "a") },
      { sequence: 1, prekey: { keyId: 0, publicKey: prekey.publicKey } },
      { sequence: 1, prekey: { keyId: 1, publicKey: new Uint8Array(31) } },
      { sequence: 1, nameProof: full.nameProof },
    ];
    for (const fields of bad)
      expect(codeOf(() => encodeRecord(alice, fields, NETWORK))).toBe("GODWIT_ENCODE");
  });

  test("newest wins; a revocation outranks every sequence, for good", () => {
    const record = (sequence: number) => decode(encodeRecord(alice, { sequence }, NETWORK));
    const revoked = decode(encodeRevocation(alice, alice.id, NETWORK));
    expect(isNewerRecord(record(1), undefined)).toBe(true);
    expect(isNewerRecord(record(2), record(1))).toBe(true);
    expect(isNewerRecord(record(1), record(1))).toBe(false);
    expect(revoked.isRevoked).toBe(true);
    expect(isNewerRecord(revoked, record(SEQUENCE_MAX))).toBe(true);
    expect(isNewerRecord(record(SEQUENCE_MAX), revoked)).toBe(false);
    expect(isNewerRecord(revoked, revoked)).toBe(false);
  });

  test("only the node or the authority revokes, and the authority signs nothing else for it", () => {
    const byAuthority = encodeRevocation(authority, alice.id, NETWORK);
    expect(decode(byAuthority, authority.id)).toMatchObject({
      id: alice.id,
      isRevoked: true,
      signer: authority.id,
    });
    expect(codeOf(() => decode(byAuthority))).toBe("GODWIT_DECODE");
    expect(codeOf(() => decode(encodeRevocation(bob, alice.id, NETWORK), authority.id))).toBe(
      "GODWIT_DECODE",
    );
    const takeover = forge(authority, head(alice).varint(7).sizedBytes(authority.publicKey).finish());
    expect(codeOf(() => decode(takeover, authority.id))).toBe("GODWIT_DECODE");
  });

  test("a name proof holds for one callsign, node, serial, network and authority", () => {
    const check = (fields: RecordFields, by = authority.id, network = NETWORK) =>
      hasNameProof(decode(encodeRecord(alice, fields, NETWORK)), by, network, verifySignature);
    expect(check(full)).toBe(true);
    expect(check({ ...full, callsign: "DUN-B" })).toBe(false);
    expect(check({ ...full, nameProof: { ...full.nameProof!, serial: 5 } })).toBe(false);
    expect(check({ ...full, nameProof: undefined })).toBe(false);
    expect(check(full, bob.id)).toBe(false);
    expect(check(full, authority.id, "other")).toBe(false);
    const forBob = signName(authority, { callsign: "DUN-A", id: bob.id, serial: 4 }, NETWORK);
    expect(check({ ...full, nameProof: forBob })).toBe(false);
  });
});

const GOLDEN_SEED = new Uint8Array(
  Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
);

test("a record has at most 1,000 bytes, signed as it may be", () => {
  const body = head(alice).finish();
  // A field of a later version fills it up: its number, its length in two bytes, what it holds.
  const record = (bytes: number) => {
    const filling = bytes - 64 - body.length - 3;
    return forge(
      alice,
      new Uint8Array([
        ...body,
        ...new Writer().u8(99).varint(filling).bytes(new Uint8Array(filling)).finish(),
      ]),
    );
  };
  expect(record(RECORD_BYTES_MAX).length).toBe(RECORD_BYTES_MAX);
  expect(decode(record(RECORD_BYTES_MAX)).id).toBe(alice.id);
  expect(() => decode(record(RECORD_BYTES_MAX + 1))).toThrow("longer than 1,000 bytes");
});
