/** Real processes for `Supervisor`: in a session and process group of their own, their output taken line by line. */
import { readPaced } from "@godwit/sdk/process";
import { systemClock } from "../kernel/clock.ts";
import type { Exit, ProcessHandle, SpawnRequest } from "./supervise.ts";

/** Of a line that never ends, so many characters are taken as one. */
const LINE_CHARS_MAX = 16_384;

/** As `Spawner`. */
export function spawnProcess({ command, env, onLine, onExit }: SpawnRequest): ProcessHandle {
  const child = Bun.spawn([...command], {
    env: { ...env },
    cwd: "/",
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
    onExit: (_child, code, signal) => {
      const exit: Exit = { code: code ?? undefined, signal: signal === null ? undefined : String(signal) };
      onExit(exit);
    },
  });
  void readLines(child.stdout, onLine);
  void readLines(child.stderr, onLine);
  return {
    pid: child.pid,
    signalGroup(signal) {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // Gone already.
      }
    },
  };
}

async function readLines(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  try {
    await readPaced(stream, systemClock, (bytes) => {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) onLine(line);
      if (rest.length > LINE_CHARS_MAX) {
        onLine(rest);
        rest = "";
      }
    });
  } catch {
    // The pipe broke: so did the program.
  }
  if (rest !== "") onLine(rest);
}
