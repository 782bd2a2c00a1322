/**
 * Work for callers begins little by little, over all connections: some answers take a tenth of a second to make, and two hundred of them in one
 * turn of the event loop would hold up links and health for as long as all of them take. Short ones follow each other in one turn, because a
 * turn costs as much as they do. Owns the order of those who wait; must never let anybody through within the call.
 */
/** Nothing more begins in a turn in which work has been done for so long. */
const TURN_MS = 1;

/** Undefined: nothing else begins in its turn. */
type Work = () => Promise<void> | undefined;

export class Turnstile {
  readonly #urgent: Work[] = [];
  readonly #others: Work[] = [];
  #isTurning = false;
  #turns = 0;
  #startedMs = 0;

  /** Resolves in a turn in which nothing begins behind it. `isUrgent`: before all that are not. */
  enter(isUrgent: boolean): Promise<void> {
    return new Promise((resolve) => this.run(isUrgent, () => void resolve()));
  }

  /** Calls `work`, and in the same turn whoever is next when that is done, while there is time. It must neither throw nor reject. */
  run(isUrgent: boolean, work: Work): void {
    (isUrgent ? this.#urgent : this.#others).push(work);
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#turns++;
    this.#startedMs = performance.now();
    this.#begin();
    this.#isTurning = this.#urgent.length + this.#others.length > 0;
    if (this.#isTurning) setImmediate(() => this.#turn());
  }

  #begin(): void {
    const work = this.#urgent.shift() ?? this.#others.shift();
    const turn = this.#turns;
    void work?.()?.then(() => {
      // What was done later has no turn of its own any more.
      if (turn === this.#turns && performance.now() - this.#startedMs < TURN_MS) this.#begin();
    });
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
