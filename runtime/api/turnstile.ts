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

/**
 * For work that waits for something and is long behind that: the answers to many may come in one turn of the event loop, whatever the turns
 * in which they were asked for. One at a time, in order.
 */
export class OneByOne {
  #last: Promise<unknown> = Promise.resolve();

  /** As `work` ends; it is called when all before it have ended. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }
}
