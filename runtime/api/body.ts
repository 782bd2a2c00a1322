/** Request bodies under bounds: bytes per request, bytes in all requests together, time without progress, JSON shape. */
import type { Clock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Connection } from "./access.ts";
import type { ApiRequest } from "./exchange.ts";
import { BODY_BYTES_MAX } from "../wire/constants.ts";
import { requestInvalid } from "./problem.ts";

/** A 16 MiB body grows by a third in base64; the rest is room for the other fields. */
export const JSON_BYTES_MAX = 23 * 1024 * 1024;
export const RAW_BYTES_MAX = BODY_BYTES_MAX;
/** Bodies being read at once, over all requests, in bytes. */
export const READING_BYTES_MAX = 64 * 1024 * 1024;
/** Silence that ends a request body. */
export const BODY_IDLE_MS = 20_000;
/** A body may take this long, plus the time its bytes need at the slowest rate that is still served. */
export const BODY_GRACE_MS = 30_000;
export const BODY_BYTES_PER_SECOND_MIN = 4_096;
/** What is allocated on the word of a Content-Length; more only as bytes arrive. */
const FIRST_BUFFER_BYTES = 64 * 1024;
/** Of what was declared so many times what has arrived. */
const EARNED_FACTOR = 8;
/** Commas, colons and brackets outside strings. Our requests are flat; this bounds what JSON.parse may build. */
export const JSON_MARKS_MAX = 512;

/** Where the body of a request is: with the connection, if it came with its head, else in the request. */
export interface BodySource {
  readonly request: ApiRequest;
  readonly connection: Pick<Connection, "takeBody">;
}

/** Shared by all requests of one API. */
export class BodyReader {
  readonly #clock: Clock;
  #readingBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get readingBytes(): number {
    return this.#readingBytes;
  }

  /** The whole body, owned by the caller. Throws GODWIT_TOO_BIG, GODWIT_REQUEST_TIMEOUT, GODWIT_QUEUE_FULL or GODWIT_CONTENT_ENCODING. */
  async read({ request, connection }: BodySource, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
    refuseEncoded(request);
    const declared = Number(request.headers.get("content-length") ?? 0);
    if (declared > bytesMax) throw tooBig(bytesMax);
    const whole = connection.takeBody?.();
    if (whole !== undefined) return this.#copied(whole, bytesMax);
    if (request.body === null) return new Uint8Array(0);
    const reader = request.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    const startedMs = this.#clock.monotonicMs();
    let buffer = new Uint8Array(Math.min(Math.max(declared, 1), FIRST_BUFFER_BYTES));
    let total = 0;
    try {
      for (;;) {
        const step = await this.#next(reader);
        if (step.done) break;
        this.#reserve(step.value.length);
        const at = total;
        total += step.value.length;
        if (total > bytesMax) throw tooBig(bytesMax);
        // One buffer that doubles, not a list of chunks: a body sent a byte at a time must not cost an object a byte.
        if (total > buffer.length) {
          // An eighth of what was declared has come: the rest is believed, and not copied again and again.
          const wanted = declared <= EARNED_FACTOR * at ? declared : 2 * at;
          buffer = grown(buffer, at, Math.min(bytesMax, Math.max(total, wanted)));
        }
        buffer.set(step.value, at);
        const elapsedMs = this.#clock.monotonicMs() - startedMs;
        if (elapsedMs > BODY_GRACE_MS + (total / BODY_BYTES_PER_SECOND_MIN) * 1000) throw tooSlow();
      }
      return buffer.subarray(0, total);
    } catch (error) {
      await reader.cancel().catch(() => {});
      throw error;
    } finally {
      this.#readingBytes -= total;
    }
  }

  /** It came with its head, so that nothing has to be waited for: what it counts as it gives back at once. */
  #copied(whole: Uint8Array, bytesMax: number): Uint8Array<ArrayBuffer> {
    if (whole.length > bytesMax) throw tooBig(bytesMax);
    this.#reserve(whole.length);
    this.#readingBytes -= whole.length;
    // What came lies in memory of the socket, which is larger.
    return new Uint8Array(whole);
  }

  /** Counted before `total` is, so that a refusal here leaves the sum as it was. */
  #reserve(bytes: number): void {
    if (this.#readingBytes + bytes > READING_BYTES_MAX)
      throw godwitError(
        "GODWIT_QUEUE_FULL",
        "too many request bodies are being read at once; try again later",
      );
    this.#readingBytes += bytes;
  }

  #next(reader: ReadableStreamDefaultReader<Uint8Array>) {
    return new Promise<Awaited<ReturnType<typeof reader.read>>>((resolve, reject) => {
      const timer = this.#clock.after(BODY_IDLE_MS, () => reject(tooSlow()));
      reader.read().then(
        (step) => {
          timer.cancel();
          resolve(step);
        },
        (error: unknown) => {
          timer.cancel();
          reject(godwitError("GODWIT_REQUEST_INVALID", "the request body broke off", error));
        },
      );
    });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/** Parses a request's JSON, of at most `marksMax` commas, colons and brackets. Throws GODWIT_REQUEST_INVALID. */
export function parseJson(bytes: Uint8Array, marksMax = JSON_MARKS_MAX): unknown {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw requestInvalid([{ path: "", message: "the body is not UTF-8" }]);
  }
  // Of less text than that nobody has to count.
  if (text.length > marksMax && countMarks(text, marksMax) > marksMax)
    throw requestInvalid([{ path: "", message: "the JSON is nested or larger than any request needs" }]);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw requestInvalid([{ path: "", message: "the body is not JSON" }]);
  }
}

/**
 * What is encoded would reach its reader as bytes that nobody says how to read. Decoding it here would let a small body
 * cost much memory. Throws GODWIT_CONTENT_ENCODING.
 */
export function refuseEncoded({ headers }: Pick<ApiRequest, "headers">): void {
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "";
  if (encoding !== "" && encoding !== "identity")
    throw godwitError(
      "GODWIT_CONTENT_ENCODING",
      "request bodies are taken as they are: send this one without Content-Encoding",
    );
}

/** Structural characters outside strings, counted up to just past the bound. Linear; strings are skipped by indexOf. */
function countMarks(text: string, marksMax: number): number {
  let marks = 0;
  for (let at = 0; at < text.length && marks <= marksMax; at++) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) at = endOfString(text, at + 1);
    else if (char === 0x2c || char === 0x3a || char === 0x5b || char === 0x7b) marks++;
  }
  return marks;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Index of the quote that closes the string which starts at `from`; the text's length when none does. */
function endOfString(text: string, from: number): number {
  for (let at = from; ;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return text.length;
    let slashes = 0;
    while (quote - 1 - slashes >= from && text.charCodeAt(quote - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return quote;
    at = quote + 1;
  }
}

function grown(buffer: Uint8Array, used: number, capacity: number): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(capacity);
  next.set(buffer.subarray(0, used));
  return next;
}

const tooBig = (bytesMax: number) =>
  godwitError("GODWIT_TOO_BIG", `the request body is larger than ${bytesMax} bytes`);
const tooSlow = () => godwitError("GODWIT_REQUEST_TIMEOUT", "the request body came too slowly");
