/**
 * Which tests a change touches, for `bun run check --since REV`: those that are changed, and those that import what is, by
 * way of whatever. Workers and programs are started by path, so a path in quotes that names a file counts as an import.
 * What a test reads by a pattern it does not see: the tests that read everything are `always`.
 */
import { readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { importsOf } from "./architecture.ts";
import { run } from "./lib.ts";

/** Text by path from the project's root. */
export type Sources = ReadonlyMap<string, string>;

/** When one of these is another, nothing is as it was. */
const EVERYTHING = /^(package\.json|bun\.lock|bunfig\.toml|tsconfig\.json|\.oxlintrc\.json)$/;
/** Reads the whole tree. */
const always: readonly string[] = ["test/architecture.test.ts", "test/mutants.test.ts"];

export interface Touched {
  /** The change is of a kind after which only the whole check says something. */
  readonly isEverything: boolean;
  /** Changed, or dependent on what is; sorted. */
  readonly files: readonly string[];
  /** Those of `files`, and the ones that read everything, that `bun test` runs. */
  readonly tests: readonly string[];
}

/** `aliases`: of a package of ours by its name, the file that is meant. */
export function touchedBy(
  changed: readonly string[],
  sources: Sources,
  aliases: ReadonlyMap<string, string> = new Map(),
): Touched {
  const importers = new Map<string, string[]>();
  for (const [path, text] of sources)
    for (const target of referencesOf(path, text, sources, aliases)) {
      const known = importers.get(target);
      if (known === undefined) importers.set(target, [path]);
      else known.push(path);
    }
  const found = new Set(changed);
  for (const path of found) for (const importer of importers.get(path) ?? []) found.add(importer);
  const files = [...found].sort();
  const tests = [...sources.keys()].filter(
    (path) => path.endsWith(".test.ts") && (found.has(path) || always.includes(path)),
  );
  return { isEverything: changed.some((path) => EVERYTHING.test(path)), files, tests: tests.sort() };
}

function referencesOf(
  path: string,
  text: string,
  sources: Sources,
  aliases: ReadonlyMap<string, string>,
): Set<string> {
  const beside = (specifier: string) => posix.join(posix.dirname(path), specifier);
  const found = new Set<string>();
  for (const specifier of importsOf(text)) {
    const alias = aliases.get(specifier);
    if (alias !== undefined) found.add(alias);
    // Also one that is not there any more: whoever imports it is touched by that.
    else if (specifier.startsWith(".")) found.add(beside(specifier));
  }
  for (const [, quoted] of text.matchAll(/["'`]([\w@.][\w@./-]*\.\w+)["'`]/g))
    for (const target of [beside(quoted!), posix.normalize(quoted!)])
      if (sources.has(target)) found.add(target);
  found.delete(path);
  return found;
}

/** Paths that are not as they were at `rev`, committed or not, new and removed ones too. Rejects where there is no such commit. */
export async function changedSince(rev: string, cwd: string): Promise<string[]> {
  const commit = await git(["rev-parse", "--verify", "--end-of-options", `${rev}^{commit}`], cwd).catch(
    (cause: unknown) => {
      throw new Error(
        `git knows no commit "${rev}" here; name a branch, a tag or a hash that \`git log\` shows (a shallow clone may lack it)`,
        { cause },
      );
    },
  );
  const [differing, untracked] = await Promise.all([
    git(["diff", "--name-only", "--no-renames", "-z", commit.trim()], cwd),
    git(["ls-files", "--others", "--exclude-standard", "-z"], cwd),
  ]);
  return [...new Set(`${differing}${untracked}`.split("\0").filter(Boolean))].sort();
}

/** Every file that git knows or would add, with its text. */
export async function sourcesOf(cwd: string): Promise<Sources> {
  const listed = await git(["ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd);
  const paths = [...new Set(listed.split("\0").filter(Boolean))];
  const isRead = /\.(ts|js)$/;
  return new Map(
    paths.flatMap((path): [string, string][] => {
      try {
        return [[path, isRead.test(path) ? readFileSync(join(cwd, path), "utf8") : ""]];
      } catch {
        return []; // Removed, and not told to git yet.
      }
    }),
  );
}

/** The packages of ours, as the compiler finds them. */
export function aliasesOf(tsconfig: string): Map<string, string> {
  const { compilerOptions } = JSON.parse(tsconfig) as {
    readonly compilerOptions: { readonly paths?: Readonly<Record<string, readonly string[]>> };
  };
  return new Map(
    Object.entries(compilerOptions.paths ?? {}).map(([name, [path]]) => [name, posix.normalize(path!)]),
  );
}

async function git(words: readonly string[], cwd: string): Promise<string> {
  const { code, output } = await run(["git", ...words], { cwd });
  if (code !== 0) throw new Error(`git ${words.join(" ")}: ${output.trim()}`);
  return output;
}
