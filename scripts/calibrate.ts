/**
 * How slow this machine is, now, with what else runs on it: the shares of test/budget.json are planned on the reference
 * machine and scaled by this. Owns three short measurements, about a second in all; must never take part in a verdict.
 */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Milliseconds. */
export interface Speeds {
  /** A fixed piece of work on one processor, with as many copies side by side as there are lanes. */
  readonly processor: number;
  /** From nothing to a program that has run its first line, and back. */
  readonly start: number;
  /** 4 KiB that are on the disk when the call returns. */
  readonly commit: number;
}

/** A virtual machine of two cores of an EPYC of 2021 with nothing beside, two lanes. */
export const REFERENCE: Speeds = { processor: 21.5, start: 3.8, commit: 0.12 };

/** What suites are made of; sums to 1. */
const WEIGHTS: Speeds = { processor: 0.6, start: 0.35, commit: 0.05 };
/** One strange measurement must not stretch the limits of everything. */
const RATIO_MAX = 8;

export interface Calibration {
  /** At least 1: a fast machine waits for timers as long as any other. */
  readonly scale: number;
  readonly ratios: Speeds;
}

export function scaleOf(measured: Speeds, reference: Speeds = REFERENCE): Calibration {
  const ratio = (key: keyof Speeds) => Math.min(RATIO_MAX, measured[key] / reference[key]);
  const ratios: Speeds = { processor: ratio("processor"), start: ratio("start"), commit: ratio("commit") };
  const sum = (Object.keys(WEIGHTS) as (keyof Speeds)[]).reduce(
    (total, key) => total + WEIGHTS[key] * ratios[key],
    0,
  );
  return { scale: Math.max(1, sum), ratios };
}

export function formatCalibration({ scale, ratios }: Calibration, lanes: number): string {
  const { processor, start, commit } = ratios;
  return (
    `machine: shares are scaled by ${scale.toFixed(2)} (of the reference's time: processor ${processor.toFixed(2)}, ` +
    `process start ${start.toFixed(2)}, commit ${commit.toFixed(2)}), ${lanes} lanes`
  );
}

const ROUNDS = 20;
const STARTS = 40;
const COMMITS = 200;
const COMMIT_BYTES = 4_096;

export async function measure(lanes: number): Promise<Speeds> {
  const copies = Array.from({ length: lanes }, async () => {
    const child = Bun.spawn([process.execPath, import.meta.filename], { stdout: "pipe", stderr: "inherit" });
    return Number(await new Response(child.stdout).text());
  });
  const processor = Math.max(...(await Promise.all(copies)));
  const starts = Array.from({ length: STARTS }, () =>
    took(() => Bun.spawnSync([process.execPath, "-e", "0"], { stdout: "ignore", stderr: "ignore" })),
  );
  return { processor, start: median(starts), commit: commitMs() };
}

function commitMs(): number {
  const folder = mkdtempSync(join(tmpdir(), "godwit-calibrate-"));
  try {
    const file = openSync(join(folder, "commits"), "w");
    const bytes = new Uint8Array(COMMIT_BYTES).fill(7);
    const times = Array.from({ length: COMMITS }, () =>
      took(() => {
        writeSync(file, bytes);
        fsyncSync(file);
      }),
    );
    closeSync(file);
    return median(times);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function took(what: () => unknown): number {
  const startMs = performance.now();
  what();
  return performance.now() - startMs;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** What suites keep a processor busy with: numbers, objects and text, hashes. Answers a figure, so that nothing is left out. */
function work(): number {
  let state = 1;
  const cells = new Int32Array(1 << 16);
  for (let i = 0; i < 6_000_000; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    cells[state & 0xffff]! += i;
  }
  const rows = Array.from({ length: 2_000 }, (_, i) => ({
    id: i,
    name: `row ${cells[i]}`,
    list: [i, i + 1],
  }));
  let text = "";
  for (let i = 0; i < 12; i++) text = JSON.stringify(JSON.parse(JSON.stringify(rows)));
  const sorted = rows.map(({ name }) => name).sort();
  const block = new Uint8Array(1 << 20).fill(state);
  const hash = createHash("sha256").update(text).update(sorted.join());
  for (let i = 0; i < 12; i++) hash.update(block);
  return hash.digest()[0]!;
}

if (import.meta.main) {
  work();
  console.log(took(() => Array.from({ length: ROUNDS }, work)) / ROUNDS);
}
