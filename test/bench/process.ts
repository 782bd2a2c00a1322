/** What Linux says about a process. Memory in MB of 10^6 bytes. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import type { Measure } from "./bench.ts";
import type { Figure, Sample } from "./contest.ts";

export interface Memory {
  readonly rssMb: number;
  /** Nobody else's: heap, stacks, written pages. */
  readonly anonMb: number;
  /** Pages of files, in our case of the binary itself; processes of one binary share them. */
  readonly fileMb: number;
  /** Private pages and a fair share of the shared ones. */
  readonly pssMb: number;
  /** What would be free if this one process ended. */
  readonly ussMb: number;
}

const kibibytes = (text: string, field: string): number =>
  (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN) * 1_024) / 1e6;

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return {
    rssMb: kibibytes(status, "VmRSS"),
    anonMb: kibibytes(status, "RssAnon"),
    fileMb: kibibytes(status, "RssFile") + kibibytes(status, "RssShmem"),
    pssMb: kibibytes(rollup, "Pss"),
    ussMb: kibibytes(rollup, "Private_Clean") + kibibytes(rollup, "Private_Dirty"),
  };
}

/** Processor time of a process and its threads so far, ms. The kernel counts in ticks of 10 ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold spaces; fields 14 and 15 are user and system time.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The same of the threads that live now, exact to less than a microsecond: for little work, in which none ends. */
export function threadsCpuMs(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`))
    ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
  return ns / 1e6;
}

/** Bytes that it caused to be written to disks so far; NaN where the kernel does not let us see. */
export function writtenBytes(pid: number): number {
  try {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? Number.NaN);
  } catch {
    return Number.NaN;
  }
}

/** Most resident memory of its life, or since that was made to count anew. */
export const peakMb = (pid: number): number =>
  kibibytes(readFileSync(`/proc/${pid}/status`, "utf8"), "VmHWM");

/** What doing something cost a process: what carries over to another machine better than how fast it went. */
export interface Cost {
  readonly cpuMs: number;
  readonly written: number;
  /** Most resident memory meanwhile. */
  readonly peakMb: number;
}

/** What the processes pay together from now on, until the call that it answers; of their peaks the highest. */
export function meter(...pids: readonly number[]): () => Cost {
  const before = pids.map((pid) => {
    // 5: the peak of resident memory counts anew. Without the right to it the peak is that of the process's life.
    try {
      writeFileSync(`/proc/${pid}/clear_refs`, "5");
    } catch {}
    return { cpu: cpuMs(pid), written: writtenBytes(pid) };
  });
  const sum = (of: (pid: number, at: number) => number) =>
    pids.reduce((total, pid, at) => total + of(pid, at), 0);
  return () => ({
    cpuMs: sum((pid, at) => cpuMs(pid) - before[at]!.cpu),
    written: sum((pid, at) => writtenBytes(pid) - before[at]!.written),
    peakMb: Math.max(...pids.map(peakMb)),
  });
}

/** Figures of `costSample` with the same key: what `who` paid for `unit`. */
export const costFigures = (key: string, who: string, unit: string): Readonly<Record<string, Figure>> => ({
  [`${key}Cpu`]: { what: `processor time of ${who} for ${unit}`, unit: "us", better: "less" },
  [`${key}Written`]: { what: `written to disk by ${who} for ${unit}`, unit: "B", isAside: true },
  [`${key}Peak`]: { what: `most resident memory of ${who}, ${unit}`, unit: "MB", isAside: true },
});

/** Of `units` that were done together; the peak is that of all. */
export const perUnit = (cost: Cost, units: number): Cost => ({
  cpuMs: cost.cpuMs / units,
  written: cost.written / units,
  peakMb: cost.peakMb,
});

/** The same lines for a benchmark that is no contest: what `who` paid in each run for `unit`. */
export const costMeasures = (who: string, unit: string, costs: readonly Cost[]): Measure[] => {
  const figures = costFigures("", who, unit);
  const values = costs.map((cost) => costSample("", cost, 1));
  return Object.entries(figures).map(([key, figure]) => ({
    what: figure.what,
    unit: figure.unit,
    values: values.flatMap((sample) => sample[key]!),
    ...(figure.isAside === undefined ? {} : { isAside: figure.isAside }),
  }));
};

export const costSample = (key: string, cost: Cost, units: number): Sample => ({
  [`${key}Cpu`]: [(cost.cpuMs * 1_000) / units],
  [`${key}Written`]: [cost.written / units],
  [`${key}Peak`]: [cost.peakMb],
});
