/** Mail in a flood of free identities. */
import { describe, expect, test } from "bun:test";
import { DOOR_IDENTITIES, DOOR_TEST_MS, doorId, FLOOD } from "../kernel/testing.ts";
import type { StoreOp } from "../store/types.ts";
import { SEEN_SENDERS_MAX } from "./recipient/seen.ts";
import { TestMesh, type TestNode, stateOf, texts } from "./testing.ts";

describe("the source offers again", () => {
  test(
    "a neighbour that took mail and lost its store is asked again although free identities came and went meanwhile",
    async () => {
      const mesh = new TestMesh();
      const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
      // All of one source, the relay as well.
      a.sourceOf = () => FLOOD;
      a.crash();
      await a.start();
      mesh.cut(b, c);
      const id = await a.send(c.id, "x");
      await mesh.clock.advance(100);
      expect(stateOf(a, id)).toBe("relayed");
      mesh.cut(a, b);
      for (let n = 0; n < DOOR_IDENTITIES; n++) a.custody!.onNeighbourUp(doorId(n), "00");
      b.destroy();
      await b.start();
      mesh.connect(a, b);
      mesh.connect(b, c);
      await mesh.clock.advance(300);
      expect([texts(c), stateOf(a, id)]).toEqual([["x"], "delivered"]);
    },
    DOOR_TEST_MS,
  );
});

test("free identities that send something and go do not fill a relay with receipts that nobody fetches", async () => {
  const mesh = new TestMesh();
  const limits = { transitMessagesMax: 40 };
  const [a, b, c] = (await mesh.line(["a", "b", "c"], limits)) as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  b.known.add(a.id);
  for (let n = 0; n < 60; n++) {
    const sybil = await mesh.add(`sybil ${n}`);
    sybil.routes.set(b.id, [b.id]);
    mesh.connect(sybil, b);
    await sybil.send(b.id, "x");
    await mesh.clock.advance(10);
    mesh.cut(sybil, b);
    await mesh.clock.advance(10);
  }
  const receipts = b.custody!.transit.count;
  expect([b.delivered.length, receipts]).toEqual([60, 20]);
  // For whom it knows it carries on, and their own receipts go out; over a restart as well.
  for (const _ of [1, 2]) {
    await a.send(c.id, "for c");
    const toB = await a.send(b.id, "for b");
    await mesh.clock.advance(15_000);
    expect(stateOf(a, toB)).toBe("delivered");
    b.crash();
    await b.start();
    await mesh.clock.advance(100);
  }
  expect(b.custody!.transit.count).toBe(22);
  mesh.connect(b, c);
  await mesh.clock.advance(15_000);
  expect(texts(c)).toEqual(["for c", "for c"]);
});

test("a sender that the recipient has no place for is told which table is full, and so is the recipient", async () => {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  b.sourceOf = () => FLOOD;
  const before = Array.from({ length: (SEEN_SENDERS_MAX * 3) / 4 }, (_, n): StoreOp => {
    return { op: "put", in: "seen", key: `${doorId(n)}/e/a`, meta: "[[0,0]]" };
  });
  await b.settle(b.store!.commit(before));
  b.crash();
  await b.start();
  const id = await a.send(b.id, "x");
  await mesh.clock.advance(100);
  expect([texts(b), b.fullTables]).toEqual([[], ["senders seen"]]);
  expect(a.custody!.outbox.waitReason(a.sent(id)!)).toContain("its table of senders is full");
  // As it says: mail passes once the node is known there.
  b.known.add(a.id);
  await mesh.clock.advance(60_000);
  expect([texts(b), stateOf(a, id)]).toEqual([["x"], "delivered"]);
});
