/**
 * Runs one suite as a command and reads from its output what happened. Must never call a suite good that did not say how
 * many tests ran, or that skipped one without a reason.
 */
import {
  type Counts,
  failedNames,
  hasReason,
  noCounts,
  parseCounts,
  skippedNames,
  type TestTime,
  testTimes,
} from "./counts.ts";
import { run, root } from "./lib.ts";
import { CUT_OFF_FACTOR } from "./lanes.ts";
import type { Suite } from "./suites.ts";

export interface Outcome {
  readonly counts: Counts;
  readonly skipped: readonly string[];
  /** Tests by name, and what failed beside them. */
  readonly failed: readonly string[];
  readonly times: readonly TestTime[];
  readonly seconds: number;
  /** In a word or two. */
  readonly verdict: string;
  readonly output: string;
}

/** For one that was to run after everything had to end. */
export const notRun = (reason: unknown): Outcome => ({
  counts: { ...noCounts, failed: 1 },
  skipped: [],
  failed: [`was not started: ${textOf(reason)}`],
  times: [],
  seconds: 0,
  verdict: "not started",
  output: "",
});

export async function runSuite(
  suite: Suite,
  limitMs: number,
  signal: AbortSignal,
  onOutput?: (text: string) => void,
): Promise<Outcome> {
  const startedMs = performance.now();
  const [program, ...rest] = suite.command;
  let failure: string | undefined;
  let output = "";
  try {
    const result = await run([program === "bun" ? process.execPath : program!, ...rest], {
      cwd: root,
      timeoutMs: limitMs,
      signal,
      ...(onOutput === undefined ? {} : { onOutput }),
    });
    output = result.output;
    if (result.isAborted) failure = `was ended: ${textOf(signal.reason)}`;
    else if (result.isTimedOut)
      failure = `hangs: cut off after ${(limitMs / 1_000).toFixed(0)} s, ${CUT_OFF_FACTOR} times its share`;
    else if (result.code !== 0) failure = `ended with code ${result.code}`;
  } catch (error) {
    failure = `could not be started: ${textOf(error)}`;
  }
  const seconds = (performance.now() - startedMs) / 1_000;
  return { ...judge(suite, output, failure), times: testTimes(output), seconds, output };
}

/** `failure`: what went wrong with the command as a whole. */
function judge(suite: Suite, output: string, failed: string | undefined) {
  let failure = failed;
  const parsed = parseCounts(output);
  if (suite.isCounted && parsed === undefined) failure ??= "did not say how many tests ran";
  const skipped = skippedNames(output);
  const mute = skipped.filter((name) => !hasReason(name));
  if (mute.length > 0)
    failure ??= `${mute.length} skipped without a reason; write [skipped: why] into the name`;
  let counts = parsed ?? { ...noCounts, passed: failure === undefined ? 1 : 0 };
  // A suite that fails beyond its own tests (crash, cut off) must show in the sum.
  if (failure !== undefined && counts.failed === 0) counts = { ...counts, failed: 1 };
  return {
    counts,
    skipped,
    failed: [...failedNames(output), ...(failure === undefined ? [] : [failure])],
    verdict: failure ?? (counts.failed > 0 ? `${counts.failed} failed` : "ok"),
  };
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
