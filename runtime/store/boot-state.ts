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
/** A record's sequence number is the boot epoch, then a counter of 24 bits: a node that lost its store learns its epoch
 * from routing, and with it gets above every record that is still around. */
const SEQUENCE_SPAN = 2 ** 24;

export interface BootState {
  readonly storeEpoch: Uint8Array;
  readonly bootEpoch: number;
  /** A fresh, higher record sequence number, durable before it is answered. */
  nextRecordSequence(): Promise<number>;
  /** Someone holds a newer sequence number of ours than we remember: never fall behind it again. */
  raiseBootEpoch(atLeast: number): Promise<void>;
}

export async function openBootState(store: Store, random: Random): Promise<BootState> {
  const settings = new Map((await store.load("setting")).map((row) => [row.key, row.meta]));
  const storeEpoch =
    parseHex(settings.get("store-epoch") ?? "", STORE_EPOCH_BYTES) ?? random.bytes(STORE_EPOCH_BYTES);
  let bootEpoch = Math.min(BOOT_EPOCH_MAX, Number(settings.get("boot-epoch") ?? 0) + 1);
  let recordSequence = Number(settings.get("record-sequence") ?? 0);
  const put = (key: string, meta: string) => store.commit([{ op: "put", in: "setting", key, meta }]);
  await store.commit([
    { op: "put", in: "setting", key: "store-epoch", meta: formatHex(storeEpoch) },
    { op: "put", in: "setting", key: "boot-epoch", meta: String(bootEpoch) },
  ]);
  return {
    storeEpoch,
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
  };
}
