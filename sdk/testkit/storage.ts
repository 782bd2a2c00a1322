/** `ctx.storage` for tests: within the same bounds as the host's, in memory. Survives the host that it is handed to. */
import { GodwitError, STORAGE_LIMITS, type PluginStorage } from "../src/index.ts";

export class FakeStorage implements PluginStorage {
  readonly #values = new Map<string, Uint8Array>();
  /** Thrown by the next calls of `set` and `delete`: a full disk. */
  failure: Error | undefined;

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#values.get(key)?.slice();
  }

  async set(key: string, value: Uint8Array): Promise<void> {
    const copy = new Uint8Array(value);
    if (!new RegExp(`^[a-z0-9._-]{1,${STORAGE_LIMITS.keyChars}}$`).test(key))
      throw new GodwitError("GODWIT_ENCODE", "a key has 1 to 64 characters of a-z 0-9 . _ -", {
        kind: "bug",
      });
    let total = copy.length + key.length;
    for (const [other, bytes] of this.#values) if (other !== key) total += other.length + bytes.length;
    const isFull = !this.#values.has(key) && this.#values.size >= STORAGE_LIMITS.keys;
    if (isFull || total > STORAGE_LIMITS.bytes)
      throw new GodwitError("GODWIT_TOO_BIG", "a plugin keeps at most 64 keys and 1 MiB", {
        kind: "capacity",
      });
    if (this.failure !== undefined) throw this.failure;
    this.#values.set(key, copy);
  }

  async delete(key: string): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.#values.delete(key);
  }

  async keys(): Promise<readonly string[]> {
    return [...this.#values.keys()].sort();
  }
}
