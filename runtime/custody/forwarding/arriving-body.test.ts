import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { makeBundle, type BundleHeader } from "../../wire/bundle.ts";
import { BLOCK_BYTES } from "../../wire/constants.ts";
import { testId } from "../testing.ts";
import { ArrivingBody } from "./arriving-body.ts";

const COMMIT_MS = 5;
const BLOCKS = 64;
/** Its blocks differ. */
const sealed = new Uint8Array(BLOCKS * BLOCK_BYTES).map((_, i) => (i * 31 + (i >> 16)) & 255);

async function arriving() {
  const clock = new ManualClock(0);
  const disk = new SimDisk();
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: COMMIT_MS });
  const header: BundleHeader = {
    kind: 0,
    priority: 1,
    source: testId("a"),
    destination: testId("c"),
    lifetimeMs: 60_000,
  };
  const { id } = makeBundle(header, sealed);
  /** What was written lay there. */
  const written = new Set<ArrayBufferLike>();
  const commit = store.commit.bind(store);
  store.commit = (ops) => {
    for (const op of ops) if (op.op === "put") written.add(op.body!.buffer);
    return commit(ops);
  };
  const journey = { remainingMs: 60_000, hops: 1, trace: [] };
  const body = new ArrivingBody(store, { id, header, journey, sealedBytes: sealed.length });
  /** Of each block what is durable then is looked at by `seen`. */
  const takeAll = async (seen: () => void) => {
    for (let at = 0; at < sealed.length; at += BLOCK_BYTES) {
      expect(body.take(sealed.subarray(at, at + BLOCK_BYTES))).toBe(true);
      void body.write(() => []);
      await clock.advance(COMMIT_MS);
      await body.settled();
      seen();
    }
  };
  return { body, written, takeAll };
}

test("what is durable makes room for what comes: a large body takes no new memory for each part of it", async () => {
  const { body, written, takeAll } = await arriving();
  await takeAll(() => {});
  expect(body.finish()).toBeDefined();
  expect(written.size).toBeLessThanOrEqual(3);
});
