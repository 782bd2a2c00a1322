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
/** Of the sentence that stands beside its name. */
const WHY_CHARS_MAX = 240;

export interface FailureSaid {
  readonly name: string;
  /** The end of what `bun test` printed of it, before its `(fail)`. */
  readonly said: string;
  /** Its error in one line, with where: a log that keeps only its last lines still says why. */
  readonly why: string;
}

/** What each failed test of `bun test` said. */
export function failuresSaid(output: string): FailureSaid[] {
  const lines = Bun.stripANSI(output).split("\n");
  return lines.flatMap((line, at) => {
    const name = /^\(fail\) (.+?)(?: \[[\d.]+m?s\])?$/.exec(line)?.[1];
    if (name === undefined) return [];
    const before = lines.slice(0, at);
    const from = before.findLastIndex((one) => /^\((?:pass|fail|skip|todo)\) /.test(one)) + 1;
    const all = before.slice(from).filter((one) => one.trim() !== "");
    const said = [line, ...all.slice(-SAID_LINES_MAX)].map((one) => one.slice(0, SAID_CHARS_MAX));
    return [{ name, said: said.join("\n    "), why: whyOf(all, lines[at + 1] ?? "") }];
  });
}

/** `after`: the line behind its `(fail)`, where it says that it ran out of time. */
function whyOf(lines: readonly string[], after: string): string {
  const late = /this test timed out.*$/.exec(after)?.[0];
  const at = lines.findLastIndex((line) => /^\w*(?:error|Error|Failure): /.test(line));
  if (at < 0) return late ?? "";
  const values = lines.slice(at + 1).filter((line) => /^(?:Expected|Received|\s*[-+] )/.test(line));
  const where = lines.slice(at).findLast((line) => /^\s+at .*\.test\.ts:\d+/.test(line)) ?? "";
  const place = /[\w-]+\.test\.ts:\d+/.exec(where)?.[0] ?? "";
  const words = [late, place, lines[at], ...values].filter((word) => word !== undefined && word !== "");
  return words.join(" ").slice(0, WHY_CHARS_MAX);
}

/** A test that does not run says why in its name: `... [skipped: needs root]`. */
export const hasReason = (name: string): boolean => /\[skipped: [^\]]{3,}\]/.test(name);
