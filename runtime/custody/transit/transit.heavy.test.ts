/** Far more bundles than a relay keeps in memory and than one page of its disk holds. */
import { describe, expect, test } from "bun:test";
import { numbers, sendNumbers, texts } from "../testing.ts";
import { SECOND_MS, AWAKE_MAX, heldOf, full, open } from "./testing-transit.ts";

const UNREACHABLE_MAX = 32;

describe("bundles for somebody who is not there", () => {
  test("are in memory in part, and go in order and once when there is a way, over a restart as well", async () => {
    for (const isRestarted of [false, true]) {
      const net = await full(1_500);
      const { mesh, a, b, c } = net;
      expect(heldOf(b)).toEqual({ count: 1_500, awake: UNREACHABLE_MAX });
      const bytes = b.custody!.transit.bytes;
      if (isRestarted) {
        b.crash();
        await b.start();
        expect(heldOf(b)).toEqual({ count: 1_500, awake: UNREACHABLE_MAX });
        expect(b.custody!.transit.bytes).toBe(bytes);
      }
      open(net);
      let most = 0;
      for (let i = 0; i < 60; i++) {
        await mesh.clock.advance(100);
        most = Math.max(most, b.custody!.forwarder.count);
      }
      expect(texts(c)).toEqual(numbers(1_500));
      // Its receipts of messages are not what it carries for others.
      expect([heldOf(b), b.custody!.transit.bytes]).toEqual([{ count: 0, awake: 0 }, 0]);
      expect(most).toBeLessThanOrEqual(AWAKE_MAX + UNREACHABLE_MAX);
      expect(await b.settle(b.store!.load("transit"))).toEqual([]);
      expect(a.custody!.outbox.openCount).toBe(0);
    }
  });

  test("lie down again when the way goes in the middle, and none is lost or comes twice", async () => {
    const net = await full(4_000);
    const { mesh, b, c } = net;
    for (let i = 0; i < 8; i++) {
      open(net);
      await mesh.clock.advance(12);
      mesh.cut(b, c);
      b.custody!.onRoute(c.id);
      await mesh.clock.advance(500);
      expect(b.custody!.forwarder.count).toBeLessThanOrEqual(UNREACHABLE_MAX);
    }
    expect(c.delivered.length).toBeGreaterThan(0);
    expect(c.delivered.length).toBeLessThan(4_000);
    open(net);
    await mesh.clock.advance(60 * SECOND_MS);
    expect(texts(c).toSorted()).toEqual(numbers(4_000).toSorted());
    expect(heldOf(b)).toEqual({ count: 0, awake: 0 });
  });

  test("that end one here and one there cost a few rows for each, not all that lie between them", async () => {
    const net = await full(0);
    const { mesh, a, b, c } = net;
    for (let i = 0; i < 4; i++) {
      for (let second = 0; second < 4; second++) {
        await sendNumbers(a, c.id, 5, { ttlSeconds: 60 + second });
        await sendNumbers(a, c.id, 195, { ttlSeconds: 3_600 });
      }
      await mesh.clock.advance(1);
    }
    let rows = 0;
    const page = b.store!.page.bind(b.store!);
    b.store!.page = async (...asked) => {
      const answered = await page(...asked);
      rows += answered.length;
      return answered;
    };
    await mesh.clock.advance(90 * SECOND_MS);
    expect(b.custody!.transit.count).toBe(4 * 4 * 195);
    expect(rows).toBeLessThan(16 * 5 * 32);
  });

  test("are dropped, all of them, when who they are from or for is revoked", async () => {
    for (const who of ["a", "c"] as const) {
      const net = await full(2_500);
      const { mesh, b } = net;
      b.refused.add(net[who].id);
      b.custody!.onRevoked(net[who].id);
      await mesh.clock.advance(SECOND_MS);
      expect(heldOf(b)).toEqual({ count: 0, awake: 0 });
      expect([b.custody!.transit.bytes, (await b.settle(b.store!.load("transit"))).length]).toEqual([0, 0]);
    }
  });
});
