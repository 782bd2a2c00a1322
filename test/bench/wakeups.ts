/** Row 16: how often the threads of a node that has two links and nothing to do wake up, and what that costs. */
import { readdirSync, readFileSync } from "node:fs";
import { Lab } from "../../scripts/lab.ts";
import type { Bench } from "./bench.ts";
import { untilWhole } from "./probe.ts";

/** Compilers and collectors have nothing left to do by then. */
const SETTLE_MS = 20_000;
const COUNT_MS = 20_000;

interface Thread {
  readonly name: string;
  readonly wakeups: number;
  readonly processorMs: number;
}

function threadsOf(pid: number): Map<string, Thread> {
  const threads = new Map<string, Thread>();
  for (const id of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${id}/status`, "utf8");
    const [ran = 0] = readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ").map(Number);
    threads.set(id, {
      name: id === String(pid) ? "main" : /^Name:\s+(.*)$/m.exec(status)![1]!,
      wakeups: Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)![1]),
      processorMs: ran / 1e6,
    });
  }
  return threads;
}

export const wakeups: Bench = {
  name: "wakeups",
  row: 16,
  how: `the middle one of three nodes in a line, ${SETTLE_MS / 1_000} s after all links are up: voluntary context switches of its threads over ${COUNT_MS / 1_000} s, by /proc`,
  async run({ runs, note }) {
    const main: number[] = [];
    const others: number[] = [];
    const processor: number[] = [];
    for (let turn = 0; turn < runs; turn++) {
      const lab = await Lab.create();
      try {
        const middle = await lab.add({ callsign: "WAK-B" });
        const ends = [];
        for (const callsign of ["WAK-A", "WAK-C"])
          ends.push(await lab.add({ callsign, peers: [middle.endpoint] }));
        await Promise.all([middle, ...ends].map((node) => node.start()));
        await untilWhole([middle, ...ends]);
        await Bun.sleep(SETTLE_MS);
        const start = threadsOf(middle.pid!);
        await Bun.sleep(COUNT_MS);
        const seconds = COUNT_MS / 1_000;
        const grown = [...threadsOf(middle.pid!)].map(([id, { name, wakeups: count, processorMs }]) => ({
          name,
          count: (count - (start.get(id)?.wakeups ?? 0)) / seconds,
          processorMs: (processorMs - (start.get(id)?.processorMs ?? 0)) / seconds,
        }));
        const sum = (of: readonly { readonly count: number }[]) =>
          of.reduce((total, { count }) => total + count, 0);
        main.push(sum(grown.filter(({ name }) => name === "main")));
        others.push(sum(grown.filter(({ name }) => name !== "main")));
        processor.push(grown.reduce((total, { processorMs }) => total + processorMs, 0));
        note(
          grown
            .filter(({ count }) => count > 0)
            .map(({ name, count }) => `${name} ${count.toFixed(1)}/s`)
            .join(", "),
        );
      } finally {
        await lab.close();
      }
    }
    return [
      {
        what: "wake-ups of the main thread, idle, two links",
        unit: "1/s",
        values: main,
        goal: { of: "median", atMost: 3 },
      },
      { what: "wake-ups of all other threads", unit: "1/s", values: others },
      { what: "processor time of a second, all threads", unit: "ms", values: processor },
    ];
  },
};
