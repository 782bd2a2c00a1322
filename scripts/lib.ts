/** What the scripts share: where the project is, and running a command with its output kept. */
import { resolve } from "node:path";
import { killTree } from "./processes.ts";

export const root = resolve(import.meta.dir, "..");

export interface RunResult {
  /** 128 + signal when a signal ended it. */
  readonly code: number;
  /** Standard output and error, in the order in which they came. */
  readonly output: string;
  readonly isTimedOut: boolean;
  /** The signal of the options ended it. */
  readonly isAborted: boolean;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** After this the command and all below it are killed. */
  readonly timeoutMs?: number;
  /** When it fires, the same happens at once. */
  readonly signal?: AbortSignal;
  /** Sees the output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** Of a command's output at most this much is kept, its end. */
const OUTPUT_CHARS_MAX = 8 * 2 ** 20;

/**
 * Runs a command to its end, in a session of its own, so that a timeout reaches its children too, even those whose parent
 * has gone. Rejects only when it cannot be started.
 */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? root,
    env: options.env ?? process.env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  let output = "";
  const collect = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const text = decoder.decode(chunk, { stream: true });
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
      options.onOutput?.(text);
    }
  };
  let isTimedOut = false;
  let isAborted = false;
  const isOver = () => child.exitCode !== null || child.signalCode !== null;
  const kill = () => {
    if (!isOver()) killTree(child.pid);
  };
  const timer =
    options.timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          isTimedOut = !isOver();
          kill();
        }, options.timeoutMs);
  const onAbort = () => {
    isAborted = !isOver();
    kill();
  };
  process.once("exit", kill);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();
  try {
    const reading = Promise.all([collect(child.stdout), collect(child.stderr)]);
    await child.exited;
    // A grandchild that keeps the pipe open must not hold us.
    await Promise.race([reading, Bun.sleep(2_000)]);
  } finally {
    clearTimeout(timer);
    process.off("exit", kill);
    options.signal?.removeEventListener("abort", onAbort);
  }
  const signal = child.signalCode === null ? 0 : 128;
  return { code: child.exitCode ?? (signal === 0 ? 1 : signal + 9), output, isTimedOut, isAborted };
}
