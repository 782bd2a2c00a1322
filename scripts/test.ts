/**
 * Runs the suites of suites.ts in order, each within its minutes, and ends with one line `N passed, N failed, N skipped`.
 * Owns the counting; must never call a suite good that did not say how many tests ran, or that skipped one without a reason.
 */
import { parseArgs } from "node:util";
import {
  addCounts,
  type Counts,
  failedNames,
  hasReason,
  noCounts,
  parseCounts,
  skippedNames,
} from "./counts.ts";
import { run, root } from "./lib.ts";
import { allSuites, type Suite } from "./suites.ts";

const USAGE = `usage: scripts/test [--suite NAME]... [--long NAME]... [--peers] [--list]
Without arguments: every suite that is not long. --peers installs the peers of the interop suites first.`;

interface Outcome {
  readonly counts: Counts;
  readonly skipped: readonly string[];
  /** Tests by name, and what failed beside them. */
  readonly failed: readonly string[];
  readonly seconds: number;
}

async function runSuite(suite: Suite): Promise<Outcome> {
  console.log(`\n== ${suite.name}: ${suite.command.join(" ")} (at most ${suite.minutes} min)`);
  const startedMs = performance.now();
  const [program, ...rest] = suite.command;
  let failure: string | undefined;
  let output = "";
  try {
    const result = await run([program === "bun" ? process.execPath : program!, ...rest], {
      cwd: root,
      timeoutMs: suite.minutes * 60_000,
      onOutput: (text) => process.stdout.write(text),
    });
    output = result.output;
    if (result.isTimedOut) failure = `did not end within its ${suite.minutes} minutes (test/budget.json)`;
    else if (result.code !== 0) failure = `ended with code ${result.code}`;
  } catch (error) {
    failure = `could not be started: ${error instanceof Error ? error.message : String(error)}`;
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const parsed = parseCounts(output);
  let counts = parsed ?? { passed: failure === undefined ? 1 : 0, failed: 0, skipped: 0 };
  const skipped = skippedNames(output);
  const isCountless = suite.command[1] === "test" && parsed === undefined;
  if (failure === undefined && isCountless) failure = "did not say how many tests ran";
  const mute = skipped.filter((name) => !hasReason(name));
  if (failure === undefined && mute.length > 0)
    failure = `${mute.length} skipped without a reason; write [skipped: why] into the name`;
  // A suite that fails beyond its own tests (crash, timeout) must show in the sum.
  if (failure !== undefined && counts.failed === 0) counts = { ...counts, failed: 1 };
  const verdict = failure ?? (counts.failed > 0 ? `${counts.failed} failed` : "ok");
  console.log(`\n== ${suite.name}: ${verdict}, ${seconds.toFixed(1)} s of ${suite.minutes * 60}`);
  const failed = [...failedNames(output), ...(failure === undefined ? [] : [failure])];
  return { counts, skipped, failed, seconds };
}

function chosenSuites(names: readonly string[], longNames: readonly string[]): Suite[] {
  const suites = allSuites();
  for (const name of [...names, ...longNames])
    if (!suites.some((suite) => suite.name === name))
      throw new Error(`no suite ${name}; there are ${suites.map((suite) => suite.name).join(", ")}`);
  if (names.length === 0 && longNames.length === 0) return suites.filter((suite) => !suite.isLong);
  return suites.filter((suite) => (suite.isLong ? longNames : [...names, ...longNames]).includes(suite.name));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      suite: { type: "string", multiple: true },
      long: { type: "string", multiple: true },
      peers: { type: "boolean" },
      list: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return console.log(USAGE);
  if (values.list === true) {
    for (const { name, minutes, isLong, command } of allSuites())
      console.log(
        `${name.padEnd(16)} ${String(minutes).padStart(3)} min ${isLong ? "long " : "     "} ${command.join(" ")}`,
      );
    return;
  }
  let total = noCounts;
  const outcomes: [Suite, Outcome][] = [];
  for (const suite of chosenSuites(values.suite ?? [], values.long ?? [])) {
    const outcome = await runSuite(suite);
    outcomes.push([suite, outcome]);
    total = addCounts(total, outcome.counts);
  }
  console.log("\nsuite               passed  failed skipped  seconds  of");
  for (const [{ name, minutes }, { counts, seconds }] of outcomes)
    console.log(
      `${name.padEnd(18)} ${String(counts.passed).padStart(7)} ${String(counts.failed).padStart(7)} ${String(counts.skipped).padStart(7)} ${seconds.toFixed(1).padStart(8)}  ${minutes * 60}`,
    );
  const failed = outcomes.flatMap(([{ name }, outcome]) => outcome.failed.map((test) => `${name}: ${test}`));
  if (failed.length > 0) console.log(`\nFAILED:\n  ${failed.join("\n  ")}`);
  const skipped = outcomes.flatMap(([{ name }, outcome]) =>
    outcome.skipped.map((test) => `${name}: ${test}`),
  );
  if (skipped.length > 0) console.log(`\nSKIPPED, NOT PROVEN ON THIS MACHINE:\n  ${skipped.join("\n  ")}`);
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    console.log("\n0 passed, 1 failed, 0 skipped");
    process.exitCode = 2;
  }
}
