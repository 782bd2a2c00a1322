/** Files in a plugin's own folder that nobody else may read: keys, settings of daemons, what a next life has to know. */
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Undefined where there is none. Rejects with the operating system's error when it cannot be read. */
export async function readPrivate(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** By path: two at a time would write into one file. */
const writing = new Map<string, Promise<void>>();

/**
 * Mode 0600 from the first moment, and on the disk when it resolves; after a crash the file is there as before or as now. Writes to one
 * path go one after the other. Rejects with the operating system's error.
 */
export function writePrivate(path: string, content: string): Promise<void> {
  const earlier = writing.get(path) ?? Promise.resolve();
  const done = earlier.catch(() => {}).then(() => replace(path, content));
  writing.set(path, done);
  void done
    .catch(() => {})
    .then(() => {
      if (writing.get(path) === done) writing.delete(path);
    });
  return done;
}

async function replace(path: string, content: string): Promise<void> {
  const fresh = `${path}.new`;
  // Left by a crash, perhaps with another's rights.
  await rm(fresh, { force: true });
  const file = await open(fresh, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(fresh, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
