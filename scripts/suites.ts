/**
 * What `scripts/test` runs. A folder `test/<name>/` with `*.test.ts` is a suite by being there; everything else stands in
 * the lists below, and with it which suites may have others beside them. Shares come from test/budget.json, so that a slow
 * suite is a decision, not a drift.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./lib.ts";
import { heavyArguments, timeout } from "./tested.ts";

export interface Suite {
  readonly name: string;
  /** Run from the project's root; the first word `bun` is the pinned one. */
  readonly command: readonly string[];
  /** Its share: planned on the reference machine (scripts/calibrate.ts), with the other lanes at work. */
  readonly minutes: number;
  /** Only with `--long NAME`. */
  readonly isLong: boolean;
  /** It says how many tests ran; of any other the exit code is the verdict. */
  readonly isCounted: boolean;
  /** Suites of a stage start when those of the one before have ended. */
  readonly stage: number;
  /** Why nothing may run beside it; undefined: anything may. */
  readonly quiet: string | undefined;
  /** What two suites cannot use at once. */
  readonly uses: readonly string[];
}

interface SuiteEntry {
  readonly name: string;
  readonly command: readonly string[];
  readonly isLong?: true;
  readonly isCounted?: false;
  readonly stage?: number;
}

/** By themselves: their failure explains the rest. `check` keeps all processors busy, `binary` makes the dist/godwit that others run. */
const first: readonly SuiteEntry[] = [
  { name: "check", command: ["bun", "scripts/check.ts"], stage: 0 },
  { name: "binary", command: ["bun", "scripts/build.ts"], isCounted: false, stage: 1 },
];
const STAGE_OF_FOLDERS = 2;
/** Whose files run side by side: nothing else is. */
const HEAVY_WORKERS = 2;

const others: readonly SuiteEntry[] = [
  // What `check` leaves out.
  { name: "heavy", command: ["bun", ...heavyArguments(HEAVY_WORKERS)] },
  // `check` and `heavy` run the first three seeds of these.
  {
    name: "routes",
    command: [
      ...["env", "GODWIT_SIM_RUNS=10", "bun", "test", timeout],
      ...["./runtime/route/router.sim.test.ts", "./runtime/route/router.sim.heavy.test.ts"],
    ],
  },
  { name: "simulator", command: ["bun", "test/sim/run.ts"] },
  { name: "demo", command: ["scripts/demo", "--once", "--json"] },
  { name: "demo-radio", command: ["scripts/demo", "--radio", "--once", "--json"] },
];

/** Suites that assert how long something takes, with what they assert. */
const quiet: Readonly<Record<string, string>> = {
  chaos: "mail expires, and fails over, within seconds that are asserted",
  heavy: "what a table of thousands costs is compared with one of a few",
  mdns: "from a cable to a link it may take two seconds",
  membership: "a killed node has to be failed everywhere within a second",
  net: "mail has to be round a dead cable, or past a full link, within seconds",
  overlays: "mail has to be on another way within seconds of the death of the first",
  sandbox: "the node has to answer while plugins keep every processor busy",
  serf: "a member has to be seen, or seen gone, within seconds, as agents see it",
  silence: "a cut has to be seen within 5 s, half of every processor busy with nothing",
  transports: "a node that comes back has to be met within two seconds",
};

/** Things of which there is one on a machine or in a clone. */
const uses: Readonly<Record<string, readonly string[]>> = {
  // apt locks its lists.
  boot: ["package lists"],
  container: ["package lists"],
  kernel: ["package lists"],
};

/** Every suite; long ones are the files `test/<name>/*.long.ts`, named after the file, and run alone. */
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
      ...(hasTests
        ? [{ name: folder, command: ["bun", "test", "--randomize", timeout, `./test/${folder}/`] }]
        : []),
      ...long.map((file): SuiteEntry => ({
        name: file.slice(0, -".long.ts".length),
        command: ["bun", "test", timeout, `./test/${folder}/${file}`],
        isLong: true,
      })),
    ];
  });
  const budget = readBudget();
  const entries = [...first, ...discovered, ...others];
  for (const name of [budget, quiet, uses].flatMap(Object.keys))
    if (!entries.some((entry) => entry.name === name)) throw new Error(`no suite is called ${name}`);
  return entries.map((entry): Suite => {
    const { name, command, isLong = false, isCounted = true, stage = STAGE_OF_FOLDERS } = entry;
    const minutes = budget[name];
    if (minutes === undefined)
      throw new Error(`suite ${name} has no share in test/budget.json: write down the minutes that it took`);
    const because = isLong ? "it is long" : quiet[name];
    return { name, command, minutes, isLong, isCounted, stage, quiet: because, uses: uses[name] ?? [] };
  });
}

function readBudget(): Readonly<Record<string, number>> {
  const path = join(root, "test/budget.json");
  if (!existsSync(path)) throw new Error("test/budget.json is missing");
  return JSON.parse(readFileSync(path, "utf8")) as Record<string, number>;
}
