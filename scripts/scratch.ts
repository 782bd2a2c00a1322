/** Folders for what is large and short-lived: a killed run leaves its own, and the next one removes it. */
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new folder; those of the same name whose process is gone are removed first. The caller removes its own. */
export async function scratchFolder(name: string): Promise<string> {
  const prefix = `godwit-${name}-`;
  for (const entry of readdirSync(tmpdir())) {
    const pid = entry.startsWith(prefix) ? /^(\d+)-/.exec(entry.slice(prefix.length))?.[1] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(tmpdir(), entry), { recursive: true, force: true }).catch(() => {});
  }
  return await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
}
