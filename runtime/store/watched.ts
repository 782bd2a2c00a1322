/**
 * A store that remembers how it is, for `/health`: whether its last commit worked, whether the medium has room, what was found damaged.
 * Says so in the log at each change, in both directions.
 */
import type { Log } from "@godwit/sdk";
import { asGodwitError } from "../kernel/errors.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Damage, Store, StoreState } from "./types.ts";

/** Damaged rows that health names; the log has them all. */
const NAMED_IN_WORDS_MAX = 5;

export interface WatchedStore extends Store {
  /** Why mail may not be kept, or was lost, in words for the operator. */
  readonly troubles: readonly string[];
}

export interface StoreWatch {
  readonly log: Log;
  readonly metrics: Metrics;
  /** Room went (the bytes that are missing) or came back (0). */
  room(missingBytes: number): void;
  damaged(found: readonly Damage[]): void;
}

/** `store` has no other listener. */
export function watchStore(store: Store, { log, metrics, room, damaged }: StoreWatch): WatchedStore {
  let failure: string | undefined;
  let wasShort = false;
  let recounts = 0;
  const counted = metrics.counter("godwit_store_damaged_rows_total");
  metrics.observedGauge("godwit_store_missing_bytes", () => store.state.missingBytes);
  let listener: (found: readonly Damage[]) => void = () => {};

  const onRoom = ({ missingBytes }: StoreState): void => {
    const isShort = missingBytes > 0;
    if (isShort === wasShort) return;
    wasShort = isShort;
    if (isShort) log.error("disk full", { missing_bytes: missingBytes, advice: fullAdvice });
    else {
      failure = undefined;
      log.info("disk has room again");
    }
    room(missingBytes);
  };
  const onDamage = (found: readonly Damage[]): void => {
    for (const damage of found) {
      counted.add(1, { collection: damage.in });
      log.error("damaged row set aside", { collection: damage.in, key: damage.key });
    }
    if (found.length > 0) damaged(found);
  };
  const onState = (found: readonly Damage[]): void => {
    onDamage(found);
    onRoom(store.state);
    if (store.state.recounts !== recounts)
      log.warn("places of mail made anew", { advice: "the disk damaged them; no message was lost by that" });
    ({ recounts } = store.state);
    listener(found);
  };
  store.onState(onState);
  const { asideFile, damageCount, damage } = store.state;
  if (asideFile !== undefined)
    log.error("store salvaged", {
      lost: damageCount,
      kept: asideFile ?? "nothing: there was no room for it",
    });
  onState(damage);

  return {
    get state() {
      return store.state;
    },
    onState: (changed) => void (listener = changed),
    load: (collection) => store.load(collection),
    body: (collection, key) => store.body(collection, key),
    rows: (collection, keys) => store.rows(collection, keys),
    page: (collection, page) => store.page(collection, page),
    totals: (collection) => store.totals(collection),
    piece: (collection, key, offset, length) => store.piece(collection, key, offset, length),
    usage: () => store.usage(),
    close: () => store.close(),
    get troubles() {
      return [...roomWords(store.state, failure), ...damageWords(store.state)];
    },
    async commit(ops) {
      try {
        await store.commit(ops);
        failure = undefined;
      } catch (error) {
        failure = asGodwitError(error).message;
        throw error;
      }
    },
  };
}

const fullAdvice =
  "free some space or delete messages; until then mail is refused, what is here is delivered, and no restart is needed";

function roomWords({ missingBytes }: StoreState, failure: string | undefined): string[] {
  if (missingBytes > 0) return [`the disk is full, ${missingBytes} bytes are missing: ${fullAdvice}`];
  return failure === undefined ? [] : [failure];
}

function damageWords({ damage, damageCount, asideFile }: StoreState): string[] {
  if (damageCount === 0 && asideFile === undefined) return [];
  const named = damage.slice(0, NAMED_IN_WORDS_MAX).map((row) => `${row.in} ${row.key}`.trimEnd());
  const more = damageCount > named.length ? ` and ${damageCount - named.length} more` : "";
  const where =
    asideFile === undefined
      ? "what is left of it is in the table damaged of godwit.db"
      : asideFile === null
        ? "for want of room the damaged file was not kept"
        : `the damaged file is kept as ${asideFile}`;
  const lost = damageCount === 0 ? "nothing was lost" : `lost: ${named.join(", ")}${more}`;
  return [
    `the disk damaged what was stored (${lost}): ${where}; let senders send again, and replace the disk`,
  ];
}
