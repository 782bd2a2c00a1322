import { describe, expect, test } from "bun:test";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { BOOK_MAX, type TrustLevel } from "./book.ts";
import { setup } from "./testing-book.ts";

const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

test("trust: unknown, member once met, what the operator said, and configuration above all", async () => {
  const { book, settle, reopen } = await setup(new Map([[id(4), "blocked"]]));
  expect(book.trustOf(id(1))).toBe("unknown");
  book.noteSeen(id(1), ["tcp://a:1"], 5);
  expect([book.trustOf(id(1)), book.lastSeenMs(id(1))]).toEqual(["member", 5]);
  await settle(book.setTrust(id(2), { level: "trusted", reason: "mine", by: "operator" }));
  await settle(book.setTrust(id(4), { level: "trusted", reason: "try", by: "operator" }));
  expect(book.isBlocked(id(4))).toBe(true);
  const again = await reopen();
  expect([1, 2, 3, 4].map((n) => again.trustOf(id(n)))).toEqual(["member", "trusted", "unknown", "blocked"]);
  expect(again.nodes.find((node) => node.id === id(1))?.endpoints).toEqual(["tcp://a:1"]);
});

test("the longest unseen go first, never those an operator decided about", async () => {
  const { book, settle } = await setup();
  await settle(book.setTrust(id(0), { level: "blocked", reason: "no", by: "operator" }));
  for (let n = 1; n < BOOK_MAX + 50; n++) book.noteSeen(id(n), [], n);
  await settle(Promise.resolve());
  // Nobody of them is known for a reason of this node's own: strangers share three quarters of the places.
  expect(book.nodes.length).toBe((BOOK_MAX * 3) / 4);
  expect([book.isBlocked(id(0)), book.lastSeenMs(id(1)), book.lastSeenMs(id(BOOK_MAX + 49))]).toEqual([
    true,
    0,
    BOOK_MAX + 49,
  ]);
});

test("at most eight endpoints are kept, a meeting without any keeps the old ones", async () => {
  const { book } = await setup();
  book.noteSeen(
    id(1),
    Array.from({ length: 20 }, (_, i) => `tcp://a:${i}`),
    1,
  );
  book.noteSeen(id(1), undefined, 2);
  expect(book.nodes[0]?.endpoints.length).toBe(8);
});

test("a damaged row does not keep the node from starting", async () => {
  const { store, settle, reopen } = await setup();
  await settle(
    store().commit([
      { op: "put", in: "peer", key: id(1), meta: "{" },
      { op: "put", in: "peer", key: id(2), meta: '{"lastSeenMs":3}' },
    ]),
  );
  const book = await reopen();
  expect([book.trustOf(id(1)), book.trustOf(id(2))]).toEqual(["unknown", "member"]);
});

test("a block with an expiry ends by itself, over a restart too", async () => {
  const { book, clock, settle, reopen } = await setup();
  book.noteSeen(id(1), [], 5);
  await settle(book.setTrust(id(1), { level: "blocked", reason: "noisy", by: "operator", forMs: 60_000 }));
  expect(book.standing(id(1))).toMatchObject({ level: "blocked", by: "operator", reason: "noisy" });
  const next = await reopen();
  expect(next.isBlocked(id(1))).toBe(true);
  await clock.advance(60_000);
  expect(next.standing(id(1))).toMatchObject({ level: "member", by: "default" });
});

test("nodes blocked by a rule that come under ever new ids are remembered up to a bound, the latest", async () => {
  const { book } = await setup();
  for (let n = 0; n <= BOOK_MAX; n++)
    book.setRuled(id(n), { level: "blocked", reason: "rule", isVouched: false });
  expect([0, 1, BOOK_MAX].map((n) => book.isBlocked(id(n)))).toEqual([false, true, true]);
});

test("rules stand above the manager and below the operator", async () => {
  const { book, settle } = await setup();
  book.setRuled(id(1), { level: "blocked", reason: "rule", isVouched: false });
  expect(book.trustOf(id(1))).toBe("blocked");
  await settle(book.setTrust(id(1), { level: "trusted", reason: "good", by: "manager" }));
  expect(book.standing(id(1))).toMatchObject({ level: "blocked", by: "rule" });
  await settle(book.setTrust(id(1), { level: "trusted", reason: "mine", by: "operator" }));
  expect(book.standing(id(1))).toMatchObject({ level: "trusted", by: "operator" });
});

test("trust of the first release, which knew no deciders, is the operator's", async () => {
  const { settle, store, reopen } = await setup();
  const meta = JSON.stringify({ trust: "blocked", trustReason: "old", endpoints: [], lastSeenMs: 7 });
  await settle(store().commit([{ op: "put", in: "peer", key: id(3), meta }]));
  const next = await reopen();
  expect(next.standing(id(3))).toMatchObject({ level: "blocked", by: "operator", reason: "old" });
});

test("what a node was worth survives a restart with its next note", async () => {
  const { book, settle, reopen } = await setup();
  book.noteSeen(id(1), [], 5);
  book.addHistory(id(1), { linkedMs: 1_000, knownMs: 2_000, deliveries: 3 });
  book.addHistory(id(2), { deliveries: 3 });
  book.noteSeen(id(1), undefined, 6);
  const next = await reopen();
  await settle(Promise.resolve());
  expect(next.standing(id(1)).history).toMatchObject({ linkedMs: 1_000, knownMs: 2_000, deliveries: 3 });
  expect(next.standing(id(2)).history.deliveries).toBe(0);
});

describe("an end, on a machine whose clock is wrong", () => {
  const DAY_MS = 24 * 3_600_000;
  const RIGHT_MS = 1_800_000_000_000;
  const decided = async (level: TrustLevel) => {
    const world = await setup();
    world.clock.wallOffsetMs = RIGHT_MS;
    await world.settle(
      world.book.setTrust(id(1), { level, reason: "for a day", by: "operator", forMs: DAY_MS }),
    );
    return world;
  };

  test("trust for a time ends in time although the clock was set back or stands still, over a restart too", async () => {
    const { clock, reopen } = await decided("trusted");
    clock.wallOffsetMs = RIGHT_MS - 365 * DAY_MS;
    await clock.advance(DAY_MS / 2);
    const again = await reopen();
    expect(again.trustOf(id(1))).toBe("trusted");
    await clock.advance(DAY_MS / 2);
    expect(again.trustOf(id(1))).toBe("unknown");
  });

  test("trust for a time is not given by a clock that is ahead, and is there again under the right one", async () => {
    const { clock, reopen } = await decided("trusted");
    clock.wallOffsetMs = RIGHT_MS + 2 * DAY_MS;
    const ahead = await reopen();
    expect(ahead.trustOf(id(1))).toBe("unknown");
    clock.wallOffsetMs = RIGHT_MS;
    expect((await reopen()).trustOf(id(1))).toBe("trusted");
  });

  test("a block outlasts a clock decades ahead, and ends when running time has covered it as well", async () => {
    const { clock, reopen } = await decided("blocked");
    clock.wallOffsetMs = RIGHT_MS + 40 * 365 * DAY_MS;
    const ahead = await reopen();
    expect(ahead.isBlocked(id(1))).toBe(true);
    expect(ahead.standing(id(1)).untilMs! - clock.wallMs()).toBeWithin(DAY_MS - 100, DAY_MS + 1);
    await clock.advance(DAY_MS);
    expect(ahead.isBlocked(id(1))).toBe(false);
    clock.wallOffsetMs = RIGHT_MS - 10 * DAY_MS;
    expect(ahead.isBlocked(id(1))).toBe(true);
  });
});

test("rights come by the operator's word alone: not by waiting, nor by a rule about an address or a pinned name", async () => {
  const { book, settle } = await setup(new Map([[id(1), "trusted"]]));
  await settle(book.setTrust(id(2), { level: "trusted", reason: "mine", by: "operator" }));
  await settle(book.setTrust(id(3), { level: "trusted", reason: "linked for 24.0 h", by: "manager" }));
  book.setRuled(id(4), { level: "trusted", reason: "networks", isVouched: false });
  book.setRuled(id(5), { level: "trusted", reason: "a signed name", isVouched: true });
  const all = [1, 2, 3, 4, 5].map(id);
  expect(all.map((one) => book.trustOf(one))).toEqual(all.map(() => "trusted"));
  expect(all.map((one) => book.hasRights(one))).toEqual([true, true, false, false, true]);
});
