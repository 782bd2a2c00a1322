/** Sending, reading and removing messages. */
import { isUtf8 } from "node:buffer";
import type { OutgoingMessage } from "@godwit/sdk";
import { attachment } from "../kernel/media-type.ts";
import { GodwitError, godwitError } from "../kernel/errors.ts";
import type { Priority } from "../wire/constants.ts";
import { batchResponse, isList, itemsOfLines, itemsOfList, sendAll } from "./batch.ts";
import { BATCH_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX, INLINE_BODY_BYTES_MAX } from "./bounds.ts";
import { JSON_BYTES_MAX, parseJson, RAW_BYTES_MAX } from "./body.ts";
import { BINARY_TYPE, messageOf, outgoing } from "./outgoing.ts";
import type { MessageView, NodeView } from "../view/contract/node.ts";
import { requestInvalid } from "./problem.ts";
import { defineRoute, emptyResponse, jsonResponse, schemasOf, type Call, type Route } from "./route.ts";
import type { sendQuery } from "./schemas.ts";
import type { ApiRequest, Said } from "./exchange.ts";
import { OneByOne } from "./turnstile.ts";

const schemas = schemasOf(() => import("./schemas.ts"));

export function messageRoutes(): Route[] {
  const pages = new OneByOne();
  return [
    defineRoute({
      method: "post",
      path: "/messages",
      operation: "sendMessage",
      summary:
        "Accepts a message, or many in an array or in JSON lines; the answer comes only after they are durable. With `to` in the query the body is raw.",
      access: { scope: "send" },
      query: schemas.sendQuery,
      body: schemas.sendBodies,
      readsBody: true,
      answers: [
        { status: 202, description: "committed", schema: schemas.sent },
        {
          status: 207,
          description: "many in one request: the id of each, committed, or its problem, in their order",
          schema: schemas.sentAll,
        },
      ],
      async handle(call) {
        if (call.query.to !== undefined) return await sendOne(call, await readRaw(call, call.query.to));
        const isLines = checkMedia(call);
        const bytes = await call.parts.bodies.read(call, isLines ? BATCH_BYTES_MAX : JSON_BYTES_MAX);
        const schema = await schemas.sendBody();
        if (!isLines && !isList(bytes)) return await sendOne(call, messageOf(schema, parseJson(bytes)));
        if (call.request.headers.has(KEY_HEADER))
          throw requestInvalid([
            { path: KEY_HEADER, message: "is for one message; each of many has its own idempotency_key" },
          ]);
        const items = isLines ? itemsOfLines(schema, bytes) : itemsOfList(schema, bytes);
        return batchResponse(await sendAll(items, call.parts), isLines);
      },
    }),
    defineRoute({
      method: "get",
      path: "/messages",
      operation: "listMessages",
      summary: "One box, newest first, a page at a time.",
      access: { scope: "read" },
      query: schemas.messagesQuery,
      answers: [{ status: 200, description: "a page", schema: schemas.messages }],
      async handle({ parts, query: { box, limit, after } }) {
        const page = after === undefined ? { limit } : { limit, after };
        return await pages.run(async () => jsonResponse(await parts.view.messages(box, page)));
      },
    }),
    defineRoute({
      method: "get",
      path: "/messages/{id}",
      operation: "getMessage",
      summary: "One message, with its body when that is at most 64 KiB.",
      access: { scope: "read" },
      answers: [{ status: 200, description: "the message", schema: schemas.messageWithBody }],
      async handle({ parts, params }) {
        const message = await parts.view.message(messageId(params));
        return jsonResponse({ ...message, ...(await inlineBody(parts.view, message)) });
      },
    }),
    defineRoute({
      method: "delete",
      path: "/messages/{id}",
      operation: "deleteMessage",
      summary: "Removes a message from the inbox, or withdraws it from the outbox.",
      access: { scope: "operate" },
      answers: [{ status: 204, description: "gone, durably" }],
      async handle({ parts, params }) {
        await parts.view.deleteMessage(messageId(params));
        return emptyResponse();
      },
    }),
    defineRoute({
      method: "get",
      path: "/messages/{id}/body",
      operation: "getMessageBody",
      summary: "The raw body with the content type its sender gave it.",
      access: { scope: "read" },
      answers: [{ status: 200, description: "the bytes", media: "*/*" }],
      async handle({ parts, params }) {
        const { bytes, contentType } = await parts.view.messageBody(messageId(params));
        const isSafeType = await isMediaType(contentType);
        return new Response(bytes as Uint8Array<ArrayBuffer>, {
          headers: {
            "content-type": isSafeType ? contentType : BINARY_TYPE,
            // A stranger chose these bytes and their type: no browser may run them in this origin.
            "content-disposition": attachment(isSafeType ? contentType : BINARY_TYPE),
            "content-security-policy": "sandbox; default-src 'none'",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
          },
        });
      },
    }),
  ];
}

const isMediaType = async (text: string): Promise<boolean> =>
  (await schemas.sendBody()).shape.content_type.safeParse(text).success;

/** What cannot be an id of ours is answered as an unknown one, so that callers have one case. */
function messageId(params: Readonly<Record<string, string>>): string {
  const id = params["id"]!.toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(id))
    throw godwitError("GODWIT_MESSAGE_UNKNOWN", `"${id.slice(0, 60)}" is not a message id: 32 hex digits`);
  return id;
}

type SendCall = Call<ReturnType<typeof sendQuery.parse>, unknown>;

async function sendOne({ parts, request }: SendCall, message: OutgoingMessage): Promise<Said> {
  const { id } = await parts.view.send(await withKeyOf(request, message));
  return jsonResponse({ id }, 202, { location: `/messages/${id}` });
}

const KEY_HEADER = "Idempotency-Key";

/** A header is bytes, a character each; most who write more than ASCII mean UTF-8, as in the field. */
function wordsOf(header: string): string {
  const bytes = Buffer.from(header, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : header;
}

/** The key of the header, as HTTP libraries send it by themselves: the same as the field. Throws GODWIT_REQUEST_INVALID. */
async function withKeyOf(
  { headers }: Pick<ApiRequest, "headers">,
  message: OutgoingMessage,
): Promise<OutgoingMessage> {
  const header = headers.get(KEY_HEADER);
  if (header === null) return message;
  // A string of structured fields (RFC 9651) stands in quotes; most who send one leave them out.
  const given = wordsOf(header);
  const text = /^"(.*)"$/s.exec(given)?.[1]?.replaceAll(/\\(["\\])/g, "$1") ?? given;
  const key = (await schemas.sendBody()).shape.idempotency_key.safeParse(text);
  if (key.data === undefined)
    throw requestInvalid([
      { path: KEY_HEADER, message: `expected 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} characters` },
    ]);
  if ((message.idempotencyKey ?? key.data) !== key.data)
    throw requestInvalid([
      { path: KEY_HEADER, message: "is another key than idempotency_key; leave one of them out" },
    ]);
  return { ...message, idempotencyKey: key.data };
}

/** The body as it is, everything else in the query. */
async function readRaw(call: SendCall, to: string): Promise<OutgoingMessage> {
  const { query, request, parts } = call;
  const body = await parts.bodies.read(call, RAW_BYTES_MAX);
  const content_type = request.headers.get("content-type") ?? BINARY_TYPE;
  if (!(await isMediaType(content_type)))
    throw requestInvalid([{ path: "content-type", message: "not a media type such as text/plain" }]);
  return outgoing({ ...query, priority: query.priority as Priority | undefined, to, content_type }, body);
}

/** Of a message whose fields are in the body. True: a message a line. Throws GODWIT_REQUEST_INVALID. */
function checkMedia({ query, request }: SendCall): boolean {
  const media = request.headers.get("content-type") ?? "";
  const isLines = /^application\/x-ndjson *(;|$)/i.test(media);
  if (!isLines && !/^application\/json *(;|$)/i.test(media))
    throw requestInvalid([
      {
        path: "content-type",
        message: "send application/json, or put `to` into the query to send the body as it is",
      },
    ]);
  if (Object.keys(query).length > 0)
    throw requestInvalid([
      { path: "to", message: "is missing in the query; JSON carries its fields in the body" },
    ]);
  return isLines;
}

/** A damaged message that came from elsewhere is in the inbox no more; one of our own still says what became of it. */
async function isWithoutBody({ code }: GodwitError, view: NodeView, id: string): Promise<boolean> {
  if (code === "GODWIT_MESSAGE_UNKNOWN" || code === "GODWIT_NOT_FOUND") return true;
  if (code !== "GODWIT_MESSAGE_DAMAGED") return false;
  return await view.message(id).then(
    () => true,
    () => false,
  );
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

async function inlineBody(
  view: NodeView,
  message: MessageView,
): Promise<{ body?: string; body_base64?: string }> {
  if (message.size > INLINE_BODY_BYTES_MAX) return {};
  let bytes: Uint8Array;
  try {
    ({ bytes } = await view.messageBody(message.id));
  } catch (error) {
    // In transit it is sealed, and between two reads it may be gone: the message without a body is still true.
    if (error instanceof GodwitError && (await isWithoutBody(error, view, message.id))) return {};
    throw error;
  }
  if (bytes.length > INLINE_BODY_BYTES_MAX) return {};
  if (/^(text\/|application\/(json|.*\+json)\b)/i.test(message.content_type)) {
    try {
      return { body: utf8.decode(bytes) };
    } catch {
      // Called text, but is not: the bytes as they are.
    }
  }
  return { body_base64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64") };
}
