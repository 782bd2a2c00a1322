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
import { memoryOf } from "./process.ts";
import type { PluginInstance } from "../../runtime/plugin/host/instance.ts";

const WARM_MS = 500;
const MEASURE_MS = 2_000;
const SMALL_BYTES = 64;
const LARGE_BYTES = 65_536;
/** One after the other, in each run. */
const LAUNCHES = 10;
/** Processes beside each other, so that what they share is shared. */
const IDLE_PROCESSES = 4;
const SETTLE_MS = 3_000;

type Level = "contained" | "untrusted";

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

/** Pieces a second that the node gets. */
async function receive(bed: Bed): Promise<number> {
  const pipe = await bed.pipe();
  let pieces = 0;
  pipe.open({ data: () => void pieces++, drain() {}, closed() {} });
  await Bun.sleep(WARM_MS);
  const [from, fromMs] = [pieces, performance.now()];
  await Bun.sleep(MEASURE_MS);
  const rate = ((pieces - from) / (performance.now() - fromMs)) * 1_000;
  pipe.close();
  return rate;
}

/** Bytes a second that the plugin takes. */
async function send(bed: Bed, bytes: number): Promise<number> {
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
  const [from, fromMs] = [sent, performance.now()];
  await Bun.sleep(MEASURE_MS);
  const rate = ((sent - from) / (performance.now() - fromMs)) * 1_000;
  state.isOver = true;
  pipe.close();
  return rate;
}

/** MB that no other process has, of each child. */
const privateMemory = (): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, "utf8"))?.[1];
        const words = readFileSync(`/proc/${name}/cmdline`, "utf8");
        return Number(parent) === process.pid && words.includes("plugin-guest")
          ? [memoryOf(Number(name)).ussMb]
          : [];
      } catch {
        return [];
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
            add(`${level}: small to`, await receive(bed));
          });
          await withBed(async (bed) => {
            await bed.start(level, LARGE_BYTES, true);
            add(`${level}: large to`, ((await receive(bed)) * LARGE_BYTES * 8) / 1e6);
          });
          await withBed(async (bed) => {
            await bed.start(level, SMALL_BYTES, false);
            add(`${level}: small from`, await send(bed, SMALL_BYTES));
          });
          await withBed(async (bed) => {
            await bed.start(level, LARGE_BYTES, false);
            add(`${level}: large from`, ((await send(bed, LARGE_BYTES)) * LARGE_BYTES * 8) / 1e6);
          });
          if (level === "untrusted")
            await withBed(async (bed) => {
              for (let one = 0; one < IDLE_PROCESSES; one++)
                await bed.start(level, SMALL_BYTES, false, `idle${one}`);
              await Bun.sleep(SETTLE_MS);
              for (const mb of privateMemory()) add("untrusted: memory", mb);
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
    return [
      measure("untrusted: small to", "untrusted, 64 B to the node", "frames/s", {
        of: "median",
        atLeast: 300_000,
      }),
      measure("untrusted: large to", "untrusted, 64 KiB to the node", "Mbit/s", {
        of: "median",
        atLeast: 1_000,
      }),
      measure("untrusted: small from", "untrusted, 64 B from the node", "frames/s"),
      measure("untrusted: large from", "untrusted, 64 KiB from the node", "Mbit/s"),
      measure("untrusted: start", "untrusted, launch until its code has run", "ms", {
        of: "p95",
        atMost: 50,
      }),
      measure("untrusted: memory", "untrusted, private memory of one of four, idle", "MB", {
        of: "p95",
        atMost: 10,
      }),
      measure("contained: small to", "contained, 64 B to the node", "frames/s"),
      measure("contained: large to", "contained, 64 KiB to the node", "Mbit/s"),
      measure("contained: small from", "contained, 64 B from the node", "frames/s"),
      measure("contained: large from", "contained, 64 KiB from the node", "Mbit/s"),
      measure("contained: start", "contained, launch until its code has run", "ms"),
    ];
  },
};
