/**
 * From the bytes of a caller to lines. For people with telnet's own bytes taken out (RFC 854: negotiation, erase
 * character and line, interrupt) and the editing keys of a terminal; for programs as they are. A line past the bound is
 * dropped up to its end and told once, so memory never grows with what a caller sends.
 */

export type Item =
  | { readonly kind: "line"; readonly text: string; readonly isUtf8: boolean }
  /** The line was longer than the bound; nothing of it was kept. */
  | { readonly kind: "too-long" }
  /** Ctrl-C, telnet IP or BRK: whatever is under way ends. */
  | { readonly kind: "interrupt" }
  /** ENQ, the who-are-you of teletypes, or telnet AYT. */
  | { readonly kind: "who" }
  /** Ctrl-D on an empty line. */
  | { readonly kind: "end" };

const NL = 0x0a;
const CR = 0x0d;
const TAB = 0x09;
const BUFFER_BYTES_FIRST = 256;
/** A larger buffer is given back after its line. */
const BUFFER_BYTES_KEPT = 4_096;

/** RFC 854, "Telnet command structure". */
const telnet = {
  SE: 240,
  BRK: 243,
  IP: 244,
  AYT: 246,
  EC: 247,
  EL: 248,
  SB: 250,
  WILL: 251,
  WONT: 252,
  DO: 253,
  DONT: 254,
  IAC: 255,
} as const;
const OPTION_ECHO = 1;

/** Keys of a terminal that sends each character as it is typed. */
const key = {
  INTERRUPT: 0x03,
  END: 0x04,
  WHO: 0x05,
  BACKSPACE: 0x08,
  KILL_LINE: 0x15,
  DELETE: 0x7f,
} as const;

export interface LineReaderOptions {
  /** Longest line, in bytes without its end. */
  readonly lineBytesMax: number;
  /** Answers to telnet negotiation; at most four bytes for each option, once. */
  readonly reply: (bytes: Uint8Array) => void;
}

export class LineReader {
  readonly #options: LineReaderOptions;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  readonly #lossy = new TextDecoder("utf-8");
  #buffer = new Uint8Array(BUFFER_BYTES_FIRST);
  #length = 0;
  #isOver = false;
  #wasCr = false;
  #isPlain = false;
  #telnet: "data" | "command" | "option" | "sub" | "sub-command" = "data";
  #verb = 0;
  /** Offers already turned down: each is answered once, so that two machines never argue. */
  readonly #answered = new Set<number>();

  constructor(options: LineReaderOptions) {
    this.#options = options;
  }

  /** From here on bytes are what they are: a program speaks. */
  setPlain(): void {
    this.#isPlain = true;
  }

  /** A line has begun and not ended. */
  get isPartial(): boolean {
    return this.#length > 0 || this.#isOver;
  }

  /** Bytes held. */
  get bufferBytes(): number {
    return this.#buffer.length;
  }

  /** One byte; what it completed, if anything. */
  push(byte: number): Item | undefined {
    if (this.#isPlain) return this.#onData(byte);
    switch (this.#telnet) {
      case "data":
        if (byte !== telnet.IAC) return this.#onKey(byte);
        this.#telnet = "command";
        return undefined;
      case "command":
        return this.#onCommand(byte);
      case "option":
        this.#telnet = "data";
        this.#refuse(this.#verb, byte);
        return undefined;
      case "sub":
        if (byte === telnet.IAC) this.#telnet = "sub-command";
        return undefined;
      case "sub-command":
        this.#telnet = byte === telnet.SE ? "data" : "sub";
        return undefined;
    }
  }

  /** The rest when the caller will send no more: a last line without its end. */
  finish(): Item | undefined {
    return this.isPartial ? this.#endLine() : undefined;
  }

  #onCommand(byte: number): Item | undefined {
    this.#telnet = "data";
    switch (byte) {
      case telnet.IAC:
        return this.#onData(byte);
      case telnet.WILL:
      case telnet.WONT:
      case telnet.DO:
      case telnet.DONT:
        this.#verb = byte;
        this.#telnet = "option";
        return undefined;
      case telnet.SB:
        this.#telnet = "sub";
        return undefined;
      case telnet.EC:
        return this.#onKey(key.BACKSPACE);
      case telnet.EL:
        return this.#onKey(key.KILL_LINE);
      case telnet.IP:
      case telnet.BRK:
        return this.#onKey(key.INTERRUPT);
      case telnet.AYT:
        return { kind: "who" };
      default:
        return undefined; // NOP, data mark, go ahead: nothing to do
    }
  }

  /** We want no option. ECHO is our own doing, around the password. */
  #refuse(verb: number, option: number): void {
    if (verb === telnet.WONT || verb === telnet.DONT || option === OPTION_ECHO) return;
    const answer = verb === telnet.WILL ? telnet.DONT : telnet.WONT;
    const once = answer * 256 + option;
    if (this.#answered.has(once)) return;
    this.#answered.add(once);
    this.#options.reply(Uint8Array.of(telnet.IAC, answer, option));
  }

  #onKey(byte: number): Item | undefined {
    switch (byte) {
      case key.BACKSPACE:
      case key.DELETE:
        this.#eraseCharacter();
        return undefined;
      case key.KILL_LINE:
        this.#reset();
        return undefined;
      case key.INTERRUPT:
        this.#reset();
        return { kind: "interrupt" };
      case key.END:
        return this.isPartial ? undefined : { kind: "end" };
      case key.WHO:
        return { kind: "who" };
      case NL:
      case CR:
      case TAB:
        return this.#onData(byte);
      default:
        // Other control characters mean nothing in a line. NUL pads after CR, for teletypes that need the time.
        if (byte >= 0x20) return this.#onData(byte);
        this.#wasCr = false;
        return undefined;
    }
  }

  #onData(byte: number): Item | undefined {
    const isAfterCr = this.#wasCr;
    this.#wasCr = byte === CR;
    if (byte === NL && isAfterCr) return undefined;
    if (byte === NL || byte === CR) return this.#endLine();
    if (this.#isOver) return undefined;
    if (this.#length >= this.#options.lineBytesMax) {
      this.#reset();
      this.#isOver = true;
      return undefined;
    }
    if (this.#length === this.#buffer.length) this.#grow();
    this.#buffer[this.#length++] = byte;
    return undefined;
  }

  #endLine(): Item {
    const isOver = this.#isOver;
    const bytes = this.#buffer.slice(0, this.#length);
    this.#reset();
    if (isOver) return { kind: "too-long" };
    try {
      return { kind: "line", text: this.#decoder.decode(bytes), isUtf8: true };
    } catch {
      return { kind: "line", text: this.#lossy.decode(bytes), isUtf8: false };
    }
  }

  /** A character of UTF-8, not a byte of it. */
  #eraseCharacter(): void {
    while (this.#length > 0) {
      const byte = this.#buffer[--this.#length]!;
      if ((byte & 0xc0) !== 0x80) break;
    }
  }

  #grow(): void {
    const larger = new Uint8Array(Math.min(this.#buffer.length * 4, this.#options.lineBytesMax));
    larger.set(this.#buffer);
    this.#buffer = larger;
  }

  #reset(): void {
    this.#length = 0;
    this.#isOver = false;
    if (this.#buffer.length > BUFFER_BYTES_KEPT) this.#buffer = new Uint8Array(BUFFER_BYTES_FIRST);
  }
}

/** Asks a telnet client to stop showing what is typed, and to show it again. */
export const hideTyping: Uint8Array = Uint8Array.of(telnet.IAC, telnet.WILL, OPTION_ECHO);
export const showTyping: Uint8Array = Uint8Array.of(telnet.IAC, telnet.WONT, OPTION_ECHO);
export const TELNET_ESCAPE: number = telnet.IAC;
