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
/** The first number of an epoch is one of these. */
const FIRST_SEQUENCE_SPAN = 2 ** 20;

export interface BootState {
  /** Of this store for good. Names the mail that was accepted before mail had epochs of its own. */
  readonly storeEpoch: Uint8Array;
  /** What hello says. Another one than before: what this node acknowledged may be gone, offer it again. */
  readonly helloEpoch: Uint8Array;
  /** The store was made by this start. */
  readonly isNew: boolean;
  readonly bootEpoch: number;
  /** The last run stood down for another machine with this identity. */
  readonly stoodDown: boolean;
  /** A fresh, higher record sequence number, durable before it is answered. */
  nextRecordSequence(): Promise<number>;
  /** Someone holds a newer sequence number of ours than we remember: never fall behind it again. */
  raiseBootEpoch(atLeast: number): Promise<void>;
  /** The store is older than what neighbours remember: the next hello shall say so. */
  renewHelloEpoch(): Promise<void>;
  /** For the next start. */
  noteStoodDown(stoodDown: boolean): Promise<void>;
}

export async function openBootState(store: Store, random: Random): Promise<BootState> {
  const settings = new Map((await store.load("setting")).map((row) => [row.key, row.meta]));
  const keptEpoch = parseHex(settings.get("store-epoch") ?? "", STORE_EPOCH_BYTES);
  const storeEpoch = keptEpoch ?? random.bytes(STORE_EPOCH_BYTES);
  let helloEpoch = parseHex(settings.get("hello-epoch") ?? "", STORE_EPOCH_BYTES) ?? storeEpoch;
  // Numbers that are gone while others are there: this store is older than it says.
  if (settings.size > 0 && countOf(settings.get("boot-epoch")) === undefined)
    helloEpoch = random.bytes(STORE_EPOCH_BYTES);
  // A store that is new does not start where the lost one did: equal numbers of two lives could not be told apart, and
  // the mesh would go on believing the records of the first.
  const lastEpoch = countOf(settings.get("boot-epoch")) ?? random.below(FIRST_EPOCH_SPAN);
  let bootEpoch = Math.min(BOOT_EPOCH_MAX, lastEpoch + 1);
  let recordSequence = countOf(settings.get("record-sequence")) ?? 0;
  const put = (key: string, meta: string) => store.commit([{ op: "put", in: "setting", key, meta }]);
  await store.commit([
    { op: "put", in: "setting", key: "store-epoch", meta: formatHex(storeEpoch) },
    { op: "put", in: "setting", key: "hello-epoch", meta: formatHex(helloEpoch) },
    { op: "put", in: "setting", key: "boot-epoch", meta: String(bootEpoch) },
  ]);
  return {
    storeEpoch,
    get helloEpoch() {
      return helloEpoch;
    },
    isNew: keptEpoch === undefined,
    stoodDown: settings.get("stood-down") === "1",
    get bootEpoch() {
      return bootEpoch;
    },
    async nextRecordSequence() {
      const begin = bootEpoch * SEQUENCE_SPAN;
      // Drawn: an older copy of the store may begin the same epoch again, and has other things to say.
      recordSequence =
        recordSequence < begin ? begin + random.below(FIRST_SEQUENCE_SPAN) : recordSequence + 1;
      const sequence = recordSequence;
      await put("record-sequence", String(sequence));
      return sequence;
    },
    raiseBootEpoch: (atLeast) => {
      bootEpoch = Math.min(BOOT_EPOCH_MAX, Math.max(bootEpoch, atLeast));
      return put("boot-epoch", String(bootEpoch));
    },
    async renewHelloEpoch() {
      const fresh = random.bytes(STORE_EPOCH_BYTES);
      await put("hello-epoch", formatHex(fresh));
      helloEpoch = fresh;
    },
    noteStoodDown: (stoodDown) => put("stood-down", stoodDown ? "1" : "0"),
  };
}

/** A damaged number is as good as none. */
function countOf(text: string | undefined): number | undefined {
  const count = Number(text ?? Number.NaN);
  return Number.isSafeInteger(count) && count >= 0 ? count : undefined;
}
