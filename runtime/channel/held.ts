/**
 * Mail that a busy channel does not admit, until it does. What waits for that is told, and asks again by itself: nothing of the mail is kept here but the most urgent
 * of it for each channel. Owns one timer, while some is held. docs/protocol/slow.md "What waits"
 */
import type { Clock, Medium, Timer, Urgency } from "@godwit/sdk";

/** How often it is looked whether a channel that was busy admits mail again, ms. */
export const BUSY_LOOK_MS = 15_000;

export interface HeldMailDeps {
  readonly clock: Pick<Clock, "after">;
  /** Those that are open now. */
  media(): Iterable<Medium>;
  /** A channel admits some of what it held: whatever waits is to ask again, and is noted again where it must wait on. */
  wake(): void;
}

export class HeldMail {
  readonly #deps: HeldMailDeps;
  /** By the names of channels: a radio that was away comes back as another medium. As many as there are transports. */
  readonly #held = new Map<string, Urgency>();
  #timer: Timer | undefined;
  #isOver = false;

  constructor(deps: HeldMailDeps) {
    this.#deps = deps;
  }

  /** Mail of this urgency waits because the channel does not admit it. */
  note({ name }: Medium, urgency: Urgency): void {
    if (this.#isOver) return;
    this.#held.set(name, Math.min(urgency, this.#held.get(name) ?? urgency) as Urgency);
    this.#timer ??= this.#deps.clock.after(BUSY_LOOK_MS, () => this.#look());
  }

  stop(): void {
    this.#isOver = true;
    this.#timer?.cancel();
  }

  #look(): void {
    this.#timer = undefined;
    const { clock, media, wake } = this.#deps;
    const freed = [...media()].filter(({ name, admits }) => {
      const urgency = this.#held.get(name);
      return urgency !== undefined && urgency <= (admits ?? urgency);
    });
    for (const { name } of freed) this.#held.delete(name);
    if (this.#held.size > 0) this.#timer = clock.after(BUSY_LOOK_MS, () => this.#look());
    if (freed.length > 0) wake();
  }
}
