/**
 * `bun run bench [name...] [--before PATH] [--runs N] [--wait MINUTES] [--json]`: figures of real processes of dist/godwit beside their
 * goals, and beside the binary of a release before, in turns. `bun run bench beside [name|row...]`: the benchmarks that have peers, with them in turns. First it
 * says what the machine does. Exit code 0 whatever the figures say, 1 when a benchmark could not run, 2 on wrong use.
 */
import { existsSync, readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { binaryPath, useBinary } from "../../scripts/lab.ts";
import { run as runCommand } from "../../scripts/lib.ts";
import {
  BEFORE,
  figuresOf,
  formatGoal,
  formatNumber,
  GODWIT,
  isRate,
  TURNS,
  verdict,
  type Bench,
  type BenchOptions,
  type Measure,
} from "./bench.ts";
import { api } from "./api.ts";
import { coldStart } from "./cold-start.ts";
import { durable } from "./durable.ts";
import { goodput } from "./goodput.ts";
import { handshake } from "./handshake.ts";
import { hub } from "./hub.ts";
import { idle } from "./idle.ts";
import { formatMachine, measureMachine } from "./machine.ts";
import { loops } from "./loops.ts";
import { membership } from "./membership.ts";
import { memory } from "./memory.ts";
import { overlay, wireguard } from "./overlay.ts";
import { plugin } from "./plugin.ts";
import { relay } from "./relay.ts";
import { rerouteLink, rerouteSilent, restart } from "./faults.ts";
import { writeReport, type Result } from "./report.ts";
import { rtt } from "./rtt.ts";
import { scrape } from "./scrape.ts";
import { sealing } from "./sealing.ts";
import { service } from "./service.ts";
import { stream } from "./stream.ts";
import { startCost } from "./start-cost.ts";
import { startup } from "./startup.ts";
import { tor } from "./tor.ts";
import { wakeups } from "./wakeups.ts";

const benches: readonly Bench[] = [
  coldStart,
  rerouteLink,
  rerouteSilent,
  restart,
  goodput,
  relay,
  rtt,
  stream,
  handshake,
  durable,
  sealing,
  idle,
  memory,
  hub,
  membership,
  startup,
  startCost,
  wakeups,
  service,
  api,
  scrape,
  loops,
  tor,
  overlay,
  plugin,
  wireguard,
];

/** A machine that is busier than this with other things is not quiet. */
const CALM_PERCENT = 10;

/** Alone; whoever is compared has TURNS. */
const RUNS = 5;

const USAGE = `usage: bun run bench [beside] [name|row...] [--before PATH] [--runs N] [--wait MINUTES] [--json] [--write]
beside: with the peers that are installed, in turns; needs root for network namespaces
--before: with the binary of a release before, in turns
--runs: turns; by default ${TURNS} where somebody is compared, else ${RUNS}
--write: the results, plots and table into docs/
--wait: before each benchmark, up to so long until nothing else keeps the processors busy
names: ${benches.map(({ name }) => name).join(", ")}; without one, all.`;

/** What the figures depend on. */
async function conditions(before: string | undefined): Promise<Record<string, string>> {
  const versionOf = async (path: string) => (await runCommand([path, "version"])).output.trim();
  return {
    godwit: await versionOf(binaryPath),
    ...(before === undefined ? {} : { before: await versionOf(before) }),
    bun: `${Bun.version} (${Bun.revision.slice(0, 9)})`,
    kernel: release(),
    cpu: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    at: new Date().toISOString(),
    machine: formatMachine(await measureMachine()),
  };
}

/** How each peer tells its version; the first line with a digit of what it says. */
const VERSION_WORDS: Readonly<Record<string, readonly string[]>> = {
  babeld: ["babeld", "-V"],
  yggdrasil: ["dpkg-query", "-W", "-f", "${Version} (Debian)", "yggdrasil"],
  "wireguard-go": ["wireguard-go", "--version"],
  nncp: ["nncp-file", "-version"],
  iperf3: ["iperf3", "-v"],
};

async function peerVersions(): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  for (const [name, words] of Object.entries(VERSION_WORDS)) {
    const said = Bun.which(words[0]!) === null ? undefined : await runCommand([...words]);
    const line = said?.output.split("\n").find((text) => /\d/.test(text));
    versions[name] = line?.trim() ?? "not installed";
  }
  return versions;
}

/** Share of all processors that was busy during a second, in percent: what else runs here while nothing is measured. */
async function busyPercent(): Promise<number> {
  const read = () => {
    const fields = readFileSync("/proc/stat", "utf8").split("\n")[0]!.split(/\s+/).slice(1, 9).map(Number);
    // Fields 4 and 5 are idle and waiting for a disk.
    return { idle: fields[3]! + fields[4]!, all: fields.reduce((sum, field) => sum + field, 0) };
  };
  const before = read();
  await Bun.sleep(1_000);
  const after = read();
  return Math.round(100 * (1 - (after.idle - before.idle) / (after.all - before.all)));
}

const load = (): string =>
  loadavg()
    .map((value) => value.toFixed(2))
    .join(" ");

/** Waits for a quiet machine, then says how busy it is and its load averages. */
async function calm(waitMinutes: number): Promise<string> {
  const endMs = performance.now() + waitMinutes * 60_000;
  let percent = await busyPercent();
  while (percent > CALM_PERCENT && performance.now() < endMs) percent = await busyPercent();
  return `${percent} % busy, load ${load()}`;
}

/** A benchmark that knows of no turns gives one of each after the other. */
async function inTurns(
  bench: Bench,
  options: BenchOptions & { readonly before: string },
): Promise<Measure[]> {
  const merged = new Map<string, Measure & { readonly values: number[] }>();
  try {
    for (let turn = 0; turn < options.runs; turn++)
      for (const [of, binary] of [
        [GODWIT, binaryPath],
        [BEFORE, options.before],
      ] as const) {
        useBinary(binary);
        for (const { goal, ...measure } of await bench.run({ ...options, runs: 1 })) {
          const key = `${measure.what} ${of}`;
          const known = merged.get(key);
          if (known !== undefined) known.values.push(...measure.values);
          else {
            const isJudged = of === GODWIT && goal !== undefined;
            merged.set(key, { ...measure, of, values: [...measure.values], ...(isJudged ? { goal } : {}) });
          }
        }
      }
  } finally {
    useBinary(binaryPath);
  }
  return [...merged.values()].toSorted((a, b) => (a.what < b.what ? -1 : a.what > b.what ? 1 : 0));
}

function printTable(measures: readonly Measure[], isCompared: boolean): void {
  const rows = [
    ["what", "unit", "median", "p95", "min", "max", "n", "goal", ""],
    ...measures.map((measure) => {
      const { median, p95, min, max, runs } = figuresOf(measure.values);
      return [
        measure.of === undefined ? measure.what : `${measure.of}: ${measure.what}`,
        measure.unit,
        ...[median, p95, min, max].map(formatNumber),
        String(runs),
        measure.goal === undefined ? "" : formatGoal(measure.goal),
        // How fast this machine is, nobody has to meet.
        isRate(measure) && !isCompared ? "alone" : (verdict(measure) ?? ""),
      ];
    }),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    const isText = (column: number) => column < 2 || column > 6;
    const cells = row.map((cell, i) => (isText(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)));
    console.log(`  ${cells.join("  ").trimEnd()}`);
  }
}

const isMeant = ({ name, row }: Bench, word: string): boolean => word === name || word === String(row);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: "string" },
      before: { type: "string" },
      wait: { type: "string", default: "0" },
      json: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const isBeside = positionals[0] === "beside";
  const { before } = values;
  const isCompared = isBeside || before !== undefined;
  const [runs, waitMinutes] = [Number(values.runs ?? (isCompared ? TURNS : RUNS)), Number(values.wait)];
  const names = isBeside ? positionals.slice(1) : positionals;
  const stranger = names.find((name) => !benches.some((bench) => isMeant(bench, name)));
  if (
    values.help ||
    stranger !== undefined ||
    !Number.isSafeInteger(runs) ||
    runs < 1 ||
    !(waitMinutes >= 0)
  ) {
    if (stranger !== undefined) console.error(`no benchmark ${stranger}`);
    console.error(USAGE);
    return values.help ? 0 : 2;
  }
  for (const path of [binaryPath, ...(before === undefined ? [] : [before])])
    if (!existsSync(path)) {
      console.error(`${path} is missing${path === binaryPath ? ": bun run build" : ""}`);
      return 1;
    }
  const facts: Record<string, string> = {
    ...(await conditions(before)),
    ...(isBeside ? await peerVersions() : {}),
  };
  if (!values.json) for (const [name, value] of Object.entries(facts)) console.log(`${name}: ${value}`);
  let failures = 0;
  const results: Result[] = [];
  for (const bench of benches) {
    if (isBeside && bench.peers === undefined) continue;
    if (names.length > 0 && !names.some((name) => isMeant(bench, name))) continue;
    const calmness = await calm(waitMinutes);
    try {
      const note = (text: string) => console.error(`... ${text}`);
      const options = { runs, isBeside, note };
      const measures =
        before === undefined
          ? await bench.run(options)
          : await (bench.peers === undefined
              ? inTurns(bench, { ...options, before })
              : bench.run({ ...options, before }));
      results.push({
        name: bench.name,
        row: bench.row,
        how: bench.how,
        machineBefore: `${calmness}; load after ${load()}`,
        measures,
      });
      if (values.json) continue;
      console.log(`\n${bench.name} (row ${bench.row}; before: ${calmness}; load after ${load()})`);
      console.log(`  ${bench.how}`);
      printTable(measures, isCompared);
    } catch (error) {
      failures++;
      console.error(
        `${bench.name} could not be measured: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
  if (values.json) console.log(JSON.stringify({ conditions: facts, benches: results }));
  if (values.write) writeReport({ conditions: facts, benches: results });
  return failures === 0 ? 0 : 1;
}

// An exit by hand, so that no forgotten socket holds a finished benchmark; the lab's own exit hook kills its processes.
process.exit(await main());
