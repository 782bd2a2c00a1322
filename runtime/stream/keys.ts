/**
 * Keys of one session's records. Each direction has a chain of its own: the next key is an HMAC of the present one,
 * which is then forgotten (as RFC 9001 section 6). Counters run on over all keys of a direction.
 */
import { createHmac } from "node:crypto";
import { TAG_BYTES } from "../identity/noise.ts";
import { openRecord, recordKey, sealRecord, type RecordKey } from "../link/records.ts";
import { ReplayWindow } from "../link/replay.ts";
import { EXPIRE_RECORDS, REKEY_BYTES, REKEY_MS, REKEY_RECORDS, REPLAY_RECORDS } from "./constants.ts";

const CHAIN_LABEL = "godwit stream key";

const nextKey = (key: Uint8Array): Uint8Array =>
  new Uint8Array(createHmac("sha256", key).update(CHAIN_LABEL).digest());

export class SendKeys {
  #raw: Uint8Array;
  #key: RecordKey;
  #epoch = 0;
  #counter = 0;
  #firstOfEpoch = 0;
  #bytes = 0;
  #sinceMs: number;
  /** The far end has shown that it follows: only then comes the next. */
  #isConfirmed = true;

  constructor(raw: Uint8Array, nowMs: number) {
    this.#raw = raw;
    this.#key = recordKey(raw);
    this.#sinceMs = nowMs;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Of the next record. */
  get counter(): number {
    return this.#counter;
  }

  get isExpired(): boolean {
    return this.#counter - this.#firstOfEpoch >= EXPIRE_RECORDS;
  }

  /** Seals into `out` from `at` under the next counter; answers the end. */
  seal(plaintext: Uint8Array, out: Uint8Array, at: number): number {
    this.#bytes += plaintext.length;
    return sealRecord(this.#key, 0, this.#counter++, plaintext, out, at, TAG_BYTES);
  }

  /** A record of this number has arrived. */
  onAcked(number: number): void {
    if (number >= this.#firstOfEpoch) this.#isConfirmed = true;
  }

  /** Moves to the next key when this one has served. */
  advanceIfDue(nowMs: number): boolean {
    const records = this.#counter - this.#firstOfEpoch;
    if (!this.#isConfirmed || records === 0) return false;
    if (records < REKEY_RECORDS && this.#bytes < REKEY_BYTES && nowMs - this.#sinceMs < REKEY_MS)
      return false;
    this.#raw = nextKey(this.#raw);
    this.#key = recordKey(this.#raw);
    this.#epoch = (this.#epoch + 1) & 255;
    this.#firstOfEpoch = this.#counter;
    this.#bytes = 0;
    this.#sinceMs = nowMs;
    this.#isConfirmed = false;
    return true;
  }
}

export class ReceiveKeys {
  #previous: RecordKey | undefined;
  #present: RecordKey;
  #nextRaw: Uint8Array;
  #next: RecordKey | undefined;
  #epoch = 0;
  readonly #replay = new ReplayWindow(REPLAY_RECORDS);

  constructor(raw: Uint8Array) {
    this.#present = recordKey(raw);
    this.#nextRaw = nextKey(raw);
  }

  /** The plaintext, owned by the caller; or why there is none. Only a true record changes anything. */
  open(epoch: number, counter: number, sealed: Uint8Array): Uint8Array | "replayed" | "forged" {
    if (!this.#replay.accepts(counter)) return "replayed";
    const ahead = (epoch - this.#epoch) & 255;
    let key: RecordKey | undefined;
    if (ahead === 0) key = this.#present;
    else if (ahead === 1) key = this.#next ??= recordKey(this.#nextRaw);
    else if (ahead === 255) key = this.#previous;
    const plaintext = key === undefined ? undefined : openRecord(key, 0, counter, sealed, TAG_BYTES);
    if (plaintext === undefined) return "forged";
    this.#replay.mark(counter);
    if (ahead === 1) {
      this.#previous = this.#present;
      this.#present = key!;
      this.#next = undefined;
      this.#nextRaw = nextKey(this.#nextRaw);
      this.#epoch = epoch;
    }
    return plaintext;
  }
}
