/**
 * Rotating prekeys: X25519 keys that mail is sealed to, so that it stays secret after its recipient's identity key
 * leaks. Owns their private halves, in `setting` rows, from creation to durable deletion. Must never publish a key that
 * is not durable, because mail sealed to it could not be opened after a crash.
 *
 * Ages count running time only, persisted every hour: a board without a clock may boot in 1970 or 2090, and a key that
 * a wrong clock deleted too early is lost mail. So a node that is off half the time keeps a key twice as long.
 * Specified by docs/protocol/sealing.md, "Prekeys".
 */
import type { Clock, Log, Random, Timer } from "@godwit/sdk";
import { formatHex, parseHex } from "../kernel/ids.ts";
import type { Store, StoreOp, StoreRow } from "../store/types.ts";
import { LIFETIME_MAX_MS } from "../wire/constants.ts";
import { DH_KEY_BYTES, dhKeyFromSecret, generateDhKey, type DhKey } from "./keys.ts";
import type { Prekey } from "./record.ts";

/** Running time for which a prekey is the published one. */
export const PREKEY_ROTATE_MS = 7 * 24 * 3_600_000;
/** Running time for which it opens mail afterwards: a sender may hold the old record for a while before it seals. */
export const PREKEY_KEEP_MS = LIFETIME_MAX_MS + PREKEY_ROTATE_MS;
/** How often ages are persisted; a crash keeps keys at most this much longer. */
export const PREKEY_TICK_MS = 3_600_000;
/** Kept at most: what rotation makes is at most seven, and each start under another callsign makes one. The most recent ones stay. */
const PREKEYS_MAX = 64;
const KEY_PREFIX = "prekey/";

export interface PrekeysOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
  /** Of every record in which this run publishes a prekey. One that was published with another is replaced at the start. */
  readonly callsign: string | undefined;
  /** A new prekey is durable and current. Synchronous; must not throw. */
  readonly onRotate?: () => void;
}

interface Held {
  readonly keyId: number;
  /** Of the records that name it; undefined: they have none, or a release wrote it that did not keep that. */
  readonly callsign: string | undefined;
  readonly key: DhKey & { readonly secret: Uint8Array };
  /** Published; otherwise only opens mail. */
  readonly isCurrent: boolean;
  /** Running time until it is replaced, or deleted. */
  readonly leftMs: number;
}

/** Reads the keys and makes the first one. Rejects with GODWIT_STORE_FAILED. */
export async function openPrekeys(options: PrekeysOptions): Promise<Prekeys> {
  const rows = await options.store.load("setting");
  const held = rows.flatMap((row) => parseRow(row, options.log) ?? []);
  // The key with most time left is the newest; should there be a second current one, it only opens mail.
  held.sort((a, b) => Number(b.isCurrent) - Number(a.isCurrent) || b.leftMs - a.leftMs);
  const usable = held.map((entry, index) => {
    const isReplaced = entry.isCurrent && (index > 0 || entry.callsign !== options.callsign);
    return isReplaced ? { ...entry, isCurrent: false, leftMs: PREKEY_KEEP_MS } : entry;
  });
  const prekeys = new Prekeys(options, usable);
  await prekeys.tick();
  return prekeys;
}

export class Prekeys {
  readonly #options: PrekeysOptions;
  readonly #onGone: (() => void)[] = [];
  #held: readonly Held[];
  #countedAtMs: number;
  #timer: Timer | undefined;
  #isStopped = false;
  #ticking: Promise<void> | undefined;

  /** Use `openPrekeys`. */
  constructor(options: PrekeysOptions, held: readonly Held[]) {
    this.#options = options;
    this.#held = held;
    this.#countedAtMs = options.clock.monotonicMs();
  }

  /** `listener` is told whenever some are deleted, durably. It must not throw. */
  onGone(listener: () => void): void {
    this.#onGone.push(listener);
  }

  /** The key to publish. Durable. */
  current(): Prekey {
    const { keyId, key } = this.#held.find((entry) => entry.isCurrent)!;
    return { keyId, publicKey: key.publicKey };
  }

  /** The private half of a key that was published and is not deleted yet. */
  find(keyId: number): DhKey | undefined {
    return this.#held.find((entry) => entry.keyId === keyId)?.key;
  }

  /**
   * The callsign of every record that ever named it: mail may be addressed by that alone, whatever this node is called by now. Undefined: none, or not
   * known.
   */
  callsignOf(keyId: number): string | undefined {
    return this.#held.find((entry) => entry.keyId === keyId)?.callsign;
  }

  /** Lets time pass: counts, rotates, deletes, in one commit. Rejects when the store failed; nothing has changed then. */
  tick(): Promise<void> {
    this.#ticking ??= this.#tick().finally(() => {
      this.#ticking = undefined;
    });
    return this.#ticking;
  }

  /** Persists the ages and stops. Nothing rotates any more; keys stay usable. Never rejects. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.tick().catch(() => {});
  }

  async #tick(): Promise<void> {
    const { clock, store } = this.#options;
    this.#timer?.cancel();
    this.#schedule();
    const nowMs = clock.monotonicMs();
    const passedMs = nowMs - this.#countedAtMs;
    const aged = this.#held.map((entry) => ({ ...entry, leftMs: entry.leftMs - passedMs }));
    const left = aged.flatMap((entry): Held[] => {
      if (entry.leftMs > 0) return [entry];
      return entry.isCurrent ? [{ ...entry, isCurrent: false, leftMs: PREKEY_KEEP_MS }] : [];
    });
    const needsNew = !left.some((entry) => entry.isCurrent);
    if (needsNew) left.unshift(this.#generate());
    const next = left.slice(0, PREKEYS_MAX);
    const gone = this.#held.filter((entry) => !next.some(({ keyId }) => keyId === entry.keyId));
    const ops: StoreOp[] = [
      ...next.map(rowOf),
      ...gone.map(({ keyId }): StoreOp => ({ op: "delete", in: "setting", key: keyOf(keyId) })),
    ];
    await store.commit(ops);
    this.#held = next;
    this.#countedAtMs = nowMs;
    if (needsNew && !this.#isStopped) this.#options.onRotate?.();
    if (gone.length > 0) for (const listener of this.#onGone) listener();
  }

  #schedule(): void {
    if (this.#isStopped) return;
    this.#timer = this.#options.clock.after(PREKEY_TICK_MS, () => {
      this.tick().catch((error: unknown) => {
        this.#options.log?.warn("prekeys not persisted", { error: String(error) });
      });
    });
  }

  /** Ids are random: after a restored backup a counter would give one id to two keys. 0 means the identity key. */
  #generate(): Held {
    const { random, callsign } = this.#options;
    const key = generateDhKey(random);
    let keyId = 0;
    while (keyId === 0 || this.#held.some((entry) => entry.keyId === keyId)) keyId = random.below(2 ** 32);
    return { keyId, callsign, key, isCurrent: true, leftMs: PREKEY_ROTATE_MS };
  }
}

const keyOf = (keyId: number): string => `${KEY_PREFIX}${keyId.toString(16).padStart(8, "0")}`;

const rowOf = ({ keyId, callsign, key, isCurrent, leftMs }: Held): StoreOp => ({
  op: "put",
  in: "setting",
  key: keyOf(keyId),
  meta: JSON.stringify({
    secret: formatHex(key.secret),
    current: isCurrent,
    left_ms: Math.ceil(leftMs),
    callsign,
  }),
});

function parseRow({ key, meta }: StoreRow, log: Log | undefined): Held | undefined {
  if (!key.startsWith(KEY_PREFIX)) return undefined;
  try {
    const keyId = Number.parseInt(key.slice(KEY_PREFIX.length), 16);
    const row = JSON.parse(meta) as Record<string, unknown>;
    const secret = parseHex(String(row["secret"]), DH_KEY_BYTES);
    const leftMs = row["left_ms"];
    if (keyOf(keyId) !== key || keyId === 0 || secret === undefined || typeof leftMs !== "number")
      throw new Error("malformed");
    // A damaged age must not keep a key for ever.
    const isCurrent = row["current"] === true;
    const callsign = typeof row["callsign"] === "string" ? row["callsign"] : undefined;
    return {
      ...{ keyId, callsign, key: dhKeyFromSecret(secret), isCurrent },
      leftMs: Math.min(leftMs, PREKEY_KEEP_MS),
    };
  } catch {
    log?.warn("stored prekey is unreadable", { key });
    return undefined;
  }
}
