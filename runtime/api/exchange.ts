/** What handlers are asked and what they answer, where fetch's own Request and Response cost more than what they do. */

/** What handlers see of a request; a Request has it. */
export interface ApiRequest {
  readonly method: string;
  /** Absolute; its origin is nobody's. */
  readonly url: string;
  readonly headers: Pick<Headers, "get" | "has">;
  readonly body: ReadableStream<Uint8Array> | null;
}

/** An answer that is a text: a Response around it costs more than to make and to send it. Whoever needs one makes it (app.ts). */
export class TextAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;

  /** Values of `headers` are ASCII without control characters. */
  constructor(text: string, status: number, headers: Readonly<Record<string, string>>) {
    this.status = status;
    this.headers = headers;
    this.text = text;
  }
}

/** What a handler answers. */
export type Said = Response | TextAnswer;
