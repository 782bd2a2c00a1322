/**
 * `bun run sim`: the CI tier without arguments, one run with `--seed N [--nodes N] [--minutes M] [--real] [--tight] [--old]
 * [--slow] [--islands]`,
 * seeds without end with `--long [--hours H]`. A failing run prints the one command that repeats it and is added to
 * regressions.json. The last line is JSON for scripts/counts.ts. `--keep` off: `--no-keep`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  ciCases,
  commandOf,
  LARGE_NODES,
  optionsOf,
  REAL_NODES_MAX,
  regressionCases,
  type SimCase,
} from "./tiers.ts";
import { World, type SimResult } from "./world.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    nodes: { type: "string", default: "10" },
    minutes: { type: "string", default: "2" },
    count: { type: "string", default: "1" },
    hours: { type: "string", default: "8" },
    real: { type: "boolean", default: false },
    tight: { type: "boolean", default: false },
    slow: { type: "boolean", default: false },
    islands: { type: "boolean", default: false },
    old: { type: "boolean", default: false },
    long: { type: "boolean", default: false },
    "no-keep": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

/** A promise that nobody waits for failed: in a node that is a crash. */
const unhandled: string[] = [];
process.on("unhandledRejection", (error) => {
  unhandled.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
});

const total = { passed: 0, failed: 0, skipped: 0, events: 0, seconds: 0 };

function* cases(): Generator<SimCase> {
  const one = {
    nodes: Number(values.nodes),
    minutes: Number(values.minutes),
    real: values.real,
    tight: values.tight,
    slow: values.slow,
    old: values.old,
    islands: values.islands,
  };
  if (values.long) return yield* longCases();
  if (values.seed === undefined) {
    yield* regressionCases();
    return yield* ciCases;
  }
  for (let i = 0; i < Number(values.count); i++) yield { seed: Number(values.seed) + i, ...one };
}

/** Every size in turn, each with a seed that CI does not run. */
function* longCases(): Generator<SimCase> {
  const endMs = performance.now() + Number(values.hours) * 3_600_000;
  const first = Math.floor(Date.now() / 1_000);
  for (let i = 0; performance.now() < endMs; i++) {
    const nodes = i % 50 === 49 ? 1_000 : [10, 10, 10, 50, 20, 10, 200][i % 7]!;
    yield {
      seed: first + i,
      nodes,
      minutes: nodes > 200 ? 0.1 : nodes > 50 ? 2 : 10,
      real: i % 10 === 1 && nodes <= REAL_NODES_MAX,
      tight: i % 3 === 0,
      slow: i % 5 === 4 || i % 20 === 11,
      islands: i % 10 === 3 || i % 20 === 16,
      old: i % 4 === 2 && i % 5 !== 4,
    };
  }
}

// Large meshes run beside the small ones, each in a process of its own.
const beside: Promise<void>[] = [];
for (const one of cases()) {
  if (values.seed === undefined && one.nodes >= LARGE_NODES) {
    beside.push(runBeside(one));
    continue;
  }
  const startMs = performance.now();
  const found = new World(optionsOf(one)).run();
  // Rejections are reported, and processes beside this one are read, between turns of the event loop.
  await Bun.sleep(0);
  const rejections = unhandled.splice(0).map((text) => `nobody handled: ${text}`);
  const result = { ...found, faults: [...found.faults, ...new Set(rejections)] };
  const seconds = (performance.now() - startMs) / 1_000;
  total.events += result.events;
  total.seconds += seconds;
  if (result.faults.length === 0) total.passed++;
  else {
    total.failed++;
    if (!values["no-keep"]) keep(one);
  }
  report(one, result, seconds);
}
await Promise.all(beside);
console.log(
  JSON.stringify({
    ...total,
    seconds: Math.round(total.seconds),
    events_per_second: Math.round(total.events / total.seconds),
  }),
);
process.exit(total.failed === 0 ? 0 : 1);

async function runBeside(one: SimCase): Promise<void> {
  const args = commandOf(one).split(" ").slice(3);
  const child = Bun.spawn([process.execPath, import.meta.filename, ...args], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = (await new Response(child.stdout).text()).trimEnd().split("\n");
  await child.exited;
  const counts = JSON.parse(lines.pop() ?? "{}") as Partial<typeof total>;
  for (const line of lines) console.log(line);
  if (counts.passed === undefined) total.failed++;
  for (const key of ["passed", "failed", "events", "seconds"] as const) total[key] += counts[key] ?? 0;
}

function report(one: SimCase, result: SimResult, seconds: number): void {
  if (values.json) console.log(JSON.stringify(result));
  const { faults, events, traceHash, convergedInMs, settledInMs } = result;
  const verdict = faults.length === 0 ? "ok  " : "FAIL";
  console.log(
    `${verdict} seed ${one.seed} nodes ${one.nodes} minutes ${one.minutes}${one.real === true ? " real" : ""}: ` +
      `${events} events in ${seconds.toFixed(1)} s, converged in ${(convergedInMs ?? Number.NaN) / 1_000} s, ` +
      `settled in ${(settledInMs ?? Number.NaN) / 1_000} s, ${memoryMb()} MB, trace ${traceHash.slice(0, 16)}`,
  );
  for (const fault of faults) console.log(`     ${fault}`);
  if (faults.length > 0) console.log(`     again: ${commandOf(one)}`);
}

function memoryMb(): number {
  Bun.gc(true);
  return Math.round(process.memoryUsage().rss / 1e6);
}

/** Once a seed failed, it runs first for ever. */
function keep(one: SimCase): void {
  const path = join(import.meta.dirname, "regressions.json");
  const kept = JSON.parse(readFileSync(path, "utf8")) as SimCase[];
  if (kept.some((other) => commandOf(other) === commandOf(one))) return;
  const entry = Object.fromEntries(Object.entries(one).filter(([, value]) => value !== false));
  writeFileSync(path, `${JSON.stringify([...kept, entry], null, 2)}\n`);
}
