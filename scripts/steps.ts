/** Work of the scripts that takes seconds, step by step, on standard error: what is done, and how long it took. Keeps nothing. */

interface Out {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const TICK_MS = 1_000;

export class Steps {
  readonly #out: Out | undefined;
  readonly #isTerminal: boolean;
  #what: string | undefined;
  #sinceMs = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;

  /** `out`: undefined where nobody is to hear of it. */
  constructor(out: Out | undefined) {
    this.#out = out;
    this.#isTerminal = out?.isTTY === true && process.env["TERM"] !== "dumb";
  }

  /** The step before is over. */
  begin(what: string): void {
    this.end();
    this.#what = what;
    this.#sinceMs = performance.now();
    if (!this.#isTerminal) return this.note(what);
    this.#draw();
    this.#ticker = setInterval(() => this.#draw(), TICK_MS);
    this.#ticker.unref();
  }

  /** The last step is over. */
  end(): void {
    if (this.#what === undefined) return;
    clearInterval(this.#ticker);
    const seconds = ((performance.now() - this.#sinceMs) / 1_000).toFixed(1);
    this.#erase();
    this.note(`${this.#what}: ${seconds} s`);
    this.#what = undefined;
  }

  /** Worth telling meanwhile. */
  note(line: string): void {
    this.#erase();
    this.#out?.write(`${line}\n`);
  }

  #draw(): void {
    const seconds = Math.floor((performance.now() - this.#sinceMs) / 1_000);
    this.#erase();
    this.#out?.write(`${this.#what}${seconds > 0 ? `, ${seconds} s` : ""}`);
  }

  #erase(): void {
    if (this.#isTerminal) this.#out?.write("\r\x1b[K");
  }
}
