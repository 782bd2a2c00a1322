/** Bounds of one instance's key space; the host refuses what is beyond them. */
export const STORAGE_LIMITS = { keys: 64, keyChars: 64, bytes: 1_048_576 } as const;

/**
 * A small durable key space of one instance of a plugin: a cache for starts without a network, a sequence number that must
 * not fall back. Not for messages or logs. At most 64 keys and 1 MiB in all, keys included. It stays when the plugin stops
 * and belongs to the instance's name: another plugin under that name finds it.
 */
export interface PluginStorage {
  /** Undefined when there is nothing. The bytes are the caller's. */
  get(key: string): Promise<Uint8Array | undefined>;
  /**
   * Resolves once durable. `key` has 1 to 64 characters of `a-z 0-9 . _ -`. The bytes are copied before `set` returns. Rejects
   * with GODWIT_TOO_BIG beyond the bounds, GODWIT_ENCODE for a malformed key, GODWIT_STORE_FAILED; then the old value stays.
   */
  set(key: string, value: Uint8Array): Promise<void>;
  /** Resolves once durable, also when there was nothing. */
  delete(key: string): Promise<void>;
  /** In order. */
  keys(): Promise<readonly string[]>;
}
