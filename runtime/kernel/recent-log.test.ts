import { expect, test } from "bun:test";
import { ManualClock } from "./clock.ts";
import { createLog, type LogLevel } from "./log.ts";
import { RECENT_BYTES_MAX, RECENT_LINES_MAX, RecentLog } from "./recent-log.ts";

const all = { after: 0, level: "debug" as LogLevel, sinceMs: -Infinity };

test("holds what the log wrote, as JSON whatever the format, and nothing that log_level keeps out", () => {
  for (const format of ["json", "text"] as const) {
    const clock = new ManualClock(0);
    const recent = new RecentLog(clock);
    const lines: string[] = [];
    const sink = { write: (line: string) => void lines.push(line) };
    const log = createLog({ level: "info", format, clock, sink, recent });
    log.debug("kept out");
    log.child({ plugin: "x" }).warn("link down", { peer: "LON-B" });
    const [line, ...rest] = recent.read(all);
    expect(rest).toEqual([]);
    expect(JSON.parse(line!.json)).toEqual({
      time: "1970-01-01T00:00:00.000Z",
      level: "warn",
      event: "link down",
      plugin: "x",
      peer: "LON-B",
    });
    expect(lines).toHaveLength(1);
  }
});

test("is read by number, level and age", async () => {
  const clock = new ManualClock();
  const recent = new RecentLog(clock);
  recent.add("info", '"a"');
  await clock.advance(1_000);
  recent.add("error", '"b"');
  recent.add("debug", '"c"');
  const read = (wanted: object) => recent.read({ ...all, ...wanted }).map(({ json }) => json);
  expect(read({})).toEqual(['"a"', '"b"', '"c"']);
  expect(read({ after: 1 })).toEqual(['"b"', '"c"']);
  expect(read({ level: "info" })).toEqual(['"a"', '"b"']);
  expect(read({ level: "error" })).toEqual(['"b"']);
  expect(read({ sinceMs: clock.monotonicMs() })).toEqual(['"b"', '"c"']);
});

test("is bounded in lines and in bytes, and says how many are gone", () => {
  const recent = new RecentLog(new ManualClock());
  for (let i = 0; i < RECENT_LINES_MAX + 10; i++) recent.add("info", '"x"');
  expect(recent.read(all)).toHaveLength(RECENT_LINES_MAX);
  expect([recent.lostAfter(0), recent.lostAfter(4), recent.lostAfter(10)]).toEqual([10, 6, 0]);
  for (let i = 0; i < 100; i++) recent.add("info", "x".repeat(10_000));
  const held = recent.read(all).reduce((sum, { json }) => sum + json.length * 2, 0);
  expect(held).toBeLessThanOrEqual(RECENT_BYTES_MAX);
  expect(held).toBeGreaterThan(RECENT_BYTES_MAX / 2);
  // One that is larger than all of it is counted, and costs the others nothing.
  const before = recent.read(all).length;
  recent.add("info", "x".repeat(RECENT_BYTES_MAX));
  expect([recent.read(all).length, recent.last]).toEqual([before, RECENT_LINES_MAX + 111]);
});

test("who waits hears of the next line, or of the abort, and is not held after it", async () => {
  const recent = new RecentLog(new ManualClock());
  const stop = new AbortController();
  const heard = recent.next(stop.signal);
  recent.add("info", '"x"');
  await heard;
  const aborted = recent.next(stop.signal);
  stop.abort();
  await aborted;
  await recent.next(stop.signal);
  expect(recent.last).toBe(1);
});

test("a thousand who heard of a line cost the next one nothing", async () => {
  const recent = new RecentLog(new ManualClock());
  const { signal } = new AbortController();
  let left = 0;
  const counting = new Proxy(signal, {
    get(target, key) {
      if (key === "removeEventListener") left++;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  for (let i = 0; i < 1_000; i++) {
    const heard = recent.next(counting);
    recent.add("info", '"x"');
    await heard;
  }
  expect(left).toBe(1_000);
});
