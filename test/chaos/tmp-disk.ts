/** A small disk of its own for one node: a tmpfs that can be filled up by a ballast file. Needs root. */
import { closeSync, existsSync, openSync, writeSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const run = (command: string[]) =>
  Bun.spawnSync(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });

/** Why a disk cannot be mounted here, or undefined when it can. */
export function whyNoMount(): string | undefined {
  if (process.getuid?.() !== 0) return "mounting a disk needs root";
  const path = join(tmpdir(), `godwit-mount-${process.pid}`);
  run(["mkdir", "-p", path]);
  const mounted = run(["mount", "-t", "tmpfs", "-o", "size=1m", "godwit-test", path]);
  if (mounted.exitCode === 0) run(["umount", path]);
  run(["rmdir", path]);
  return mounted.exitCode === 0 ? undefined : `mount: ${mounted.stderr.toString().trim()}`;
}

const PREFIX = "godwit-disk-";

/** Disks of runs that were killed before they could unmount them: their name says whose they were. */
async function unmountStale(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    run(["umount", "-l", join(tmpdir(), name)]);
    await rmdir(join(tmpdir(), name)).catch(() => {});
  }
}

export class TmpDisk {
  readonly path: string;
  #isMounted = true;

  private constructor(path: string) {
    this.path = path;
  }

  static async mount(megabytes: number): Promise<TmpDisk> {
    await unmountStale();
    const path = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
    const mounted = run(["mount", "-t", "tmpfs", "-o", `size=${megabytes}m`, "godwit-test", path]);
    if (mounted.exitCode !== 0) {
      await rmdir(path);
      throw new Error(`mount failed: ${mounted.stderr.toString()}`);
    }
    await mkdir(join(path, "state"), { mode: 0o700 });
    return new TmpDisk(path);
  }

  get stateDir(): string {
    return join(this.path, "state");
  }

  /** Leaves no byte free. */
  fill(): void {
    const file = openSync(join(this.path, "ballast"), "a");
    try {
      // Smaller and smaller pieces, so that what the node freed meanwhile is taken too.
      for (const bytes of [1 << 20, 1 << 16, 1 << 12, 1]) {
        const block = new Uint8Array(bytes);
        try {
          for (;;) if (writeSync(file, block) < bytes) break;
        } catch (error) {
          if ((error as { code?: string }).code !== "ENOSPC") throw error;
        }
      }
    } finally {
      closeSync(file);
    }
  }

  async drain(): Promise<void> {
    await rm(join(this.path, "ballast"), { force: true });
  }

  /** Idempotent. */
  async unmount(): Promise<void> {
    if (!this.#isMounted) return;
    this.#isMounted = false;
    // Lazily: a node that was killed a moment ago may still hold a file.
    run(["umount", "-l", this.path]);
    await rmdir(this.path).catch(() => {});
  }
}
