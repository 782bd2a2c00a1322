/** From a request's JSON or query to the message that the node is to send. Reads no request, sends nothing. */
import type { OutgoingMessage } from "@godwit/sdk";
import { requestInvalid } from "./problem.ts";
import type { sendBody } from "./schemas.ts";
import { validate } from "./validate.ts";

const TEXT_TYPE = "text/plain; charset=utf-8";
export const BINARY_TYPE = "application/octet-stream";

/** One message as JSON has it, judged by the schema of that. Throws GODWIT_REQUEST_INVALID. */
export function messageOf(schema: typeof sendBody, value: unknown): OutgoingMessage {
  const json = validate(schema, value);
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
export function outgoing(fields: Fields, body: Uint8Array): OutgoingMessage {
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
