/** What an instance holds of strangers who know the gossip key, at every bound at once, after the collector has run. */
import { afterEach, expect, test } from "bun:test";
import { heapStats } from "bun:jsc";
import { seededRandom } from "@godwit/sdk/testkit";
import type { Serf } from "./serf/serf.ts";
import { FakeCluster } from "./testing.ts";
import { type At, encodeAlive, encodePushPull, encodeUser } from "./wire/messages.ts";
import { encodeIntent, encodeState, encodeUserEvent } from "./wire/serf-messages.ts";
import { OWN_VSN, SerfType } from "./wire/types.ts";

/** What it may hold; what of it streams have, 4 MiB, is not among what is filled here. */
const HELD_MIB_MAX = 16 - 4;

const cluster = new FakeCluster();
afterEach(() => cluster.close());

const heldMiB = (): number => {
  Bun.gc(true);
  const { heapSize, extraMemorySize } = heapStats();
  return (heapSize + extraMemorySize) / 2 ** 20;
};

test("a hundred thousand names with full tags, intents, events and states are a bounded memory", async () => {
  const { serf, at, events, changes, dropped } = cluster.add("a");
  const source = seededRandom(1);
  const random = (length: number) => source.bytes(length);
  await cluster.run(1_000);
  const restMiB = heldMiB();
  const node = (i: number) => ({
    incarnation: 1,
    node: `${"n".repeat(100)}-${i}`,
    at: { address: "198.51.100.1", port: 1 },
    meta: random(512),
    vsn: OWN_VSN,
  });
  for (let i = 0; i < 20_000; i++) serf.memberlist.packet(encodeAlive(node(i)), at);
  crowd(serf, at);
  for (let i = 0; i < 3_000; i++) {
    const event = {
      ltime: i + 1,
      name: "x",
      payload: random(i % 2 === 0 ? 9_000 : 1_000),
      canCoalesce: false,
    };
    serf.memberlist.packet(encodeUser(encodeUserEvent(event)), at);
    const intent = { type: SerfType.join, ltime: i + 1, node: `${"i".repeat(100)}${i}`, isPrune: false };
    serf.memberlist.packet(encodeUser(encodeIntent(intent)), at);
  }
  await cluster.run(2_000);
  // The test's own notes of what it was told.
  for (const notes of [events, changes, dropped]) notes.length = 0;
  const grownMiB = heldMiB() - restMiB;
  expect(serf.roll.size).toBe(4_096);
  expect(grownMiB).toBeGreaterThan(2);
  expect(grownMiB).toBeLessThan(HELD_MIB_MAX);
}, 60_000);

/** In a call of its own, so that nothing of it is held here. */
function crowd(serf: Serf, at: At): void {
  const nodes = Array.from({ length: 80_000 }, (_, i) => ({
    incarnation: 1,
    at,
    vsn: OWN_VSN,
    meta: new Uint8Array(0),
    node: `c${i}`,
    state: 0 as const,
  }));
  const state = encodeState({
    ltime: 5,
    statusLTimes: new Map(Array.from({ length: 20_000 }, (_, i) => [`s${i}`, i])),
    left: new Set(Array.from({ length: 20_000 }, (_, i) => `l${i}`)),
    eventLTime: 5,
    events: [],
    queryLTime: 5,
  });
  serf.memberlist.stream(encodePushPull(nodes, state, false), at);
}
