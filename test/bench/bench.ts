/**
 * What a benchmark is, and what its figures become. Benchmarks measure and report; nothing here judges a build. Times
 * are of the monotonic clock of the measuring process, which shares the machine with what it measures: figures are
 * therefore never better than the truth.
 */

/** Which figure a goal speaks of, and the bound it sets. */
export interface Goal {
  readonly of: "median" | "p95" | "max" | "min";
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** Who stands first in every contest. */
export const GODWIT = "godwit";
/** The release before, whose binary the caller names. */
export const BEFORE = "before";
/** Turns of whoever is compared, unless the caller says otherwise. */
export const TURNS = 9;

/** One line of the table: everything that was measured of one thing. */
export interface Measure {
  /** Who was measured, where several are: a program's name. */
  readonly of?: string;
  readonly what: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly goal?: Goal;
  /** It stands beside another figure, and no picture is made of it. */
  readonly isAside?: true;
}

export interface BenchOptions {
  /** How often the whole is repeated. */
  readonly runs: number;
  /** Godwit and its peers in turns; otherwise Godwit alone. */
  readonly isBeside: boolean;
  /** Binary of a release before, in turns with this one. */
  readonly before?: string;
  /** Tells how far it is, on standard error. */
  note(text: string): void;
}

export interface Bench {
  readonly name: string;
  /** Row of the table of goals in docs/benchmarks.md. */
  readonly row: number;
  /** Conditions, in one sentence. */
  readonly how: string;
  /** Programs that are measured beside Godwit; empty when it has no peer. */
  readonly peers?: readonly string[];
  run(options: BenchOptions): Promise<Measure[]>;
}

export interface Figures {
  readonly median: number;
  readonly p95: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

/** Nearest rank, so every figure is one that was measured. `share` from 0 to 1; NaN without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export const figuresOf = (values: readonly number[]): Figures => ({
  median: quantile(values, 0.5),
  p95: quantile(values, 0.95),
  min: quantile(values, 0),
  max: quantile(values, 1),
  runs: values.length,
});

/** What another machine does at another rate: without anybody beside it, it says little. */
export const isRate = ({ unit }: Pick<Measure, "unit">): boolean => unit.endsWith("/s") && unit !== "B/s";

/** "met", or by how much not; undefined without a goal. */
export function verdict({ values, goal }: Measure): string | undefined {
  if (goal === undefined) return undefined;
  const value = figuresOf(values)[goal.of];
  if (!Number.isFinite(value)) return "not measured";
  const bound = goal.atMost ?? goal.atLeast!;
  const isMet = goal.atMost === undefined ? value >= bound : value <= bound;
  const percent = Math.round((Math.abs(value - bound) / bound) * 100);
  return isMet ? "met" : `missed by ${percent} %`;
}

export const formatGoal = ({ of, atMost, atLeast }: Goal): string =>
  `${of} ${atMost === undefined ? `>= ${atLeast}` : `<= ${atMost}`}`;

export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  return size >= 1000
    ? Math.round(value).toLocaleString("en")
    : value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
