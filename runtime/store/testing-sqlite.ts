/** Stores in folders of their own, and how another process opens one. For tests only. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../kernel/log.ts";
import type { SqliteStore } from "./sqlite.ts";
import { openSqliteStore, type SqliteStoreOptions } from "./sqlite.ts";
import type { StoreOp } from "./types.ts";

export const put = (key: string, bodyBytes?: number): StoreOp =>
  bodyBytes === undefined
    ? { op: "put", in: "outbox", key, meta: "{}" }
    : { op: "put", in: "outbox", key, meta: "{}", body: new Uint8Array(bodyBytes).fill(7) };

/** Whoever makes one removes it after each test. */
export const directories: string[] = [];
export const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-store-"));
  directories.push(directory);
  return directory;
};
export const open = (path: string, options: Partial<SqliteStoreOptions> = {}): Promise<SqliteStore> =>
  openSqliteStore({ path, log: silentLog, ...options });

export const moduleHead = `
  import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "sqlite.ts"))};
  import { systemClock } from ${JSON.stringify(join(import.meta.dir, "../kernel/clock.ts"))};
  import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../kernel/log.ts"))};
`;
