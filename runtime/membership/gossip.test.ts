import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { FrameType } from "../wire/constants.ts";
import {
  decodeMemberFacts,
  encodeMemberDigest,
  encodeMemberSync,
  MemberEntryKind,
} from "../wire/member-messages.ts";
import { FactIndex } from "./digest.ts";
import { Gossip, type HeldFact } from "./gossip.ts";

const id = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));

test("a flood of digests does not make the node add up all facts for each of them", async () => {
  const clock = new ManualClock();
  let walks = 0;
  let dropped = 0;
  const gossip = new Gossip({
    self: id(1),
    clock,
    random: seededRandom(1),
    send() {},
    facts: () => {
      walks++;
      return new FactIndex<HeldFact>();
    },
    count: () => 2,
    accept: () => false,
    dropped: (_reason, count) => void (dropped += count),
    sent() {},
  });
  const own = {
    kind: MemberEntryKind.alive,
    node: id(1),
    incarnation: 1,
    signature: new Uint8Array(64),
  } as const;
  gossip.neighbourUp(id(2), "fast", own);
  walks = 0;
  const digest = encodeMemberDigest(7);
  for (let n = 0; n < 10_000; n++) gossip.handleFrame(id(2), FrameType.memberDigest, digest);
  expect(walks).toBeLessThanOrEqual(256);
  // Whatever got no answer is counted.
  expect(dropped).toBeGreaterThanOrEqual(10_000 - 256);
  // With time there is room again.
  await clock.advance(1_000);
  gossip.handleFrame(id(2), FrameType.memberDigest, digest);
  expect(walks).toBeGreaterThan(256);
});

test("empty syncs do not draw the whole view again and again", async () => {
  const clock = new ManualClock();
  const [held, asked] = [4_000, 200];
  const facts = Array.from({ length: held }, (_, n) => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, n * 1_000);
    const node = formatNodeId(bytes);
    const fact = {
      kind: MemberEntryKind.alive,
      node,
      incarnation: 1,
      signature: new Uint8Array(64),
    } as const;
    return { fact, idPrefix: n * 1_000, digest: n };
  });
  const index = new FactIndex<HeldFact>();
  for (const one of facts) index.put(one);
  let [given, dropped] = [0, 0];
  const gossip = new Gossip({
    self: id(1),
    clock,
    random: seededRandom(1),
    send: (_, frame) => {
      if (frame[0] === FrameType.memberFacts) given += decodeMemberFacts(frame).entries.length;
    },
    facts: () => index,
    count: () => held,
    accept: () => false,
    dropped: (_, entries) => (dropped += entries),
    sent() {},
  });
  gossip.neighbourUp(id(2), "fast", facts[0]!.fact);
  given = 0;
  const sync = encodeMemberSync({ depth: 0, prefix: 0, entries: [] });
  gossip.handleFrame(id(2), FrameType.memberSync, sync);
  expect([given, dropped]).toEqual([held, 0]);
  for (let n = 1; n < asked; n++) gossip.handleFrame(id(2), FrameType.memberSync, sync);
  expect([given, given + dropped]).toEqual([32_768, asked * held]);
  await clock.advance(1_000);
  gossip.handleFrame(id(2), FrameType.memberSync, sync);
  expect(given).toBe(32_768 + 500);
});

test("only so many facts wait for one neighbour; a newer one of the same node takes the place of the older", async () => {
  const clock = new ManualClock();
  let [given, dropped] = [0, 0];
  const gossip = new Gossip({
    self: id(1),
    clock,
    random: seededRandom(1),
    send: (_, frame) => {
      if (frame[0] === FrameType.memberFacts) given += decodeMemberFacts(frame).entries.length;
    },
    facts: () => new FactIndex<HeldFact>(),
    count: () => 2,
    accept: () => true,
    dropped: (_, count) => (dropped += count),
    sent() {},
  });
  const fact = (n: number, incarnation = 1) => {
    const node = formatNodeId(
      Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? n & 255 : at === 1 ? n >> 8 : 9)),
    );
    return { kind: MemberEntryKind.alive, node, incarnation, signature: new Uint8Array(64) } as const;
  };
  gossip.neighbourUp(id(2), "fast", fact(0));
  await clock.advance(1_000);
  given = 0;
  for (let n = 1; n <= 1_100; n++) gossip.spread(fact(n), undefined);
  for (let n = 1; n <= 100; n++) gossip.spread(fact(n, 2), undefined);
  await clock.advance(1_000);
  expect([given, dropped]).toEqual([1_024, 76]);
});
