/**
 * What this process takes of its machine, for the metrics: read from the kernel at a scrape and at no other time. Owns nothing and keeps
 * nothing but the last readings. What the system does not tell (another one than Linux, a file that only root may read) is not shown.
 */
import { readdirSync, readFileSync } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { resolve } from "node:path";
import type { Clock } from "@godwit/sdk";
import { descriptorLimit } from "@godwit/sdk/places";
import type { Metrics, Observed } from "../kernel/metrics.ts";

/** A disk that does not answer holds up a scrape no longer than this; what it said before is shown meanwhile. */
const DISK_WAIT_MS = 250;
/** To know what is shared the kernel walks over all pages: 2 ms of processor time for 100 MB. What it said stands so long. */
const SHARES_FRESH_MS = 60_000;
const NS = 1e9;
const US = 1e6;
const KIB = 1_024;
/** A second, wherever the kernel tells times to programs (USER_HZ). */
const TICKS = 100;
/** What the path of the database ends with. */
const STORE_FILES = { database: "", wal: "-wal", log: "-log" } as const;

export interface ProcessFactsDeps {
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly version: string;
  readonly stateDir: string;
  /** Of the store. */
  readonly databasePath: string;
}

/** Of the whole process at one moment. */
interface Reading {
  readonly memory: ReturnType<typeof process.memoryUsage>;
  /** Text of files of /proc/self; empty where they cannot be read. */
  readonly status: string;
  readonly io: string;
  /** Seconds. */
  readonly cpu: number;
  readonly mainCpu: number | undefined;
  readonly openFiles: number | undefined;
}

export function exposeProcess(deps: ProcessFactsDeps): void {
  const { metrics, clock, version } = deps;
  const labels = { version, bun: Bun.version, platform: `${process.platform}-${process.arch}` };
  metrics.observedSets("godwit_build_info", () => [[1, labels]]);
  let started: number | undefined;
  metrics.observedGauge("process_start_time_seconds", () => (started ??= startedAt()));
  metrics.observedGauge("process_max_fds", descriptorLimit);

  let now: Reading | undefined;
  metrics.beforeScrape(() => void (now = read()));
  metrics.observedCounter("process_cpu_seconds_total", () => now?.cpu);
  metrics.observedSets(
    "godwit_thread_cpu_seconds_total",
    threads(() => now),
  );
  metrics.observedGauge("process_open_fds", () => now?.openFiles);
  metrics.observedGauge("process_resident_memory_bytes", () => now?.memory.rss);
  metrics.observedGauge("godwit_memory_peak_bytes", () => kibibytes(now?.status ?? "", "VmHWM"));
  metrics.observedGauge("godwit_memory_proportional_bytes", proportional(clock));
  metrics.observedGauge("godwit_heap_size_bytes", () => now?.memory.heapTotal);
  metrics.observedGauge("godwit_heap_used_bytes", () => now?.memory.heapUsed);
  metrics.observedCounter("godwit_disk_written_bytes_total", () => numberIn(now?.io ?? "", "write_bytes"));
  exposeDisk(deps);
}

function proportional(clock: Clock): () => number | undefined {
  let bytes: number | undefined;
  let readAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    const nowMs = clock.monotonicMs();
    if (nowMs - readAtMs < SHARES_FRESH_MS) return bytes;
    readAtMs = nowMs;
    return (bytes = kibibytes(textOf("smaps_rollup"), "Pss"));
  };
}

/** Room on the disk and files of the store. One look at a time, however many scrapes wait for it. */
function exposeDisk({ metrics, clock, stateDir, databasePath }: ProcessFactsDeps): void {
  let disk: { readonly free: number; readonly size: number } | undefined;
  let files: readonly Observed<"file">[] = [];
  let looking: Promise<void> | undefined;

  async function look(): Promise<void> {
    disk = await statfs(stateDir).then(
      ({ bavail, blocks, bsize }) =>
        blocks > 0 ? { free: bavail * bsize, size: blocks * bsize } : undefined,
      () => undefined,
    );
    files = await Promise.all(
      Object.entries(STORE_FILES).map(async ([file, ending]): Promise<Observed<"file">> => {
        const size = await stat(`${databasePath}${ending}`).then(
          (found) => found.size,
          () => 0,
        );
        return [size, { file }];
      }),
    );
  }

  metrics.beforeScrape(() => {
    looking ??= look().finally(() => (looking = undefined));
    const { promise: waited, resolve: go } = Promise.withResolvers<void>();
    const timer = clock.after(DISK_WAIT_MS, go);
    return Promise.race([looking, waited]).finally(() => timer.cancel());
  });
  metrics.observedGauge("godwit_disk_free_bytes", () => disk?.free);
  metrics.observedGauge("godwit_disk_size_bytes", () => disk?.size);
  metrics.observedSets("godwit_store_file_bytes", () => files);
}

function read(): Reading {
  const { user, system } = process.cpuUsage();
  return {
    memory: process.memoryUsage(),
    status: textOf("status"),
    io: textOf("io"),
    cpu: (user + system) / US,
    mainCpu: mainCpuSeconds(),
    openFiles: openFiles(),
  };
}

/** The two are not read in the same moment, so that the difference of them may be less than before, which would be read as a restart. */
function threads(last: () => Reading | undefined): () => readonly Observed<"thread">[] {
  let others = 0;
  return () => {
    const now = last();
    if (now?.mainCpu === undefined) return [];
    others = Math.max(others, now.cpu - now.mainCpu);
    return [
      [now.mainCpu, { thread: "main" }],
      [others, { thread: "others" }],
    ];
  };
}

/** The first number of `schedstat` is the time on a processor, in nanoseconds. */
function mainCpuSeconds(): number | undefined {
  const [onCpu = ""] = textOf(`task/${process.pid}/schedstat`).split(" ");
  return onCpu === "" ? undefined : Number(onCpu) / NS;
}

/** Both are times of the kernel: that of the boot since 1970, and behind it, in ticks, that of the start. */
function startedAt(): number | undefined {
  const booted = /^btime (\d+)$/m.exec(textOf("/proc/stat"))?.[1];
  const text = textOf("stat");
  // The name in parentheses may hold spaces and parentheses; the start is field 22.
  const ticks = text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
  return booted === undefined || ticks === undefined ? undefined : Number(booted) + Number(ticks) / TICKS;
}

function openFiles(): number | undefined {
  try {
    // Without that of the look itself.
    return readdirSync("/proc/self/fd").length - 1;
  } catch {
    return undefined;
  }
}

/** Of /proc/self, or of the root for what begins there. */
function textOf(file: string): string {
  try {
    return readFileSync(resolve("/proc/self", file), "latin1");
  } catch {
    return "";
  }
}

/** What stands behind `name:`, which begins a line and is not the first of them. */
function numberIn(text: string, name: string): number | undefined {
  const at = text.indexOf(`\n${name}:`);
  return at < 0 ? undefined : Number.parseInt(text.slice(at + name.length + 2), 10);
}

function kibibytes(text: string, name: string): number | undefined {
  const found = numberIn(text, name);
  return found === undefined ? undefined : found * KIB;
}
