/** The world as a command sees it, so that tests run commands without a process. */
import { type Clock, systemClock } from "../kernel/clock.ts";
import { isJournal } from "../kernel/log.ts";
import { compileAfterStart } from "../kernel/start-code.ts";

export interface CliIo {
  /** Text or bytes to standard output, in order. */
  readonly stdout: (chunk: string | Uint8Array) => void;
  readonly stderr: (text: string) => void;
  /** Standard input from here to its end; consumed at most once. */
  readonly stdin: () => AsyncIterable<Uint8Array>;
  readonly isStdinTty: boolean;
  readonly isStdoutTty: boolean;
  /** Of the terminal that standard output is; undefined where it is none. */
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
  /** Of the terminal on standard error; undefined: there is none. */
  readonly stderrColumns: number | undefined;
  /** Resolves when what was written is with the operating system: with why standard output did not take all of it, if it did not. */
  readonly flush: () => Promise<Error | undefined>;
  readonly clock: Clock;
  /** Aborts when the user has had enough (Ctrl-C) or nobody reads any more. */
  readonly signal: AbortSignal;
}

/** The real one. Listens for SIGINT and SIGTERM only when `handlesSignals`: `run` has its own way to stop. */
export function processIo(handlesSignals: boolean): CliIo {
  // A node says itself when its start is through.
  if (handlesSignals) compileAfterStart(systemClock);
  const controller = new AbortController();
  if (handlesSignals)
    for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => controller.abort());
  // Standard streams are made when they are first touched: `run` starts without them, which saves it milliseconds.
  let isWatched = false;
  let failure: Error | undefined;
  const onFailed = (error: NodeJS.ErrnoException): void => {
    // `godwit events | head`: the reader left, which is no failure. A full disk is one, and nothing more is asked for then.
    if (error.code !== "EPIPE") failure ??= error;
    controller.abort();
  };
  const stdout = () => {
    if (!isWatched) process.stdout.on("error", onFailed);
    isWatched = true;
    return process.stdout;
  };
  // What a command says there is why it failed: in the journal that is an error (sd-daemon(3)).
  const isToJournal = isJournal(process.env["JOURNAL_STREAM"], 2);
  // Promises of the writes still on their way: process.exit() drops what a pipe has not taken yet.
  const toStdout = new Set<Promise<void>>();
  const toStderr = new Set<Promise<void>>();
  const write = (stream: NodeJS.WriteStream, chunk: string | Uint8Array) => {
    const writing = stream === process.stderr ? toStderr : toStdout;
    const written = new Promise<void>((resolve) =>
      stream.write(chunk, (error) => {
        if (error != null && writing === toStdout) onFailed(error);
        resolve();
      }),
    );
    writing.add(written);
    void written.then(() => writing.delete(written));
  };
  const abandoned = new Promise<void>((resolve) =>
    controller.signal.addEventListener("abort", () => resolve(), { once: true }),
  );
  return {
    stdout: (chunk) => write(stdout(), chunk),
    stderr: (text) => write(process.stderr, isToJournal ? text.replace(/^(?=.)/gm, "<3>") : text),
    stdin: () => process.stdin as AsyncIterable<Uint8Array>,
    get isStdinTty() {
      return process.stdin.isTTY;
    },
    get isStdoutTty() {
      return process.stdout.isTTY;
    },
    get size() {
      if (!process.stdout.isTTY) return undefined;
      const [columns, rows] = process.stdout.getWindowSize();
      // A serial line knows no size, and says 0.
      return columns > 0 && rows > 0 ? { columns, rows } : undefined;
    },
    get stderrColumns() {
      return process.stderr.isTTY ? process.stderr.columns : undefined;
    },
    flush: async () => {
      await Promise.race([Promise.all(toStdout), abandoned]);
      await Promise.all(toStderr);
      return failure;
    },
    clock: systemClock,
    signal: controller.signal,
  };
}
