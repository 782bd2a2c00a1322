/**
 * `bun run mutants`: plants every fault of `lists/` in a copy of the project, one at a time, runs the tests that should go red, and
 * says which faults live. Ends with 1 when one lives without a written reason, one with a reason dies, or more than 5 of 100 live;
 * with 2 when a list is wrong or a test is red without any fault. It takes minutes, so that no suite runs it.
 */
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { failedNames } from "../../scripts/counts.ts";
import { root, type RunResult } from "../../scripts/lib.ts";
import { scratchFolder } from "../../scripts/scratch.ts";
import { type ListedMutant, loadMutants, problemsOf } from "./mutant.ts";
import { Tree } from "./tree.ts";

const USAGE = `usage: bun run mutants [--only ID|LIST|FOLDER]... [--jobs N] [--json]
Without --only: every fault of test/mutants/lists. --only takes a name (route/update-budget), its id, a list, or a path of the code.`;

const LIVING_SHARE_MAX = 0.05;
/** A mutant has this beyond what its tests took without it before it counts as hanging. */
const HANG_MS = 30_000;
const HANG_FACTOR = 4;
const JOBS_MAX = 16;

/** `broken`: what was planted cannot run at all, which any test would notice. */
type Verdict = "killed" | "hung" | "lives" | "broken";

interface Judged {
  readonly mutant: ListedMutant;
  readonly verdict: Verdict;
  /** The first test that went red, or for how long it hung. */
  readonly by: string;
  readonly seconds: number;
}

function chosen(all: readonly ListedMutant[], only: readonly string[]): ListedMutant[] {
  const isMeant = ({ name, id, file }: ListedMutant, word: string) =>
    name === word ||
    id === word ||
    name.startsWith(`${word}/`) ||
    file === word ||
    file.startsWith(`${word}/`);
  for (const word of only)
    if (!all.some((mutant) => isMeant(mutant, word))) throw new Error(`no fault is called ${word}`);
  return only.length === 0 ? [...all] : all.filter((mutant) => only.some((word) => isMeant(mutant, word)));
}

/** Every item once, by as many hands as there are trees; the first failure ends all. */
async function inTrees<T>(
  trees: readonly Tree[],
  items: readonly T[],
  body: (tree: Tree, item: T) => Promise<void>,
) {
  const queue = items.values();
  await Promise.all(
    trees.map(async (tree) => {
      for (const item of queue) await body(tree, item);
    }),
  );
}

/** What each test takes without a fault. Throws where one is red. */
async function measure(trees: readonly Tree[], tests: readonly string[], signal: AbortSignal) {
  const tookMs = new Map<string, number>();
  await inTrees(trees, tests, async (tree, test) => {
    const startedMs = performance.now();
    const { code, output, isAborted } = await tree.test([test], undefined, signal);
    if (isAborted) throw new Error("ended by a signal");
    if (code !== 0) throw new Error(`${test} is red without any fault:\n${output.slice(-4_000)}`);
    tookMs.set(test, performance.now() - startedMs);
  });
  return tookMs;
}

function verdictOf(result: RunResult, seconds: number): Pick<Judged, "verdict" | "by"> {
  if (result.isTimedOut) return { verdict: "hung", by: `nothing came back for ${seconds.toFixed(0)} s` };
  if (result.code === 0) return { verdict: "lives", by: "" };
  const broken = /^(?:SyntaxError|ReferenceError): .*$/m.exec(Bun.stripANSI(result.output));
  if (broken !== null) return { verdict: "broken", by: broken[0] };
  return { verdict: "killed", by: failedNames(result.output)[0] ?? "what it ended with" };
}

async function judge(
  tree: Tree,
  mutant: ListedMutant,
  limitMs: number,
  signal: AbortSignal,
): Promise<Judged> {
  const startedMs = performance.now();
  const result = await tree.with(mutant, async () => await tree.test(mutant.tests, limitMs, signal));
  if (result.isAborted) throw new Error("ended by a signal");
  const seconds = (performance.now() - startedMs) / 1_000;
  return { mutant, seconds, ...verdictOf(result, seconds) };
}

function placeOf({ file, find }: ListedMutant): string {
  const text = readFileSync(join(root, file), "utf8");
  return `${file}:${text.slice(0, text.indexOf(find)).split("\n").length}`;
}

const line = ({ mutant, verdict, by, seconds }: Judged): string =>
  `${verdict.padEnd(6)} ${seconds.toFixed(1).padStart(5)} s  ${mutant.name}${by === "" ? "" : `: ${by}`}`;

/** Why the run fails, one line each; empty when it is good. */
function faultsOf(judged: readonly Judged[], isWhole: boolean): string[] {
  const living = judged.filter(({ verdict }) => verdict === "lives");
  const share = living.length / judged.length;
  return [
    ...judged.flatMap(({ mutant, verdict }) => {
      if (verdict === "broken") return [`${mutant.name} cannot run: plant something that does`];
      const isExcused = mutant.harmless !== undefined;
      if (verdict === "lives" && !isExcused)
        return [`${mutant.name} lives, and nobody wrote why it is harmless`];
      if (verdict !== "lives" && isExcused)
        return [`${mutant.name} is said to be harmless, and dies: take the reason away`];
      return [];
    }),
    ...(isWhole && share > LIVING_SHARE_MAX
      ? [`${(share * 100).toFixed(1)} of 100 live; ${LIVING_SHARE_MAX * 100} may`]
      : []),
  ];
}

function report(judged: readonly Judged[], faults: readonly string[], wallSeconds: number): void {
  const living = judged.filter(({ verdict }) => verdict === "lives");
  if (living.length > 0) console.log("\nthese live:");
  for (const { mutant } of living)
    console.log(
      `  ${mutant.name} (${placeOf(mutant)}): ${mutant.promise}\n    ${mutant.harmless ?? `held by none of ${mutant.tests.join(", ")}`}`,
    );
  if (faults.length > 0) console.log(`\nFAILED:\n  ${faults.join("\n  ")}`);
  const hung = judged.filter(({ verdict }) => verdict === "hung").length;
  console.log(
    `\n${judged.length} planted, ${judged.length - living.length} killed (${hung} by hanging), ${living.length} live, ${wallSeconds.toFixed(0)} s`,
  );
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true, default: [] },
      jobs: { type: "string", default: String(availableParallelism()) },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > JOBS_MAX) throw new Error(`--jobs is 1 to ${JOBS_MAX}`);
  const all = await loadMutants();
  const mutants = chosen(all, values.only);
  const problems = problemsOf(mutants);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const say = (text: string) => void (values.json || console.log(text));

  const startedMs = performance.now();
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => controller.abort(name));
  const folder = await scratchFolder("mutants");
  try {
    const trees = await Promise.all(
      Array.from(
        { length: Math.min(jobs, mutants.length) },
        async (_, index) => await Tree.copy(join(folder, `${index}`)),
      ),
    );
    const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))].sort();
    say(`${mutants.length} faults, ${tests.length} tests and suites; each of these first without a fault`);
    const tookMs = await measure(trees, tests, controller.signal);
    const judged: Judged[] = [];
    await inTrees(trees, mutants, async (tree, mutant) => {
      const usualMs = mutant.tests.reduce((sum, test) => sum + tookMs.get(test)!, 0);
      const one = await judge(tree, mutant, HANG_MS + HANG_FACTOR * usualMs, controller.signal);
      judged.push(one);
      say(line(one));
    });
    const faults = faultsOf(judged, values.only.length === 0);
    if (values.json) console.log(JSON.stringify({ judged, faults }, undefined, 2));
    else report(judged, faults, (performance.now() - startedMs) / 1_000);
    return faults.length === 0 ? 0 : 1;
  } finally {
    controller.abort("over");
    await rm(folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  process.exitCode = 2;
}
