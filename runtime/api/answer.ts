/**
 * One request in, one answer out: makes of a parsed head what the app takes, and writes what the app answers. Owns how an answer is framed, by
 * length, in chunks or by the end of the connection, whatever its headers say of that. Must hold no more of an answer than the kernel
 * does not take of one piece.
 */
import type { Socket } from "node:net";
import type { Connection } from "./access.ts";
import type { Api } from "./app.ts";
import type { TextAnswer } from "./exchange.ts";
import type { Incoming } from "./incoming.ts";
import { requestOf } from "./request.ts";

/** Of a body, given to the connection at once. */
const PIECE_BYTES = 64 * 1024;
/** A second's date is written once. */
const SECOND_MS = 1_000;
/** What the writer says itself. */
const FRAMING: ReadonlySet<string> = new Set([
  ...["connection", "content-length", "date", "keep-alive", "trailer", "transfer-encoding", "upgrade"],
]);
const NO_BODY: ReadonlySet<number> = new Set([204, 304]);
/** Others are understood by their number. */
const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

export const BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
export const EXPECTATION_FAILED =
  "HTTP/1.1 417 Expectation Failed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

export interface Answered {
  readonly incoming: Incoming;
  readonly socket: Socket;
  readonly wallMs: number;
  /** Aborts when nobody listens any more. */
  gone(): AbortSignal;
  /** What the app said to the connection instead of in a Response. */
  said(): TextAnswer | undefined;
  /** It may never end, and leaves as it comes. Known when the app has answered. */
  isEndless(): boolean;
  /** Nothing more is answered on the connection. Asked when the app has answered. */
  isLast(): boolean;
}

/** Resolves when all of it is the kernel's, or never will be. False: what was asked is nothing for an API, and nobody has been told. */
export async function answer(app: Api, connection: Connection, to: Answered): Promise<boolean> {
  const { socket, incoming } = to;
  const request = requestOf(incoming, socket, connection);
  if (request === undefined) return false;
  // Handlers see it as an ApiRequest, and hono asks for its method and url alone.
  const response = await app.fetch(request as Request, { connection });
  const text = to.said();
  if (text !== undefined) await sendText(text, to);
  else await sendResponse(response, to);
  await flushed(socket);
  return true;
}

function sendText({ text, status, headers }: TextAnswer, to: Answered): Promise<void> | undefined {
  let head = headOf(status, to);
  for (const name in headers) head += `${name}: ${checked(headers[name]!)}\r\n`;
  const length = Buffer.byteLength(text);
  if (to.incoming.head.method === "HEAD") return void to.socket.write(`${head}\r\n`, "latin1");
  if (length > PIECE_BYTES) return sendBytes(Buffer.from(text), head, to);
  to.socket.write(`${head}content-length: ${length}\r\n\r\n${text}`);
  return undefined;
}

/** Its length in characters is that in bytes, and it is one line. */
function checked(value: string): string {
  if (!/^[\t\x20-\x7e]*$/.test(value)) throw new TypeError("a header of an answer is no line of ASCII");
  return value;
}

async function sendResponse(response: Response, to: Answered): Promise<void> {
  const { status, body } = response;
  const { socket, incoming } = to;
  let head = headOf(status, to);
  for (const [name, value] of response.headers) if (!FRAMING.has(name)) head += `${name}: ${value}\r\n`;
  const isHead = incoming.head.method === "HEAD";
  if (body === null || isHead || NO_BODY.has(status)) {
    if (body !== null) await body.cancel();
    const hasLength = !isHead && !NO_BODY.has(status);
    socket.write(`${head}${hasLength ? "content-length: 0\r\n" : ""}\r\n`, "latin1");
  } else if (to.isEndless())
    await sendParts((body as ReadableStream<Uint8Array>).getReader() as BodyParts, head, to);
  else await sendBytes(new Uint8Array(await response.arrayBuffer()), head, to);
}

/** The beginning of a head. */
function headOf(status: number, { incoming: { head }, wallMs, isLast }: Answered): string {
  const text = `HTTP/1.1 ${status} ${REASONS[status] ?? ""}\r\ndate: ${dateOf(wallMs)}\r\n`;
  if (isLast()) return `${text}connection: close\r\n`;
  return head.isHttp11 ? text : `${text}connection: keep-alive\r\n`;
}

let dated = { second: Number.NaN, text: "" };
function dateOf(wallMs: number): string {
  const second = Math.floor(wallMs / SECOND_MS);
  if (dated.second !== second) dated = { second, text: new Date(second * SECOND_MS).toUTCString() };
  return dated.text;
}

/** Head and body leave in one piece where they are short: two cost a short answer twice the calls, and its reader a turn. */
async function sendBytes(bytes: Uint8Array, headers: string, { socket }: Answered): Promise<void> {
  const head = `${headers}content-length: ${bytes.length}\r\n\r\n`;
  const first = bytes.subarray(0, PIECE_BYTES);
  const piece = Buffer.allocUnsafe(head.length + first.length);
  piece.write(head, "latin1");
  piece.set(first, head.length);
  socket.write(piece);
  for (let at = PIECE_BYTES; at < bytes.length && !socket.destroyed; at += PIECE_BYTES) {
    // What the kernel does not take would be held once more.
    await flushed(socket);
    socket.write(bytes.subarray(at, at + PIECE_BYTES));
  }
}

type BodyParts = Pick<ReadableStreamDefaultReader<Uint8Array>, "read" | "cancel">;

/** In chunks; to whoever does not know these, until the connection ends. */
async function sendParts(reader: BodyParts, headers: string, to: Answered): Promise<void> {
  const { socket, incoming } = to;
  const isChunked = incoming.head.isHttp11;
  // The head leaves at once: a client could not tell "quiet" from "hanging".
  socket.write(`${headers}${isChunked ? "transfer-encoding: chunked\r\n" : ""}\r\n`, "latin1");
  const gone = to.gone();
  const onGone = () => void reader.cancel().catch(() => {});
  if (gone.aborted) onGone();
  gone.addEventListener("abort", onGone, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || gone.aborted) break;
      if (value.length === 0) continue;
      if (isChunked) {
        socket.cork();
        socket.write(`${value.length.toString(16)}\r\n`, "latin1");
        socket.write(value);
        socket.write("\r\n", "latin1");
        socket.uncork();
      } else socket.write(value);
      await flushed(socket);
    }
  } finally {
    gone.removeEventListener("abort", onGone);
  }
  if (gone.aborted) return;
  if (isChunked) socket.write("0\r\n\r\n", "latin1");
}

/** When the kernel has all that was written, or never will. */
const flushed = (socket: Socket): Promise<void> | undefined => {
  if (socket.writableLength === 0 || socket.destroyed || socket.writableEnded) return undefined;
  return new Promise((resolve) => {
    const done = () => {
      socket.off("close", done);
      resolve();
    };
    socket.once("close", done);
    socket.write("", done);
  });
};
