/**
 * The few numbers of a node that must never repeat: its boot epoch (routing), its store epoch (message ids) and the
 * sequence number of its own record. Read and raised durably at every start, before anything is sent.
 */
import { formatHex, parseHex } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { STORE_EPOCH_BYTES } from "../wire/peer-messages.ts";
import type { Store } from "./types.ts";

/** 24 bits on the wire. */
const BOOT_EPOCH_MAX = 2 ** 24 - 1;
/** The first epoch of a store is drawn from this many: 16 times as many boots remain. */
const FIRST_EPOCH_SPAN = 2 ** 20;
/** A record's sequence number is the boot epoch, then a counter of 24 bits: a node that lost its store learns its epoch
 * from routing, and with it gets above every record that is still around. */
const SEQUENCE_SPAN = 2 ** 24;

export interface BootState {
  readonly storeEpoch: Uint8Array;
  /** As this start found it: mail that was accepted before mail had epochs of its own is named under it. */
  readonly foundStoreEpoch: Uint8Array;
  readonly bootEpoch: number;
  /** A fresh, higher record sequence number, durable before it is answered. */
  nextRecordSequence(): Promise<number>;
  /** Someone holds a newer sequence number of ours than we remember: never fall behind it again. */
  raiseBootEpoch(atLeast: number): Promise<void>;
  /** Some of what this node acknowledged is gone: neighbours offer it again when they hear of another store. */
  renewStoreEpoch(): Promise<void>;
}

export async function openBootState(store: Store, random: Random): Promise<BootState> {
  const settings = new Map((await store.load("setting")).map((row) => [row.key, row.meta]));
  const foundStoreEpoch =
    parseHex(settings.get("store-epoch") ?? "", STORE_EPOCH_BYTES) ?? random.bytes(STORE_EPOCH_BYTES);
  let storeEpoch = foundStoreEpoch;
  // Numbers that are gone while others are there: this store is older than it says.
  if (settings.size > 0 && countOf(settings.get("boot-epoch")) === undefined)
    storeEpoch = random.bytes(STORE_EPOCH_BYTES);
  // A store that is new does not start where the lost one did: equal numbers of two lives could not be told apart, and
  // the mesh would go on believing the records of the first.
  const lastEpoch = countOf(settings.get("boot-epoch")) ?? random.below(FIRST_EPOCH_SPAN);
  let bootEpoch = Math.min(BOOT_EPOCH_MAX, lastEpoch + 1);
  let recordSequence = countOf(settings.get("record-sequence")) ?? 0;
  const put = (key: string, meta: string) => store.commit([{ op: "put", in: "setting", key, meta }]);
  await store.commit([
    { op: "put", in: "setting", key: "store-epoch", meta: formatHex(storeEpoch) },
    { op: "put", in: "setting", key: "boot-epoch", meta: String(bootEpoch) },
  ]);
  return {
    foundStoreEpoch,
    get storeEpoch() {
      return storeEpoch;
    },
    get bootEpoch() {
      return bootEpoch;
    },
    async nextRecordSequence() {
      recordSequence = Math.max(recordSequence + 1, bootEpoch * SEQUENCE_SPAN);
      const sequence = recordSequence;
      await put("record-sequence", String(sequence));
      return sequence;
    },
    raiseBootEpoch: (atLeast) => {
      bootEpoch = Math.min(BOOT_EPOCH_MAX, Math.max(bootEpoch, atLeast));
      return put("boot-epoch", String(bootEpoch));
    },
    renewStoreEpoch() {
      storeEpoch = random.bytes(STORE_EPOCH_BYTES);
      return put("store-epoch", formatHex(storeEpoch));
    },
  };
}

/** A damaged number is as good as none. */
function countOf(text: string | undefined): number | undefined {
  const count = Number(text ?? Number.NaN);
  return Number.isSafeInteger(count) && count >= 0 ? count : undefined;
}
