/** A copy of the project to plant faults in. The files are copied, not linked: what a test writes must not reach the working tree. */
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
} from "node:fs";
import { readlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root, run, type RunResult } from "../../scripts/lib.ts";
import { allSuites } from "../../scripts/suites.ts";
import { isTestFile, type ListedMutant, plant } from "./mutant.ts";

/** What is not in git, large, and only read. */
const LINKED = ["node_modules", ".cache"];
/** These run from source; before any other, dist/godwit is built. */
const FROM_SOURCE: readonly string[] = ["check", "heavy", "routes", "simulator", "sim"];
/** For one test: below the time that a hang is given, so that it has a name. */
const TEST_TIMEOUT_MS = 20_000;

export class Tree {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** `folder` is made; the caller removes it. What is not committed is copied too. */
  static async copy(folder: string): Promise<Tree> {
    const listed = await run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    if (listed.code !== 0) throw new Error(`git ls-files: ${listed.output}`);
    mkdirSync(folder);
    for (const path of new Set(listed.output.split("\0").filter(Boolean))) {
      const from = join(root, path);
      const to = join(folder, path);
      const stat = lstatSync(from, { throwIfNoEntry: false });
      if (stat === undefined || LINKED.includes(path)) continue;
      mkdirSync(dirname(to), { recursive: true });
      if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
      else copyFileSync(from, to);
    }
    for (const name of LINKED)
      if (existsSync(join(root, name))) symlinkSync(realpathSync(join(root, name)), join(folder, name));
    return new Tree(folder);
  }

  /** Runs `body` with the fault in place. Throws what `plant` throws. */
  async with<T>(mutant: ListedMutant, body: () => Promise<T>): Promise<T> {
    const path = join(this.#folder, mutant.file);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, plant(mutant, text));
    try {
      return await body();
    } finally {
      writeFileSync(path, text);
    }
  }

  /** Runs test files together, then each suite, up to the first that is red. */
  async test(
    tests: readonly string[],
    timeoutMs: number | undefined,
    signal: AbortSignal,
  ): Promise<RunResult> {
    let last: RunResult | undefined;
    for (const command of commandsOf(tests)) {
      last = await run(command, {
        cwd: this.#folder,
        signal,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
      if (last.code !== 0 || last.isTimedOut) return last;
    }
    return last!;
  }
}

function commandsOf(tests: readonly string[]): string[][] {
  const bun = process.execPath;
  const files = tests.filter(isTestFile).map((path) => `./${path}`);
  const suites = allSuites().filter(({ name }) => tests.includes(name));
  return [
    ...(files.length > 0 ? [[bun, "test", "--bail", `--timeout=${TEST_TIMEOUT_MS}`, ...files]] : []),
    ...(suites.some(({ name }) => !FROM_SOURCE.includes(name)) ? [[bun, "scripts/build.ts"]] : []),
    ...suites.map(({ command }) => command.map((word) => (word === "bun" ? bun : word))),
  ];
}
