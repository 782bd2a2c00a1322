/**
 * Runs inputs through a target and judges: what may be thrown, how long it may take, what it may keep. A target that
 * breaks a rule is reported with the input as hex, ready for test/vectors/fuzz.json.
 */
import { GodwitError } from "../../runtime/kernel/errors.ts";
import { formatHex, formatNodeId, nodeIdBytes } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { mutate } from "./mutate.ts";

/** One input may take this long. */
export const INPUT_MS_MAX = 50;
/** A slow input is tried again: another process may have had the processor. */
const SLOW_TRIES = 3;
/** Between looks at the clock of the whole run. */
const BATCH = 64;
/** What kernel/ids.ts caches at most. */
const NODE_IDS_CACHED = 65_536;
const HEX_SHOWN = 4_000;

export interface Target {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  readonly tokens: readonly Uint8Array[];
  /** May throw a GodwitError of kind protocol or config. Everything else it throws is a finding. */
  run(input: Uint8Array): void | Promise<void>;
  /** Anything that went wrong outside `run`: an escaped rejection, a broken invariant. Asked at the end. */
  finish?(): void;
}

export class Finding extends Error {
  constructor(target: string, input: Uint8Array, why: string, cause?: unknown) {
    const hex = formatHex(input);
    super(
      `${target}: ${why}\ninput (${input.length} bytes): ${hex.slice(0, HEX_SHOWN)}${hex.length > HEX_SHOWN ? "..." : ""}`,
      { cause },
    );
  }
}

export interface Run {
  readonly inputs: number;
  readonly accepted: number;
  readonly refused: number;
  readonly seconds: number;
  readonly slowestMs: number;
}

/** Kinds of error that say what is wrong with the input; `permission`: signed by nobody who may. */
const REFUSALS: ReadonlySet<string> = new Set(["protocol", "config", "plugin", "permission"]);

async function once(target: Target, input: Uint8Array): Promise<"accepted" | "refused"> {
  try {
    // No await where nothing is to be awaited: a hundred thousand turns of the microtask queue would be all we measure.
    const pending = target.run(input);
    if (pending !== undefined) await pending;
    return "accepted";
  } catch (error) {
    if (error instanceof GodwitError && REFUSALS.has(error.kind)) return "refused";
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new Finding(target.name, input, `threw what it must not: ${stack}`, error);
  }
}

/** One input under all rules; its time in ms. Throws a Finding. */
export async function judge(
  target: Target,
  input: Uint8Array,
): Promise<{ outcome: "accepted" | "refused"; ms: number }> {
  let ms = Number.POSITIVE_INFINITY;
  let outcome: "accepted" | "refused" = "accepted";
  for (let i = 0; i < SLOW_TRIES && ms > INPUT_MS_MAX; i++) {
    const startedMs = performance.now();
    outcome = await once(target, input);
    ms = performance.now() - startedMs;
  }
  if (ms > INPUT_MS_MAX)
    throw new Finding(target.name, input, `took ${ms.toFixed(0)} ms, at most ${INPUT_MS_MAX}`);
  return { outcome, ms };
}

/** Mutated inputs until `inputs` are done or the time is over. Throws a Finding. */
export async function fuzz(
  target: Target,
  options: { readonly seed: number; readonly inputs: number; readonly ms: number },
): Promise<Run> {
  const random = seededRandom(options.seed);
  const startedMs = performance.now();
  let [inputs, accepted, slowestMs] = [0, 0, 0];
  while (inputs < options.inputs) {
    const { outcome, ms } = await judge(target, mutate(random, target));
    inputs++;
    if (outcome === "accepted") accepted++;
    slowestMs = Math.max(slowestMs, ms);
    if (inputs % BATCH === 0 && performance.now() - startedMs > options.ms) break;
  }
  target.finish?.();
  const seconds = (performance.now() - startedMs) / 1_000;
  return { inputs, accepted, refused: inputs - accepted, seconds, slowestMs };
}

/**
 * Brings the bounded caches of node ids to one state, exactly full, so that their filling is not taken for a leak: a
 * cache is cleared when full, so the first round leaves some part of these ids and the second adds the other.
 */
function fillIdCaches(): void {
  for (let round = 0; round < 2; round++) {
    const random = seededRandom(0xca);
    for (let i = 0; i < NODE_IDS_CACHED; i++) nodeIdBytes(formatNodeId(random.bytes(32)));
  }
}

/** Live bytes of the heap, after collection. */
export function heapBytes(): number {
  fillIdCaches();
  Bun.gc(true);
  Bun.gc(true);
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

export const formatRun = (name: string, { inputs, accepted, seconds, slowestMs }: Run): string =>
  `${name.padEnd(18)} ${String(inputs).padStart(7)} inputs ${(inputs / seconds).toFixed(0).padStart(7)}/s ` +
  `${((100 * accepted) / inputs).toFixed(0).padStart(3)} % accepted, slowest ${slowestMs.toFixed(1)} ms`;
