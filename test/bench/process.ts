/** What Linux says about a process. Memory in MB of 10^6 bytes. */
import { readFileSync } from "node:fs";

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

/** The most that was ever resident, MB. */
export const peakMb = (pid: number): number =>
  kibibytes(readFileSync(`/proc/${pid}/status`, "utf8"), "VmHWM");

/** Processor time of a process and its threads so far, ms. The kernel counts in ticks of 10 ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold spaces; fields 14 and 15 are user and system time.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
