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

/** A test that does not run says why in its name: `... [skipped: needs root]`. */
export const hasReason = (name: string): boolean => /\[skipped: [^\]]{3,}\]/.test(name);
