/**
 * Project Telex's message and Godwit's, one as the other: addresses XXXY, priorities 1 to 9, UUIDs, trace. Pure.
 * docs/telex.md is normative.
 */
import type { IncomingMessage, MeshHop, MessagePriority, OutgoingMessage } from "@godwit/sdk";
import { z } from "zod/mini";

/** What a program sent is refused with: a code of docs/errors.md and words. */
export interface Fault {
  readonly code: string;
  readonly message: string;
}

/** `DUNA` is machine A at DUN; whatever else a telex address may be stays as it is. */
export const toMeshAddress = (text: string): string =>
  /^[A-Za-z0-9]{4}$/.test(text) ? `${text.slice(0, 3)}-${text.slice(3)}`.toUpperCase() : text;

/** The short form where there is one: location of three, machine of one. */
export function toTelexAddress(callsign: string | undefined, id: string): string {
  if (callsign === undefined) return id;
  return /^[A-Z0-9]{3}-[A-Z0-9]$/.test(callsign) ? callsign.replace("-", "") : callsign;
}

export const isAddress = (text: string): boolean =>
  /^(?:[A-Za-z0-9]{2,8}(?:-[A-Za-z0-9]{1,8})?|[A-Za-z2-7]{52})$/.test(text);

/** 1 is highest. */
export function toMeshPriority(priority: number): MessagePriority {
  return priority <= 1 ? 0 : priority <= 3 ? 1 : priority <= 6 ? 2 : 3;
}

const TELEX_PRIORITIES = [1, 3, 5, 8] as const;
export const toTelexPriority = (priority: MessagePriority): number => TELEX_PRIORITIES[priority];

/** A message id of 32 hex digits in the shape of a UUID; Godwit's are hashes, so version and variant are whatever they are. */
export const toUuid = (id: string): string =>
  id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/s, "$1-$2-$3-$4-$5");

/** Either form of an id, as 32 lower-case hex digits; undefined for anything else. */
export function parseMessageId(text: string): string | undefined {
  const plain = text.replaceAll("-", "").toLowerCase();
  return /^[0-9a-f]{32}$/.test(plain) ? plain : undefined;
}

const words = z.string({ error: "expected text" });
const address = z
  .string({ error: "expected an address such as DUNA or DUN-A" })
  .check(z.refine(isAddress, { error: "expected an address such as DUNA or DUN-A" }));

const mediaType = z
  .string({ error: "expected a media type" })
  .check(z.regex(/^[\x21-\x7e][\x20-\x7e]{0,126}$/, { error: "expected a media type" }));
const object = { error: "expected an object" };

/** Fields beyond these are skipped. */
const telegram = z.object({
  message_id: z.optional(
    z.nullable(
      z.string({ error: "expected a UUID" }).check(
        z.regex(/^[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}$/i, {
          error: "expected a UUID",
        }),
      ),
    ),
  ),
  timestamp_created: z.optional(
    z.nullable(
      z.string({ error: "expected a moment in ISO 8601, such as 2026-01-31T12:00:00Z" }).check(
        z.refine((text) => /^\d{4}-\d\d-\d\d[T ]/.test(text) && !Number.isNaN(Date.parse(text)), {
          error: "expected a moment in ISO 8601, such as 2026-01-31T12:00:00Z",
        }),
      ),
    ),
  ),
  routing: z.object(
    {
      source: z.optional(address),
      destination: address,
      priority: z._default(
        z
          .int({ error: "expected a whole number from 1 to 9" })
          .check(
            z.refine((value) => value >= 1 && value <= 9, { error: "expected a whole number from 1 to 9" }),
          ),
        5,
      ),
      failover: z.optional(z.boolean({ error: "expected true or false" })),
    },
    object,
  ),
  content: z.object(
    {
      subject: z.optional(z.nullable(words)),
      body: words,
      content_type: z.optional(z.nullable(mediaType)),
    },
    object,
  ),
  trace: z.optional(z.array(z.unknown(), { error: "expected a list" })),
});

/**
 * The telegram as a message for the mesh, or what is wrong with it, naming the first bad field: `Validation error:` is how Project Telex
 * begins, and its clients look for that. Without `message_id` each line is a message of its own.
 */
export function readTelegram(
  value: unknown,
  bodyBytesMax: number,
): { readonly message: OutgoingMessage } | { readonly fault: Fault } {
  const parsed = telegram.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = (issue?.path ?? []).map(String).join(".") || "the message";
    const message = `Validation error: ${path}: ${lower(issue?.message)}`;
    return { fault: { code: "GODWIT_REQUEST_INVALID", message } };
  }
  const { message_id: uuid, routing, content } = parsed.data;
  const body = new TextEncoder().encode(content.body);
  if (body.length > bodyBytesMax) {
    const message = `content.body: ${body.length} bytes, at most ${bodyBytesMax} allowed`;
    return { fault: { code: "GODWIT_TOO_BIG", message } };
  }
  return {
    message: {
      to: toMeshAddress(routing.destination),
      body,
      priority: toMeshPriority(routing.priority),
      contentType: content.content_type ?? "text/plain",
      // Project Telex hands a message to any machine of the location while the addressed one is away.
      failover: routing.failover ?? true,
      ...(uuid === undefined || uuid === null ? {} : { idempotencyKey: keyOf(uuid) }),
      ...(content.subject === undefined || content.subject === null ? {} : { subject: content.subject }),
    },
  };
}

/** One id in any of its forms is one message. */
const keyOf = (uuid: string): string => `telex:${toUuid(uuid.replaceAll("-", "").toLowerCase())}`;

const lower = (text = "invalid"): string => text.charAt(0).toLowerCase() + text.slice(1);

/** One incoming message as a line of JSON, with its line end. Undefined `body`: larger than what is carried here. */
export function formatTelegram(message: IncomingMessage, self: string, body: Uint8Array | undefined): string {
  const { id, from, fromCallsign, to, subject, contentType, priority, createdAtMs, trace, hopsUntraced } =
    message;
  return `${JSON.stringify({
    message_id: toUuid(id),
    id,
    timestamp_created: isoTime(createdAtMs),
    routing: {
      source: toTelexAddress(fromCallsign, from),
      destination: to.length === 52 ? self : toTelexAddress(to, to),
      priority: toTelexPriority(priority),
    },
    content: {
      ...(subject === "" ? {} : { subject }),
      ...bodyFields(message, body),
      content_type: contentType,
    },
    trace: trace.map((hop: MeshHop) => ({ node_id: hop.callsign ?? hop.id, timestamp: isoTime(hop.atMs) })),
    ...(hopsUntraced === 0 ? {} : { hops_untraced: hopsUntraced }),
  })}\n`;
}

function bodyFields({ size }: IncomingMessage, body: Uint8Array | undefined): Record<string, unknown> {
  if (body === undefined) return { body: null, size };
  try {
    return { body: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body) };
  } catch {
    return { body: null, body_base64: Buffer.from(body).toString("base64") };
  }
}

/** A sender's clock can stand anywhere; Date cannot show all of it. */
export const isoTime = (ms: number): string => new Date(Math.min(Math.max(ms, 0), 8.64e15)).toISOString();
