import { describe, expect, test } from "bun:test";
import { ed25519, ED25519_TORSION_SUBGROUP } from "@noble/curves/ed25519.js";
import fc from "fast-check";
import { GodwitError } from "../kernel/errors.ts";
import { formatNodeId, nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { seededRandom, systemRandom } from "../kernel/random.ts";
import {
  checkNodeId,
  dhKeyFromSecret,
  dhPublicKeyOf,
  generateDhKey,
  generateIdentity,
  identityFromSeed,
  nodeIdOfDh,
  verifySignature,
} from "./keys.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const idOf = (text: string): NodeId => formatNodeId(hex(text));

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return error instanceof GodwitError ? error.code : String(error);
  }
  return "nothing thrown";
}

describe("identity", () => {
  test("generated ids have sign bit 0 and are usable", () => {
    const random = seededRandom(1);
    for (let i = 0; i < 40; i++) {
      const identity = generateIdentity(random);
      expect(identity.publicKey[31]! & 0x80).toBe(0);
      checkNodeId(identity.id);
      expect(nodeIdBytes(identity.id)).toEqual(identity.publicKey);
    }
  });

  test("a broken source of randomness makes no key instead of hanging", () => {
    const seed = seedWithSignBit();
    const stuck = { bytes: () => seed.slice(), float: () => 0, below: () => 0 };
    expect(codeOf(() => generateIdentity(stuck))).toBe("GODWIT_BUG");
  });

  test("the seed restores the same identity; one with sign bit 1 or a wrong length is refused", () => {
    const identity = generateIdentity(systemRandom);
    const restored = identityFromSeed(identity.seed);
    expect(restored.id).toBe(identity.id);
    expect(restored.dh.publicKey).toEqual(identity.dh.publicKey);
    expect(codeOf(() => identityFromSeed(seedWithSignBit()))).toBe("GODWIT_KEY_CORRUPT");
    expect(codeOf(() => identityFromSeed(new Uint8Array(31)))).toBe("GODWIT_KEY_CORRUPT");
  });

  test("serialising an identity or an X25519 key shows no secret", () => {
    const identity = generateIdentity(seededRandom(3));
    const ephemeral = generateDhKey(seededRandom(4));
    const json = JSON.stringify([identity, ephemeral]);
    expect(json).not.toContain("seed");
    expect(json).not.toContain("secret");
    const shown = Bun.inspect([identity, ephemeral], { depth: 8 });
    for (const secret of [identity.seed, ephemeral.secret]) {
      expect(shown).not.toContain(Buffer.from(secret).toString("hex"));
      expect(shown).not.toContain(secret.slice(0, 4).join(", "));
    }
  });

  test("RFC 8032 section 7.1 vectors", () => {
    // TEST 1 has sign bit 0 in its last byte 0x1a; TEST 3 has 0x25.
    const one = identityFromSeed(hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
    expect(Buffer.from(one.publicKey).toString("hex")).toBe(
      "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    );
    expect(Buffer.from(one.sign(new Uint8Array())).toString("hex")).toBe(
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    const three = identityFromSeed(hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"));
    expect(verifySignature(three.id, hex("af82"), three.sign(hex("af82")))).toBe(true);
  });

  test("a signature over anything else, by anyone else, or malformed is false and never throws", () => {
    const identity = generateIdentity(seededRandom(5));
    const other = generateIdentity(seededRandom(6));
    const message = hex("00112233");
    const signature = identity.sign(message);
    expect(verifySignature(identity.id, message, signature)).toBe(true);
    expect(verifySignature(other.id, message, signature)).toBe(false);
    expect(verifySignature(identity.id, hex("00112234"), signature)).toBe(false);
    expect(verifySignature(identity.id, message, signature.subarray(1))).toBe(false);
    expect(verifySignature("not an id" as NodeId, message, signature)).toBe(false);
    for (let bit = 0; bit < 512; bit += 7) {
      const bent = signature.slice();
      bent[bit >> 3]! ^= 1 << (bit & 7);
      expect(verifySignature(identity.id, message, bent)).toBe(false);
    }
  });
});

describe("which ids are usable", () => {
  test("sign bit 1, non-canonical, small order, torsion and off-curve encodings are refused, twice the same", () => {
    const P_PLUS_ONE = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    const good = ed25519.Point.fromBytes(generateIdentity(seededRandom(7)).publicKey);
    const torsion = ed25519.Point.fromHex(ED25519_TORSION_SUBGROUP[1]!);
    let mixed = good.add(torsion);
    if ((mixed.toBytes()[31]! & 0x80) !== 0) mixed = mixed.negate();
    const refused: [string, string][] = [
      ["negative of a good one", good.negate().toHex()],
      ["y = p + 1", P_PLUS_ONE],
      ["off the curve", offCurve()],
      ["torsion component", mixed.toHex()],
      ...ED25519_TORSION_SUBGROUP.map((point, i): [string, string] => [`small order ${i}`, point]),
    ];
    for (const [name, encoding] of refused) {
      const id = idOf(encoding);
      for (let again = 0; again < 2; again++)
        expect([name, codeOf(() => checkNodeId(id))]).toEqual([name, "GODWIT_ID_INVALID"]);
      expect(codeOf(() => dhPublicKeyOf(id))).toBe("GODWIT_ID_INVALID");
      expect(verifySignature(id, new Uint8Array(), new Uint8Array(64))).toBe(false);
    }
  });

  test("the quick check and the plain one agree", () => {
    const isPlainlyUsable = (bytes: Uint8Array): boolean => {
      if ((bytes[31]! & 0x80) !== 0) return false;
      try {
        const point = ed25519.Point.fromBytes(bytes, false);
        return !point.isSmallOrder() && point.isTorsionFree();
      } catch {
        return false;
      }
    };
    const points = fc
      .tuple(fc.integer({ min: 1, max: 2 ** 31 }), fc.integer({ min: 0, max: 7 }))
      .map(([factor, at]) => {
        const torsion = ed25519.Point.fromHex(ED25519_TORSION_SUBGROUP[at]!);
        const point = ed25519.Point.BASE.multiply(BigInt(factor)).add(torsion);
        return ((point.toBytes()[31]! & 0x80) === 0 ? point : point.negate()).toBytes();
      });
    const found = { usable: 0, refused: 0 };
    const noise = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(fc.oneof(points, noise), (bytes) => {
        const isUsable = codeOf(() => checkNodeId(formatNodeId(bytes))) === "nothing thrown";
        expect(isUsable).toBe(isPlainlyUsable(bytes));
        found[isUsable ? "usable" : "refused"]++;
      }),
      { numRuns: 300 },
    );
    expect(Math.min(found.usable, found.refused)).toBeGreaterThan(5);
  });

  test("random 32 bytes never crash the check", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        expect(["GODWIT_ID_INVALID", "nothing thrown"]).toContain(
          codeOf(() => checkNodeId(formatNodeId(bytes))),
        );
        expect(["GODWIT_ID_INVALID", "nothing thrown"]).toContain(codeOf(() => nodeIdOfDh(bytes)));
      }),
      { numRuns: 60 },
    );
  });

  test("a flood of bad ids does not push out good ones", () => {
    const good = generateIdentity(seededRandom(8)).id;
    const mapped = dhPublicKeyOf(good);
    const bytes = new Uint8Array(32).fill(0x80);
    for (let i = 0; i < 3_000; i++) {
      new DataView(bytes.buffer).setUint32(0, i);
      codeOf(() => checkNodeId(formatNodeId(bytes)));
    }
    expect(dhPublicKeyOf(good)).toBe(mapped);
  });
});

describe("X25519", () => {
  test("RFC 7748 section 6.1", () => {
    const alice = dhKeyFromSecret(
      hex("77076d0a7318a57d3c16c17251b26645c6fb6cd29e24e1f9f9bb1a2f1a8c9b2c".slice(0, 64)),
    );
    const bob = dhKeyFromSecret(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    expect(alice.agree(bob.publicKey)).toEqual(bob.agree(alice.publicKey));
    expect(Buffer.from(bob.publicKey).toString("hex")).toBe(
      "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    );
  });

  test("the identity's X25519 key is the image of its id, both ways, and agrees with the library's map", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const identity = generateIdentity(seededRandom(seed));
        expect(dhPublicKeyOf(identity.id)).toEqual(identity.dh.publicKey);
        expect(nodeIdOfDh(identity.dh.publicKey)).toBe(identity.id);
        expect(identity.dh.publicKey).toEqual(ed25519.utils.toMontgomery(identity.publicKey));
        const ephemeral = generateDhKey(seededRandom(seed + 1));
        expect(identity.dh.agree(ephemeral.publicKey)).toEqual(ephemeral.agree(dhPublicKeyOf(identity.id)));
      }),
      { numRuns: 25 },
    );
  });

  test("an all-zero agreement and a key of the wrong length fail the handshake", () => {
    const key = generateDhKey(systemRandom);
    // u = 0, 1, -1 and the two points of order 8 (RFC 7748 section 6.1, Curve25519 page).
    for (const small of [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ])
      expect(codeOf(() => key.agree(hex(small)))).toBe("GODWIT_HANDSHAKE_FAILED");
    expect(codeOf(() => key.agree(new Uint8Array(31)))).toBe("GODWIT_HANDSHAKE_FAILED");
  });

  test("a second encoding of a good key names no node", () => {
    const good = generateIdentity(seededRandom(9)).dh.publicKey;
    const highBit = good.slice();
    highBit[31]! |= 0x80;
    expect(codeOf(() => nodeIdOfDh(highBit))).toBe("GODWIT_ID_INVALID");
    const minusOne = hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    expect(codeOf(() => nodeIdOfDh(minusOne))).toBe("GODWIT_ID_INVALID");
    // The twist: u = 2 belongs to no point of the curve.
    expect(codeOf(() => nodeIdOfDh(hex(`02${"00".repeat(31)}`)))).toBe("GODWIT_ID_INVALID");
  });
});

function seedWithSignBit(): Uint8Array {
  for (let i = 0; ; i++) {
    const seed = new Uint8Array(32).fill(i);
    if ((ed25519.getPublicKey(seed)[31]! & 0x80) !== 0) return seed;
  }
}

/** The first small y that belongs to no point. */
function offCurve(): string {
  for (let y = 2; ; y++) {
    const encoding = Buffer.alloc(32);
    encoding[0] = y;
    try {
      ed25519.Point.fromBytes(encoding);
    } catch {
      return encoding.toString("hex");
    }
  }
}

test("an X25519 key is mapped to the id that the library's field says, or refused where there is none", () => {
  const { Fp } = ed25519.Point;
  const bytesOf = (value: bigint) =>
    new Uint8Array(Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse());
  const random = seededRandom(5);
  const drawn = Array.from({ length: 200 }, () =>
    BigInt(`0x${Buffer.from(random.bytes(32)).toString("hex")}`),
  );
  const borders = [
    0n,
    1n,
    2n,
    Fp.ORDER - 2n,
    Fp.ORDER - 1n,
    Fp.ORDER,
    Fp.ORDER + 1n,
    2n ** 255n,
    2n ** 256n - 1n,
  ];
  let usable = 0;
  for (const value of [...drawn, ...borders]) {
    const u = Fp.create(value);
    const divisor = Fp.add(u, 1n);
    const wanted = Fp.is0(divisor) ? undefined : bytesOf(Fp.mul(Fp.sub(u, 1n), Fp.inv(divisor)));
    let id: string | undefined;
    try {
      id = nodeIdOfDh(bytesOf(value));
      usable++;
    } catch (error) {
      expect(error).toMatchObject({ code: "GODWIT_ID_INVALID" });
    }
    if (id !== undefined) expect(nodeIdBytes(id as NodeId)).toEqual(wanted!);
  }
  // About one in sixteen of all values is a key of an id.
  expect(usable).toBeGreaterThan(4);
});
