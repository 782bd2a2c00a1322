import { describe, expect, test } from "bun:test";
import { type Clock, ManualClock, systemClock } from "../../../runtime/kernel/clock.ts";
import { spawnProcess } from "../../../runtime/init/spawn.ts";
import { readPaced } from "./paced.ts";

/** More than anybody can take: the next chunk is there before the last was looked at. */
function endless(chunkBytes: number): ReadableStream<Uint8Array> {
  const chunk = new Uint8Array(chunkBytes).fill(10);
  return new ReadableStream({ pull: (controller) => controller.enqueue(chunk) });
}

/** Timers of others, one after the other. */
async function others(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void systemClock.after(1, resolve));
}

describe("what somebody writes without an end", () => {
  test.each([100, 65_536, 5_000_000])("in chunks of %d bytes leaves timers to others", async (chunkBytes) => {
    let [bytes, largest] = [0, 0];
    const reading = readPaced(endless(chunkBytes), systemClock, (piece) => {
      bytes += piece.length;
      largest = Math.max(largest, piece.length);
      if (bytes > 64 * 2 ** 20) throw new Error("nobody else had a turn");
    });
    reading.catch(() => {});
    await Promise.race([others(20), reading]);
    expect(largest).toBeLessThanOrEqual(16 * 1024);
    expect(bytes).toBeGreaterThan(0);
  });

  test("by a process that is supervised leaves timers to others", async () => {
    let lines = 0;
    const over = Promise.withResolvers<void>();
    const handle = spawnProcess({
      command: ["/bin/sh", "-c", "exec yes 0123456789"],
      env: {},
      onLine: () => void lines++,
      onExit: () => over.resolve(),
    });
    await others(20);
    expect(lines).toBeGreaterThan(0);
    expect(lines).toBeLessThan(2_000_000);
    handle.signalGroup("SIGKILL");
    await over.promise;
  });
});

test("all of it comes, in order", async () => {
  const sent = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) & 0xff);
  const got: Uint8Array[] = [];
  await readPaced(new Blob([sent]).stream(), systemClock, (bytes) => void got.push(bytes.slice()));
  expect(Buffer.concat(got).equals(sent)).toBe(true);
});

test("what is said slowly is heard at once, however long it took to say", async () => {
  const clock = new ManualClock();
  const words = new TransformStream<Uint8Array, Uint8Array>();
  const writer = words.writable.getWriter();
  let heard = 0;
  const reading = readPaced(words.readable, clock, (bytes) => void (heard += bytes.length));
  const say = async (bytes: number) => {
    await writer.write(new Uint8Array(bytes));
    await clock.advance(2);
  };
  for (let minute = 0; minute < 10; minute++) {
    await say(2_048);
    await clock.advance(60_000);
  }
  await say(100);
  expect(heard).toBe(10 * 2_048 + 100);
  await writer.close();
  await reading;
});

test("the longer what somebody writes takes, the longer it waits: three times as long", async () => {
  let nowMs = 0;
  const rests: number[] = [];
  const clock: Pick<Clock, "monotonicMs" | "after"> = {
    monotonicMs: () => nowMs,
    after(delayMs, fn) {
      rests.push(delayMs);
      queueMicrotask(fn);
      return { cancel() {} };
    },
  };
  const costs = [0, 5, 40];
  await readPaced(new Blob([new Uint8Array(3 * 16 * 1024)]).stream(), clock as Clock, (piece) => {
    nowMs += (costs[rests.length]! * piece.length) / (16 * 1024);
  });
  expect(rests.map(Math.round)).toEqual([1, 15, 120]);
});
