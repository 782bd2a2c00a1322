import { expect, test } from "bun:test";
import { systemClock } from "./clock.ts";
import { profileProcess } from "./profile.ts";

const never = new AbortController().signal;

function burnForTheProfile(): number {
  let sum = 0;
  for (let i = 0; i < 400_000; i++) sum += Math.sqrt(i);
  return sum;
}

test("a profile names the function that was busy, and the heap is told by type", async () => {
  const profiled = profileProcess(1, systemClock, never);
  const endMs = performance.now() + 900;
  while (performance.now() < endMs) {
    burnForTheProfile();
    await Bun.sleep(1);
  }
  const { cpu, heap } = await profiled;
  const busiest = cpu.nodes.toSorted((a, b) => (b.hitCount ?? 0) - (a.hitCount ?? 0))[0]!;
  expect(busiest.callFrame.functionName).toBe("burnForTheProfile");
  expect(heap.bytes).toBeGreaterThan(100_000);
  expect(heap.byType.length).toBeGreaterThan(10);
  expect(heap.byType[0]!.count).toBeGreaterThanOrEqual(heap.byType[1]!.count);
});

test("one at a time; one that is given up makes room for the next", async () => {
  const giveUp = new AbortController();
  const first = profileProcess(30, systemClock, giveUp.signal);
  expect(profileProcess(0.1, systemClock, never)).rejects.toMatchObject({ code: "GODWIT_QUEUE_FULL" });
  giveUp.abort(new Error("enough"));
  expect(first).rejects.toThrow("enough");
  await first.catch(() => {});
  expect((await profileProcess(0.1, systemClock, never)).heap.objects).toBeGreaterThan(0);
});
