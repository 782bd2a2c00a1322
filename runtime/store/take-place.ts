/**
 * A store that was made beside another takes its place by one rename, and the other is kept under a name with the date. Every moment leaves one of
 * the two under the name of the store, with all that belongs to it. Must never lose the other one, nor run without its lock.
 */
import type { Database } from "bun:sqlite";
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { syncFolder } from "../kernel/whole-file.ts";
import { bodyFolder } from "./body-files.ts";
import { asidePartPath, asidePath, beginningOf, keptPath, partPath, syncFile } from "./earlier-part.ts";
import { OpenRefused } from "./sqlite-schema.ts";
import { keepWal, walPath } from "./sqlite-wal.ts";

/** The new store under the old name, whenever the power goes. `db` is the old one, locked; what it holds is in its file alone afterwards. */
export function takePlace(path: string, db: Database, stamp: string): void {
  // A log of pages that lay beside the new file would be read as its own.
  keepWal(db, false);
  db.run("PRAGMA wal_checkpoint(TRUNCATE)");
  const mode = db.query("PRAGMA journal_mode = DELETE").values()[0]?.[0];
  if (mode !== "delete" || existsSync(walPath(path)))
    throw new OpenRefused(
      "GODWIT_STATE_UNUSABLE",
      `the log of ${path} cannot be emptied; is there any room left?`,
    );
  db.run("BEGIN EXCLUSIVE");
  // Whoever holds the lock for good keeps it at rest, empty: beside the new file it would be that one's.
  rmSync(`${path}-journal`, { force: true });
  const kept = keptPath(path, stamp);
  keepFile(path, kept);
  keepBodies(bodyFolder(path), bodyFolder(kept));
  if (existsSync(asidePartPath(path))) renameSync(asidePartPath(path), asidePath(path, stamp));
  syncFolder(dirname(path));
  renameSync(partPath(path), path);
  syncFolder(dirname(path));
  removeLeftovers(path);
  db.run("ROLLBACK");
}

/** What belongs to the store that is kept, and that the earlier release does not know. Every part of it has another name by now. */
export function removeLeftovers(path: string): void {
  if (beginningOf(path) === undefined) return;
  rmSync(`${path}-log`, { force: true });
  rmSync(bodyFolder(path), { recursive: true, force: true });
}

/** Under two names; a copy where the file system has no links. */
function keepFile(path: string, kept: string): void {
  if (existsSync(kept)) return;
  try {
    linkSync(path, kept);
  } catch (error) {
    if (!(
      error instanceof Error &&
      "code" in error &&
      ["EPERM", "ENOTSUP", "EOPNOTSUPP", "EMLINK"].includes(String(error.code))
    ))
      throw error;
    copyFileSync(path, `${kept}.part`);
    syncFile(`${kept}.part`);
    renameSync(`${kept}.part`, kept);
  }
}

function keepBodies(folder: string, kept: string): void {
  if (!existsSync(folder)) return;
  mkdirSync(kept, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) keepFile(join(folder, name), join(kept, name));
  syncFolder(kept);
}
