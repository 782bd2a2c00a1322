/** Files in the plugin's own folder that nobody else may read. */
import { open, readFile, rename, rm } from "node:fs/promises";

/** Empty where there is none. */
export const readPrivate = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

/** Mode 0600 from the first moment; after a crash it is there as before or as now. */
export async function writePrivate(path: string, content: string): Promise<void> {
  const fresh = `${path}.new`;
  await rm(fresh, { force: true });
  const file = await open(fresh, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(fresh, path);
}
