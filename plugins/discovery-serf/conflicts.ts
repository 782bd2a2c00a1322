/**
 * Two who are called the same, for as long as it is heard of. One at a time is said, this node's own before any other: a liar claims names by the
 * thousand a second, each from another address, and that is one line, one state and one timer.
 */
import type { Timer } from "@godwit/sdk";
import type { Timers } from "./memberlist/timers.ts";
import type { At } from "./wire/messages.ts";

/** A conflict that was not heard of again is over. */
const CONFLICT_MS = 60_000;

export class Conflicts {
  readonly #timers: Timers;
  /** Told when there is one, and when it is over. */
  readonly #changed: () => void;
  #standing: { readonly words: string; readonly isSelf: boolean; heardMs: number } | undefined;
  #timer: Timer | undefined;

  constructor(timers: Timers, changed: () => void) {
    this.#timers = timers;
    this.#changed = changed;
  }

  /** Undefined: there is none. */
  get words(): string | undefined {
    return this.#standing?.words;
  }

  /** Whether that is said from now on and was not before. */
  hear(name: string, isSelf: boolean, { address, port }: At): boolean {
    const heardMs = this.#timers.nowMs();
    const standing = this.#standing;
    if (standing !== undefined && (standing.isSelf || !isSelf)) {
      if (standing.isSelf === isSelf) standing.heardMs = heardMs;
      return false;
    }
    const words = isSelf
      ? `another member is called ${name} too, at ${address} port ${port}: give one of them another name`
      : `two members are called ${name}, the other at ${address} port ${port}`;
    this.#standing = { words, isSelf, heardMs };
    this.#timer?.cancel();
    this.#endIn(CONFLICT_MS);
    this.#changed();
    return true;
  }

  #endIn(delayMs: number): void {
    this.#timer = this.#timers.after(delayMs, () => {
      const leftMs = this.#standing!.heardMs + CONFLICT_MS - this.#timers.nowMs();
      if (leftMs > 0) return this.#endIn(leftMs);
      this.#standing = undefined;
      this.#changed();
    });
  }
}
