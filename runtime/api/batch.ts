/**
 * Many messages in one request: each is judged, accepted and answered by itself, as if it had come alone. Owns the bounds of such a request and
 * the order of its answers; must never answer for one before it is durable, nor let one that fails cost another anything.
 */
import type { OutgoingMessage } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { parseJson } from "./body.ts";
import { BATCH_BYTES_MAX, BATCH_MESSAGES_MAX } from "./bounds.ts";
import { messageOf } from "./outgoing.ts";
import { problemOf, type Problem, requestInvalid } from "./problem.ts";
import { jsonResponse, type ApiParts } from "./route.ts";
import type { sendBody } from "./schemas.ts";
import { TextAnswer } from "./exchange.ts";
import { turnstile } from "./turnstile.ts";

export const LINES_TYPE = "application/x-ndjson";
/** Commas, colons and brackets of the largest message, its own comma among them: ten fields. */
const MARKS_OF_ONE = 24;
/** What is read, judged and sealed in one turn of the event loop: whichever comes first. */
const TURN_MESSAGES = 16;
const TURN_BYTES = 256 * 1024;

export type BatchAnswer = { readonly id: string } | Problem;

/** One message that is not read yet. Throws GODWIT_REQUEST_INVALID. */
type Item = () => OutgoingMessage;

const OPENING = 0x5b;
const LINE_END = 0x0a;
const isSpace = (byte: number | undefined): boolean =>
  byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** Whether that is a JSON array. */
export const isList = (bytes: Uint8Array): boolean => bytes[spaceEnd(bytes, 0)] === OPENING;

/** Where something stands that is no space; the length where nothing does. A loop: a call for each of millions of bytes would keep links waiting. */
function spaceEnd(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && isSpace(bytes[at])) at++;
  return at;
}

/** Messages of a JSON array. Throws GODWIT_REQUEST_INVALID, GODWIT_TOO_BIG. */
export function itemsOfList(schema: typeof sendBody, bytes: Uint8Array): Item[] {
  checkBytes(bytes);
  const values = parseJson(bytes, BATCH_MESSAGES_MAX * MARKS_OF_ONE) as unknown[];
  return checked(values.map((value) => () => messageOf(schema, value)));
}

/** Messages of JSON lines, one in each line that is not empty. Throws GODWIT_REQUEST_INVALID, GODWIT_TOO_BIG. */
export function itemsOfLines(schema: typeof sendBody, bytes: Uint8Array): Item[] {
  checkBytes(bytes);
  const items: Item[] = [];
  let at = spaceEnd(bytes, 0);
  while (at < bytes.length && items.length <= BATCH_MESSAGES_MAX) {
    const found = bytes.indexOf(LINE_END, at);
    const end = found < 0 ? bytes.length : found;
    const line = bytes.subarray(at, end);
    items.push(() => messageOf(schema, parseJson(line)));
    at = spaceEnd(bytes, end);
  }
  return checked(items);
}

function checkBytes(bytes: Uint8Array): void {
  if (bytes.length > BATCH_BYTES_MAX)
    throw godwitError(
      "GODWIT_TOO_BIG",
      `many messages in one request have at most ${BATCH_BYTES_MAX} bytes together; send large ones alone`,
    );
}

function checked(items: Item[]): Item[] {
  if (items.length > BATCH_MESSAGES_MAX)
    throw requestInvalid([
      { path: "", message: `at most ${BATCH_MESSAGES_MAX} messages go into one request` },
    ]);
  if (items.length === 0) throw requestInvalid([{ path: "", message: "there is no message in it" }]);
  return items;
}

/** In the order of the items, when the last of them is durable. Others have their turns meanwhile. Never rejects. */
export async function sendAll(items: readonly Item[], parts: ApiParts): Promise<BatchAnswer[]> {
  const answers: Promise<BatchAnswer>[] = [];
  let bytes = 0;
  for (const item of items) {
    if (answers.length % TURN_MESSAGES === TURN_MESSAGES - 1 || bytes > TURN_BYTES) {
      bytes = 0;
      await turnstile.enter(false);
    }
    answers.push(sendOne(item, parts, (body) => void (bytes += body.length)));
  }
  return await Promise.all(answers);
}

async function sendOne(
  item: Item,
  { view, log }: ApiParts,
  read: (body: Uint8Array) => void,
): Promise<BatchAnswer> {
  try {
    const message = item();
    read(message.body);
    return await view.send(message);
  } catch (thrown) {
    const error = asGodwitError(thrown);
    if (error.kind === "bug") log.error("api request hit a bug", { path: "/messages", error });
    return problemOf(error);
  }
}

/** As the question came: an array, or lines. 207 whatever became of them: each says it itself. */
export function batchResponse(answers: readonly BatchAnswer[], isLines: boolean): TextAnswer {
  if (!isLines) return jsonResponse(answers, 207);
  const text = answers.map((answer) => `${JSON.stringify(answer)}\n`).join("");
  return new TextAnswer(text, 207, { "content-type": LINES_TYPE, "cache-control": "no-store" });
}
