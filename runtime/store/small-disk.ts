/**
 * A disk of a few MiB that is filled to the block: a tmpfs in a mount namespace of its own, which goes with the process that has it, and what
 * fills it. For tests only.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const canMount =
  Bun.which("unshare") !== null &&
  Bun.spawnSync(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], { stderr: "ignore" }).exitCode ===
    0;

/** Undefined: a small disk can be had here. */
export const whyNoSmallDisk = canMount ? undefined : "SKIPPED: this user may not mount a tmpfs";

/** Runs Bun with these arguments and the folder of the disk behind them. Answers the JSON that it said; throws when it failed. */
export async function onSmallDisk(
  sizeMiB: number,
  args: readonly string[],
): Promise<Record<string, unknown>> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-small-disk-"));
  try {
    const mount = `size=$1; folder=$2; shift 2; mount -t tmpfs -o size=$size none "$folder" && exec "$@" "$folder"`;
    const child = Bun.spawn(
      ["unshare", "-rm", "sh", "-c", mount, "sh", `${sizeMiB}m`, folder, process.execPath, ...args],
      { stdout: "pipe", stderr: "inherit" },
    );
    const text = await new Response(child.stdout).text();
    const code = await child.exited;
    if (code !== 0) throw new Error(`what was run on a small disk ended with ${code}`);
    return JSON.parse(text) as Record<string, unknown>;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is larger is somebody's disk, and is filled by nobody here. */
const SMALL_BYTES = 256 * 1024 * 1024;
const BLOCKS = [1 << 20, 1 << 16, 1 << 12, 1] as const;

/** A file that takes room from everybody else. */
export class Ballast {
  readonly #folder: string;
  readonly #file: number;

  /** Throws for a disk that is not small. */
  constructor(folder: string) {
    const { blocks, bsize } = statfsSync(folder);
    if (blocks * bsize > SMALL_BYTES) throw new Error(`${folder} is on no small disk`);
    this.#folder = folder;
    this.#file = openSync(join(folder, "ballast"), "a");
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.#folder);
    return bavail * bsize;
  }

  /** Leaves no byte free. */
  fill(): void {
    for (const bytes of BLOCKS) {
      const block = new Uint8Array(bytes);
      try {
        for (;;) writeSync(this.#file, block);
      } catch (error) {
        if ((error as { code?: string }).code !== "ENOSPC") throw error;
      }
    }
  }

  /** Leaves at most so many free. */
  leave(bytes: number): void {
    for (let spare = this.freeBytes - bytes; spare > 0; spare = this.freeBytes - bytes)
      writeSync(this.#file, new Uint8Array(Math.min(BLOCKS[1], spare)));
  }

  /** Another process takes all that there is, so many ms from now. Answers how it is called off; what it took is drained with the rest. */
  fillAfter(ms: number): () => Promise<void> {
    const script = `sleep ${ms / 1_000}; exec cat /dev/zero >>"$1"`;
    const robber = Bun.spawn(["sh", "-c", script, "sh", join(this.#folder, "ballast")], { stderr: "ignore" });
    return async () => {
      robber.kill("SIGKILL");
      await robber.exited;
    };
  }

  drain(): void {
    ftruncateSync(this.#file, 0);
  }

  close(): void {
    closeSync(this.#file);
    rmSync(join(this.#folder, "ballast"));
  }
}
