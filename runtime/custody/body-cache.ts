/** Sealed bytes kept in memory between commit and acknowledgement, least recently used first out, bounded in bytes. */
import type { BundleId } from "../kernel/ids.ts";

export const BODY_CACHE_BYTES_MAX = 16 * 1024 * 1024;
/** Of one bundle. */
export const BODY_CACHE_ONE_BYTES_MAX = BODY_CACHE_BYTES_MAX / 4;

export class BodyCache {
  readonly #bodies = new Map<BundleId, Uint8Array>();
  #bytes = 0;

  get(id: BundleId): Uint8Array | undefined {
    return this.#bodies.get(id);
  }

  put(id: BundleId, sealed: Uint8Array): void {
    if (sealed.length > BODY_CACHE_ONE_BYTES_MAX || this.#bodies.has(id)) return;
    this.#bodies.set(id, sealed);
    this.#bytes += sealed.length;
    for (const [oldest, bytes] of this.#bodies) {
      if (this.#bytes <= BODY_CACHE_BYTES_MAX) break;
      this.#bodies.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }

  delete(id: BundleId): void {
    const bytes = this.#bodies.get(id);
    if (bytes === undefined) return;
    this.#bodies.delete(id);
    this.#bytes -= bytes.length;
  }
}
