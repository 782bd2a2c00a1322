/** Sending, reading and removing messages. */
import type { OutgoingMessage } from "@godwit/sdk";
import { GodwitError, godwitError } from "../kernel/errors.ts";
import type { Priority } from "../wire/constants.ts";
import { INLINE_BODY_BYTES_MAX } from "./bounds.ts";
import { JSON_BYTES_MAX, parseJson, RAW_BYTES_MAX } from "./body.ts";
import type { MessageView, NodeView } from "../view/contract/node.ts";
import { requestInvalid } from "./problem.ts";
import { defineRoute, emptyResponse, jsonResponse, schemasOf, type Call, type Route } from "./route.ts";
import type { sendBody, sendQuery } from "./schemas.ts";
import { validate } from "./validate.ts";

const schemas = schemasOf(() => import("./schemas.ts"));

const TEXT_TYPE = "text/plain; charset=utf-8";
const BINARY_TYPE = "application/octet-stream";

export function messageRoutes(): Route[] {
  return [
    defineRoute({
      method: "post",
      path: "/messages",
      operation: "sendMessage",
      summary:
        "Accepts a message; the answer comes only after it is durable. With `to` in the query the body is raw.",
      access: { scope: "send" },
      query: schemas.sendQuery,
      body: schemas.sendBody,
      readsBody: true,
      answers: [{ status: 202, description: "committed", schema: schemas.sent }],
      async handle(call) {
        const { id } = await call.parts.view.send(await readMessage(call));
        return jsonResponse({ id }, 202, { location: `/messages/${id}` });
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
        return jsonResponse(await parts.view.messages(box, page));
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
            "content-disposition": "attachment",
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

type SendQuery = ReturnType<typeof sendQuery.parse>;

async function readMessage(call: Call<SendQuery, unknown>): Promise<OutgoingMessage> {
  const { query, request, parts } = call;
  const { to, ...rest } = query;
  if (to !== undefined) {
    const body = await parts.bodies.read(request, RAW_BYTES_MAX);
    const content_type = request.headers.get("content-type") ?? BINARY_TYPE;
    if (!(await isMediaType(content_type)))
      throw requestInvalid([{ path: "content-type", message: "not a media type such as text/plain" }]);
    return outgoing({ ...rest, priority: query.priority as Priority | undefined, to, content_type }, body);
  }
  const media = request.headers.get("content-type") ?? "";
  if (!/^application\/json *(;|$)/i.test(media))
    throw requestInvalid([
      {
        path: "content-type",
        message: "send application/json, or put `to` into the query to send the body as it is",
      },
    ]);
  if (Object.keys(rest).length > 0)
    throw requestInvalid([
      { path: "to", message: "is missing in the query; JSON carries its fields in the body" },
    ]);
  const json = validate(
    await schemas.sendBody(),
    parseJson(await parts.bodies.read(request, JSON_BYTES_MAX)),
  );
  const { body: text, body_base64: base64, content_type, ...fields } = json;
  const fallbackType = text === undefined ? BINARY_TYPE : TEXT_TYPE;
  const body = text === undefined ? decodeBase64(base64!) : encodeText(text);
  return outgoing({ ...fields, content_type: content_type ?? fallbackType }, body);
}

/** A lone surrogate has no UTF-8; better refused than delivered as something else. */
function encodeText(text: string): Uint8Array {
  if (!text.isWellFormed())
    throw requestInvalid([{ path: "body", message: "contains half a surrogate pair; use body_base64" }]);
  return new TextEncoder().encode(text);
}

function decodeBase64(text: string): Uint8Array {
  try {
    return Uint8Array.fromBase64(text, { lastChunkHandling: "strict" });
  } catch {
    throw requestInvalid([
      { path: "body_base64", message: "is not base64 (RFC 4648 section 4, with padding)" },
    ]);
  }
}

type Fields = Omit<ReturnType<typeof sendBody.parse>, "body" | "body_base64">;

/** The one place where the contract's names become the node's. Absent and undefined are different things to the node. */
function outgoing(fields: Fields, body: Uint8Array): OutgoingMessage {
  const {
    content_type: contentType,
    ttl_seconds: ttlSeconds,
    idempotency_key: idempotencyKey,
    ...same
  } = fields;
  const named = { ...same, contentType, ttlSeconds, idempotencyKey };
  const present = Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
  return { ...(present as Omit<OutgoingMessage, "body">), body };
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
