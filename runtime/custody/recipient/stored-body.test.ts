import { expect, test } from "bun:test";
import fc from "fast-check";
import { generateIdentity } from "../../identity/keys.ts";
import { type Directory, noRoots } from "../context.ts";
import { createSealer } from "../../identity/sealer.ts";
import { seededRandom } from "../../kernel/random.ts";
import { encodeBundleHeader, makeBundle, type BundleHeader } from "../../wire/bundle.ts";
import { encodeInnerMessage } from "../../wire/message.ts";
import { piecesInMemory } from "../forwarding/pieces.ts";
import { SegmentsOpening } from "./opening-body.ts";
import { readStored, storedOf } from "./stored-body.ts";

const bytesOf = (length: number): Uint8Array =>
  new Uint8Array(length).map((_, i) => (i * 7 + (i >> 8)) & 255);
const [from, to] = [generateIdentity(seededRandom(1)), generateIdentity(seededRandom(2))];
const of = (identity: typeof from) =>
  createSealer({ identity, prekeys: { find: () => undefined } as never, recordOf: () => undefined });
const header: BundleHeader = {
  kind: 0,
  priority: 2,
  source: from.id,
  destination: to.id,
  lifetimeMs: 60_000,
};

/** A message of so many bytes as it came, the first half of it as chunks. */
function arrived(body: Uint8Array) {
  const inner = {
    mailEpoch: new Uint8Array(8),
    counter: 7,
    to: to.id,
    createdAtMs: 1,
    machines: [],
    failoverDelayMs: 0,
    subject: "s",
    contentType: "text/plain",
    body,
  };
  const associated = encodeBundleHeader(header);
  const sealed = of(from).seal(to.id, undefined, encodeInnerMessage(inner), associated, new Uint8Array(16));
  const { id } = makeBundle(header, sealed);
  const head = { of: id, bytes: sealed.length >> 1 };
  const rest = sealed.subarray(head.bytes);
  const bundle = {
    id,
    header,
    sealedBytes: sealed.length,
    head,
    rest,
    sums: new Uint8Array(0),
    opening: undefined,
  };
  return { sealed, bundle: { ...bundle, pieces: piecesInMemory(sealed) } };
}

type Arrived = ReturnType<typeof arrived>["bundle"];

const nobody: Directory = {
  resolve: () => ({ kind: "unknown" }),
  canonical: (text) => text,
  nodeOf: () => to.id,
};

/** As if its sealed bytes came `cut` at a time. */
function open(identity: typeof from, bundle: Arrived, sealed: Uint8Array, cut = 262_144) {
  const opening = new SegmentsOpening(
    { self: identity.id, sealer: of(identity), directory: nobody },
    noRoots,
    header,
    bundle.sealedBytes,
  );
  for (let at = 0; at < sealed.length; at += cut) opening.take(sealed.subarray(at, at + cut));
  return storedOf({ ...bundle, opening });
}

const rowOf = (sealed: Uint8Array, { head, rest }: { head: { bytes: number }; rest: Uint8Array }) =>
  new Uint8Array(Buffer.concat([sealed.subarray(0, head.bytes), rest]));
const readRow = (row: Uint8Array, size: number) =>
  readStored(of(to), size, row.length, async (at, length) => row.subarray(at, at + length));

test("a large message is opened without being held, lies as it came with its key, and is read again as it was written", async () => {
  for (const size of [65_536, 262_144, 1_000_003]) {
    const body = bytesOf(size);
    const { sealed, bundle } = arrived(body);
    const opened = open(to, bundle, sealed)!;
    expect([opened.inner.counter, opened.inner.subject, opened.stored.bytes]).toEqual([7, "s", size]);
    const row = rowOf(sealed, opened.stored);
    expect(row.length).toBe(sealed.length + 35);
    expect(Buffer.compare((await readRow(row, size))!, body)).toBe(0);
  }
});

test("a byte that is not what it was, wherever, and the message is not shown", async () => {
  const size = 300_000;
  const { sealed, bundle } = arrived(bytesOf(size));
  const row = rowOf(sealed, open(to, bundle, sealed)!.stored);
  // What stands before the segments was needed once, to come to the key.
  for (const at of [
    62,
    100,
    65_600,
    200_000,
    row.length - 36,
    row.length - 35,
    row.length - 3,
    row.length - 1,
  ]) {
    const bad = row.slice();
    bad[at]! ^= 1;
    expect([at, await readRow(bad, size)]).toEqual([at, undefined]);
  }
  expect(await readRow(row, size - 1)).toBeUndefined();
  expect(await readRow(row.subarray(0, 20), size)).toBeUndefined();
});

test("what does not open, or was cut, is refused before anything is kept of it", async () => {
  const { bundle, sealed } = arrived(bytesOf(300_000));
  const bad = sealed.slice();
  bad[bad.length - 1]! ^= 1;
  expect(() => open(to, bundle, bad)).toThrow("does not open");
  expect(() => open(from, bundle, sealed)).toThrow();
  const cut = { ...bundle, sealedBytes: sealed.length - 20 };
  expect(() => open(to, cut, sealed.subarray(0, cut.sealedBytes))).toThrow("do not add up");
  // Damage in front of what was opened well: what comes behind it changes nothing.
  const early = sealed.slice();
  early[70_000]! ^= 1;
  expect(() => open(to, bundle, early)).toThrow("does not open");
  // Not all of it has come.
  expect(() => open(to, bundle, sealed.subarray(0, sealed.length - 1))).toThrow("all of a message");
});

test("however it is cut while it comes, it is opened as at once", async () => {
  const size = 300_000;
  const { bundle, sealed } = arrived(bytesOf(size));
  const expected = open(to, bundle, sealed, sealed.length)!;
  const cuts = fc.constantFrom(101, 4_096, 65_519, 65_535, 65_536, 65_636, 131_072, 262_143);
  await fc.assert(
    fc.property(fc.oneof(cuts, fc.integer({ min: 101, max: sealed.length })), (cut) => {
      expect(open(to, bundle, sealed, cut)).toEqual(expected);
    }),
    { numRuns: 40 },
  );
});
