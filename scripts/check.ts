/**
 * `bun run check`: format, types, lint, generated pages, and every test beside the code that is not heavy, side by side. Quiet
 * about what is fine, complete about what is not. The last line is JSON with the counts, for scripts/test.
 * With paths (`bun run check runtime/config`) only these are linted, tested and checked for format; with `--since REV` what
 * is not as it was at that commit, and the tests that it touches; heavy tests too. Types are always whole.
 * `bun check` runs this too, because Bun prefers a script of that name; the type checker alone is `bun check --no-script`.
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { addCounts, type Counts, noCounts, parseCounts, skippedNames } from "./counts.ts";
import { root, run } from "./lib.ts";
import { TESTED, testArguments } from "./tested.ts";
import { aliasesOf, changedSince, sourcesOf, touchedBy } from "./touched.ts";

interface Step {
  readonly name: string;
  readonly command: readonly string[];
}

const bun = process.execPath;
/** For what hangs: on a busy machine a step may take minutes, and be right. */
const STEP_TIMEOUT_MS = 600_000;
/** Tests wait more than they compute. */
const WORKERS = Math.min(8, 2 * availableParallelism());
/**
 * The linter's type checker is a program in Go that lives for seconds: collecting its garbage, and checking the same types once for each
 * processor, is half of what it takes. It needs 1.4 GiB either way; beyond 3 it collects.
 */
const LINT_ENVIRONMENT = ["GOGC=off", "GOMEMLIMIT=3GiB", "GOMAXPROCS=1"];
/** How long each file took, so that the slowest are started first the next time. */
const TIMINGS = ".cache/check-timings.json";

/** What is looked at. Paths from the project's root; undefined: everything. */
interface Scope {
  readonly tests: readonly string[] | undefined;
  readonly lint: readonly string[] | undefined;
  readonly format: readonly string[] | undefined;
  readonly hasPages: boolean;
}

const everything: Scope = { tests: undefined, lint: undefined, format: undefined, hasPages: true };

async function scopeOf(words: readonly string[]): Promise<Scope> {
  if (words[0] === "--since") {
    if (words.length !== 2) throw new Error("usage: bun run check --since REV");
    return await since(words[1]!);
  }
  if (words.length === 0) return everything;
  const paths = words.map((path) => path.replace(/^\.\//, ""));
  return { tests: paths, lint: paths, format: paths, hasPages: false };
}

async function since(rev: string): Promise<Scope> {
  const [changed, sources] = await Promise.all([changedSince(rev, root), sourcesOf(root)]);
  const aliases = aliasesOf(readFileSync(join(root, "tsconfig.json"), "utf8"));
  const { isEverything, files, tests } = touchedBy(changed, sources, aliases);
  const isTested = (path: string) => TESTED.some((beginning) => path.startsWith(beginning));
  const left = changed.filter((path) => existsSync(join(root, path)));
  console.log(
    `since ${rev}: ${changed.length} files changed, ${tests.filter(isTested).length} files of tests touched${isEverything ? "; all of it is checked" : ""}`,
  );
  if (isEverything) return everything;
  return {
    tests: tests.filter(isTested),
    lint: left.filter((path) => path.endsWith(".ts")),
    format: left.filter((path) => FORMATTED.test(path)),
    // The pages are made of code and stand in these folders.
    hasPages: files.some((path) => path === "scripts/docs.ts" || /^(docs|sdk|runtime\/config)\//.test(path)),
  };
}

/** What `bun fmt` knows. */
const FORMATTED = /\.(ts|js|json|md|css|html|ya?ml)$/;

function steps({ tests, lint, format, hasPages }: Scope): Step[] {
  const isSome = (paths: readonly string[] | undefined) => paths === undefined || paths.length > 0;
  return [
    {
      name: "tests",
      command: [...[bun, ...testArguments(tests, WORKERS)], ...[`--timings=${TIMINGS}`, "--update-timings"]],
    },
    { name: "types", command: [bun, "check", "--no-script", "--no-pretty"] },
    ...(isSome(lint)
      ? [
          {
            name: "lint",
            command: [
              ...["env", ...LINT_ENVIRONMENT, "node_modules/.bin/oxlint", "--type-aware", "--deny-warnings"],
              ...["-D", "typescript/no-floating-promises", ...(lint ?? [])],
            ],
          },
        ]
      : []),
    ...(isSome(format)
      ? [{ name: "format", command: [bun, "fmt", "--no-script", "--check", ...(format ?? [])] }]
      : []),
    ...(hasPages ? [{ name: "docs", command: [bun, "scripts/docs.ts", "--check"] }] : []),
  ];
}

interface Outcome {
  readonly name: string;
  readonly counts: Counts;
  readonly output: string;
  readonly seconds: number;
}

async function runStep({ name, command }: Step): Promise<Outcome> {
  const startedMs = performance.now();
  const { code, output, isTimedOut } = await run(command, { timeoutMs: STEP_TIMEOUT_MS });
  const isFine = code === 0 && !isTimedOut;
  const one: Counts = { passed: isFine ? 1 : 0, failed: isFine ? 0 : 1, skipped: 0 };
  let counts = name === "tests" ? (parseCounts(output) ?? { ...noCounts, failed: 1 }) : one;
  if (!isFine && counts.failed === 0) counts = { ...counts, failed: 1 };
  return { name, counts, output, seconds: (performance.now() - startedMs) / 1000 };
}

const scope = await scopeOf(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  console.log(JSON.stringify({ ...noCounts, failed: 1 }));
  process.exit(2);
});
const outcomes = await Promise.all(steps(scope).map(runStep));
for (const { name, counts, output, seconds } of outcomes) {
  const shown = counts.failed > 0 ? withoutPasses(output) : skippedLines(output);
  if (shown !== "") console.log(`\n-- ${name}\n${shown}`);
  const tests = name === "tests" ? ` (${counts.passed} passed, ${counts.skipped} skipped)` : "";
  console.log(
    `${counts.failed > 0 ? "FAILED" : "ok    "} ${name.padEnd(7)} ${seconds.toFixed(1).padStart(5)} s${tests}`,
  );
}
const total = outcomes.map((outcome) => outcome.counts).reduce(addCounts, noCounts);
console.log(JSON.stringify(total));
if (total.failed > 0) process.exitCode = 1;

/** The lines of passing tests bury the others. */
function withoutPasses(output: string): string {
  return output
    .split("\n")
    .filter((line) => !/^(\(pass\)|\s*✓) /.test(Bun.stripANSI(line)))
    .join("\n")
    .trim();
}

function skippedLines(output: string): string {
  return skippedNames(output)
    .map((name) => `(skip) ${name}`)
    .join("\n");
}
