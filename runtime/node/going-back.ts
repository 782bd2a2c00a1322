/**
 * A stopped node's store on its way to an earlier release and back: joins the files (store/going-back.ts) and what each room says of its rows
 * in that release. Never while a node runs: the store is locked by whoever has it.
 */
import { SEAL_OPENING_BYTES } from "../identity/seal.ts";
import { openingUnder } from "../identity/segments.ts";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Clock, Log } from "@godwit/sdk";
import { EarlierMail } from "../custody/earlier.ts";
import { TakenIn } from "../custody/taken-in.ts";
import { earlierRedemption } from "../join/redemptions.ts";
import { godwitError } from "../kernel/errors.ts";
import { readAside } from "../store/aside-file.ts";
import { CONVERTED_PREFIX } from "../store/conversions.ts";
import type { JudgeRows } from "../store/earlier.ts";
import { goBack, type WentBack } from "../store/going-back.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Collection, StoreOp } from "../store/types.ts";
import { openNodeTime } from "../time/kept.ts";

/** Schema of each release that a store can go back to. */
const earlierReleases = { "0.1": 1, "0.2": 2 } as const;
/** Bundles that are still arriving come anew: nobody was told that they are here. */
const LEAVES: readonly Collection[] = ["partial", "chunk"];
export type EarlierRelease = keyof typeof earlierReleases;
export const earlierReleaseNames = Object.keys(earlierReleases) as EarlierRelease[];

/** Rows that one commit takes in, and their bytes. */
const BATCH_OPS = 64;
const BATCH_BYTES = 4 * 1024 * 1024;

export type { WentBack };

export interface StorePlace {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is made here has to be the node's own. Throws GODWIT_USAGE for whoever is not its user. */
function assertOwn(path: string): void {
  const owner = statSync(path, { throwIfNoEntry: false })?.uid;
  if (owner === undefined || owner === process.getuid?.()) return;
  throw godwitError(
    "GODWIT_USAGE",
    `${path} is that of the user with id ${owner}: run this as that user, for example with sudo -u '#${owner}'`,
  );
}

const segmentsUnder = (key: Uint8Array, sealedBytes: number, openingBytes = SEAL_OPENING_BYTES) =>
  openingUnder(key, sealedBytes, openingBytes);

/** See `goBack`. Throws GODWIT_USAGE. */
export async function convertStore(
  { stateDir, clock, log }: StorePlace,
  to: EarlierRelease,
  isDryRun: boolean,
): Promise<WentBack> {
  const wallMs = clock.wallMs();
  const path = join(stateDir, "godwit.db");
  assertOwn(path);
  return goBack({
    path,
    schema: earlierReleases[to],
    leaves: LEAVES,
    isDryRun,
    wallMs,
    log,
    judges: (load) => {
      const mail = new EarlierMail(load("setting"), load("proof"), { segmentsUnder }, wallMs);
      return { ...mail.judges, setting: settingJudge(mail) };
    },
  });
}

/**
 * Numbers of renamed mail take the place of those that stood there, or come at the end. What was converted is not any more once the earlier
 * release has the store.
 */
const settingJudge = (mail: EarlierMail): JudgeRows =>
  function* (rows) {
    const counters = new Map(mail.counters.map((row) => [row.key, row]));
    for (const row of rows) {
      if (row.key.startsWith(CONVERTED_PREFIX)) {
        yield { row, rows: [], isAside: false };
        continue;
      }
      const counter = counters.get(row.key);
      counters.delete(row.key);
      const meta = earlierRedemption(row.key, row.meta) ?? row.meta;
      const same = { in: "setting", key: row.key, meta, hasBody: true } as const;
      yield { row, rows: [counter ?? same], isAside: false };
    }
    for (const counter of counters.values())
      yield {
        row: { key: counter.key, meta: counter.meta, bodyBytes: 0 },
        rows: [counter],
        isAside: false,
      };
  };

export interface TookIn {
  readonly taken: number;
  /** Were here already. */
  readonly known: number;
}

/** Rows of a file that a conversion kept aside come into the store, and the file goes. Rejects with GODWIT_USAGE, what opening either throws, and GODWIT_STORE_FAILED. */
export async function takeIn({ stateDir, clock, log }: StorePlace, file: string): Promise<TookIn> {
  const path = join(stateDir, "godwit.db");
  assertOwn(path);
  const store = await openSqliteStore({ path, log, clock });
  try {
    const time = await openNodeTime({ store, clock, log, vouched: () => undefined });
    const rows = new TakenIn(store, time.coveredMs);
    let taken = 0;
    let known = 0;
    let ops: StoreOp[] = [];
    let bytes = 0;
    for (const row of readAside(file)) {
      const more = await rows.ops(row);
      if (more.length === 0) known++;
      else taken++;
      ops.push(...more);
      bytes += row.body?.length ?? 0;
      if (ops.length < BATCH_OPS && bytes < BATCH_BYTES) continue;
      await store.commit(ops);
      [ops, bytes] = [[], 0];
    }
    if (ops.length > 0) await store.commit(ops);
    // A try that was cut off before this finds all of it known.
    rmSync(file);
    return { taken, known };
  } finally {
    await store.close();
  }
}
