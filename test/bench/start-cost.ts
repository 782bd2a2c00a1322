/**
 * Row 16: what a start and a command cost in processor time of all threads, beside an empty program that was compiled with the same flags,
 * in the same turns. Times of processors carry over to other machines as a ratio; times of clocks do not.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildBinary } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import type { Bench, Measure } from "./bench.ts";

const LOOK_MS = 2;
const START_MS = 20_000;
/** Another binary, of the release before for instance, that takes its turns too. */
const before = process.env["GODWIT_BEFORE"];

type Process = ReturnType<typeof spawn>;

const spawn = (command: readonly string[]) =>
  Bun.spawn([...command], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
    env: { PATH: "/usr/bin:/bin" },
  });

/** Of all threads, user and system, from exec to end. The kernel counts it in nanoseconds. */
async function costMs(ended: Process): Promise<number> {
  await ended.exited;
  return Number(ended.resourceUsage()!.cpuTime.total) / 1_000;
}

/** When `GET /health` was answered for the first time. */
async function untilAnswers(socket: string): Promise<void> {
  const endMs = performance.now() + START_MS;
  while (performance.now() < endMs) {
    if (existsSync(socket)) {
      const answer = await fetch("http://localhost/health", { unix: socket }).catch(() => undefined);
      if (answer?.ok === true) return void (await answer.text());
    }
    await Bun.sleep(LOOK_MS);
  }
  throw new Error("the node does not answer");
}

/** A first boot, two more in the folder that it made; while the last one runs, `godwit status`. */
async function oneTurn(
  binary: string,
  folder: string,
): Promise<Record<"first" | "again" | "status", number>> {
  mkdirSync(folder);
  try {
    const config = join(folder, "godwit.toml");
    const socket = join(folder, "state", "godwit.sock");
    writeFileSync(
      config,
      `[node]\ncallsign = "BEN-A"\nstate_dir = "${folder}/state"\n` +
        `[transports.lan]\ntype = "tcp"\nlisten = ["127.0.0.1:0"]\n[api]\nlisten = "127.0.0.1:0"\n`,
    );
    const boot = async (work: () => Promise<unknown> = async () => {}) => {
      rmSync(socket, { force: true });
      const node = spawn([binary, "run", "--config", config]);
      await untilAnswers(socket);
      const value = await work();
      // At once, so that nothing of its running counts.
      node.kill("SIGKILL");
      return { cost: await costMs(node), value };
    };
    const { cost: first } = await boot();
    const { cost: again } = await boot();
    const { value: status } = await boot(() => costMs(spawn([binary, "status", "--config", config])));
    return { first, again, status: status as number };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const startCost: Bench = {
  name: "start-cost",
  row: 16,
  how:
    "processor time of all threads, user and system: of a node from exec to its first answer to GET /health, then killed; of `godwit status` from exec to its end; " +
    "of an empty program compiled with the same flags. In turns; the ratio is that of one turn" +
    (before === undefined ? "" : `; before: ${before}`),
  async run({ runs, note }) {
    const folder = mkdtempSync(join(tmpdir(), "godwit-start-"));
    try {
      const entry = join(folder, "empty.ts");
      const empty = join(folder, "empty");
      writeFileSync(entry, "export {};\n");
      await buildBinary({ entries: [entry], entryRoot: folder, outfile: empty, version: "0" });
      const measured = new Map<string, { unit: string; values: number[]; atMost?: number }>();
      const add = (what: string, unit: string, value: number, atMost?: number) => {
        const row = measured.get(what) ?? { unit, values: [], ...(atMost === undefined ? {} : { atMost }) };
        measured.set(what, row);
        row.values.push(value);
      };
      const binaries = { "": binaryPath, ...(before === undefined ? {} : { "before: ": before }) };
      for (let turn = 0; turn < runs; turn++) {
        const emptyMs = await costMs(spawn([empty]));
        add("an empty program", "ms", emptyMs);
        for (const [who, binary] of Object.entries(binaries)) {
          const { first, again, status } = await oneTurn(binary, join(folder, `turn-${turn}`));
          add(`${who}start, first boot`, "ms", first);
          add(`${who}start, again`, "ms", again);
          add(`${who}godwit status`, "ms", status);
          add(`${who}start, first boot, to an empty program`, "x", first / emptyMs, 12);
          add(`${who}start, again, to an empty program`, "x", again / emptyMs, 12);
          add(`${who}godwit status, to an empty program`, "x", status / emptyMs, 3);
          note(`start-cost ${turn + 1}/${runs} ${who}${(again / emptyMs).toFixed(1)} x an empty program`);
        }
      }
      return [...measured].map(([what, { unit, values, atMost }]): Measure => ({
        what,
        unit,
        values,
        ...(atMost === undefined ? {} : { goal: { of: "median", atMost } }),
      }));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
