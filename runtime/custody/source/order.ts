/**
 * What may be sent: the one check of a message for whoever sends it, API, plugin or the node itself. What is asked is the
 * SDK's `OutgoingMessage`; what comes out is complete, canonical and within bounds. Commits nothing, seals nothing.
 */
import type { OutgoingMessage } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { BODY_BYTES_MAX, LIFETIME_MAX_MS, PRIORITY_DEFAULT } from "../../wire/constants.ts";
import { CONTENT_TYPE_BYTES_MAX, SUBJECT_BYTES_MAX } from "../../wire/message.ts";

/** A key lies in memory and in the store as long as its message. */
export const IDEMPOTENCY_KEY_BYTES_MAX = 1_024;
const LIFETIME_MIN_MS = 1_000;

/** What a message carries, whichever way it goes. */
export type Content = Required<Pick<OutgoingMessage, "body" | "subject" | "contentType" | "priority">>;

/** A message for the outbox. `to` is canonical, `body` the outbox's own. */
export interface Order extends Content, Required<Pick<OutgoingMessage, "to" | "failover">> {
  readonly lifetimeMs: number;
  readonly idempotencyKey?: string;
}

/** `body` is the caller's still. Throws GODWIT_TOO_BIG, GODWIT_REQUEST_INVALID. */
export function checkContent(message: OutgoingMessage): Content {
  const { body, subject = "", contentType = "text/plain", priority = PRIORITY_DEFAULT } = message;
  if (body.length > BODY_BYTES_MAX)
    throw godwitError(
      "GODWIT_TOO_BIG",
      `the body has ${body.length} bytes, at most ${BODY_BYTES_MAX} are carried`,
    );
  if (
    Buffer.byteLength(subject) > SUBJECT_BYTES_MAX ||
    Buffer.byteLength(contentType) > CONTENT_TYPE_BYTES_MAX
  )
    throw godwitError(
      "GODWIT_TOO_BIG",
      `a subject has at most ${SUBJECT_BYTES_MAX} bytes, a content type ${CONTENT_TYPE_BYTES_MAX}`,
    );
  if (!subject.isWellFormed())
    throw godwitError("GODWIT_REQUEST_INVALID", "the subject contains half a surrogate pair");
  // Plugins in other languages are told by their frames; those in this one by the compiler alone.
  if (![0, 1, 2, 3].includes(priority))
    throw godwitError("GODWIT_REQUEST_INVALID", `priority ${String(priority)} is none of 0, 1, 2, 3`);
  return { body, subject, contentType, priority };
}

/** Copies the body, unless it `isGiven`. `canonical` throws for what is no address. */
export function checkOrder(
  message: OutgoingMessage,
  lifetimeDefaultMs: number,
  canonical: (address: string) => string,
  isGiven = false,
): Order {
  const content = checkContent(message);
  const { to, ttlSeconds, failover = false, idempotencyKey } = message;
  const lifetimeMs = ttlSeconds === undefined ? lifetimeDefaultMs : Math.round(ttlSeconds * 1_000);
  if (Number.isNaN(lifetimeMs)) throw godwitError("GODWIT_REQUEST_INVALID", "ttlSeconds is not a number");
  if (idempotencyKey !== undefined && Buffer.byteLength(idempotencyKey) > IDEMPOTENCY_KEY_BYTES_MAX)
    throw godwitError(
      "GODWIT_TOO_BIG",
      `an idempotency key has at most ${IDEMPOTENCY_KEY_BYTES_MAX} bytes; send a hash of it`,
    );
  if (idempotencyKey?.isWellFormed() === false)
    throw godwitError("GODWIT_REQUEST_INVALID", "the idempotency key contains half a surrogate pair");
  return {
    ...content,
    to: canonical(to),
    // Not `slice`: that of a Buffer is no copy.
    body: isGiven ? content.body : new Uint8Array(content.body),
    lifetimeMs: Math.min(Math.max(lifetimeMs, LIFETIME_MIN_MS), LIFETIME_MAX_MS),
    failover,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
  };
}
