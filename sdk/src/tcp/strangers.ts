/** Connections whose far end has proven nothing yet, bounded in all and for each source before anything is made for them. */
export const STRANGERS_MAX = 512;
export const STRANGERS_PER_SOURCE_MAX = 64;

export class Strangers {
  readonly #bySource = new Map<string, number>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Undefined when there is no room; else what releases the place, idempotent. */
  enter(source: string): (() => void) | undefined {
    const ofSource = this.#bySource.get(source) ?? 0;
    if (this.#count >= STRANGERS_MAX || ofSource >= STRANGERS_PER_SOURCE_MAX) return undefined;
    this.#count++;
    this.#bySource.set(source, ofSource + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#count--;
      const left = this.#bySource.get(source)! - 1;
      if (left === 0) this.#bySource.delete(source);
      else this.#bySource.set(source, left);
    };
  }
}
