/** What mail may hold and say at a time, part by part. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import type { BundleId, NodeId } from "../kernel/ids.ts";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { decodeCustodyAck } from "../wire/bundle.ts";
import { BODY_CACHE_BYTES_MAX, BODY_CACHE_ONE_BYTES_MAX, BodyCache } from "./body-cache.ts";
import { Acks } from "./forwarding/acks.ts";
import { TestMesh, type TestNode } from "./testing.ts";
import { PassedOn } from "./transit/passed-on.ts";

const bundle = (n: number) => n.toString(16).padStart(32, "0") as BundleId;

describe("bodies in memory between commit and acknowledgement", () => {
  test("are bounded in bytes: the one that came first gives way", () => {
    const cache = new BodyCache();
    const each = BODY_CACHE_ONE_BYTES_MAX;
    const room = BODY_CACHE_BYTES_MAX / each;
    for (let n = 0; n < room + 2; n++) cache.put(bundle(n), new Uint8Array(each));
    const held = Array.from({ length: room + 2 }, (_, n) => cache.get(bundle(n)) !== undefined);
    expect(held).toEqual([false, false, ...Array.from({ length: room }, () => true)]);
    cache.delete(bundle(3));
    cache.put(bundle(99), new Uint8Array(each));
    expect(cache.get(bundle(2))).toBeDefined();
  });

  test("are not pushed out by one large one", () => {
    const cache = new BodyCache();
    cache.put(bundle(1), new Uint8Array(10));
    cache.put(bundle(2), new Uint8Array(BODY_CACHE_ONE_BYTES_MAX + 1));
    expect([cache.get(bundle(1))?.length, cache.get(bundle(2))]).toEqual([10, undefined]);
  });
});

test("acknowledgements of one turn share frames, each of at most 512", async () => {
  const frames: { to: NodeId; count: number }[] = [];
  const acks = new Acks({
    send: (to, _lane, frame) => frames.push({ to, count: decodeCustodyAck(frame).length }) > 0,
  });
  for (let n = 0; n < 1_100; n++) acks.tell(doorId(1), bundle(n));
  acks.tell(doorId(2), bundle(1));
  await Promise.resolve();
  expect(frames.filter(({ to }) => to === doorId(1)).map(({ count }) => count)).toEqual([512, 512, 76]);
  expect(frames.filter(({ to }) => to === doorId(2)).map(({ count }) => count)).toEqual([1]);
});

test("a copy that crossed its acknowledgement is no evidence against who took the bundle; one that comes later is", async () => {
  const clock = new ManualClock();
  const passedOn = new PassedOn({ clock, regard: new DoorRegard() });
  const [destination, next, from] = [doorId(1), doorId(2), doorId(3)];
  passedOn.note(bundle(1), destination, next, from);
  await clock.advance(999);
  expect(passedOn.before(bundle(1))).toBeUndefined();
  await clock.advance(1);
  expect(passedOn.before(bundle(1))).toBe(next);
  // Who had it at its destination has delivered it.
  passedOn.note(bundle(2), destination, destination, from);
  await clock.advance(5_000);
  expect(passedOn.before(bundle(2))).toBeUndefined();
});

test("the outbox takes no more than its bound, those on their way to the disk included", async () => {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"], { outboxMessagesMax: 3 })) as [TestNode, TestNode];
  mesh.cut(a, b);
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, n) =>
      a.send(b.id, `${n}`).then(
        () => "accepted",
        (error: { code: string }) => error.code,
      ),
    ),
  );
  expect(outcomes.filter((one) => one === "accepted")).toHaveLength(3);
  expect(outcomes.filter((one) => one === "GODWIT_QUEUE_FULL")).toHaveLength(7);
  expect(a.custody!.outbox.openCount).toBe(3);
});
