import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cutOffMsOf } from "./lanes.ts";
import { notRun, runSuite } from "./suite-run.ts";
import type { Suite } from "./suites.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-suite-"))));
afterAll(() => rmSync(folder, { recursive: true }));

const never = new AbortController().signal;
const LONG_MS = 60_000;
const GONE_MS = 10_000;
/** Of processes below a hanging suite. */
const KINDS = ["child", "session", "orphan"] as const;

const suite = (script: string, more: Partial<Suite> = {}): Suite => ({
  name: "planted",
  command: ["sh", "-c", script],
  minutes: 1,
  isLong: false,
  isCounted: true,
  stage: 0,
  quiet: undefined,
  uses: [],
  ...more,
});

/** What a program of the test wrote its pid to; undefined while it runs no more. A zombie waits for whoever reaps it. */
function running(name: string): number | undefined {
  const pid = Number(readFileSync(join(folder, name), "utf8"));
  try {
    const state = readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[2]!;
    return ["Z", "X"].includes(state) ? undefined : pid;
  } catch {
    return undefined;
  }
}

/** That none of what a hanging suite started runs any more; what was killed may take a moment to be gone. */
async function expectGone(name: string): Promise<void> {
  const left = () => KINDS.filter((kind) => running(`${name}-${kind}`) !== undefined);
  for (const endMs = performance.now() + GONE_MS; left().length > 0 && performance.now() < endMs;)
    await Bun.sleep(5);
  expect(left()).toEqual([]);
}

/** A suite that hangs: with a child, one in a session of its own, and one that lost its parent. Says when all of them run. */
const hanging = (name: string) =>
  suite(`
    (trap '' TERM HUP; echo $$ > /dev/null; sh -c 'echo $$ > ${folder}/${name}-child; exec sleep 600') &
    setsid sh -c 'echo $$ > ${folder}/${name}-session; exec sleep 600' &
    (sh -c 'echo $$ > ${folder}/${name}-orphan; exec sleep 600' &)
    while ! [ -s ${folder}/${name}-child -a -s ${folder}/${name}-session -a -s ${folder}/${name}-orphan ]; do sleep 0.01; done
    echo ready
    wait; sleep 600`);

test("a suite that hangs is cut off at its limit and fails, with everything that it started", async () => {
  // A share of a second, on the reference machine.
  const hung = { ...hanging("hung"), minutes: 1 / 60 };
  const outcome = await runSuite(hung, cutOffMsOf(hung, 1), never);
  expect(outcome.seconds).toBeGreaterThan(2.9);
  expect(outcome.verdict).toBe("hangs: cut off after 3 s, 3 times its share");
  expect(outcome.counts).toEqual({ passed: 0, failed: 1, skipped: 0 });
  await expectGone("hung");
});

test("when the whole run is over, what runs is ended at once and fails with the reason", async () => {
  const controller = new AbortController();
  const ended = runSuite(hanging("over"), LONG_MS, controller.signal, (text) => {
    if (text.includes("ready")) controller.abort("the 80 minutes of a run were over");
  });
  const outcome = await ended;
  expect(outcome.failed).toEqual(["was ended: the 80 minutes of a run were over"]);
  expect(outcome.counts.failed).toBe(1);
  await expectGone("over");
  expect(notRun("the end").failed).toEqual(["was not started: the end"]);
  expect(notRun("the end").counts.failed).toBe(1);
});

test("a suite over its share that ends is good", async () => {
  const slow = suite(`sleep 0.2; echo '{"passed":2,"failed":0,"skipped":0}'`, { minutes: 0.1 / 60 });
  const outcome = await runSuite(slow, LONG_MS, never);
  expect(outcome.seconds).toBeGreaterThan(slow.minutes * 60);
  expect([outcome.verdict, outcome.counts.passed, outcome.counts.failed]).toEqual(["ok", 2, 0]);
});

test.each([
  ["says nothing", "true", "did not say how many tests ran"],
  ["says no count", "echo all well", "did not say how many tests ran"],
  ["says a count and ends with another code", `echo '{"passed":1}'; exit 3`, "ended with code 3"],
  ["skips and gives no reason", "echo '(skip) lazy'; echo ' 1 pass'", "1 skipped without a reason"],
])("a suite that %s fails", async (_what, script, why) => {
  const outcome = await runSuite(suite(script), LONG_MS, never);
  expect(outcome.counts.failed).toBe(1);
  expect(outcome.failed.join()).toContain(why);
});

test("of a suite without tests the exit code is the verdict", async () => {
  const good = await runSuite(suite("true", { isCounted: false }), LONG_MS, never);
  expect(good.counts).toEqual({ passed: 1, failed: 0, skipped: 0 });
  const bad = await runSuite(suite("false", { isCounted: false }), LONG_MS, never);
  expect(bad.counts).toEqual({ passed: 0, failed: 1, skipped: 0 });
});

test("a suite that cannot be started fails", async () => {
  const outcome = await runSuite(suite("", { command: ["/nowhere/at/all"] }), LONG_MS, never);
  expect(outcome.verdict).toContain("could not be started");
  expect(outcome.counts.failed).toBe(1);
});

test("the time of each test is read from what bun test prints", async () => {
  const file = join(folder, "timed.test.ts");
  writeFileSync(
    file,
    `import { expect, test } from "bun:test";
    test("quick", () => {});
    test("slow", async () => { await Bun.sleep(60); });
    test("wrong", async () => { await Bun.sleep(30); expect(1).toBe(2); });`,
  );
  const outcome = await runSuite(suite("", { command: ["bun", "test", file] }), LONG_MS, never);
  const ms = (name: string) => outcome.times.find((time) => time.name === name)!.ms;
  expect(ms("slow")).toBeGreaterThan(55);
  expect(ms("wrong")).toBeGreaterThan(25);
  expect(ms("quick")).toBeLessThan(ms("slow"));
  expect(outcome.failed).toEqual(["wrong", "ended with code 1"]);
});
