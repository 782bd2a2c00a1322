/**
 * Coordination: keys that nodes share. What an engine promises is one word, and the node never hides which: code that needs a
 * lock must not run on an engine that cannot give one.
 */

/**
 * `eventual`: every node answers at once from what it has, the newest write of each key wins in the end. `quorum`: a majority
 * of fixed voters agrees on each change. `strong`: an outside system (etcd) orders all changes.
 */
export type EngineGuarantee = "eventual" | "quorum" | "strong";

/** The host refuses what is beyond them before the engine sees it. */
export const ENGINE_LIMITS = {
  keyBytes: 256,
  valueBytes: 65_536,
  ttlMsMin: 1_000,
  ttlMsMax: 86_400_000,
} as const;

export interface EngineEntry {
  /** The caller's. */
  readonly value: Uint8Array;
  /** Of this write; another write has another. Opaque, 1 to 128 characters of printable ASCII. */
  readonly revision: string;
}

export interface EngineLease {
  /** Grows with every holder of the name: whoever is written to refuses a smaller one than it has seen. */
  readonly fencingToken: bigint;
  /** False: it is lost, and somebody else may hold it. */
  renew(signal: AbortSignal): Promise<boolean>;
  /** Idempotent. */
  release(): Promise<void>;
}

/**
 * A coordination backend. Keys are text of 1 to 256 bytes of UTF-8, values at most 64 KiB and borrowed until the call settles.
 * Every call rejects with the reason of its signal as soon as that aborts, and with a GodwitError where the backend cannot answer.
 */
export interface Engine {
  readonly guarantee: EngineGuarantee;
  get(key: string, signal: AbortSignal): Promise<EngineEntry | undefined>;
  put(key: string, value: Uint8Array, signal: AbortSignal): Promise<EngineEntry>;
  /** Nothing there: no error. */
  delete(key: string, signal: AbortSignal): Promise<void>;
  /** Changes of keys that begin with `prefix`, from the call on; undefined: deleted. Answers what ends it. Must not be called from within. */
  watch(prefix: string, onChange: (key: string, entry: EngineEntry | undefined) => void): () => void;
  /**
   * Writes only where the revision is still `expected` (undefined: only where there is nothing). Undefined: it was not, and
   * nothing was written. `quorum` and `strong` engines must have it, an `eventual` one must not.
   */
  cas?(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    signal: AbortSignal,
  ): Promise<EngineEntry | undefined>;
  /** A name for so long, unless somebody else has it: then undefined. With `cas` or not at all. */
  lease?(name: string, ttlMs: number, signal: AbortSignal): Promise<EngineLease | undefined>;
  /** Waits until the name is free, and takes it. With `cas` or not at all. */
  campaign?(name: string, ttlMs: number, signal: AbortSignal): Promise<EngineLease>;
}
