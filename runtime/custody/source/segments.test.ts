import { expect, test } from "bun:test";
import fc from "fast-check";
import { generateIdentity } from "../../identity/keys.ts";
import { noRoots } from "../context.ts";
import { createSealer } from "../../identity/sealer.ts";
import { seededRandom } from "../../kernel/random.ts";
import { sealedBytesIn, SealedSegments } from "./segments.ts";

const bytesOf = (length: number): Uint8Array =>
  new Uint8Array(length).map((_, i) => (i * 7 + (i >> 8)) & 255);

function pair(seed: number) {
  const [from, to] = [generateIdentity(seededRandom(seed)), generateIdentity(seededRandom(seed + 1))];
  const prekeys = { find: () => undefined } as never;
  const of = (identity: typeof from) => createSealer({ identity, prekeys, recordOf: () => undefined });
  return { from, to, sealer: of(from), opener: of(to) };
}

test("whatever pieces are asked for, in whatever order, they are those of the message sealed at once", async () => {
  const { from, to, sealer, opener } = pair(1);
  const associated = Uint8Array.of(1, 2);
  const unique = new Uint8Array(16);
  for (const length of [65_488, 65_519, 65_520, 131_038, 200_001]) {
    const plain = bytesOf(length);
    const whole = sealer.seal(to.id, undefined, plain, associated, unique);
    expect(opener.open(from.id, whole, associated, noRoots).plaintext).toEqual(plain);
    const start = sealer.inSegments(to.id, undefined, length, associated, unique)!;
    for (let at = 0; at < length; at += 50_000) start.tell(plain.subarray(at, at + 50_000));
    const sealing = start.sealing();
    expect(sealedBytesIn(sealing, length)).toBe(whole.length);
    const segments = new SealedSegments(sealing, length, async (at, size) => plain.slice(at, at + size));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(150_000), async (offset, size) => {
        const wanted = whole.subarray(offset, offset + 1 + size);
        const piece = await segments.piece(offset, wanted.length);
        return Buffer.compare(piece!, wanted) === 0;
      }),
      { numRuns: 60 },
    );
  }
});

test("pieces that are asked for at one time do not take each other's segments", async () => {
  const { to, sealer } = pair(5);
  const none = new Uint8Array(0);
  const plain = bytesOf(400_000);
  const whole = sealer.seal(to.id, undefined, plain, none, new Uint8Array(16));
  const start = sealer.inSegments(to.id, undefined, plain.length, none, new Uint8Array(16))!;
  start.tell(plain);
  const segments = new SealedSegments(start.sealing(), plain.length, async (at, size) => {
    await Promise.resolve();
    return plain.slice(at, at + size);
  });
  const offsets = [0, 100_000, 10, 200_000, 100_010, 300_000, 65_000, 131_000];
  for (const offset of offsets) await segments.piece(offset, 70_000);
  const pieces = await Promise.all(offsets.map((offset) => segments.piece(offset, 70_000)));
  for (const [i, offset] of offsets.entries())
    expect(Buffer.compare(pieces[i]!, whole.subarray(offset, offset + 70_000))).toBe(0);
});

test("a short message is not cut, and one that cannot be read gives no piece", async () => {
  const { to, sealer } = pair(3);
  const none = new Uint8Array(0);
  expect(sealer.inSegments(to.id, undefined, 65_487, none, none)).toBeUndefined();
  const start = sealer.inSegments(to.id, undefined, 100_000, none, none)!;
  start.tell(bytesOf(100_000));
  const cut = new SealedSegments(start.sealing(), 100_000, async (_at, size) => new Uint8Array(size - 1));
  expect(await cut.piece(0, 70_000)).toBeUndefined();
});
