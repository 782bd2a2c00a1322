/** A hundred thousand nodes that cost nothing. */
import { expect, test } from "bun:test";
import { type NodeId } from "../kernel/ids.ts";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { BOOK_MAX } from "./book.ts";
import { setup } from "./testing-book.ts";

test("100,000 throw-away nodes push out of the book neither whom this node knows nor a newcomer of another address, after a restart too", async () => {
  const regard = new DoorRegard();
  const { book, settle, reopen } = await setup(new Map(), regard);
  const [friend, newcomer, late] = [1, 2, 3].map(doorId) as [NodeId, NodeId, NodeId];
  regard.known.add(friend);
  regard.sources.set(newcomer, "10.0.0.7");
  book.noteSeen(friend, [], 1);
  book.noteSeen(newcomer, [], 1);
  for (let n = 0; n < 100_000; n++) {
    book.noteSeen(doorId(1_000 + n), [], 2);
    if (n % 1_000 === 0) await settle(Promise.resolve());
  }
  expect(book.nodes.length).toBeLessThanOrEqual(BOOK_MAX);
  expect([friend, newcomer].map((who) => book.lastSeenMs(who))).toEqual([1, 1]);
  const again = await reopen();
  expect([friend, newcomer].map((who) => again.lastSeenMs(who))).toEqual([1, 1]);
  regard.sources.set(late, "10.0.0.8");
  again.noteSeen(late, [], 3);
  expect(again.lastSeenMs(late)).toBe(3);
}, 60_000);
