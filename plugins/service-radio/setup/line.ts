/**
 * One connection to a radio for somebody who sets it up: what it says as messages in their order, and how it ended. Asks nothing by itself, and says nothing
 * that it was not handed. At most `EVENTS_MAX` messages wait here; what comes beyond is passed over.
 */
import type { Clock } from "@godwit/sdk";
import { encodeFrame, FrameReader } from "../frames.ts";
import { decodeFromRadio, encodeDisconnect, type FromRadio } from "../protocol.ts";
import type { OpenWire, Wire } from "../wire.ts";

const EVENTS_MAX = 4_096;
/** Of what was said last, to quote it where it was no message, bytes. */
const TAIL_BYTES = 512;
const QUOTED_CHARS_MAX = 80;

export type Heard =
  | { readonly kind: "message"; readonly message: FromRadio }
  | { readonly kind: "closed"; readonly why: string }
  | { readonly kind: "late" };

export class Line {
  readonly #clock: Clock;
  readonly #reader: FrameReader;
  readonly #waiting: FromRadio[] = [];
  #wire: Wire | undefined;
  #closed: string | undefined;
  #news = Promise.withResolvers<void>();
  #tail = new Uint8Array(0);
  /** Messages that came. */
  messages = 0;

  private constructor(clock: Clock) {
    this.#clock = clock;
    this.#reader = new FrameReader({
      frame: (body) => {
        const message = decodeFromRadio(body);
        if (message === undefined) return false;
        this.messages++;
        if (this.#waiting.length < EVENTS_MAX) this.#waiting.push(message);
        return true;
      },
      noise: () => {},
    });
  }

  /** Rejects as `open`. */
  static async open(open: OpenWire, clock: Clock, signal: AbortSignal): Promise<Line> {
    const line = new Line(clock);
    line.#wire = await open(
      {
        data: (bytes) => line.#push(bytes),
        closed: (why) => {
          line.#closed = why;
          line.#news.resolve();
        },
      },
      signal,
    );
    return line;
  }

  /** The next message; "late" where none comes within `ms`. */
  async next(ms: number): Promise<Heard> {
    let isLate = false;
    const timer = this.#clock.after(Math.max(0, ms), () => {
      isLate = true;
      this.#news.resolve();
    });
    try {
      for (;;) {
        const message = this.#waiting.shift();
        if (message !== undefined) return { kind: "message", message };
        if (this.#closed !== undefined) return { kind: "closed", why: this.#closed };
        if (isLate) return { kind: "late" };
        await this.#news.promise;
        this.#news = Promise.withResolvers();
      }
    } finally {
      timer.cancel();
    }
  }

  /** Bytes as they are. */
  wake(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#wire?.write(bytes);
  }

  /** A ToRadio message. */
  say(message: Uint8Array): void {
    this.#wire?.write(encodeFrame(message));
  }

  /** Whether anything was heard at all, and of that the last line that a person can read, without what would move a terminal; undefined: nothing. */
  get said(): { readonly line: string } | undefined {
    if (this.#tail.length === 0) return undefined;
    const lines = new TextDecoder()
      .decode(this.#tail)
      .replaceAll(/\p{Cc}\[[0-9;]*m/gu, "")
      .split(/[\r\n]+/)
      .map((line) => line.replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]|\uFFFD/gu, "").trim())
      .filter((line) => /[\p{L}\p{N}]{3}/u.test(line));
    return { line: (lines.at(-1) ?? "").slice(0, QUOTED_CHARS_MAX) };
  }

  /** Idempotent. A radio that is not told feeds packets to nobody, and the next client waits. */
  close(): void {
    if (this.#closed === undefined) this.say(encodeDisconnect());
    this.#wire?.close();
    this.#wire = undefined;
  }

  #push(bytes: Uint8Array): void {
    const whole = new Uint8Array(this.#tail.length + bytes.length);
    whole.set(this.#tail);
    whole.set(bytes, this.#tail.length);
    this.#tail = whole.slice(-TAIL_BYTES);
    this.#reader.push(bytes, this.#clock.monotonicMs());
    this.#news.resolve();
  }
}
