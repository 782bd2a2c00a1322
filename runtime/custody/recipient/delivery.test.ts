/** What waits for the disk at the last step; deliveries themselves are tested in custody.test.ts and test/sim. */
import { expect, test } from "bun:test";
import { SimDisk } from "../../store/memory.ts";
import { TRANSIENT_BYTES_WAITING_MAX, TRANSIENTS_WAITING_MAX } from "./delivery.ts";
import { SLOW_COMMIT_MS, open } from "./testing-delivery.ts";

test("transient messages that come faster than the disk takes them are dropped and counted, not kept without bound", async () => {
  const { clock, inbox, metrics, send } = await open();
  const outcomes = Array.from({ length: TRANSIENTS_WAITING_MAX + 10 }, (_, n) => send(n, 1));
  const kept = send(5_000, 1, false);
  await clock.advance(4 * SLOW_COMMIT_MS);
  const settled = await Promise.all(outcomes);
  expect(settled.filter((outcome) => outcome === "full")).toHaveLength(10);
  expect(settled.filter((outcome) => outcome === "delivered")).toHaveLength(TRANSIENTS_WAITING_MAX);
  expect(await kept).toBe("delivered");
  expect(inbox.count).toBe(TRANSIENTS_WAITING_MAX + 1);
  expect(await metrics.render()).toContain("godwit_transients_dropped_total 10");
  // Room comes back with the disk, for one that was dropped as well.
  const again = send(TRANSIENTS_WAITING_MAX + 1, 1);
  await clock.advance(2 * SLOW_COMMIT_MS);
  expect(await again).toBe("delivered");
});

test("a transient message that is in the inbox is not put there again, whatever was forgotten since", async () => {
  const disk = new SimDisk();
  const before = await open(0, disk);
  const first = before.send(1, 1);
  await before.clock.advance(1);
  expect(await first).toBe("delivered");
  disk.crash();
  const { clock, send } = await open(0, disk);
  const outcomes = [send(1, 1), send(2, 1)];
  await clock.advance(1);
  expect(await Promise.all(outcomes)).toEqual(["again", "delivered"]);
});

test("their bodies are bounded as well", async () => {
  const { clock, send } = await open();
  const half = TRANSIENT_BYTES_WAITING_MAX / 2;
  const outcomes = [send(1, half), send(2, half), send(3, 1)];
  await clock.advance(4 * SLOW_COMMIT_MS);
  expect(await Promise.all(outcomes)).toEqual(["delivered", "delivered", "full"]);
});

test("mail that waits for the disk when word of another machine under this identity comes is not delivered by both", async () => {
  const { clock, inbox, life, send } = await open();
  const first = send(1, 10, false);
  await clock.advance(1);
  const second = send(2, 10, false);
  life.isContested = true;
  await clock.advance(3 * SLOW_COMMIT_MS);
  // The first was on its way to the disk; the second is for whoever goes on.
  expect([await first, await second]).toEqual(["delivered", "contested"]);
  expect(inbox.count).toBe(1);
  life.isContested = false;
  const again = send(2, 10, false);
  await clock.advance(2 * SLOW_COMMIT_MS);
  expect(await again).toBe("delivered");
});
