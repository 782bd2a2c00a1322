/** Bounds and words of the API that its handlers need without a schema: schemas are loaded when a request is judged by one. */

/** Larger bodies are fetched from `/messages/{id}/body`. */
export const INLINE_BODY_BYTES_MAX = 64 * 1024;

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
