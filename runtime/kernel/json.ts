/** JSON that was written by this program and may have been damaged since. */
import type { Log } from "@godwit/sdk";

/**
 * The meta of a stored row as its owner wrote it; undefined, with a line in the log, when it is damaged: one bad row
 * must not keep a node with nobody on site from starting.
 */
export function parseMeta<T extends object>(
  row: { readonly key: string; readonly meta: string },
  log: Log,
  collection: string,
): T | undefined {
  try {
    const meta: unknown = JSON.parse(row.meta);
    if (typeof meta === "object" && meta !== null) return meta as T;
  } catch {
    // Told below.
  }
  log.error("damaged row passed over", { collection, key: row.key });
  return undefined;
}
