/** What a plugin outside of the node's thread costs: frames and bytes to and from it, its start, its memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pipe } from "@godwit/sdk";
import { binaryPath } from "../../scripts/lab.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { PluginHost } from "../../runtime/plugin/host/host.ts";
import { installedPlugins, listInstalled } from "../../runtime/plugin/installed.ts";
import { createIsolation } from "../../runtime/plugin/isolation.ts";
import { bundle, install } from "../sandbox/lab.ts";
import type { Bench, Measure } from "./bench.ts";
import { type Cost, costMeasures, memoryOf, meter, perUnit } from "./process.ts";
import type { PluginInstance } from "../../runtime/plugin/host/instance.ts";

const WARM_MS = 500;
const MEASURE_MS = 2_000;
const SMALL_BYTES = 64;
const LARGE_BYTES = 65_536;
/** Of such a piece. */
const MEGABITS = (LARGE_BYTES * 8) / 1e6;
/** One after the other, in each run. */
const LAUNCHES = 10;
/** Processes beside each other, so that what they share is shared. */
const IDLE_PROCESSES = 4;
const SETTLE_MS = 3_000;

type Level = "contained" | "untrusted";

/** Frames/s, Mbit/s. */
const FLOORS: Readonly<Record<string, number>> = {
  "untrusted: small to": 300_000,
  "untrusted: large to": 1_000,
};

class Bed {
  readonly host: PluginHost;
  readonly #pipes: Pipe[] = [];
  #onPipe: (pipe: Pipe) => void = (pipe) => void this.#pipes.push(pipe);

  constructor(plugins: Awaited<ReturnType<typeof installedPlugins>>, dir: string) {
    this.host = new PluginHost({
      plugins: plugins.map(({ plugin }) => plugin),
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      metrics: new Metrics(),
      network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
      stateDir: dir,
      isolate: createIsolation(dir, [binaryPath]),
      events: {
        screen: () => "open" as const,
        pipe: (_name, pipe) => this.#onPipe(pipe),
        listening() {},
        hint: () => true,
        withdraw() {},
        withdrawAll() {},
        health() {},
      },
    });
  }

  pipe(): Promise<Pipe> {
    const { promise, resolve } = Promise.withResolvers<Pipe>();
    const there = this.#pipes.shift();
    if (there === undefined) this.#onPipe = resolve;
    else resolve(there);
    return promise;
  }

  async start(level: Level, bytes: number, sends: boolean, name = "blast"): Promise<void> {
    const instance: PluginInstance = {
      namespace: "transport",
      name,
      type: "blast",
      options: { bytes, sends },
      trust: level,
    };
    await this.host.start([instance]);
    const { health } = this.host.running.at(-1)!;
    if (health.state !== "running") throw new Error(`the plugin does not run: ${health.reason}`);
  }
}

/** Pieces a second, and what one of them cost this process and its children. */
interface Flow {
  readonly rate: number;
  readonly cost: Cost;
}

/** Pieces that the node gets. */
async function receive(bed: Bed): Promise<Flow> {
  const pipe = await bed.pipe();
  let pieces = 0;
  pipe.open({ data: () => void pieces++, drain() {}, closed() {} });
  await Bun.sleep(WARM_MS);
  const cost = meter(process.pid, ...guests());
  const [from, fromMs] = [pieces, performance.now()];
  await Bun.sleep(MEASURE_MS);
  const rate = ((pieces - from) / (performance.now() - fromMs)) * 1_000;
  const flow = { rate, cost: perUnit(cost(), pieces - from) };
  pipe.close();
  return flow;
}

/** Pieces that the plugin takes. */
async function send(bed: Bed, bytes: number): Promise<Flow> {
  const pipe = await bed.pipe();
  const piece = new Uint8Array(bytes);
  let sent = 0;
  const state = { isOver: false };
  const turn = () => {
    for (let i = 0; i < 256 && !state.isOver; i++) {
      sent++;
      if (!pipe.write(piece)) return;
    }
    if (!state.isOver) setImmediate(turn);
  };
  pipe.open({ data() {}, drain: turn, closed: () => void (state.isOver = true) });
  turn();
  await Bun.sleep(WARM_MS);
  const cost = meter(process.pid, ...guests());
  const [from, fromMs] = [sent, performance.now()];
  await Bun.sleep(MEASURE_MS);
  const rate = ((sent - from) / (performance.now() - fromMs)) * 1_000;
  const flow = { rate, cost: perUnit(cost(), sent - from) };
  state.isOver = true;
  pipe.close();
  return flow;
}

/** Processes that run plugins for this one. */
const guests = (): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        return (
          Number(parent) === process.pid &&
          readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("plugin-guest")
        );
      } catch {
        // It has ended meanwhile.
        return false;
      }
    });

export const plugin: Bench = {
  name: "plugin",
  row: 21,
  how: "a transport of a third party, in a process that is locked in and in a Worker; pieces of 64 B and 64 KiB on one stream pipe; the measuring process is the node's side",
  async run({ runs, note }) {
    const dir = await mkdtemp(join(tmpdir(), "godwit-bench-plugin-"));
    const values = new Map<string, number[]>();
    const add = (what: string, value: number) => values.set(what, [...(values.get(what) ?? []), value]);
    const costs = new Map<string, Cost[]>();
    const flow = (key: string, { rate, cost }: Flow, unitsOfPiece: number) => {
      add(key, rate * unitsOfPiece);
      costs.set(key, [...(costs.get(key) ?? []), cost]);
    };
    try {
      await install(dir, { id: "blast", namespace: "transport", code: await bundle("blast") });
      const plugins = installedPlugins(await listInstalled(dir, []));
      for (let i = 0; i < runs; i++)
        for (const level of ["untrusted", "contained"] as const) {
          note(`${level}, run ${i + 1} of ${runs}`);
          const withBed = async (work: (bed: Bed) => Promise<void>) => {
            const bed = new Bed(plugins, dir);
            try {
              await work(bed);
            } finally {
              await bed.host.stop();
            }
          };
          for (let launch = 0; launch < LAUNCHES; launch++)
            await withBed(async (bed) => {
              const startMs = performance.now();
              await bed.start(level, SMALL_BYTES, false);
              add(`${level}: start`, performance.now() - startMs);
            });
          await withBed(async (bed) => {
            await bed.start(level, SMALL_BYTES, true);
            flow(`${level}: small to`, await receive(bed), 1);
          });
          await withBed(async (bed) => {
            await bed.start(level, LARGE_BYTES, true);
            flow(`${level}: large to`, await receive(bed), MEGABITS);
          });
          await withBed(async (bed) => {
            await bed.start(level, SMALL_BYTES, false);
            flow(`${level}: small from`, await send(bed, SMALL_BYTES), 1);
          });
          await withBed(async (bed) => {
            await bed.start(level, LARGE_BYTES, false);
            flow(`${level}: large from`, await send(bed, LARGE_BYTES), MEGABITS);
          });
          if (level === "untrusted")
            await withBed(async (bed) => {
              for (let one = 0; one < IDLE_PROCESSES; one++)
                await bed.start(level, SMALL_BYTES, false, `idle${one}`);
              await Bun.sleep(SETTLE_MS);
              for (const pid of guests()) add("untrusted: memory", memoryOf(pid).ussMb);
            });
        }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
    const measure = (key: string, what: string, unit: string, goal?: Measure["goal"]): Measure => ({
      what,
      unit,
      values: values.get(key) ?? [],
      ...(goal === undefined ? {} : { goal }),
    });
    const flows = (level: Level): Measure[] =>
      (["to", "from"] as const).flatMap((way) =>
        (["small", "large"] as const).flatMap((size) => {
          const what = `${level}, ${size === "small" ? "64 B" : "64 KiB"} ${way} the node`;
          const key = `${level}: ${size} ${way}`;
          const atLeast = FLOORS[key];
          const goal = atLeast === undefined ? undefined : ({ of: "median", atLeast } as const);
          return [
            measure(key, what, size === "small" ? "frames/s" : "Mbit/s", goal),
            ...costMeasures("both sides", `a piece, ${what}`, costs.get(key) ?? []),
          ];
        }),
      );
    return [
      ...flows("untrusted"),
      measure("untrusted: start", "untrusted, launch until its code has run", "ms", {
        of: "p95",
        atMost: 50,
      }),
      measure("untrusted: memory", "untrusted, private memory of one of four, idle", "MB", {
        of: "p95",
        atMost: 10,
      }),
      ...flows("contained"),
      measure("contained: start", "contained, launch until its code has run", "ms"),
    ];
  },
};
