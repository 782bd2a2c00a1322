/**
 * A planted fault: one plausible slip, the promise that it breaks, and the tests that hold the promise. Owns what a list may say;
 * run.ts plants them. Each `lists/NAME.ts` exports `mutants`; `test/mutants.test.ts` holds that every one still fits the code.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";
import { allSuites } from "../../scripts/suites.ts";

export interface Mutant {
  /** Once in its list, in kebab-case. */
  readonly id: string;
  /** From the project's root. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly find: string;
  readonly replace: string;
  /** What the code promises without the fault, in one line. */
  readonly promise: string;
  /** What should go red: test files from the project's root, or names of suites. Few and fast. */
  readonly tests: readonly string[];
  /** Only of one that may live: why nobody can be harmed by it. */
  readonly harmless?: string;
}

export interface ListedMutant extends Mutant {
  /** `LIST/ID`. */
  readonly name: string;
}

const LISTS = join(root, "test/mutants/lists");

export async function loadMutants(): Promise<ListedMutant[]> {
  const files = readdirSync(LISTS).filter((file) => file.endsWith(".ts"));
  const lists = await Promise.all(
    files.sort().map(async (file) => {
      const { mutants } = (await import(join(LISTS, file))) as { readonly mutants: readonly Mutant[] };
      return mutants.map((mutant) => ({ ...mutant, name: `${file.slice(0, -".ts".length)}/${mutant.id}` }));
    }),
  );
  return lists.flat();
}

export const isTestFile = (test: string): boolean => test.endsWith(".test.ts");

/** The text with the fault in it. Throws where `find` is not there exactly once, or what comes out is no TypeScript. */
export function plant(mutant: ListedMutant, text: string): string {
  const { name, file, find, replace } = mutant;
  const times = find === "" ? 0 : text.split(find).length - 1;
  if (times !== 1)
    throw new Error(
      `${name}: its find stands ${times} times in ${file}, and has to stand there once: aim it anew`,
    );
  const at = text.indexOf(find);
  const planted = text.slice(0, at) + replace + text.slice(at + find.length);
  if (planted === text) throw new Error(`${name}: it changes nothing`);
  try {
    new Bun.Transpiler({ loader: "ts" }).transformSync(planted);
  } catch (cause) {
    throw new Error(`${name}: ${file} with the fault is no TypeScript`, { cause });
  }
  return planted;
}

/** What is wrong with a list, one line each: what does not fit the code any more, or cannot say what it is about. */
export function problemsOf(
  mutants: readonly ListedMutant[],
  read = (file: string): string => readFileSync(join(root, file), "utf8"),
): string[] {
  const suites = new Set(allSuites().map(({ name }) => name));
  const seen = new Set<string>();
  return mutants.flatMap((mutant) => {
    const { name, file, promise, tests, harmless } = mutant;
    const problems: string[] = [];
    if (seen.has(name)) problems.push(`${name}: there are two of this name`);
    seen.add(name);
    if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(mutant.id)) problems.push(`${name}: an id is in kebab-case`);
    if (promise.length < 10 || promise.includes("\n")) problems.push(`${name}: no promise in one line`);
    if (harmless !== undefined && harmless.length < 20)
      problems.push(`${name}: no reason why it is harmless`);
    if (tests.length === 0) problems.push(`${name}: no test is named`);
    for (const test of tests)
      if (isTestFile(test) ? !existsSync(join(root, test)) : !suites.has(test))
        problems.push(`${name}: there is no test or suite ${test}`);
    try {
      plant(mutant, read(file));
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
    return problems;
  });
}
