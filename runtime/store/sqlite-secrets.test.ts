import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { openSqliteStore } from "./sqlite.ts";
import type { Collection, StoreOp } from "./types.ts";

/** Different in each run, and short enough that a page holds a dozen. */
const secretOf = (number: number): string => `SECRET${String(number).padStart(4, "0")}${"a".repeat(56)}`;

test.each(["setting", "token", "plugin"] as const)(
  "what was deleted of %s is in no page of the database, however its neighbours came and went",
  async (collection: Collection) => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-secrets-"));
    try {
      const store = await openSqliteStore({
        path: join(folder, "godwit.db"),
        log: silentLog,
        clock: systemClock,
      });
      const put = (key: string, meta: string): StoreOp => ({ op: "put", in: collection, key, meta });
      const drop = (key: string): StoreOp => ({ op: "delete", in: collection, key });
      // Brought to the database now and then, and not all at once.
      const flush = () => store.usage();
      const key = (kind: string) => `${kind}/${crypto.randomUUID()}`;
      const secrets: string[] = [];
      const others: string[] = [];
      for (let round = 0; round < 12; round++) {
        for (let i = 0; i < 20; i++) {
          const [one, other] = [key("prekey"), key("granted")];
          await store.commit([put(one, secretOf(secrets.length)), put(other, "x".repeat(52))]);
          secrets.push(one);
          others.push(other);
        }
        await flush();
        const gone = others.splice(0, 10).map(drop);
        await store.commit(gone);
        await flush();
      }
      for (const one of secrets) await store.commit([drop(one)]);
      await flush();
      await store.close();
      const left = readFileSync(join(folder, "godwit.db"), "latin1").match(/SECRET\d{4}/g);
      expect(left).toBeNull();
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
