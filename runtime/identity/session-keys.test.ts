import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { formatHex } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { COUNTER_MAX } from "../wire/sealed.ts";
import type { DhKey } from "./keys.ts";
import { beginSession, joinSession, ReceivingKeys, SendingKeys, sessionIdOf } from "./session-keys.ts";
import { referenceKey, referenceSessionId } from "./testing-session-reference.ts";
import {
  bytesIn,
  codeOf,
  createPair,
  drawing,
  openSources,
  reachableKeys,
  rootOfPair,
} from "./testing-sessions.ts";

const root = rootOfPair(createPair());
const none = (): undefined => undefined;

/** How many HMACs `fn` takes. */
function hmacsOf(fn: () => unknown): number {
  const real = Bun.CryptoHasher;
  let count = 0;
  Bun.CryptoHasher = new Proxy(real, {
    construct(target, args: ConstructorParameters<typeof real>) {
      count += args[1] === undefined ? 0 : 1;
      return new target(...args);
    },
  });
  try {
    fn();
    return count;
  } finally {
    Bun.CryptoHasher = real;
  }
}

describe("the root", () => {
  test("the vectors stand in the protocol page", async () => {
    const page = await Bun.file(join(import.meta.dir, "../../docs/protocol/sealing.md")).text();
    const source = await Bun.file(import.meta.path).text();
    const vectors = [...source.matchAll(/"([0-9a-f]{16}|[0-9a-f]{64})"/g)].map((match) => match[1]!);
    expect(vectors.length).toBe(10);
    for (const vector of vectors) expect(page).toContain(vector);
  });

  test("golden: root, id, and keys of some counters", () => {
    const { ann, bea, prekey, secrets, publics } = createPair();
    const begun = beginSession(ann, bea.id, prekey, drawing(secrets.e));
    expect(begun.ephemeral).toEqual(publics.e);
    expect(formatHex(begun.id)).toBe("06daf4175c3fc452");
    expect(formatHex(begun.root)).toBe("c1ef94e7be9819e6f41d1a081263f8fcd417a362ffe47c6815d4ae1f05952733");
    const keys = new ReceivingKeys(begun.root);
    for (const [counter, hex] of [
      [0, "20064a7beab891005e60cab8f71ebf82943b6eac9a2fe4270baf39d7cea5fb57"],
      [1, "742933dd803e01632e0143f111f790c25bde7fc5e4eda1e7e50f76f9a725323d"],
      [15, "1e072b2e43820e10420ceec96c4270df98e1819f1efb54bd3bcd77413480d6c8"],
      [16, "c3910af7d858a72c46cf60f4911920fe64040bb01912ac50447b64d3404a29ee"],
      [255, "fa8bc1c053c5d4672a874dee92304f1b31c9a2844525229c7dc7c4d9dc018807"],
      [256, "dbcc5fb2cbb7f73979211b23060b4bf1c8ae7b1e676cbfd188c78738b98d4148"],
      [4095, "2781909fd33bb0944eaf8a8fd40d4d961323c38045f097b3512c1324c42342b6"],
      [65535, "46e25709c3b264fec260d75bfcf246555dea49380c0ffa201597c87ad3cbf0a0"],
    ] as const) {
      expect(formatHex(keys.key(counter))).toBe(hex);
      expect(formatHex(referenceKey(root, counter))).toBe(hex);
    }
  });

  test("both ends come to the root and the id of the reference, of any two nodes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 30 }), (seed) => {
        const pair = createPair(seed);
        const { ann, bea, prekey, secrets } = pair;
        const begun = beginSession(ann, bea.id, prekey, drawing(secrets.e));
        const joined = joinSession(bea, prekey, ann.id, begun.ephemeral, none);
        expect(begun.root).toEqual(rootOfPair(pair));
        expect(joined.keys.root).toEqual(begun.root);
        expect(joined.id).toEqual(begun.id);
        expect(begun.id).toEqual(new Uint8Array(referenceSessionId(begun.ephemeral, ann.publicKey)));
      }),
      { numRuns: 50 },
    );
  });

  test("another sender, recipient, prekey, key id or ephemeral key is another root", () => {
    const pair = createPair(5);
    const other = createPair(6);
    const { ann, bea, prekey } = pair;
    const { ephemeral, root: agreed } = beginSession(ann, bea.id, prekey, drawing(pair.secrets.e));
    const roots = [
      joinSession(bea, prekey, other.ann.id, ephemeral, none),
      joinSession(other.bea, prekey, ann.id, ephemeral, none),
      joinSession(bea, other.prekey, ann.id, ephemeral, none),
      joinSession(bea, { ...prekey, keyId: prekey.keyId ^ 1 }, ann.id, ephemeral, none),
      joinSession(bea, prekey, ann.id, other.publics.e, none),
    ].map(({ keys }) => formatHex(keys.root));
    expect(new Set([...roots, formatHex(agreed)]).size).toBe(6);
    // The other way is another session as well, of the same keys.
    const back = joinSession(ann, prekey, bea.id, ephemeral, none);
    expect(back.keys.root).not.toEqual(agreed);
  });

  test("each of the four secrets counts, at both ends", () => {
    const pair = createPair(7);
    const { ann, bea, prekey, secrets, publics } = pair;
    const agreed = rootOfPair(pair);
    /** As the key, but what it agrees with `remote` has another bit. */
    const off = (key: DhKey, remote: Uint8Array): DhKey => ({
      publicKey: key.publicKey,
      agree(other) {
        const secret = key.agree(other);
        if (Buffer.compare(other, remote) === 0) secret[31]! ^= 1;
        return secret;
      },
    });
    const joined = (identity: DhKey, key: DhKey) =>
      joinSession({ id: bea.id, dh: identity }, { ...prekey, key }, ann.id, publics.e, none).keys.root;
    expect(joined(bea.dh, prekey.key)).toEqual(agreed);
    const roots = [
      joined(bea.dh, off(prekey.key, publics.e)),
      joined(bea.dh, off(prekey.key, publics.a)),
      joined(off(bea.dh, publics.e), prekey.key),
      joined(off(bea.dh, publics.a), prekey.key),
      ...[publics.p, publics.b].map((remote) => {
        const dh = off(ann.dh, remote);
        return beginSession({ id: ann.id, dh }, bea.id, prekey, drawing(secrets.e)).root;
      }),
    ].map(formatHex);
    expect(roots).not.toContain(formatHex(agreed));
    // An identity's secret with a prekey is the same wherever it comes from.
    expect(roots[4]).toBe(roots[1]);
    expect(roots[5]).toBe(roots[3]);
    expect(new Set(roots).size).toBe(4);
  });

  test("a session that is known is not agreed again", () => {
    const { ann, bea, prekey, secrets } = createPair(9);
    const { ephemeral, id } = beginSession(ann, bea.id, prekey, drawing(secrets.e));
    const { keys } = joinSession(bea, prekey, ann.id, ephemeral, none);
    const agreesNothing = { publicKey: prekey.publicKey, agree: () => expect.unreachable() };
    const again = joinSession(
      { id: bea.id, dh: agreesNothing },
      { keyId: prekey.keyId, key: agreesNothing },
      ann.id,
      ephemeral,
      (asked) => (Buffer.compare(asked, id) === 0 ? keys : undefined),
    );
    expect(again.keys).toBe(keys);
  });

  test("a key of zeros or of small order is refused at both ends", () => {
    const { ann, bea, prekey, secrets } = createPair(10);
    // RFC 7748 section 6.1 and https://cr.yp.to/ecdh.html: 0, 1, two of order 8, p - 1, p, p + 1.
    const weak = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      ["e0eb7a7c3b41b8ae1656e3faf19fc46a", "da098deb9c32b1fd866205165f49b800"].join(""),
      ["5f9c95bca3508c24b1d0b1559c83ef5b", "04445cc4581c8e86d8224eddd09f1157"].join(""),
      `ec${"ff".repeat(30)}7f`,
      `ed${"ff".repeat(30)}7f`,
      `ee${"ff".repeat(30)}7f`,
    ].map((hex) => new Uint8Array(Buffer.from(hex, "hex")));
    for (const publicKey of weak) {
      const begin = () => beginSession(ann, bea.id, { keyId: 5, publicKey }, drawing(secrets.e));
      expect(codeOf(begin)).toBe("GODWIT_HANDSHAKE_FAILED");
      expect(begin).toThrow("small order");
      const agree = () => joinSession(bea, prekey, ann.id, publicKey, none);
      expect(codeOf(agree)).toBe("GODWIT_HANDSHAKE_FAILED");
      expect(agree).toThrow("small order");
    }
  });
});

describe("keys of messages", () => {
  test("1,023 counters in any order have the keys of the reference, at the recipient", () => {
    const counters = fc.uniqueArray(fc.integer({ min: 0, max: COUNTER_MAX }), {
      ...{ minLength: 1_023, maxLength: 1_023 },
    });
    fc.assert(
      fc.property(counters, (order) => {
        const keys = new ReceivingKeys(root);
        for (const counter of order)
          expect(Buffer.compare(keys.key(counter), referenceKey(root, counter))).toBe(0);
      }),
      { numRuns: 3 },
    );
  });

  test("counters that are near each other, again and backwards, as well", () => {
    const digit = fc.constantFrom<number[]>(0, 1, 2, 14, 15);
    const near = fc.tuple(digit, digit, digit, digit).map((of) => of.reduce((sum, one) => sum * 16 + one, 0));
    fc.assert(
      fc.property(
        fc.array(near, { minLength: 1, maxLength: 40 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (order, from) => {
          const keys = new ReceivingKeys(from);
          for (const counter of order)
            expect(Buffer.compare(keys.key(counter), referenceKey(from, counter))).toBe(0);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("the sender gives all 65,536 in order, those of the reference, each once, and then none", () => {
    const sending = new SendingKeys(root.slice());
    const receiving = new ReceivingKeys(root);
    const seen = new Set<string>();
    for (let counter = 0; counter <= COUNTER_MAX; counter++) {
      const taken = sending.take()!;
      if (taken.counter !== counter) throw new Error(`${taken.counter} for ${counter}`);
      const key = Buffer.from(taken.key).toString("latin1");
      if (key !== Buffer.from(receiving.key(counter)).toString("latin1")) throw new Error(`at ${counter}`);
      const isJudged = counter < 1_023 || counter % 61 === 0 || counter > COUNTER_MAX - 33;
      if (isJudged) expect(Buffer.compare(taken.key, referenceKey(root, counter))).toBe(0);
      seen.add(key);
    }
    expect(seen.size).toBe(COUNTER_MAX + 1);
    expect(sending.take()).toBeUndefined();
    expect(sending.take()).toBeUndefined();
  });

  test("at most 64 steps to any counter, about two where they come in order", () => {
    expect(hmacsOf(() => new ReceivingKeys(root).key(COUNTER_MAX))).toBe(64);
    expect(hmacsOf(() => new ReceivingKeys(root).key(0))).toBe(4);
    const random = seededRandom(11);
    const keys = new ReceivingKeys(root);
    for (let run = 0; run < 2_000; run++)
      expect(hmacsOf(() => keys.key(random.below(COUNTER_MAX + 1)))).toBeLessThanOrEqual(64);
    const inOrder = new ReceivingKeys(root);
    const sending = new SendingKeys(root.slice());
    for (const take of [(counter: number) => inOrder.key(counter), () => sending.take()]) {
      let steps = 0;
      for (let counter = 0; counter < 4_096; counter++) {
        const of = hmacsOf(() => take(counter));
        expect(of).toBeLessThanOrEqual(64);
        steps += of;
      }
      expect(steps / 4_096).toBeLessThan(2.3);
    }
  });
});

/** How many of the first `taken` keys, and of as many after them, follow from what the sender keeps after `taken`. */
function leaked(taken: number, Keys: typeof SendingKeys): { before: number; after: number } {
  const keys = new Keys(root.slice());
  for (let counter = 0; counter < taken; counter++) keys.take();
  const found = new Set(reachableKeys(bytesIn(keys)).map(formatHex));
  const range = Array.from({ length: taken }, (_, at) => at);
  const isFound = (counter: number) => found.has(formatHex(referenceKey(root, counter)));
  return {
    before: range.filter(isFound).length,
    after: range.filter((at) => isFound(taken + at)).length,
  };
}

describe("what a sender keeps", () => {
  test("leads to no key that was taken, and to those after it", async () => {
    const { SendingKeys: Open } = await openSources();
    expect(bytesIn(new Open(root.slice())).length).toBe(4);
    for (const taken of [1, 2, 15, 16, 17, 40, 100])
      expect(leaked(taken, Open)).toEqual({ before: 0, after: taken });
  });

  test("is overwritten with what it was drawn and agreed from", () => {
    const { ann, bea, prekey, secrets } = createPair(13);
    const drawn = secrets.e.slice();
    const agreed: Uint8Array[] = [];
    const remembers = (key: DhKey): DhKey => ({
      publicKey: key.publicKey,
      agree(remote) {
        agreed.push(key.agree(remote));
        return agreed.at(-1)!;
      },
    });
    const begun = beginSession({ id: ann.id, dh: remembers(ann.dh) }, bea.id, prekey, {
      ...seededRandom(1),
      bytes: () => drawn,
    });
    const key = { ...prekey, key: remembers(prekey.key) };
    joinSession({ id: bea.id, dh: remembers(bea.dh) }, key, ann.id, begun.ephemeral, none);
    expect(agreed.length).toBe(6);
    const nothing = new Uint8Array(32);
    for (const bytes of [drawn, ...agreed]) expect(bytes).toEqual(nothing);
    const keys = new SendingKeys(begun.root);
    expect(begun.root).toEqual(nothing);
    expect(keys.take()!.key).not.toEqual(nothing);
  });

  test("(judged by sources that keep too much)", async () => {
    const keepsRoot = await openSources((source) =>
      source.replace(
        "this.$next = [root];",
        "this.$next = [root]; Object.assign(this, {kept: {root: root.slice()}});",
      ),
    );
    expect(leaked(17, keepsRoot.SendingKeys)).not.toMatchObject({ before: 0 });
    const stepsLate = await openSources((source) =>
      source.replace("derive(value, Derived.next);\n  }\n}", "value.slice();\n  }\n}"),
    );
    expect(leaked(17, stepsLate.SendingKeys)).not.toMatchObject({ before: 0 });
  });
});

test("the id of a session is not that of another sender with the same ephemeral key", () => {
  const { ann, bea, publics } = createPair(12);
  expect(sessionIdOf(publics.e, ann.id)).not.toEqual(sessionIdOf(publics.e, bea.id));
});
