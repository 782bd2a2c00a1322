import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import vectors from "../../test/vectors/lookups.json";
import { GodwitError } from "../kernel/errors.ts";
import { formatHex } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { concatBytes, Writer } from "../wire/bytes.ts";
import { RECORD_BYTES_MAX } from "../wire/constants.ts";
import { decodeAbilities, encodeAbilities } from "./abilities.ts";
import { briefOf } from "./brief.ts";
import { generateIdentity, identityFromSeed, verifySignature } from "./keys.ts";
import {
  BRIEF_EXTRA_BYTES_MAX,
  decodeRecord,
  encodeRecord,
  encodeRevocation,
  isNewerRecord,
  COMPACT_MAIL,
  MAIL_SESSIONS,
  RecordField,
  type RecordFields,
  signName,
} from "./record.ts";

const NETWORK = "telex";
const alice = generateIdentity(seededRandom(1));
const authority = generateIdentity(seededRandom(3));
const prekey = { keyId: 77, publicKey: alice.dh.publicKey };
const decode = (bytes: Uint8Array) => decodeRecord(bytes, NETWORK, verifySignature);
const recordOf = (fields: Partial<RecordFields> = {}) =>
  decode(encodeRecord(alice, { sequence: 9, prekey, withBrief: true, ...fields }, NETWORK));
const full: Partial<RecordFields> = {
  callsign: "DUN-A",
  endpoints: ["tcp://192.0.2.1:4860", "tor://abcdefgh.onion:4860"],
  capabilities: [MAIL_SESSIONS, "relay"],
  nameProof: signName(authority, { callsign: "DUN-A", id: alice.id, serial: 4 }, NETWORK),
};
/** Signs any bytes as a record, to reach the decoder behind the signature. */
function forge(body: Uint8Array): Uint8Array {
  const network = new Bun.CryptoHasher("sha256").update(NETWORK).digest();
  return concatBytes([
    body,
    alice.sign(concatBytes([new TextEncoder().encode("godwit node record 1\0"), network, body])),
  ]);
}
const head = (flags = 0): Writer => new Writer().u8(1).u8(flags).nodeId(alice.id).u48(5).u8(1).u8(1);
const isRefused = (bytes: Uint8Array): boolean => {
  try {
    decode(bytes);
    return false;
  } catch (error) {
    return error instanceof GodwitError && error.code === "GODWIT_DECODE";
  }
};

describe("brief records", () => {
  test("golden: the record of the protocol page with its brief one", async () => {
    const golden = identityFromSeed(Buffer.from(vectors.seed, "hex"));
    const fields: RecordFields = {
      sequence: 0x0102030405,
      callsign: "LON-B",
      endpoints: ["tcp://192.0.2.1:4860"],
      capabilities: [MAIL_SESSIONS, "relay"],
      prekey: { keyId: 0xa1b2c3d4, publicKey: new Uint8Array(32).fill(9) },
      withBrief: true,
    };
    const bytes = encodeRecord(golden, fields, NETWORK);
    expect(formatHex(bytes)).toBe(vectors.record);
    expect(formatHex(briefOf(decode(bytes))!)).toBe(vectors.brief);
    const page = await Bun.file(join(import.meta.dir, "../../docs/protocol/records.md")).text();
    expect(page.replaceAll("\n", "")).toContain(vectors.brief);
  });

  test("say what the seal needs, under the node's own signature, and nothing else", () => {
    const record = recordOf(full);
    const brief = decode(briefOf(record)!);
    expect(brief).toMatchObject({
      ...{ id: alice.id, sequence: 9, callsign: "DUN-A", location: "DUN", prekey },
      ...{ capabilities: [MAIL_SESSIONS], endpoints: [], nameProof: undefined, isBrief: true },
    });
    expect(record.isBrief).toBe(false);
    expect(brief.protocolMax).toBe(record.protocolMax);
  });

  test("are made of themselves again, and of records with a location, without name, or without abilities", () => {
    const brief = decode(briefOf(recordOf(full))!);
    expect(briefOf(brief)).toEqual(brief.bytes);
    for (const fields of [{ location: "DUN" }, {}, { capabilities: ["relay"] }, { prekey: undefined }])
      expect(decode(briefOf(recordOf(fields))!)).toMatchObject({
        location: fields.location,
        capabilities: [],
        isBrief: true,
      });
  });

  test("fit one packet of a slow link, whatever the node is called", () => {
    const longest = recordOf({ ...full, callsign: "ABCDEFGH-ABCDEFGH", nameProof: undefined });
    const bytes = briefOf(longest)!.length;
    expect(bytes).toBe(166);
    // With all that a later release may put there; a reply adds four and a link eleven.
    expect(bytes - 3 + BRIEF_EXTRA_BYTES_MAX + 4 + 11).toBeLessThanOrEqual(200);
  });

  test("endpoints yield to them where a record is full", () => {
    const endpoints = Array.from(
      { length: 16 },
      (_, i) => `tcp://[2001:db8:1234:5678:9abc:def0:1234:56${i + 10}]:4860`,
    );
    const [without, record] = [
      recordOf({ ...full, endpoints, withBrief: false }),
      recordOf({ ...full, endpoints }),
    ];
    expect(record.bytes.length).toBeLessThanOrEqual(RECORD_BYTES_MAX);
    expect(record.endpoints.length).toBeLessThan(without.endpoints.length);
    expect(decode(briefOf(record)!).prekey).toEqual(prekey);
  });

  test("there is none of an earlier release's record, nor of a revoked node", () => {
    expect(briefOf(recordOf({ ...full, withBrief: false }))).toBeUndefined();
    expect(briefOf(decode(encodeRevocation(alice, alice.id, NETWORK)))).toBeUndefined();
  });

  test("nobody but the node can say another thing in one", () => {
    const bytes = briefOf(recordOf(full))!;
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 4;
      expect(isRefused(changed)).toBe(true);
    }
    expect(() => decodeRecord(bytes, "another", verifySignature)).toThrow();
  });

  test("a whole record takes the place of the brief one of its number, and no brief one that of a whole", () => {
    const record = recordOf(full);
    const brief = decode(briefOf(record)!);
    expect([isNewerRecord(record, brief), isNewerRecord(brief, record)]).toEqual([true, false]);
    expect([isNewerRecord(brief, brief), isNewerRecord(record, record)]).toEqual([false, false]);
    const next = decode(briefOf(recordOf({ ...full, sequence: 10 }))!);
    expect([isNewerRecord(next, record), isNewerRecord(record, next)]).toEqual([true, false]);
  });

  test("what a later release says in one is passed on by this one, and stays signed", () => {
    const extra = new Writer().varint(RecordField.abilities).sizedBytes(Uint8Array.of(0xff, 0x7f)).varint(99);
    const later = extra.sizedBytes(new Uint8Array(5).fill(6)).finish();
    const body = concatBytes([head(2).finish(), later]);
    const { length } = body;
    const signature = forge(body).subarray(length);
    const record = decode(
      forge(
        head()
          .varint(RecordField.brief)
          .sizedBytes(concatBytes([later, signature]))
          .varint(98)
          .sizedBytes(later)
          .finish(),
      ),
    );
    const brief = decode(briefOf(record)!);
    expect(brief.bytes).toEqual(concatBytes([body, signature]));
    expect(brief.capabilities).toEqual([MAIL_SESSIONS, COMPACT_MAIL]);
  });

  test("fields that cannot be one are refused", () => {
    const briefField = (bytes: number) =>
      forge(head().varint(RecordField.brief).sizedBytes(new Uint8Array(bytes)).finish());
    expect([63, 64, 84, 85].map((bytes) => isRefused(briefField(bytes)))).toEqual([true, false, false, true]);
    const abilities = (bytes: number) =>
      forge(head(2).varint(RecordField.abilities).sizedBytes(new Uint8Array(bytes)).finish());
    expect([0, 1, 4, 5].map((bytes) => isRefused(abilities(bytes)))).toEqual([true, false, false, true]);
    const twice = head(2);
    for (let i = 0; i < 2; i++) twice.varint(RecordField.abilities).sizedBytes(Uint8Array.of(1));
    expect(isRefused(forge(twice.finish()))).toBe(true);
  });
});

test("abilities are bits of what is known, and nothing where there is none", () => {
  expect(encodeAbilities(["relay"])).toEqual(new Uint8Array(0));
  expect(encodeAbilities(["relay", MAIL_SESSIONS])).toEqual(Uint8Array.of(1));
  expect(encodeAbilities([COMPACT_MAIL, MAIL_SESSIONS])).toEqual(Uint8Array.of(3));
  expect(decodeAbilities(Uint8Array.of(0xfc, 0xff))).toEqual([]);
  expect(decodeAbilities(Uint8Array.of(1))).toEqual([MAIL_SESSIONS]);
});
