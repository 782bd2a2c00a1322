import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { openSqliteStore } from "./sqlite.ts";
import type { Collection, StoreOp } from "./types.ts";

/** Different in each run, and short enough that a page holds a dozen. */
const secretOf = (number: number): string => `SECRET${String(number).padStart(4, "0")}${"a".repeat(56)}`;

const QUIET_MS_MAX = 20_000;

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
      const left = () =>
        readdirSync(folder).filter((name) => /SECRET\d{4}/.test(readFileSync(join(folder, name), "latin1")));
      // Of the file that takes what is written first as well, in the next quiet moment.
      const deadlineMs = performance.now() + QUIET_MS_MAX;
      while (left().length > 0 && performance.now() < deadlineMs)
        await new Promise((resolve) => setImmediate(resolve));
      expect(left()).toEqual([]);
      await store.close();
      expect(left()).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  40_000,
);
