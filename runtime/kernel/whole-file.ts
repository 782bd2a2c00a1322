/** Files that are there as before or as now, whenever the power goes. */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Writes beside, syncs, and takes the old file's place, which may be a program that runs. `mode` whatever the umask says. Two writers of
 * one process do not write one path at once, as this does not wait. Throws the operating system's error, and leaves nothing beside then.
 */
export function writeWhole(path: string, content: string | Uint8Array, mode: number): void {
  const fresh = `${path}.${process.pid}.new`;
  try {
    // Of a life that ended here: in a container every life has the same pid.
    rmSync(fresh, { force: true });
    const handle = openSync(fresh, "wx", 0o600);
    try {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      for (let at = 0; at < bytes.length;) at += writeSync(handle, bytes, at);
      fchmodSync(handle, mode);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** The name of a file is durable only with its folder. */
export function syncFolder(path: string): void {
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
