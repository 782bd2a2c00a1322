/** A command line without a process: output in strings, input from a string. */
import { startApiServers } from "../api/server.ts";
import type { Rig } from "../api/testing.ts";
import { type Clock, systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Scope } from "../kernel/scope.ts";
import { runCli } from "./cli.ts";
import type { CliIo } from "./io.ts";

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** Standard output byte for byte. */
  readonly bytes: Buffer;
}

export interface CliSetup {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** Whether `stdin` is typed; by default somebody is there who types nothing, or a pipe. */
  readonly isStdinTty?: boolean;
  readonly isStdoutTty?: boolean;
  /** Of that terminal. */
  readonly columns?: number;
  readonly rows?: number;
  readonly stderrColumns?: number;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** Why standard output took nothing. */
  readonly outFails?: Error;
  /** Sees each piece of standard output as it is written. */
  readonly onOut?: (text: string) => void;
}

export async function runForTest(argv: readonly string[], setup: CliSetup = {}): Promise<CliResult> {
  const out: Buffer[] = [];
  let err = "";
  const io: CliIo = {
    stdout(chunk) {
      out.push(Buffer.from(chunk as string));
      setup.onOut?.(out.at(-1)!.toString());
    },
    stderr: (text) => void (err += text),
    async *stdin() {
      yield Buffer.from((setup.stdin ?? "") as string);
    },
    isStdinTty: setup.isStdinTty ?? setup.stdin === undefined,
    isStdoutTty: setup.isStdoutTty ?? false,
    size: setup.columns === undefined ? undefined : { columns: setup.columns, rows: setup.rows ?? 24 },
    stderrColumns: setup.stderrColumns,
    flush: () => Promise.resolve(setup.outFails),
    clock: setup.clock ?? systemClock,
    signal: setup.signal ?? new AbortController().signal,
  };
  const code = await runCli(argv, { HOME: "/nonexistent", ...setup.env }, io);
  const bytes = Buffer.concat(out);
  return { code, out: bytes.toString(), err, bytes };
}

/** A node that answers at a socket, until the scope is closed. */
export async function serveAt(socketPath: string, { app, stop }: Rig, scope: Scope): Promise<void> {
  scope.signal.addEventListener("abort", () => stop.abort());
  const deps = { app, clock: systemClock, log: silentLog, metrics: new Metrics(), listen: [], socketPath };
  await startApiServers(deps, scope);
}
