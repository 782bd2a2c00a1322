/** Bodies of sizes around each threshold of their way, sealed in earnest: at one go, in two tries, and over a relay. */
import { expect, test } from "bun:test";
import { generateIdentity, type Identity } from "../../identity/keys.ts";
import { SEAL_SEGMENT_MAX, SEAL_WHOLE_MAX } from "../../identity/segments.ts";
import { createSealer } from "../../identity/sealer.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { seededRandom } from "../../kernel/random.ts";
import { FILE_BODY_BYTES } from "../../store/body-files.ts";
import { decodeOffer } from "../../wire/bundle.ts";
import { BLOCK_BYTES, FRAME_BYTES_MAX, FrameType } from "../../wire/constants.ts";
import { BODY_CACHE_ONE_BYTES_MAX } from "../body-cache.ts";
import type { Sealer } from "../context.ts";
import { pattern, TestMesh, type TestNode } from "../testing.ts";
import { INLINE_BYTES_MAX } from "./offers.ts";

const HEAD_BYTES = 57;
const TAG_BYTES = 16;

const identities = new Map<NodeId, Identity>();
const identityOf = (id: NodeId): Identity => {
  const known = identities.get(id) ?? generateIdentity(seededRandom(identities.size + 1));
  identities.set(id, known);
  return known;
};

/** The real one, for nodes whose ids are no keys. */
function sealerOf(self: NodeId): Sealer {
  const prekeys = { find: () => undefined } as never;
  const real = createSealer({ identity: identityOf(self), prekeys, recordOf: () => undefined });
  return {
    keyFor: () => undefined,
    seal: (to, ...rest) => real.seal(identityOf(to).id, ...rest),
    inSegments: (to, ...rest) => real.inSegments(identityOf(to).id, ...rest),
    open: (from, ...rest) => real.open(identityOf(from).id, ...rest),
    openInSegments: (from, ...rest) => real.openInSegments(identityOf(from).id, ...rest),
    segmentsUnder: real.segmentsUnder,
    sealOnce: (to, ...rest) => real.sealOnce(identityOf(to).id, ...rest),
  };
}

async function lineOf(...names: string[]): Promise<{ mesh: TestMesh; nodes: TestNode[] }> {
  const mesh = new TestMesh();
  const nodes = await mesh.line(names);
  for (const node of nodes) {
    node.crash();
    node.sealer = sealerOf(node.id);
  }
  for (const node of nodes) await node.start();
  return { mesh, nodes };
}

/** What stands before the body in the plaintext of a message. */
async function headBytes(): Promise<number> {
  const { mesh, nodes } = await lineOf("a", "b");
  const bytes = 40_000;
  await nodes[0]!.send(nodes[1]!.id, pattern(bytes));
  await mesh.clock.advance(200);
  const offer = mesh.log.find(({ type }) => type === FrameType.offer)!;
  const sealed = decodeOffer(offer.bytes).sealedBytes;
  // Sealed as a whole: form, key id, ephemeral key.
  return sealed - bytes - 5 - 32 - TAG_BYTES;
}

const around = (...thresholds: number[]): number[] =>
  thresholds.flatMap((size) => [size - 1, size, size + 1]);

async function sizes(): Promise<{ readonly usual: number[]; readonly large: number[] }> {
  const head = await headBytes();
  /** Bodies of which the plaintext, or what is sealed, has that size. */
  const plain = (bytes: number) => bytes - head;
  const sealed = (bytes: number) =>
    bytes <= SEAL_WHOLE_MAX
      ? plain(bytes - 5 - 32 - TAG_BYTES)
      : plain(
          bytes - HEAD_BYTES - Math.ceil((bytes - HEAD_BYTES) / (SEAL_SEGMENT_MAX + TAG_BYTES)) * TAG_BYTES,
        );
  const usual = [
    ...around(INLINE_BYTES_MAX, FILE_BODY_BYTES, BLOCK_BYTES, FRAME_BYTES_MAX),
    ...around(INLINE_BYTES_MAX, FILE_BODY_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES, FRAME_BYTES_MAX).map(sealed),
    ...around(SEAL_WHOLE_MAX, SEAL_SEGMENT_MAX, 2 * SEAL_SEGMENT_MAX, 4 * SEAL_SEGMENT_MAX).map(plain),
  ];
  const large = [8 * BLOCK_BYTES, BODY_CACHE_ONE_BYTES_MAX].flatMap((bytes) => around(bytes).map(sealed));
  return { usual, large };
}

const offered = ({ log }: TestMesh): number[] =>
  log.filter(({ type }) => type === FrameType.offer).map(({ bytes }) => decodeOffer(bytes).sealedBytes);

/** It is there as it was written, also in the next life of its recipient, and nothing of it is left when it is removed. */
async function checkRead(size: number, body: Uint8Array, node: TestNode, how: string): Promise<void> {
  expect([how, size, node.delivered.length]).toEqual([how, size, 1]);
  const { id } = node.delivered[0]!.entry;
  const read = () => node.settle(node.custody!.inbox.body(id));
  expect([how, size, Buffer.compare(await read(), body)]).toEqual([how, size, 0]);
  node.crash();
  await node.start();
  expect([how, size, Buffer.compare(await read(), body)]).toEqual([how, size, 0]);
  await node.settle(node.custody!.inbox.remove(id));
  expect([node.custody!.inbox.count, node.custody!.inbox.bytes]).toEqual([0, 0]);
  for (const collection of ["chunk", "transit"] as const)
    expect(await node.settle(node.store!.load(collection))).toEqual([]);
}

test("a body of a size at any threshold is read as it was written, however it came", async () => {
  const { usual, large } = await sizes();
  const seen = new Set<number>();
  for (const size of [...usual, ...large]) {
    const { mesh, nodes } = await lineOf("a", "b", "c");
    const body = pattern(size);
    await nodes[0]!.send(nodes[2]!.id, body);
    await mesh.clock.advance(1_000);
    await checkRead(size, body, nodes[2]!, "over a relay");
    for (const bytes of offered(mesh)) seen.add(bytes);
  }
  // What is sealed has these sizes indeed. Below the first it is not offered; 4 MiB are none that segments add up to.
  expect(seen).toContain(INLINE_BYTES_MAX + 1);
  for (const bytes of around(FILE_BODY_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES, 8 * BLOCK_BYTES))
    expect(seen).toContain(bytes);
}, 60_000);

test("a body of a size at any threshold that came in two tries is read as it was written", async () => {
  const { usual } = await sizes();
  for (const size of usual)
    for (const [part, how] of [
      [0.3, "cut"],
      [0.7, "cut"],
      [0.7, "crash"],
      [1, "cut"],
    ] as const) {
      const { mesh, nodes } = await lineOf("a", "b");
      const [a, b] = nodes as [TestNode, TestNode];
      let passed = 0;
      mesh.filter = ({ type, bytes }) => type !== FrameType.chunk || (passed += bytes.length) <= size * part;
      const body = pattern(size);
      await a.send(b.id, body);
      await mesh.clock.advance(200);
      mesh.filter = () => true;
      if (how === "crash") {
        b.crash();
        await b.start();
      } else {
        mesh.cut(a, b);
        await mesh.clock.advance(50);
        mesh.connect(a, b);
      }
      await mesh.clock.advance(30_000);
      await checkRead(size, body, b, `${how} at ${part}`);
    }
}, 60_000);
