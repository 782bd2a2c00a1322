/**
 * Work for callers begins one piece in each turn of the event loop, over all connections: some answers take a tenth of a second to make, and two
 * hundred of them in one turn would hold up links and health for as long as all of them take. Owns the order of those who wait; must never
 * let anybody through within the call.
 */
export class Turnstile {
  readonly #urgent: (() => void)[] = [];
  readonly #others: (() => void)[] = [];
  #isTurning = false;

  /** `isUrgent`: before all that are not. */
  enter(isUrgent: boolean): Promise<void> {
    return new Promise((resolve) => {
      (isUrgent ? this.#urgent : this.#others).push(resolve);
      if (this.#isTurning) return;
      this.#isTurning = true;
      setImmediate(() => this.#turn());
    });
  }

  #turn(): void {
    (this.#urgent.shift() ?? this.#others.shift())?.();
    this.#isTurning = this.#urgent.length + this.#others.length > 0;
    if (this.#isTurning) setImmediate(() => this.#turn());
  }
}

/** Of the whole process, as its event loop is. */
export const turnstile = new Turnstile();
