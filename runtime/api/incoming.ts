/**
 * What one connection asks: heads and bodies as llhttp reads them from its bytes. node:http reads by the same parser; the streams and the
 * answer that it makes around each request cost more than all else that a short one takes. Owns what of a body nobody has read yet.
 * Must never take a body's bytes for a request, nor anything behind what was no HTTP.
 * docs/decisions/0015-own-front-of-http.md
 */
import { HTTPParser, methods } from "node:_http_common";
import { assert } from "../kernel/errors.ts";
import { concatBytes } from "../wire/bytes.ts";
import { requestInvalid } from "./problem.ts";

/** Of a request's line and headers together, and of the trailers of a body, in bytes. */
const HEAD_BYTES_MAX = 16 * 1024;
type RawHeaders = readonly string[];

const [ON_HEADERS, ON_HEAD, ON_BODY, ON_END] = [
  HTTPParser.kOnHeaders,
  HTTPParser.kOnHeadersComplete,
  HTTPParser.kOnBody,
  HTTPParser.kOnMessageComplete,
];
/** Nothing that the standard forbids is let through. */
const STRICT = 0;
/** What a callback for a head answers: go on, or parse nothing more. */
const [GO_ON, PARSE_NO_MORE] = [0, 2];

export interface Head {
  readonly method: string;
  readonly url: string;
  /** As they came: name, value, name, value. */
  readonly rawHeaders: RawHeaders;
  /** It is spoken since 1.1 at least. */
  readonly isHttp11: boolean;
  /** The far end asks for more on this connection, or may. */
  readonly keepsAlive: boolean;
}

/** One request: its head is here, its body comes as it is given and read. */
export class Incoming {
  readonly head: Head;
  readonly host: string | undefined;
  /** `continue`: that it is told to send its body; `other`: what nobody here does. */
  readonly expects: "continue" | "other" | undefined;
  /** Of the body, as declared; 0 where that is not known. */
  readonly declaredBytes: number;
  readonly #parts: Uint8Array[] = [];
  #waitingBytes = 0;
  #state: "coming" | "whole" | "cut" = "coming";
  #isUnwanted = false;
  #isTold = false;
  /** Whoever waits for more of the body. */
  #wake: (() => void) | undefined;
  /** Called when more of the body may come: somebody waits for it, took a part, or wants none. */
  onRead: () => void = () => {};

  constructor(head: Head) {
    this.head = head;
    let length: string | undefined;
    let expectation: string | undefined;
    let isCoded = false;
    const { rawHeaders } = head;
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
      const value = rawHeaders[at + 1]!;
      switch (rawHeaders[at]!.toLowerCase()) {
        case "host":
          this.host ??= value;
          break;
        case "content-length":
          length = value;
          break;
        case "transfer-encoding":
          isCoded = true;
          break;
        case "expect":
          expectation ??= value;
          break;
      }
    }
    // Whoever speaks 1.0 does not know it.
    const isSaid = expectation !== undefined && head.isHttp11;
    this.expects = !isSaid ? undefined : expectation!.toLowerCase() === "100-continue" ? "continue" : "other";
    this.declaredBytes = isCoded || length === undefined ? 0 : Number(length);
  }

  /** All of its body has come, whether it was read or not. */
  get isWhole(): boolean {
    return this.#state === "whole";
  }

  /** Bytes of the body that wait to be read. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Its sender waits to be told that the body is wanted. True once at most. */
  mustBeTold(): boolean {
    const isWaiting = this.waitsToBeTold;
    this.#isTold = true;
    return isWaiting;
  }

  /** Whether the body will come nobody knows: its sender was not told that it is wanted. */
  get waitsToBeTold(): boolean {
    return this.expects === "continue" && !this.#isTold && !this.isWhole;
  }

  /** The parser's. */
  push(part: Uint8Array): void {
    if (this.#isUnwanted || this.#state !== "coming") return;
    this.#parts.push(part);
    this.#waitingBytes += part.length;
    this.#wake?.();
  }

  /** The parser's. */
  end(): void {
    if (this.#state === "coming") this.#state = "whole";
    this.#wake?.();
  }

  /** The rest of the body will not come. */
  cut(): void {
    if (this.#state === "coming") this.#state = "cut";
    this.#wake?.();
  }

  /** Nobody reads what is left of the body: it goes as it comes. */
  drop(): void {
    this.#isUnwanted = true;
    this.#parts.length = 0;
    this.#waitingBytes = 0;
    this.onRead();
  }

  /** The body, where all of it is here; borrowed. */
  takeWhole(): Uint8Array {
    assert(this.isWhole, "what is here of a body can be read at once");
    const parts = this.#parts.splice(0);
    this.#waitingBytes = 0;
    this.onRead();
    return parts.length === 1 ? parts[0]! : concatBytes(parts);
  }

  /** The next part of the body, borrowed; undefined: that was all. Throws GODWIT_REQUEST_INVALID where the rest does not come. */
  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const part = this.#parts.shift();
      if (part !== undefined) {
        this.#waitingBytes -= part.length;
        this.onRead();
        return part;
      }
      if (this.#state === "whole" || this.#isUnwanted) return undefined;
      if (this.#state === "cut") throw requestInvalid([{ path: "", message: "its body ended too early" }]);
      this.onRead();
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }
}

/** Makes requests of the bytes of one connection. */
export class RequestParser {
  readonly #parser = new HTTPParser();
  #current: Incoming | undefined;
  #isOver = false;

  /** `onRequest` is called within `take`, before anything of the body is there. */
  constructor(onRequest: (incoming: Incoming) => void) {
    const parser = this.#parser;
    parser.initialize(HTTPParser.REQUEST, {}, HEAD_BYTES_MAX, STRICT);
    /** Of a head that is told in several calls; behind a body: trailers, which nobody reads. */
    let headers: string[] = [];
    let target = "";
    parser[ON_HEADERS] = (more: RawHeaders, url: string) => {
      headers.push(...more);
      target += url;
    };
    parser[ON_HEAD] = (
      major: number,
      minor: number,
      rest: RawHeaders | undefined,
      method: number,
      url: string | undefined,
      _status: unknown,
      _message: unknown,
      _isUpgrade: boolean,
      keepsAlive: boolean,
    ): number => {
      const name = methods[method];
      const head = { url: url ?? target, rawHeaders: rest ?? headers, keepsAlive };
      headers = [];
      target = "";
      // A tunnel is no request, and what follows is no HTTP.
      if (name === undefined || name === "CONNECT") {
        this.#isOver = true;
        return PARSE_NO_MORE;
      }
      const isHttp11 = major > 1 || (major === 1 && minor >= 1);
      this.#current = new Incoming({ ...head, method: name, isHttp11 });
      onRequest(this.#current);
      return GO_ON;
    };
    parser[ON_BODY] = (part: Uint8Array) => this.#current?.push(part);
    parser[ON_END] = () => {
      headers = [];
      target = "";
      this.#current?.end();
      this.#current = undefined;
    };
  }

  /** False: that is no HTTP, and nothing after it is looked at. */
  take(bytes: Uint8Array): boolean {
    if (!this.#isOver && this.#parser.execute(bytes) instanceof Error) this.#isOver = true;
    if (this.#isOver) this.#current?.cut();
    return !this.#isOver;
  }

  /** Nothing more comes. False: something had begun. */
  finish(): boolean {
    const isWhole = !this.#isOver && !(this.#parser.finish() instanceof Error);
    this.#isOver = true;
    this.#current?.cut();
    return isWhole;
  }

  /** Idempotent. */
  close(): void {
    this.#isOver = true;
    this.#current?.cut();
    this.#parser.close();
  }
}
