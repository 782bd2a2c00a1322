/**
 * Where this process spends its time and what its memory is full of, for whoever looks for the cause. One profile at a time,
 * because there is one profiler. The heap is told in counts by type: its contents are keys and mail. What is loaded for it
 * is loaded when the first is asked for.
 */
import type { Clock } from "@godwit/sdk";
import { sleep } from "./clock.ts";
import { godwitError } from "./errors.ts";

export const PROFILE_SECONDS_MAX = 60;
const SAMPLE_EVERY_US = 1_000;
/** Types of objects that are told, those of which there are most. */
const TYPES_MAX = 50;

/** As Chrome's developer tools and others read it from a file `.cpuprofile`. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      readonly lineNumber: number;
      readonly columnNumber: number;
    };
    readonly hitCount?: number;
    readonly children?: readonly number[];
  }[];
  readonly startTime: number;
  readonly endTime: number;
  readonly samples?: readonly number[];
  readonly timeDeltas?: readonly number[];
}

export interface HeapCounts {
  readonly bytes: number;
  readonly capacityBytes: number;
  /** Memory that objects hold outside of the heap: buffers. */
  readonly extraBytes: number;
  readonly objects: number;
  readonly byType: readonly { readonly type: string; readonly count: number }[];
}

export interface Profile {
  readonly cpu: CpuProfile;
  readonly heap: HeapCounts;
}

let isUnderWay = false;

/** `seconds`: at most PROFILE_SECONDS_MAX. Rejects with GODWIT_QUEUE_FULL while another is made, and as `signal` does. */
export async function profileProcess(seconds: number, clock: Clock, signal: AbortSignal): Promise<Profile> {
  if (isUnderWay)
    throw godwitError("GODWIT_QUEUE_FULL", "a profile is being made already: ask again when it has ended");
  isUnderWay = true;
  try {
    const { Session } = await import("node:inspector");
    const session = new Session();
    session.connect();
    const post = <Result>(method: string, params: object = {}): Promise<Result> =>
      new Promise((resolve, reject) =>
        session.post(method, params, (error: Error | null, result?: object) =>
          error === null ? resolve(result as Result) : reject(error),
        ),
      );
    try {
      await post("Profiler.enable");
      await post("Profiler.setSamplingInterval", { interval: SAMPLE_EVERY_US });
      await post("Profiler.start");
      // The profiler is stopped whatever ends the wait.
      const waited = await sleep(clock, seconds * 1_000, signal).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      const { profile } = await post<{ profile: CpuProfile }>("Profiler.stop");
      if (waited !== undefined) throw waited.error;
      return { cpu: profile, heap: await heapCounts() };
    } finally {
      session.disconnect();
    }
  } finally {
    isUnderWay = false;
  }
}

async function heapCounts(): Promise<HeapCounts> {
  const { heapStats } = await import("bun:jsc");
  const { heapSize, heapCapacity, extraMemorySize, objectCount, objectTypeCounts } = heapStats();
  const byType = Object.entries(objectTypeCounts)
    .map(([type, count]) => ({ type, count }))
    .sort((a, b) => b.count - a.count)
    .slice(0, TYPES_MAX);
  return {
    bytes: heapSize,
    capacityBytes: heapCapacity,
    extraBytes: extraMemorySize,
    objects: objectCount,
    byType,
  };
}
