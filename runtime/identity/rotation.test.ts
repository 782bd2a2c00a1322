import { expect, test } from "bun:test";
import vectors from "../../test/vectors/closed.json";
import { formatHex, parseHex } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { networkKeys } from "../link/hello.ts";
import { generateIdentity, identityFromSeed, verifySignature } from "./keys.ts";
import { formatNameGrant, formatRevocation, parseNameGrant, parseRevocation } from "./proof-text.ts";
import { decodeRecord, encodeRevocation, signName } from "./record.ts";
import { decodeRotation, encodeRotation, isSignedRotation, signRotation } from "./rotation.ts";

const seed = parseHex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", 32)!;
const authority = identityFromSeed(seed);
const stranger = generateIdentity(seededRandom(3));
const secret = new Uint8Array(32).fill(7);
const order = signRotation(authority, { generation: 3, secret }, "telex");

test("golden vector of a rotation, and of the epoch of its secret", () => {
  expect(formatHex(encodeRotation(order))).toBe(vectors.rotation);
  expect(decodeRotation(encodeRotation(order))).toEqual(order);
  expect(networkKeys("telex", secret).epoch).toBe(vectors.epoch);
  expect(networkKeys("other", secret).epoch).not.toBe(vectors.epoch);
  expect(networkKeys("telex", undefined).epoch).toBeUndefined();
});

test("a signature counts for one network, generation, secret and authority", () => {
  const isSigned = (changed: Partial<typeof order>, network = "telex", by = authority.id) =>
    isSignedRotation({ ...order, ...changed }, by, network, verifySignature);
  expect(isSigned({})).toBe(true);
  expect(isSigned({ generation: 4 })).toBe(false);
  expect(isSigned({ secret: new Uint8Array(32).fill(8) })).toBe(false);
  expect(isSigned({ signature: undefined })).toBe(false);
  expect(isSigned({}, "other")).toBe(false);
  expect(isSigned({}, "telex", stranger.id)).toBe(false);
});

test("a rotation without generation, with a short secret or with bytes behind it is refused", () => {
  const good = encodeRotation({ ...order, signature: undefined });
  const zero = good.slice();
  zero.fill(0, 2, 6);
  const short = Uint8Array.of(1, 1, 0, 0, 0, 1, 15, ...new Uint8Array(15));
  for (const bad of [zero, short, good.subarray(0, 20), Uint8Array.of(...encodeRotation(order), 0)])
    expect(() => decodeRotation(bad)).toThrow(expect.objectContaining({ code: "GODWIT_DECODE" }));
});

test("a revocation carries its reason; a record that is none may not", () => {
  const bytes = encodeRevocation(authority, stranger.id, "telex", "stolen, höhe 3");
  const record = decodeRecord(bytes, "telex", verifySignature, authority.id);
  expect(record).toMatchObject({ isRevoked: true, reason: "stolen, höhe 3", signer: authority.id });
  expect(parseRevocation(` ${formatRevocation(bytes)}\n`)).toEqual(bytes);
  expect(() => encodeRevocation(authority, stranger.id, "telex", "x".repeat(65))).toThrow("at most 64 bytes");
  const plain = bytes.slice();
  plain[1] = 0;
  expect(() => decodeRecord(plain, "telex", () => true, authority.id)).toThrow("no revocation");
  for (const bad of [
    "",
    "godwit-revocation:",
    "godwit-name:aa",
    "godwit-revocation:1",
    "godwit-revocation:aa:aa",
  ])
    expect(() => parseRevocation(bad)).toThrow(expect.objectContaining({ code: "GODWIT_PROOF_INVALID" }));
});

test("a name proof as text", () => {
  const proof = signName(authority, { callsign: "DUN-A", id: stranger.id, serial: 7 }, "telex");
  const grant = { callsign: "DUN-A", id: stranger.id, ...proof };
  const text = formatNameGrant(grant);
  expect(parseNameGrant(`${text}\n`)).toEqual(grant);
  for (const bad of [
    text.replace("DUN-A", "dun-a"),
    text.replace(":7:", ":-7:"),
    text.replace(":7:", ":4294967296:"),
    text.replace(stranger.id, "x"),
    text.slice(0, -1),
    `${text}:`,
    "godwit-name",
  ])
    expect(() => parseNameGrant(bad)).toThrow(expect.objectContaining({ code: "GODWIT_PROOF_INVALID" }));
});
