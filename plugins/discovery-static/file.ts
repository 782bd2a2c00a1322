/**
 * Peers from a file that somebody or something rewrites: looked at when the system says that its folder changed, and now
 * and then in case it did not say so. Read only once it has stopped changing; while it is away its last content stands.
 */
import { watch as watchFolder } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { PluginContext } from "@godwit/sdk";
import type { Board } from "./board.ts";
import { pause } from "./dns.ts";
import { parseLines } from "./entry.ts";

export const POLL_MS = 10_000;
/** Whoever writes the file may take this long between two writes. */
export const SETTLE_MS = 500;
const FILE_BYTES_MAX = 262_144;

export function watchFile(ctx: PluginContext, board: Board, path: string): void {
  let wake = (): void => {};
  try {
    const watcher = watchFolder(dirname(path), (_event, name) => {
      if (name === null || name === basename(path)) wake();
    });
    watcher.on("error", () => {});
    ctx.own(() => watcher.close());
  } catch {
    // No such folder yet, or no inotify left: the polling finds it.
  }
  ctx.spawn(`file ${path}`, async (signal) => {
    let read = "";
    while (!signal.aborted) {
      const woken = new AbortController();
      wake = () => woken.abort();
      const mark = await markOf(path);
      if (mark !== read) {
        await pause(ctx, SETTLE_MS, signal);
        // Still being written: look again, with the same patience.
        if ((await markOf(path)) !== mark) continue;
        if (await take(board, path)) read = mark;
      }
      await pause(ctx, POLL_MS, AbortSignal.any([signal, woken.signal]));
    }
  });
}

/** Changes whenever the file does. */
async function markOf(path: string): Promise<string> {
  try {
    const { mtimeMs, size, ino } = await stat(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch (error) {
    return `none ${error instanceof Error && "code" in error ? String(error.code) : ""}`;
  }
}

/** True when there was something to take. */
async function take(board: Board, path: string): Promise<boolean> {
  const source = `file ${path}`;
  try {
    const { size } = await stat(path);
    if (size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`);
    const { entries, problems } = parseLines(await readFile(path, "utf8"));
    board.publish(source, entries, true);
    board.report(source, problems.length === 0 ? undefined : problems.slice(0, 3).join(", "));
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    board.report(source, `${reason}; what it said last stands`);
    return false;
  }
}
