/**
 * One caller: bytes in both directions, the password, who speaks (a person or a program), and every bound that keeps a
 * bad caller from costing more than one connection. Knows sockets only as `Wire`. Lines are handled one at a time; while
 * one is, nothing more is read.
 */
import type { Clock, SentMessage, Timer } from "@godwit/sdk";
import type { TelexConfig } from "./config.ts";
import { Console } from "./console.ts";
import { hideTyping, type Item, LineReader, showTyping, TELNET_ESCAPE } from "./lines.ts";
import { parseObject, Program } from "./program.ts";
import { type Arrival, type Line, type Session, type SessionDeps } from "./session.ts";

/** Bytes read and not yet looked at before reading stops. */
export const UNREAD_BYTES_MAX = 64 * 1024;
/** Waiting output above which nothing is handled, and notes are left out. */
export const BACKLOG_BYTES = 256 * 1024;
/** A caller who takes nothing for so long while something waits for him is gone. */
export const STALL_MS = 60_000;
/** The password must be there by then. */
export const LOGIN_MS = 60_000;
/** A program's line, from its first byte to its end. */
export const LINE_MS = 30_000;
const GOODBYE_MS = 5_000;
const GUESSES_MAX = 3;
/** After a wrong guess. */
const GUESS_DELAY_MS = 1_000;
/**
 * Lines and bytes handled before others have their turn, and for how long: a caller who floods us must not keep the
 * event loop from links and from other callers. 3,200 lines or 6.5 MB a second for each.
 */
export const BURST_ITEMS = 32;
export const BURST_BYTES = 64 * 1024;
export const TURN_MS = 10;
/**
 * A browser on this machine does what a web page tells it: post lines to a port of loopback. Its request never gets as
 * far as its body.
 */
const HTTP = /^(?:[A-Z]+ \S+ HTTP\/|Host:)/i;
const BRACE = 0x7b;

/**
 * A line holds a body of `messageMax` bytes with most characters escaped (`\u00e9` for two bytes) and what surrounds it.
 */
export const lineBytesMax = (messageMax: number): number => 3 * messageMax + 16 * 1024;

/** The socket. */
export interface Wire {
  /** Bytes taken; 0: none now, `onDrain` follows; less: the connection is gone. */
  write(bytes: Uint8Array): number;
  pause(): void;
  resume(): void;
  /** Sends what was written and then the end. */
  end(): void;
  terminate(): void;
}

export interface ConnectionDeps {
  readonly wire: Wire;
  readonly clock: Clock;
  readonly config: TelexConfig;
  readonly sessions: Omit<SessionDeps, "line">;
  /** Who may speak has said something, the password for instance. Maybe more than once. */
  readonly onSpoken: () => void;
  /** Once. */
  readonly onClosed: () => void;
  readonly onWrongPassword: () => void;
}

export class Connection implements Line {
  readonly #deps: ConnectionDeps;
  readonly #reader: LineReader;
  readonly #openedMs: number;
  readonly #greeting: Timer;
  #session: Session | undefined;
  #kind: "unknown" | "person" | "program" = "unknown";
  #isKnown: boolean;
  #isTelnet = false;
  #guesses = 0;
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #isPaused = false;
  #burstItems = 0;
  #burstBytes = 0;
  #isYielding = false;
  #isBusy = false;
  #hasEnded = false;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #progressMs = 0;
  #wake: (() => void)[] = [];
  #wakeOnClose = () => {};
  #lastLineMs: number;
  #partialMs: number | undefined;
  #closingMs: number | undefined;
  #isClosed = false;

  constructor(deps: ConnectionDeps) {
    this.#deps = deps;
    const { clock, config } = deps;
    this.#openedMs = clock.monotonicMs();
    this.#lastLineMs = this.#openedMs;
    this.#isKnown = config.password === undefined;
    this.#reader = new LineReader({
      lineBytesMax: lineBytesMax(config.message_max),
      reply: (bytes) => this.#write(bytes),
    });
    // Programs speak first and people wait, so silence tells them apart.
    this.#greeting = clock.after(config.greeting_delay, () => {
      if (this.#kind === "unknown" && !this.#isClosed) this.#becomePerson();
    });
  }

  get isOpen(): boolean {
    return !this.#isClosed && this.#closingMs === undefined;
  }

  get isTyping(): boolean {
    return this.#reader.isPartial;
  }

  /** Others have their turn: what this caller sent is looked at in a moment. */
  get isYielding(): boolean {
    return this.#isYielding;
  }

  get isBacklogged(): boolean {
    return this.#waitingBytes > BACKLOG_BYTES;
  }

  print(text: string): void {
    this.#write(new TextEncoder().encode(text));
  }

  drained(): Promise<void> {
    if (this.#isClosed || !this.isBacklogged) return Promise.resolve();
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  hangUp(): void {
    if (!this.isOpen) return;
    this.#closingMs = this.#deps.clock.monotonicMs();
    this.#greeting.cancel();
    this.#unread = [];
    // A paused socket would not hear that the far end closed as well.
    this.#setPaused(false);
    if (this.#waiting.length === 0) this.#deps.wire.end();
  }

  /** With a reason in the form of who speaks here; a stranger is told in JSON, which both can read. */
  dismiss(code: string, reason: string): void {
    if (!this.isOpen) return;
    if (this.#session === undefined || this.#kind === "unknown") this.print(errorLine(code, reason));
    else this.#session.farewell(reason);
    this.hangUp();
  }

  /** At once, without a word. */
  cut(): void {
    this.#deps.wire.terminate();
    this.onClosed();
  }

  /** Nothing for strangers. */
  onArrival(arrival: Arrival): void {
    if (this.isOpen && this.#isKnown) this.#session?.onArrival(arrival);
  }

  onSent(message: SentMessage): void {
    if (this.isOpen && this.#isKnown) this.#session?.onSent(message);
  }

  /** Borrowed. */
  onData(bytes: Uint8Array): void {
    if (!this.isOpen) return;
    this.#unread.push(bytes.slice());
    this.#unreadBytes += bytes.length;
    if (this.#unreadBytes > UNREAD_BYTES_MAX) this.#setPaused(true);
    void this.#pump();
  }

  /** The caller sends no more; what he sent is still answered. */
  onEnd(): void {
    this.#hasEnded = true;
    void this.#pump();
  }

  onDrain(): void {
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const taken = this.#deps.wire.write(head);
      if (taken < 0) return this.cut();
      this.#waitingBytes -= taken;
      if (taken > 0) this.#progressMs = this.#deps.clock.monotonicMs();
      if (taken < head.length) {
        this.#waiting[0] = head.subarray(taken);
        break;
      }
      this.#waiting.shift();
    }
    if (!this.isBacklogged) this.#wakeAll();
    if (this.#closingMs !== undefined && this.#waiting.length === 0) this.#deps.wire.end();
  }

  onClosed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#greeting.cancel();
    this.#unread = [];
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#wakeAll();
    this.#wakeOnClose();
    this.#deps.onClosed();
  }

  /** Called about once a second: ends what takes too long. */
  check(nowMs: number): void {
    const { config } = this.#deps;
    if (this.#closingMs !== undefined) {
      if (nowMs - this.#closingMs > GOODBYE_MS) this.cut();
      return;
    }
    // A socket that is not read does not hear that the caller is gone; a write does.
    if (this.#isPaused && this.#waitingBytes > 0) this.onDrain();
    if (this.#isClosed) return;
    if (this.#waitingBytes > 0 && nowMs - this.#progressMs > STALL_MS) return this.cut();
    if (!this.#isKnown && nowMs - this.#openedMs > LOGIN_MS)
      return this.dismiss("GODWIT_TIMEOUT", "no password in time");
    const isSlow = this.#partialMs !== undefined && nowMs - this.#partialMs > LINE_MS;
    if (this.#kind === "program" && isSlow)
      return this.dismiss("GODWIT_TIMEOUT", `a line must be finished within ${LINE_MS / 1000} s`);
    if (config.idle_timeout > 0 && nowMs - this.#lastLineMs > config.idle_timeout)
      this.dismiss("GODWIT_TIMEOUT", "nothing was said for too long; goodbye");
  }

  async #pump(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      while (this.isOpen) {
        if (this.isBacklogged) await this.drained();
        if (this.#burstItems >= BURST_ITEMS || this.#burstBytes >= BURST_BYTES) {
          await this.#giveTurn();
          continue;
        }
        const item = this.#nextItem();
        if (item === "unfinished") continue;
        if (item === undefined) break;
        this.#burstItems++;
        this.#lastLineMs = this.#deps.clock.monotonicMs();
        await this.#handle(item);
      }
    } finally {
      this.#isBusy = false;
    }
    if (this.#hasEnded && this.#unread.length === 0) this.hangUp();
  }

  async #giveTurn(): Promise<void> {
    this.#isYielding = true;
    await this.#pause(TURN_MS);
    this.#isYielding = false;
    this.#burstItems = 0;
    this.#burstBytes = 0;
  }

  /** "unfinished": there is more to look at, in the next burst. */
  #nextItem(): Item | "unfinished" | undefined {
    for (let chunk = this.#unread[0]; chunk !== undefined; chunk = this.#unread[0]) {
      if (this.#kind === "unknown") this.#recognise(chunk[0]!);
      const end = Math.min(chunk.length, BURST_BYTES - this.#burstBytes);
      for (let at = 0; at < end; at++) {
        const item = this.#reader.push(chunk[at]!);
        if (item === undefined) continue;
        this.#consume(chunk, at + 1);
        this.#partialMs = undefined;
        return item;
      }
      this.#consume(chunk, end);
      if (end < chunk.length) return "unfinished";
    }
    if (this.#reader.isPartial) this.#partialMs ??= this.#deps.clock.monotonicMs();
    else this.#partialMs = undefined;
    return this.#hasEnded ? this.#reader.finish() : undefined;
  }

  #consume(chunk: Uint8Array, bytes: number): void {
    this.#unreadBytes -= bytes;
    this.#burstBytes += bytes;
    if (bytes < chunk.length) this.#unread[0] = chunk.subarray(bytes);
    else this.#unread.shift();
    if (this.#unread.length === 0) this.#setPaused(false);
  }

  #recognise(first: number): void {
    if (first === BRACE) return this.#becomeProgram();
    this.#isTelnet = first === TELNET_ESCAPE;
    this.#becomePerson();
  }

  #becomeProgram(): void {
    this.#greeting.cancel();
    this.#kind = "program";
    this.#reader.setPlain();
    this.#session = new Program({ ...this.#deps.sessions, line: this });
  }

  #becomePerson(): void {
    this.#greeting.cancel();
    this.#kind = "person";
    const session = new Console({ ...this.#deps.sessions, line: this });
    this.#session = session;
    if (this.#isKnown) session.greet();
    else this.#askPassword();
  }

  async #handle(item: Item): Promise<void> {
    const session = this.#session;
    const isComposing = session instanceof Console && session.isComposing;
    if (this.#kind === "person" && item.kind === "line" && !isComposing) {
      if (HTTP.test(item.text)) return this.dismiss("GODWIT_FORBIDDEN", "this is not a web server");
      if (item.text.startsWith("{")) this.#becomeProgram();
    }
    if (!this.#isKnown) return await this.#logIn(item);
    this.#deps.onSpoken();
    await this.#session?.handle(item);
  }

  async #logIn(item: Item): Promise<void> {
    if (item.kind === "end" || item.kind === "interrupt") return this.hangUp();
    if (item.kind === "who") return; // says who we are only to those who may know
    const text = item.kind === "line" ? item.text : "";
    const isProgram = this.#kind === "program";
    const said = isProgram ? parseObject(text)?.["password"] : text;
    if (typeof said === "string" && this.#deps.config.password!.equals(said)) {
      this.#isKnown = true;
      this.#deps.onSpoken();
      this.#showTyping();
      if (this.#session instanceof Console) this.#session.greet();
      else this.print('{"status":"welcome"}\n');
      return;
    }
    this.#deps.onWrongPassword();
    await this.#pause(GUESS_DELAY_MS);
    if (!this.isOpen) return;
    if (isProgram) this.print(errorLine("GODWIT_UNAUTHORIZED", 'the first line must be {"password": "..."}'));
    else this.print("\r\nthat is not the password\r\n");
    if (++this.#guesses >= GUESSES_MAX) this.hangUp();
    else if (!isProgram) this.print("password: ");
  }

  /** Ends early with the connection. */
  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(delayMs, resolve);
      this.#wakeOnClose = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  #askPassword(): void {
    this.print("GODWIT TELEX\r\npassword: ");
    if (this.#isTelnet) this.#write(hideTyping);
  }

  #showTyping(): void {
    if (!this.#isTelnet || this.#kind !== "person") return;
    this.#write(showTyping);
    this.print("\r\n");
  }

  #write(bytes: Uint8Array): void {
    if (this.#isClosed || this.#closingMs !== undefined) return;
    let taken = 0;
    if (this.#waiting.length === 0) {
      taken = Math.max(0, this.#deps.wire.write(bytes));
      this.#progressMs = this.#deps.clock.monotonicMs();
      if (taken >= bytes.length) return;
    }
    this.#waiting.push(bytes.slice(taken));
    this.#waitingBytes += bytes.length - taken;
  }

  #setPaused(isPaused: boolean): void {
    if (isPaused === this.#isPaused || this.#isClosed) return;
    this.#isPaused = isPaused;
    if (isPaused) this.#deps.wire.pause();
    else this.#deps.wire.resume();
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** For callers of whom it is not known yet what they are. */
export const errorLine = (code: string, message: string): string =>
  `${JSON.stringify({ status: "error", error: message, code })}\n`;
