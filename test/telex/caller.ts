/** Somebody at the far end of a telex line: a socket whose answers can be waited for. Never sleeps. */
import type { Socket } from "bun";

const DEADLINE_MS = 15_000;

export class Caller {
  readonly #socket: Socket;
  #unsaid = Buffer.alloc(0);
  #received = "";
  #at = 0;
  #isClosed = false;
  #wake: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async call(port: number, host = "127.0.0.1"): Promise<Caller> {
    let caller: Caller | undefined;
    let early = Buffer.alloc(0);
    const socket = await Bun.connect({
      hostname: host,
      port,
      socket: {
        data: (_socket, bytes) => {
          if (caller === undefined) early = Buffer.concat([early, bytes]);
          else caller.#onText(bytes.toString("latin1"));
        },
        drain: () => {
          if (caller !== undefined) caller.#speak();
        },
        close: () => {
          if (caller !== undefined) caller.#onClosed();
        },
        error: () => {
          if (caller !== undefined) caller.#onClosed();
        },
      },
    });
    caller = new Caller(socket);
    if (early.length > 0) caller.#onText(early.toString("latin1"));
    return caller;
  }

  /** What the system does not take at once follows. */
  say(text: string | Uint8Array): void {
    this.#unsaid = Buffer.concat([this.#unsaid, Buffer.from(text as string)]);
    this.#speak();
  }

  sayJson(value: unknown): void {
    this.say(`${JSON.stringify(value)}\n`);
  }

  /** What came since the last wait, up to and with `pattern`; throws with what was there when it does not come. */
  async hear(pattern: RegExp, withinMs = DEADLINE_MS): Promise<RegExpExecArray> {
    for (const deadline = Bun.nanoseconds() + withinMs * 1e6; ;) {
      const match = pattern.exec(this.#received.slice(this.#at));
      if (match !== null) {
        this.#at += match.index + match[0].length;
        return match;
      }
      const missing = `${pattern} was not heard, but:\n${this.#received.slice(this.#at)}`;
      if (this.#isClosed) throw new Error(`the line was closed; ${missing}`);
      if (Bun.nanoseconds() > deadline) throw new Error(missing);
      await this.#change();
    }
  }

  async hearJson<T = Record<string, unknown>>(): Promise<T> {
    const [line] = await this.hear(/^[^\n]*\n/);
    return JSON.parse(Buffer.from(line, "latin1").toString()) as T;
  }

  /** Everything so far, as bytes in Latin-1. */
  get transcript(): string {
    return this.#received;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  async closed(): Promise<void> {
    const deadline = Bun.nanoseconds() + DEADLINE_MS * 1e6;
    while (!this.#isClosed) {
      if (Bun.nanoseconds() > deadline)
        throw new Error(`the line stays open:\n${this.#received.slice(-500)}`);
      await this.#change();
    }
  }

  /** Takes nothing from now on, or again. */
  listen(isListening: boolean): void {
    if (isListening) this.#socket.resume();
    else this.#socket.pause();
  }

  /** No more words from here; answers still come. */
  finish(): void {
    this.#socket.shutdown();
  }

  hangUp(): void {
    this.#socket.terminate();
  }

  #speak(): void {
    const taken = Math.max(0, this.#socket.write(this.#unsaid));
    this.#unsaid = this.#unsaid.subarray(taken);
  }

  #onText(text: string): void {
    this.#received += text;
    this.#wakeAll();
  }

  #onClosed(): void {
    this.#isClosed = true;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** The next sign of life, or half a second. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 500);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
