import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { BOOK_MAX, PeerBook, type TrustLevel } from "./book.ts";

const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

async function setup(configured = new Map<NodeId, TrustLevel>()) {
  const clock = new ManualClock();
  const disk = new SimDisk();
  const open = () => openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  let store = await open();
  const book = new PeerBook(store, configured, silentLog);
  const settle = async (promise: Promise<unknown>) => {
    await clock.advance(2);
    await promise;
  };
  const reopen = async () => {
    await settle(store.close());
    store = await open();
    const next = new PeerBook(store, configured, silentLog);
    await settle(next.load());
    return next;
  };
  return { book, settle, reopen, store: () => store };
}

test("trust: unknown, member once met, what the operator said, and configuration above all", async () => {
  const { book, settle, reopen } = await setup(new Map([[id(4), "blocked"]]));
  expect(book.trustOf(id(1))).toBe("unknown");
  book.noteSeen(id(1), ["tcp://a:1"], 5);
  expect([book.trustOf(id(1)), book.lastSeenMs(id(1))]).toEqual(["member", 5]);
  await settle(book.setTrust(id(2), "trusted", "mine"));
  await settle(book.setTrust(id(4), "trusted", "try"));
  expect(book.isBlocked(id(4))).toBe(true);
  const again = await reopen();
  expect([1, 2, 3, 4].map((n) => again.trustOf(id(n)))).toEqual(["member", "trusted", "unknown", "blocked"]);
  expect(again.nodes.find((node) => node.id === id(1))?.endpoints).toEqual(["tcp://a:1"]);
});

test("the longest unseen go first, never those an operator decided about", async () => {
  const { book, settle } = await setup();
  await settle(book.setTrust(id(0), "blocked", "no"));
  for (let n = 1; n < BOOK_MAX + 50; n++) book.noteSeen(id(n), [], n);
  await settle(Promise.resolve());
  expect(book.nodes.length).toBe(BOOK_MAX);
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
