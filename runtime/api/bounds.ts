/** Bounds and words of the API that its handlers need without a schema: schemas are loaded when a request is judged by one. */

/** Larger bodies are fetched from `/messages/{id}/body`. */
export const INLINE_BODY_BYTES_MAX = 64 * 1024;

/** Messages in one request, and bytes of such a request: more would be held in memory as text, as JSON and as messages at once. */
export const BATCH_MESSAGES_MAX = 1_000;
export const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** How long a request may wait for the next line of the log. */
export const LOG_WAIT_SECONDS_MAX = 25;

/** The rest is the name of a table `[services.NAME]`. */
export const PAGES_SCOPE = /^pages:[a-z0-9_]{1,32}$/;

export const eventFamilies = [
  "link",
  "peer",
  "member",
  "route",
  "message",
  "heal",
  "plugin",
  "name",
  "join",
  "discovery",
  "clock",
  "store",
] as const;

/** Of what marks a message as the same, when it is sent again. */
export const IDEMPOTENCY_KEY_CHARS_MAX = 200;
