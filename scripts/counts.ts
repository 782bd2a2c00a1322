/** How many tests passed: read from what a suite printed. */

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const noCounts: Counts = { passed: 0, failed: 0, skipped: 0 };

export const addCounts = (a: Counts, b: Counts): Counts => ({
  passed: a.passed + b.passed,
  failed: a.failed + b.failed,
  skipped: a.skipped + b.skipped,
});

/**
 * From a last line of JSON `{"passed": n, "failed": n, "skipped": n}` (or `{"ok": bool}`), else from the summary of
 * `bun test`; undefined when there is neither.
 */
export function parseCounts(output: string): Counts | undefined {
  const plain = Bun.stripANSI(output).trimEnd();
  const lastLine = plain.slice(plain.lastIndexOf("\n") + 1);
  return parseJsonCounts(lastLine) ?? parseBunCounts(plain);
}

function parseJsonCounts(line: string): Counts | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(line) as Partial<Record<"passed" | "failed" | "skipped" | "ok", unknown>>;
    if (typeof value.passed === "number")
      return { passed: value.passed, failed: Number(value.failed ?? 0), skipped: Number(value.skipped ?? 0) };
    if (typeof value.ok === "boolean")
      return { passed: value.ok ? 1 : 0, failed: value.ok ? 0 : 1, skipped: 0 };
  } catch {
    // Not JSON after all.
  }
  return undefined;
}

/** `bun test` ends with lines ` 85 pass`, ` 2 skip`, ` 1 todo`, ` 6 fail`, ` 1 error`; `Ran 93 tests across 2 files.` */
function parseBunCounts(text: string): Counts | undefined {
  const start = text.search(/^ *\d+ pass$/m);
  if (start < 0) return undefined;
  const summary = text.slice(start);
  const count = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}s?$`, "m").exec(summary)?.[1] ?? 0);
  return {
    passed: count("pass"),
    failed: count("fail") + count("error"),
    skipped: count("skip") + count("todo"),
  };
}

/** Names of tests that were skipped, or that failed, as `bun test` prints them; each once. */
export const skippedNames = (output: string): string[] => names(output, "skip|todo");
export const failedNames = (output: string): string[] => names(output, "fail");

const names = (output: string, outcome: string): string[] => {
  const line = new RegExp(`^\\((?:${outcome})\\) (.+?)(?: \\[[\\d.]+m?s\\])?$`, "gm");
  return [...new Set([...Bun.stripANSI(output).matchAll(line)].map((match) => match[1]!))];
};

export interface TestTime {
  readonly name: string;
  readonly ms: number;
}

/** How long each test took that ran, as `bun test` prints it. */
export const testTimes = (output: string): TestTime[] =>
  [...Bun.stripANSI(output).matchAll(/^\((?:pass|fail)\) (.+?) \[([\d.]+)(m?s)\]$/gm)].map((match) => ({
    name: match[1]!,
    ms: Number(match[2]) * (match[3] === "s" ? 1_000 : 1),
  }));

/** Lines and characters of what one failed test said that are repeated. */
const SAID_LINES_MAX = 24;
const SAID_CHARS_MAX = 200;

/** The end of what `bun test` printed of each test that failed, before its `(fail)`: the only part that a short log may keep. */
export function failuresSaid(output: string): string[] {
  const lines = Bun.stripANSI(output).split("\n");
  return lines.flatMap((line, at) => {
    if (!line.startsWith("(fail) ")) return [];
    const before = lines.slice(0, at);
    const from = before.findLastIndex((one) => /^\((?:pass|fail|skip|todo)\) /.test(one)) + 1;
    const said = before.slice(from).filter((one) => one.trim() !== "");
    return [[line, ...said.slice(-SAID_LINES_MAX)].map((one) => one.slice(0, SAID_CHARS_MAX)).join("\n    ")];
  });
}

/** A test that does not run says why in its name: `... [skipped: needs root]`. */
export const hasReason = (name: string): boolean => /\[skipped: [^\]]{3,}\]/.test(name);
