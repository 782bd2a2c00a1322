import { describe, expect, test } from "bun:test";
import { cutOffMsOf, lanesFor, nextSuite, runLanes, shareMsOf } from "./lanes.ts";
import type { Suite } from "./suites.ts";

const suite = (name: string, minutes: number, more: Partial<Suite> = {}): Suite => ({
  name,
  command: ["true"],
  minutes,
  isLong: false,
  isCounted: true,
  stage: 0,
  quiet: undefined,
  uses: [],
  ...more,
});

/** Runs suites that last as many steps as they have minutes, and says who ran beside whom: one line a step. */
async function steps(suites: readonly Suite[], lanes: number): Promise<string[]> {
  const running = new Map<Suite, { left: number; end: () => void }>();
  const finished = runLanes({
    suites,
    lanes,
    scale: 1,
    signal: new AbortController().signal,
    notRun: () => "not run",
    run: (one) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      running.set(one, { left: one.minutes, end: () => resolve(one.name) });
      return promise;
    },
  });
  const lines: string[] = [];
  while (running.size > 0) {
    lines.push([...running.keys()].map(({ name }) => name).join(" "));
    for (const [one, state] of running)
      if (--state.left === 0) {
        running.delete(one);
        state.end();
      }
    // Whoever comes next is started by the ends of those before.
    await Bun.sleep(0);
  }
  const results = await finished;
  expect([...results.values()]).toEqual(suites.map(({ name }) => name));
  return lines;
}

describe("lanes", () => {
  test("two of them, the longest first, so that both end together", async () => {
    const suites = [suite("a", 1), suite("b", 2), suite("c", 3), suite("d", 4)];
    expect(await steps(suites, 2)).toEqual(["d c", "d c", "d c", "d b", "b a"]);
  });

  test("what measures time runs alone, in its order, when the others have ended", async () => {
    const suites = [
      suite("slow and quiet", 1, { quiet: "because" }),
      suite("a", 2),
      suite("quiet too", 2, { quiet: "because" }),
      suite("b", 1),
      suite("c", 1),
    ];
    expect(await steps(suites, 3)).toEqual(["a b c", "a", "slow and quiet", "quiet too", "quiet too"]);
  });

  test("a stage waits for the whole stage before", async () => {
    const suites = [suite("check", 2), suite("binary", 1, { stage: 1 }), suite("a", 1, { stage: 2 })];
    expect(await steps([...suites].reverse(), 4)).toEqual(["check", "check", "binary", "a"]);
  });

  test("two that use one thing never meet, and others go on beside them", async () => {
    const uses = ["package lists"];
    const suites = [suite("a", 2, { uses }), suite("b", 1, { uses }), suite("c", 1), suite("d", 1)];
    expect(await steps(suites, 2)).toEqual(["a c", "a d", "b"]);
  });

  test("nothing starts beside one that measures time, whatever is free", () => {
    const quiet = suite("quiet", 1, { quiet: "because" });
    expect(nextSuite([suite("a", 1)], [quiet], 4)).toBeUndefined();
    expect(nextSuite([quiet], [suite("a", 1)], 4)).toBeUndefined();
    expect(nextSuite([quiet], [], 4)).toBe(quiet);
    expect(nextSuite([], [], 4)).toBeUndefined();
  });

  test("as many as processors, at least two and at most four", () => {
    expect([1, 2, 3, 4, 64].map(lanesFor)).toEqual([2, 2, 3, 4, 4]);
  });
});

describe("limits", () => {
  test("a share grows with the machine's slowness, and the limit is three times that", () => {
    expect(shareMsOf({ minutes: 1 }, 2.5)).toBe(150_000);
    expect(cutOffMsOf({ minutes: 1 }, 2.5)).toBe(450_000);
  });

  test("each suite is told its own limit, and nothing else ends it", async () => {
    const limits: [string, number][] = [];
    await runLanes({
      suites: [suite("a", 0.5), suite("b", 2)],
      lanes: 2,
      scale: 2,
      signal: new AbortController().signal,
      notRun: () => undefined,
      run: async ({ name }, limitMs, signal) => {
        limits.push([name, limitMs]);
        expect(signal.aborted).toBe(false);
      },
    });
    expect(limits).toEqual([
      ["b", 720_000],
      ["a", 180_000],
    ]);
  });

  test("when all have to end, what runs is ended, and what waits is never started", async () => {
    const controller = new AbortController();
    const started: string[] = [];
    const results = await runLanes({
      suites: [suite("a", 1), suite("b", 2), suite("c", 1, { quiet: "because" })],
      lanes: 2,
      scale: 1,
      signal: controller.signal,
      notRun: ({ name }) => `${name} not run`,
      run: async ({ name }, _limitMs, signal) => {
        started.push(name);
        if (started.length === 2) queueMicrotask(() => controller.abort("over"));
        const ended = Promise.withResolvers<void>();
        signal.addEventListener("abort", () => ended.resolve());
        await ended.promise;
        return `${name} ended: ${String(signal.reason)}`;
      },
    });
    expect([...results.values()]).toEqual(["a ended: over", "b ended: over", "c not run"]);
    expect(started).toEqual(["b", "a"]);
  });
});
