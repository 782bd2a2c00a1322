/**
 * What `scripts/test` runs, in order. A folder `test/<name>/` with `*.test.ts` is a suite by being there; everything
 * else stands in the list below. Minutes come from test/budget.json, so that a slow suite is a decision, not a drift.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./lib.ts";

export interface Suite {
  readonly name: string;
  /** Run from the project's root; the first word `bun` is the pinned one. */
  readonly command: readonly string[];
  /** Beyond this the suite is killed and counts as one failure. */
  readonly minutes: number;
  /** Only with `--long NAME`. */
  readonly isLong: boolean;
}

interface SuiteEntry {
  readonly name: string;
  readonly command: readonly string[];
  readonly isLong?: true;
}

/** Before the folders: what is quick and whose failure explains the rest. `binary` makes the dist/godwit that later ones use. */
const first: readonly SuiteEntry[] = [
  { name: "check", command: ["bun", "scripts/check.ts"] },
  { name: "binary", command: ["bun", "scripts/build.ts"] },
];

/** After the folders. */
const last: readonly SuiteEntry[] = [
  { name: "simulator", command: ["bun", "test/sim/run.ts"] },
  { name: "demo", command: ["scripts/demo", "--once", "--json"] },
];

/** Every suite; long ones are the files `test/<name>/*.long.ts`, named after the file. */
export function allSuites(): Suite[] {
  const folders = readdirSync(join(root, "test"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  const discovered = folders.flatMap((folder): SuiteEntry[] => {
    const files = readdirSync(join(root, "test", folder), { recursive: true })
      .map(String)
      .sort();
    const hasTests = files.some((file) => file.endsWith(".test.ts"));
    const long = files.filter((file) => file.endsWith(".long.ts"));
    return [
      ...(hasTests ? [{ name: folder, command: ["bun", "test", "--randomize", `./test/${folder}/`] }] : []),
      ...long.map((file): SuiteEntry => ({
        name: file.slice(0, -".long.ts".length),
        command: ["bun", "test", `./test/${folder}/${file}`],
        isLong: true,
      })),
    ];
  });
  const budget = readBudget();
  return [...first, ...discovered, ...last].map(({ name, command, isLong = false }) => {
    const minutes = budget[name];
    if (minutes === undefined)
      throw new Error(
        `suite ${name} has no minutes in test/budget.json: measure it and write down twice that`,
      );
    return { name, command, minutes, isLong };
  });
}

function readBudget(): Readonly<Record<string, number>> {
  const path = join(root, "test/budget.json");
  if (!existsSync(path)) throw new Error("test/budget.json is missing");
  return JSON.parse(readFileSync(path, "utf8")) as Record<string, number>;
}
