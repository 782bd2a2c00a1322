/**
 * Starts the far end of a channel: a Worker of this process, or a process of its own. Owns both until they are over. What a
 * process may do is decided in sandbox/; here it is only told.
 */
import { dlopen, ptr } from "bun:ffi";
import { closeSync, readFileSync } from "node:fs";
import type { Log } from "@godwit/sdk";
import { readPaced } from "@godwit/sdk/process";
import { TokenBucket } from "../../kernel/backoff.ts";
import type { Clock } from "../../kernel/clock.ts";
import { isCompiled } from "../../kernel/compiled.ts";
import { godwitError } from "../../kernel/errors.ts";
import { openSocketChannel } from "../frames/port.ts";
import { hostEnd, WORKER_COUNTERS } from "../frames/worker-channel.ts";
import type { Launched } from "./remote.ts";

/** `argv[0]` of the hidden personality. */
export const GUEST_COMMAND = "plugin-guest";

const AF_UNIX = 1;
/** SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK. */
const SOCKET_TYPE = 1 | 0o2_000_000 | 0o4_000;
/** Of what a plugin writes to its standard error: the last of it explains its end. */
const STDERR_LINE_MAX = 500;
const STDERR_LINES = { perSecond: 10, burst: 100 } as const;

/** The words that start this program again. By the link, so that it is the same file even when another lies there by now. */
export const selfCommand = (): readonly string[] =>
  isCompiled ? ["/proc/self/exe"] : [process.execPath, Bun.main];

const workerUrl = isCompiled
  ? "file:///$bunfs/root/plugin/guest/worker.js"
  : new URL("../guest/worker.ts", import.meta.url).href;

export function launchWorker(): Launched {
  const worker = new Worker(workerUrl);
  const { port1, port2 } = new MessageChannel();
  const shared = new SharedArrayBuffer(WORKER_COUNTERS * 4);
  const over = Promise.withResolvers<string>();
  const channel = hostEnd(port1, shared);
  worker.onerror = (event) => {
    event.preventDefault();
    over.resolve(event.message || "its thread failed");
    worker.terminate();
  };
  worker.addEventListener("close", () => {
    over.resolve("its thread ended");
    channel.close();
  });
  worker.postMessage({ port: port2, shared }, [port2]);
  return {
    channel,
    ended: over.promise,
    kill() {
      worker.terminate();
      channel.close();
      over.resolve("its thread was ended");
    },
  };
}

export interface ProcessOptions {
  readonly command: readonly string[];
  readonly log: Log;
  readonly clock: Clock;
  /** Resident memory after which it is ended, beside what the kernel bounds. */
  readonly memoryBytesMax: number;
  /** Asked at each heartbeat: why it must end. */
  overuse?(): string | undefined;
}

export async function launchProcess({
  command,
  log,
  clock,
  memoryBytesMax,
  overuse,
}: ProcessOptions): Promise<Launched> {
  const pair = openPair();
  let child: Bun.Subprocess;
  try {
    child = Bun.spawn([...command], {
      env: {},
      // The fourth is fd 3.
      stdio: ["ignore", "ignore", "pipe", pair.theirs] as unknown as ["ignore", "ignore", "pipe"],
    });
  } catch (error) {
    closeSync(pair.ours);
    throw godwitError("GODWIT_PLUGIN_FAILED", `cannot start its process: ${String(error)}`, error);
  } finally {
    closeSync(pair.theirs);
  }
  const channel = await openSocketChannel(pair.ours);
  const last = { line: "" };
  const reading = readLines(child.stderr as ReadableStream<Uint8Array>, log, clock, last);
  const { pid } = child;
  return {
    channel,
    kill: () => child.kill("SIGKILL"),
    ended: (async () => {
      await child.exited;
      await Promise.race([reading, new Promise<void>((resolve) => clock.after(200, resolve))]);
      const how = child.signalCode === null ? `exit code ${child.exitCode}` : child.signalCode;
      return `its process ended with ${how}${last.line === "" ? "" : `: ${last.line}`}`;
    })(),
    overuse() {
      const bytes = residentBytes(pid);
      if (bytes > memoryBytesMax)
        return `it uses ${Math.round(bytes / 2 ** 20)} MiB of memory, at most ${memoryBytesMax / 2 ** 20} are allowed`;
      return overuse?.();
    },
  };
}

/** Private memory of a process; 0 where that cannot be read. */
function residentBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024;
  } catch {
    return 0;
  }
}

async function readLines(
  stream: ReadableStream<Uint8Array>,
  log: Log,
  clock: Clock,
  last: { line: string },
): Promise<void> {
  const decoder = new TextDecoder();
  const bucket = new TokenBucket(clock, STDERR_LINES.perSecond, STDERR_LINES.burst);
  let rest = "";
  const say = (line: string) => {
    const text = line.trim().slice(0, STDERR_LINE_MAX);
    if (text === "") return;
    last.line = text;
    if (bucket.take()) log.warn("plugin wrote", { text });
  };
  try {
    await readPaced(stream, clock, (bytes) => {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!.slice(0, STDERR_LINE_MAX);
      for (const line of lines) say(line);
    });
  } catch {
    // Its end says enough.
  }
  say(rest);
}

function openPair(): { readonly ours: number; readonly theirs: number } {
  let result = -1;
  const pair = new Int32Array(2);
  try {
    const libc = dlopen("libc.so.6", {
      socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
    } as const);
    result = libc.symbols.socketpair(AF_UNIX, SOCKET_TYPE, 0, ptr(pair));
  } catch (error) {
    throw godwitError("GODWIT_PLUGIN_FAILED", `cannot open a channel to it: ${String(error)}`, error);
  }
  if (result !== 0)
    throw godwitError("GODWIT_PLUGIN_FAILED", "cannot open a channel to it: too many open files");
  return { ours: pair[0]!, theirs: pair[1]! };
}
