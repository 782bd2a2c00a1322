/**
 * `bun run check`: format, types, lint, generated pages, and every test beside the code, side by side. Quiet about what
 * is fine, complete about what is not. The last line is JSON with the counts, for scripts/test.
 * With paths (`bun run check runtime/config`) only these are linted, tested and checked for format; types are always whole.
 * `bun check` runs this too, because Bun prefers a script of that name; the type checker alone is `bun check --no-script`.
 */
import { availableParallelism } from "node:os";
import { addCounts, type Counts, noCounts, parseCounts, skippedNames } from "./counts.ts";
import { run } from "./lib.ts";

interface Step {
  readonly name: string;
  readonly command: readonly string[];
}

const bun = process.execPath;
/** For what hangs: on a busy machine a step may take minutes, and be right. */
const STEP_TIMEOUT_MS = 600_000;
/** For one test without a bound of its own, and for the same reason. */
const TEST_TIMEOUT_MS = 60_000;
/** Tests wait more than they compute. */
const WORKERS = Math.min(8, 2 * availableParallelism());
/** How long each file took, so that the slowest are started first the next time. */
const TIMINGS = ".cache/check-timings.json";

function steps(paths: readonly string[]): Step[] {
  const isWhole = paths.length === 0;
  const tested = isWhole
    ? [
        "./runtime/",
        "./sdk/src/",
        "./sdk/testkit/",
        "./plugins/",
        "./scripts/",
        "./test/architecture.test.ts",
      ]
    : paths.map((path) => `./${path.replace(/^\.\//, "")}`);
  return [
    {
      name: "tests",
      command: [
        ...[bun, "test", `--parallel=${WORKERS}`, "--randomize", `--timeout=${TEST_TIMEOUT_MS}`],
        ...[`--timings=${TIMINGS}`, "--update-timings", ...tested],
      ],
    },
    { name: "types", command: [bun, "check", "--no-script", "--no-pretty"] },
    {
      name: "lint",
      command: [
        "node_modules/.bin/oxlint",
        "--type-aware",
        "--deny-warnings",
        "-D",
        "typescript/no-floating-promises",
        ...paths,
      ],
    },
    { name: "format", command: [bun, "fmt", "--no-script", "--check", ...paths] },
    ...(isWhole ? [{ name: "docs", command: [bun, "scripts/docs.ts", "--check"] }] : []),
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

const outcomes = await Promise.all(steps(process.argv.slice(2)).map(runStep));
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
