/**
 * A benchmark of several contestants: Godwit and its peers do the same thing in turns (A B C A B C ...), so that
 * whatever else the machine does meets all of them. Who is not installed is named, never left out in silence.
 */
import { GODWIT, type Bench, type BenchOptions, type Goal, type Measure } from "./bench.ts";

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
  /** Fewer turns than the others, where one takes minutes. */
  readonly runsMax?: number;
  open(note: (text: string) => void): Promise<Turns>;
}

export interface Figure {
  readonly what: string;
  readonly unit: string;
  /** Judged for Godwit only. */
  readonly goal?: Goal;
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
  /** Fewer turns than asked for, where one is long and says much. */
  readonly runsMax?: number;
}

/** Turns that share nothing. */
export const separateTurns = (run: () => Promise<Sample>): Turns => ({ run, close: async () => {} });

export const missingOf = ({ needs = [] }: Contestant): readonly string[] =>
  needs.filter((program) => Bun.which(program) === null);

export function contest({
  name,
  row,
  how,
  figures,
  contestants,
  runsMax,
  isTogether = false,
}: Contest): Bench {
  const run = async ({ runs: asked, isBeside, note }: BenchOptions): Promise<Measure[]> => {
    const runs = Math.min(asked, runsMax ?? asked);
    const values = new Map<string, number[]>();
    const open: { contestant: Contestant; turns: Turns }[] = [];
    try {
      for (const contestant of contestants) {
        if (!isBeside && contestant.name !== GODWIT) continue;
        const missing = missingOf(contestant);
        if (missing.length > 0) {
          note(`${contestant.name} is not measured: ${missing.join(", ")} missing`);
          continue;
        }
        try {
          open.push({ contestant, turns: await contestant.open(note) });
        } catch (error) {
          // One that does not come up here is no reason to measure nobody.
          note(
            `${contestant.name} is not measured: ${error instanceof Error ? error.message : String(error)}`,
          );
        }
      }
      for (let turn = 0; turn < runs; turn++) {
        const takeTurn = async ({ contestant, turns }: (typeof open)[number]) => {
          const sample = await turns.run();
          for (const [key, news] of Object.entries(sample)) {
            const id = `${key} ${contestant.name}`;
            values.set(id, [...(values.get(id) ?? []), ...news]);
          }
          const said = Object.entries(sample).map(([key, [first]]) => `${key} ${first?.toPrecision(4)}`);
          note(`${name} ${turn + 1}/${runs} ${contestant.name}: ${said.join(", ")}`);
        };
        const due = open.filter(({ contestant }) => turn < (contestant.runsMax ?? Number.POSITIVE_INFINITY));
        if (isTogether) await Promise.all(due.map(takeTurn));
        else for (const each of due) await takeTurn(each);
      }
    } finally {
      for (const { turns } of open.reverse()) await turns.close();
    }
    return Object.entries(figures).flatMap(([key, { goal, ...figure }]) =>
      contestants.flatMap((contestant) => {
        const measured = values.get(`${key} ${contestant.name}`);
        if (measured === undefined) return [];
        const isJudged = contestant.name === GODWIT && goal !== undefined;
        return [{ ...figure, of: contestant.name, values: measured, ...(isJudged ? { goal } : {}) }];
      }),
    );
  };
  const peers = contestants.map((contestant) => contestant.name).filter((of) => of !== GODWIT);
  return { name, row, how, peers, run };
}
