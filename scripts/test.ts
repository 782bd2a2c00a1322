/**
 * Runs the suites of suites.ts in lanes, each up to what a hanging one would take, and ends with one line
 * `N passed, N failed, N skipped`. Owns what is shown; whether a suite is good is judged in suite-run.ts, when it runs in lanes.ts.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { formatCalibration, measure, scaleOf } from "./calibrate.ts";
import { addCounts, failuresSaid, noCounts } from "./counts.ts";
import { cutOffMsOf, lanesFor, runLanes, shareMsOf, TOTAL_MINUTES_MAX } from "./lanes.ts";
import { notRun, type Outcome, runSuite } from "./suite-run.ts";
import { allSuites, type Suite } from "./suites.ts";

const USAGE = `usage: scripts/test [--suite NAME]... [--long NAME]... [--peers] [--list]
Without arguments: every suite that is not long. --peers installs the peers of the interop suites first.`;

const PROGRESS_MS = 30_000;
const SLOWEST_SUITES = 8;
const SLOWEST_TESTS = 12;

function chosenSuites(names: readonly string[], longNames: readonly string[]): Suite[] {
  const suites = allSuites();
  for (const name of [...names, ...longNames])
    if (!suites.some((suite) => suite.name === name))
      throw new Error(`no suite ${name}; there are ${suites.map((suite) => suite.name).join(", ")}`);
  if (names.length === 0 && longNames.length === 0) return suites.filter((suite) => !suite.isLong);
  return suites.filter((suite) => (suite.isLong ? longNames : [...names, ...longNames]).includes(suite.name));
}

function list(): void {
  for (const { name, minutes, isLong, quiet, command } of allSuites())
    console.log(
      `${name.padEnd(16)} ${String(minutes).padStart(4)} min ${(isLong ? "long" : quiet === undefined ? "" : "alone").padEnd(6)} ${command.join(" ")}`,
    );
}

/** What runs, in one line that a terminal shows in place and a log shows now and then. */
class Progress {
  readonly #startedMs = performance.now();
  readonly #running = new Map<Suite, number>();
  readonly #isTerminal = process.stdout.isTTY;
  readonly #timer: Timer;
  readonly #total: number;
  #done = 0;

  constructor(total: number) {
    this.#total = total;
    this.#timer = setInterval(() => this.#show(), this.#isTerminal ? 1_000 : PROGRESS_MS);
  }

  begin(suite: Suite): void {
    this.#running.set(suite, performance.now());
  }

  end(suite: Suite): void {
    this.#running.delete(suite);
    this.#done++;
  }

  /** Whole lines, with the progress out of their way. */
  print(text: string): void {
    process.stdout.write(`${this.#isTerminal ? "\r\x1b[K" : ""}${text.endsWith("\n") ? text : `${text}\n`}`);
  }

  close(): void {
    clearInterval(this.#timer);
    if (this.#isTerminal) process.stdout.write("\r\x1b[K");
  }

  #show(): void {
    const secondsSince = (ms: number) => `${((performance.now() - ms) / 1_000).toFixed(0)} s`;
    const running = [...this.#running].map(([{ name }, sinceMs]) => `${name} ${secondsSince(sinceMs)}`);
    const line = `.. ${this.#done} of ${this.#total} done in ${secondsSince(this.#startedMs)}; running: ${running.join(", ")}`;
    if (this.#isTerminal) process.stdout.write(`\r\x1b[K${line.slice(0, process.stdout.columns - 1)}`);
    else console.log(line);
  }
}

interface Run {
  readonly outcomes: ReadonlyMap<Suite, Outcome>;
  readonly scale: number;
}

async function runAll(suites: readonly Suite[]): Promise<Run> {
  const lanes = lanesFor(availableParallelism());
  const calibration = scaleOf(await measure(lanes));
  const { scale } = calibration;
  console.log(formatCalibration(calibration, lanes));
  const controller = new AbortController();
  const end = (reason: string) => controller.abort(reason);
  const onSignal = (name: NodeJS.Signals) => end(name);
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, onSignal);
  const timer = suites.some(({ isLong }) => isLong)
    ? undefined
    : setTimeout(
        () => end(`the ${TOTAL_MINUTES_MAX} minutes of a run were over`),
        TOTAL_MINUTES_MAX * 60_000,
      );
  const progress = new Progress(suites.length);
  try {
    const outcomes = await runLanes<Outcome>({
      suites,
      lanes,
      scale,
      signal: controller.signal,
      notRun: () => notRun(controller.signal.reason),
      async run(suite, limitMs, signal) {
        progress.begin(suite);
        const share = `share ${(shareMsOf(suite, scale) / 1_000).toFixed(0)} s`;
        progress.print(`-> ${suite.name}: ${suite.command.join(" ")} (${share})`);
        // One by itself may speak while it runs; of several the words would mix.
        const isLone = suites.length === 1;
        const outcome = await runSuite(
          suite,
          limitMs,
          signal,
          isLone ? (text) => void process.stdout.write(text) : undefined,
        );
        progress.end(suite);
        progress.print(
          `${isLone ? "" : `\n== ${suite.name}\n${outcome.output.trimEnd()}\n`}== ${suite.name}: ${outcome.verdict}, ${outcome.seconds.toFixed(1)} s (${share})\n`,
        );
        return outcome;
      },
    });
    return { outcomes, scale };
  } finally {
    clearTimeout(timer);
    progress.close();
    for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, onSignal);
  }
}

function report({ outcomes, scale }: Run, wallSeconds: number): number {
  const rows = [...outcomes];
  const share = (suite: Suite) => shareMsOf(suite, scale) / 1_000;
  console.log("\nsuite               passed  failed skipped  seconds   share");
  for (const [suite, { counts, seconds }] of rows) {
    const numbers = [counts.passed, counts.failed, counts.skipped].map((count) => String(count).padStart(7));
    console.log(
      `${suite.name.padEnd(18)} ${numbers.join(" ")} ${seconds.toFixed(1).padStart(8)} ${share(suite).toFixed(0).padStart(7)}`,
    );
  }
  const total = rows.map(([, outcome]) => outcome.counts).reduce(addCounts, noCounts);
  const sum = rows.reduce((seconds, [, outcome]) => seconds + outcome.seconds, 0);
  console.log(`${wallSeconds.toFixed(0)} s, ${sum.toFixed(0)} s of lanes`);
  const bySeconds = rows.sort(([, a], [, b]) => b.seconds - a.seconds).slice(0, SLOWEST_SUITES);
  block(
    "slowest suites",
    bySeconds.map(([{ name }, { seconds }]) => `${seconds.toFixed(1).padStart(6)} s  ${name}`),
  );
  const times = [...outcomes].flatMap(([{ name }, outcome]) =>
    outcome.times.map((time) => ({ ...time, name: `${name}: ${time.name}` })),
  );
  const slowest = times.sort((a, b) => b.ms - a.ms).slice(0, SLOWEST_TESTS);
  block(
    "slowest tests",
    slowest.map(({ name, ms }) => `${(ms / 1_000).toFixed(1).padStart(6)} s  ${name}`),
  );
  block(
    "OVER ITS SHARE (test/budget.json), which is no failure",
    [...outcomes].flatMap(([suite, { seconds }]) =>
      seconds > share(suite)
        ? [
            `${suite.name}: ${seconds.toFixed(1)} s of ${share(suite).toFixed(0)}, cut off at ${(cutOffMsOf(suite, scale) / 1_000).toFixed(0)}`,
          ]
        : [],
    ),
  );
  block(
    "what the failed tests said last",
    [...outcomes].flatMap(([{ name }, { output }]) =>
      failuresSaid(output).map(({ said }) => `${name}: ${said}`),
    ),
  );
  block(
    "FAILED",
    [...outcomes].flatMap(([{ name }, { failed, output }]) => {
      // Said once more at the end, without its reason.
      const why = new Map(
        failuresSaid(output).flatMap((one) => (one.why === "" ? [] : [[one.name, one.why]])),
      );
      return failed
        .flatMap((test) => [`${name}: ${test}`, `    ${why.get(test) ?? ""}`.trimEnd()])
        .filter(Boolean);
    }),
  );
  block(
    "SKIPPED, NOT PROVEN ON THIS MACHINE",
    [...outcomes].flatMap(([{ name }, { skipped }]) => skipped.map((test) => `${name}: ${test}`)),
  );
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

function block(title: string, lines: readonly string[]): void {
  if (lines.length > 0) console.log(`\n${title}:\n  ${lines.join("\n  ")}`);
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
  if (values.list === true) return list();
  const startedMs = performance.now();
  const run = await runAll(chosenSuites(values.suite ?? [], values.long ?? []));
  process.exitCode = report(run, (performance.now() - startedMs) / 1_000);
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
