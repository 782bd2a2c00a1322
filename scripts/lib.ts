/** What the scripts share: where the project is, and running a command with its output kept. */
import { resolve } from "node:path";

export const root = resolve(import.meta.dir, "..");

export interface RunResult {
  /** 128 + signal when a signal ended it. */
  readonly code: number;
  /** Standard output and error, in the order in which they came. */
  readonly output: string;
  readonly isTimedOut: boolean;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** After this the command and its children are killed. */
  readonly timeoutMs?: number;
  /** Sees the output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** Of a command's output at most this much is kept, its end. */
const OUTPUT_CHARS_MAX = 8 * 2 ** 20;

/**
 * Runs a command to its end, in a process group of its own, so that a timeout reaches its children too. Rejects only
 * when it cannot be started.
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
  const killGroup = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Gone already.
    }
  };
  const timer =
    options.timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          isTimedOut = true;
          killGroup();
        }, options.timeoutMs);
  const onExit = () => killGroup();
  process.once("exit", onExit);
  try {
    const reading = Promise.all([collect(child.stdout), collect(child.stderr)]);
    await child.exited;
    // A grandchild that keeps the pipe open must not hold us: it is of this group and has no business living on.
    if (isTimedOut) killGroup();
    await Promise.race([reading, Bun.sleep(2_000)]);
  } finally {
    clearTimeout(timer);
    process.off("exit", onExit);
  }
  const signal = child.signalCode === null ? 0 : 128;
  return { code: child.exitCode ?? (signal === 0 ? 1 : signal + 9), output, isTimedOut };
}
