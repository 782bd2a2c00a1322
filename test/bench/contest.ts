/**
 * A benchmark of several contestants: Godwit, the release before it and its peers do the same thing in turns (A B C, B C A ...), so that
 * whatever else the machine does meets all of them. What carries over to another machine is the ratio of the same turns, so that is
 * given beside each figure. Who is not installed is named, never left out in silence.
 */
import { binaryPath, useBinary } from "../../scripts/lab.ts";
import { BEFORE, GODWIT, quantile, type Bench, type BenchOptions, type Goal, type Measure } from "./bench.ts";

/** What one turn measured: values by the key of the figure. */
export type Sample = Readonly<Record<string, readonly number[]>>;

export interface Turns {
  run(): Promise<Sample>;
  close(): Promise<void>;
}

export interface Contestant {
  readonly name: string;
  /** Programs it needs in PATH. */
  readonly needs?: readonly string[];
  /** What it measures is code of this process: there is no release before to measure. */
  readonly isInProcess?: boolean;
  open(note: (text: string) => void): Promise<Turns>;
}

export interface Figure {
  readonly what: string;
  readonly unit: string;
  /** Judged for Godwit only. */
  readonly goal?: Goal;
  /** Whether more of it is better; where it says so, each turn is compared with the best peer of that turn. */
  readonly better?: "more" | "less";
  /** It stands beside another figure, and no picture is made of it. */
  readonly isAside?: true;
  /** Of Godwit's share of the best peer's, in the same turns. */
  readonly goalBeside?: Goal;
}

export interface Contest {
  readonly name: string;
  readonly row: number;
  readonly how: string;
  readonly figures: Readonly<Record<string, Figure>>;
  /** All contestants do their turn at the same time, where nothing but waiting happens in it. */
  readonly isTogether?: boolean;
  /** Godwit first. */
  readonly contestants: readonly Contestant[];
}

/** Turns that share nothing. */
export const separateTurns = (run: () => Promise<Sample>): Turns => ({ run, close: async () => {} });

export const missingOf = ({ needs = [] }: Contestant): readonly string[] =>
  needs.filter((program) => Bun.which(program) === null);

interface Open {
  readonly name: string;
  readonly binary: string;
  readonly turns: Turns;
}

export function contest({ name, row, how, figures, contestants, isTogether = false }: Contest): Bench {
  const run = async ({ runs, isBeside, before, note }: BenchOptions): Promise<Measure[]> => {
    const everybody = withBefore(contestants, before);
    const values = new Map<string, number[]>();
    /** Of each turn the middle one of its values. */
    const middles = new Map<string, number[]>();
    const open: Open[] = [];
    try {
      for (const contestant of everybody) {
        const isOurs = contestant.name === GODWIT || contestant.name === BEFORE;
        if (!isBeside && !isOurs) continue;
        const missing = missingOf(contestant);
        if (missing.length > 0) {
          note(`${contestant.name} is not measured: ${missing.join(", ")} missing`);
          continue;
        }
        const binary = contestant.name === BEFORE ? before! : binaryPath;
        try {
          useBinary(binary);
          open.push({ name: contestant.name, binary, turns: await contestant.open(note) });
        } catch (error) {
          // One that does not come up here is no reason to measure nobody.
          note(
            `${contestant.name} is not measured: ${error instanceof Error ? error.message : String(error)}`,
          );
        }
      }
      for (let turn = 0; turn < runs; turn++) {
        const takeTurn = async ({ name: of, binary, turns }: Open) => {
          useBinary(binary);
          const sample = await turns.run();
          for (const [key, news] of Object.entries(sample)) {
            const id = `${key} ${of}`;
            values.set(id, [...(values.get(id) ?? []), ...news]);
            const middle = middles.get(id) ?? [];
            middle[turn] = quantile(news, 0.5);
            middles.set(id, middle);
          }
          const said = Object.entries(sample).map(([key, [first]]) => `${key} ${first?.toPrecision(4)}`);
          note(`${name} ${turn + 1}/${runs} ${of}: ${said.join(", ")}`);
        };
        if (isTogether) await Promise.all(open.map(takeTurn));
        // Each turn begins with another: whoever comes behind the same one each time finds the machine as that leaves it.
        else for (let i = 0; i < open.length; i++) await takeTurn(open[(turn + i) % open.length]!);
      }
    } finally {
      for (const { turns } of open.reverse()) await turns.close();
      useBinary(binaryPath);
    }
    return Object.entries(figures).flatMap(([key, { what, unit, goal, better, goalBeside, isAside }]) => {
      const lines: Measure[] = [];
      for (const { name: of } of everybody) {
        const measured = values.get(`${key} ${of}`);
        if (measured === undefined) continue;
        const isJudged = of === GODWIT && goal !== undefined;
        lines.push({
          ...{ of, what, unit, values: measured },
          ...(isJudged ? { goal } : {}),
          ...(isAside === undefined ? {} : { isAside }),
        });
      }
      const turnsOf = (of: string) => middles.get(`${key} ${of}`);
      const ours = turnsOf(GODWIT);
      if (ours === undefined) return lines;
      const earlier = turnsOf(BEFORE);
      if (earlier !== undefined)
        lines.push({
          what: `${what}: times that of the release before`,
          unit: "x",
          values: ratios(ours, [earlier], "more"),
        });
      const others = everybody.map((each) => each.name).filter((of) => of !== GODWIT && of !== BEFORE);
      const peers = others.flatMap((of) => [turnsOf(of)].filter((turns) => turns !== undefined));
      if (better !== undefined && peers.length > 0)
        lines.push({
          what: `${what}: times that of the best peer`,
          unit: "x",
          values: ratios(ours, peers, better),
          ...(goalBeside === undefined ? {} : { goal: goalBeside }),
        });
      return lines;
    });
  };
  const peers = contestants.map((contestant) => contestant.name).filter((of) => of !== GODWIT);
  return { name, row, how, peers, run };
}

/** The release before stands behind Godwit and does the same. */
function withBefore(contestants: readonly Contestant[], before: string | undefined): readonly Contestant[] {
  if (before === undefined) return contestants;
  return contestants.flatMap((contestant) =>
    contestant.name === GODWIT && contestant.isInProcess !== true
      ? [contestant, { ...contestant, name: BEFORE }]
      : [contestant],
  );
}

/** Turn by turn, of the best of the others in that turn; turns that one of the two did not have are left out. */
export function ratios(
  ours: readonly number[],
  others: readonly (readonly number[])[],
  better: "more" | "less",
): number[] {
  return ours.flatMap((own, turn) => {
    const theirs = others.flatMap((turns) => {
      const value = turns[turn];
      return value !== undefined && Number.isFinite(value) && value > 0 ? [value] : [];
    });
    if (theirs.length === 0 || !Number.isFinite(own)) return [];
    return [own / (better === "more" ? Math.max(...theirs) : Math.min(...theirs))];
  });
}
