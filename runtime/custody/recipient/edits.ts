/** Edits that may run side by side, and steps that must have nobody beside them. Owns who waits for whom; knows nothing of what they do. */

export class Edits {
  #running = 0;
  #alone: Promise<void> | undefined;
  #idle = Promise.withResolvers<void>();

  /** Beside other edits; after a step that is under way. Settles as `work` does. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    this.#running++;
    try {
      return await work();
    } finally {
      if (--this.#running === 0) {
        this.#idle.resolve();
        this.#idle = Promise.withResolvers();
      }
    }
  }

  /** After all edits and steps under way, and before edits that come meanwhile. Settles as `work` does. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#alone = promise;
    try {
      while (this.#running > 0) await this.#idle.promise;
      return await work();
    } finally {
      this.#alone = undefined;
      resolve();
    }
  }
}
