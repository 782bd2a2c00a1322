import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { GodwitError } from "../kernel/errors.ts";
import { formatHex } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { seededRandom, systemRandom } from "../kernel/random.ts";
import { BODY_BYTES_MAX } from "../wire/constants.ts";
import { dhKeyFromSecret, generateIdentity, identityFromSeed, type DhKey } from "./keys.ts";
import { openSealed, SEAL_OVERHEAD_BYTES, sealTo } from "./seal.ts";
import { rememberingKey } from "./remembering-key.ts";
import { openingUnder, SEAL_PLAINTEXT_MAX, SEAL_SEGMENT_MAX, SEAL_WHOLE_MAX } from "./segments.ts";

const ann = generateIdentity(seededRandom(1));
const bea = generateIdentity(seededRandom(2));
const cat = generateIdentity(seededRandom(3));
const prekey = dhKeyFromSecret(new Uint8Array(32).fill(7));
const published = { keyId: 0x01020304, publicKey: prekey.publicKey };
const prekeys = {
  find: (keyId: number): DhKey | undefined => (keyId === published.keyId ? prekey : undefined),
};
const associated = Uint8Array.of(1, 2, 3);
const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);
const random = seededRandom(9);

const seal = (plaintext: Uint8Array, withPrekey = true): Uint8Array =>
  sealTo(
    { from: ann, to: bea.id, plaintext, associated, ...(withPrekey ? { prekey: published } : {}) },
    random,
  );
const open = (sealed: Uint8Array, change: Partial<Parameters<typeof openSealed>[0]> = {}) =>
  openSealed({ identity: bea, prekeys, from: ann.id, sealed, associated, ...change });

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return error instanceof GodwitError ? error.code : String(error);
  }
  return "nothing thrown";
}

describe("sealing", () => {
  test("the vectors stand in the protocol page", async () => {
    const page = (await Bun.file(join(import.meta.dir, "../../docs/protocol/sealing.md")).text()).replaceAll(
      "\n",
      "",
    );
    const source = await Bun.file(import.meta.path).text();
    const vectors = [...source.matchAll(/\(?"([0-9a-f]{64,})"/g)].map((match) => match[1]!);
    expect(vectors.length).toBeGreaterThanOrEqual(5);
    for (const vector of vectors) expect(page).toContain(vector);
  });

  test("golden: whole form to a prekey and to the identity key, segmented form", () => {
    const from = identityFromSeed(
      Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
    );
    const to = identityFromSeed(
      Buffer.from("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "hex"),
    );
    const fixed: Random = { ...seededRandom(0), bytes: (length) => new Uint8Array(length).fill(0x42) };
    const plaintext = new TextEncoder().encode("ARRIVED SAFELY");
    const input = { from, to: to.id, plaintext, associated: Uint8Array.of(0xad, 0xda) };
    expect(formatHex(sealTo({ ...input, prekey: published }, fixed))).toBe(
      "0101020304132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f472dee622b047ef6f849778f16f12ffbdc551d447d8e3666585520357304c4d",
    );
    expect(formatHex(sealTo(input, fixed))).toBe(
      "0100000000132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f4726a75cfb99eef1511935fce8cfb4e467bc043ab5102675212757fb84033b3",
    );
    const long = sealTo({ ...input, prekey: published, plaintext: pattern(70_000) }, fixed);
    expect(new Bun.CryptoHasher("sha256").update(long).digest("hex")).toBe(
      "240e806a08bdb977dcc3faf1f2f17d368d1f75dda9ddf03e12fe8c8d39c81af5",
    );
    const key = { identity: to, prekeys, from: from.id, associated: input.associated };
    expect(openSealed({ ...key, sealed: long }).plaintext).toEqual(pattern(70_000));
  });

  test("sizes around every border come back, with the overhead that the page says", () => {
    const borders = [0, 1, 1_000, SEAL_WHOLE_MAX - 1, SEAL_WHOLE_MAX, SEAL_WHOLE_MAX + 1];
    for (const length of [
      ...borders,
      SEAL_SEGMENT_MAX,
      SEAL_SEGMENT_MAX + 1,
      2 * SEAL_SEGMENT_MAX,
      200_000,
    ]) {
      const sealed = seal(pattern(length));
      const segments = length <= SEAL_WHOLE_MAX ? 0 : Math.ceil(length / SEAL_SEGMENT_MAX);
      const extra = segments === 0 ? 0 : 4 + 16 * segments;
      expect(sealed.length).toBe(length + SEAL_OVERHEAD_BYTES + extra);
      expect(Buffer.compare(open(sealed).plaintext, pattern(length))).toBe(0);
    }
  });

  test("a body of 16 MiB with its header fits, one byte more than the bound does not", () => {
    const plaintext = new Uint8Array(SEAL_PLAINTEXT_MAX).fill(3);
    expect(plaintext.length).toBeGreaterThan(BODY_BYTES_MAX);
    expect(Buffer.compare(open(seal(plaintext)).plaintext, plaintext)).toBe(0);
    expect(codeOf(() => seal(new Uint8Array(SEAL_PLAINTEXT_MAX + 1)))).toBe("GODWIT_TOO_BIG");
  });

  test("the recipient learns whether the seal is forward secret", () => {
    expect(open(seal(pattern(5))).forwardSecret).toBe(true);
    const toIdentity = open(seal(pattern(5), false));
    expect(toIdentity).toEqual({ plaintext: pattern(5), forwardSecret: false });
  });

  test("the same randomness gives the same bytes, other randomness others", () => {
    const once = (seed: number) =>
      formatHex(
        sealTo(
          { from: ann, to: bea.id, plaintext: pattern(9), associated, prekey: published },
          seededRandom(seed),
        ),
      );
    expect(once(5)).toBe(once(5));
    expect(once(5)).not.toBe(once(6));
  });

  test("another sender, recipient, associated data or a deleted prekey does not open", () => {
    for (const withPrekey of [true, false]) {
      const sealed = seal(pattern(100), withPrekey);
      expect(codeOf(() => open(sealed))).toBe("nothing thrown");
      const others = [
        { from: cat.id },
        { from: bea.id },
        { identity: cat },
        { associated: Uint8Array.of(1, 2) },
        { associated: new Uint8Array(0) },
        { from: "a".repeat(52) as typeof ann.id },
      ];
      for (const change of others) expect(codeOf(() => open(sealed, change))).toBe("GODWIT_DECODE");
    }
    expect(codeOf(() => open(seal(pattern(1)), { prekeys: { find: () => undefined } }))).toBe(
      "GODWIT_DECODE",
    );
  });

  test("every changed bit and every cut of a whole seal is refused", () => {
    const sealed = seal(pattern(40));
    for (let at = 0; at < sealed.length; at++) {
      const changed = Uint8Array.from(sealed);
      changed[at]! ^= 1 << (at % 8);
      // The top bit of an X25519 key does not count in the key exchange, but it is in the hash.
      expect(codeOf(() => open(changed))).toBe("GODWIT_DECODE");
      expect(codeOf(() => open(sealed.subarray(0, at)))).toBe("GODWIT_DECODE");
    }
    expect(codeOf(() => open(Uint8Array.of(...sealed, 0)))).toBe("GODWIT_DECODE");
  });

  test("segments cannot be cut, swapped, repeated, or taken from another message", () => {
    const length = 3 * SEAL_SEGMENT_MAX + 100;
    const sealed = seal(pattern(length));
    const start = SEAL_OVERHEAD_BYTES + 4;
    const size = SEAL_SEGMENT_MAX + 16;
    const segment = (bytes: Uint8Array, index: number) =>
      bytes.subarray(start + index * size, Math.min(bytes.length, start + (index + 1) * size));
    const build = (...parts: Uint8Array[]) =>
      new Uint8Array(Buffer.concat([sealed.subarray(0, start), ...parts]));
    const [a, b, c, last] = [0, 1, 2, 3].map((index) => segment(sealed, index)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    expect(codeOf(() => open(build(a, b, c, last)))).toBe("nothing thrown");
    const other = seal(pattern(length));
    for (const wrong of [
      build(a, c, b, last),
      build(a, a, c, last),
      build(a, b, c),
      build(a, b, last),
      build(a, b, c, last, last),
      build(a, segment(other, 1), c, last),
      build(a, b, c, last.subarray(1)),
      build(),
    ])
      expect(codeOf(() => open(wrong))).toBe("GODWIT_DECODE");
    for (let at = 0; at < sealed.length; at += 9_973) {
      const changed = Uint8Array.from(sealed);
      changed[at]! ^= 0x80;
      expect(codeOf(() => open(changed))).toBe("GODWIT_DECODE");
    }
  });

  test("random bytes behind any head are GODWIT_DECODE", () => {
    const head = fc.constantFrom("0101020304", "0201020304", "0100000000", "0200000000", "03", "");
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 200 }), (hex, tail) => {
        const sealed = new Uint8Array(Buffer.concat([Buffer.from(hex, "hex"), tail]));
        expect(codeOf(() => open(sealed))).toBe("GODWIT_DECODE");
      }),
      { numRuns: 200 },
    );
  });

  test("what is handed in is only borrowed, what comes out belongs to the caller", () => {
    const plaintext = pattern(70_000);
    const sealed = seal(plaintext);
    const opened = open(sealed).plaintext;
    sealed.fill(0);
    expect(Buffer.compare(opened, plaintext)).toBe(0);
  });

  test("a prekey of small order is refused before anything is sealed to it", () => {
    const weak = { keyId: 1, publicKey: new Uint8Array(32) };
    const sealing = () =>
      sealTo({ from: ann, to: bea.id, plaintext: pattern(1), associated, prekey: weak }, systemRandom);
    expect(codeOf(sealing)).toBe("GODWIT_HANDSHAKE_FAILED");
    const zero = { keyId: 0, publicKey: prekey.publicKey };
    expect(
      codeOf(() =>
        sealTo({ from: ann, to: bea.id, plaintext: pattern(1), associated, prekey: zero }, random),
      ),
    ).toBe("GODWIT_BUG");
  });
});

describe("a key that remembers", () => {
  /** A real key that counts what it is asked. */
  const counted = () => {
    const key = dhKeyFromSecret(new Uint8Array(32).fill(5));
    let agreed = 0;
    const counting: DhKey = { publicKey: key.publicKey, agree: (remote) => (agreed++, key.agree(remote)) };
    return { counting, agreed: () => agreed };
  };

  test("agrees once with the one lasting key that is named, and keeps nothing of any other", () => {
    const { counting, agreed } = counted();
    const remembering = rememberingKey(counting, ann.dh.publicKey);
    const first = remembering.agree(ann.dh.publicKey);
    expect(remembering.agree(ann.dh.publicKey)).toEqual(first);
    expect(agreed()).toBe(1);
    // Ephemeral: were it kept, the memory of a node would open what was sealed before it was taken.
    for (let again = 1; again <= 2; again++) {
      remembering.agree(prekey.publicKey);
      expect(agreed()).toBe(1 + again);
    }
  });

  test("gives each caller bytes of its own", () => {
    const { counting } = counted();
    const remembering = rememberingKey(counting);
    remembering.agree(ann.dh.publicKey).fill(0);
    expect(remembering.agree(ann.dh.publicKey)).not.toEqual(new Uint8Array(32));
  });
});

test("so many bytes as no sealed message has are none in segments: too few, too many, a segment without a byte", () => {
  const key = new Uint8Array(32);
  const sealed = (plain: number) => plain + 16 * Math.ceil(plain / SEAL_SEGMENT_MAX);
  expect(openingUnder(key, sealed(SEAL_PLAINTEXT_MAX), 0)?.plainBytes).toBe(SEAL_PLAINTEXT_MAX);
  for (const bytes of [
    sealed(SEAL_PLAINTEXT_MAX) + 1,
    sealed(SEAL_WHOLE_MAX),
    sealed(3 * SEAL_SEGMENT_MAX) + 16,
  ])
    expect(openingUnder(key, bytes, 0)).toBeUndefined();
});
