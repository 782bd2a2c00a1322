/** What a schema says of a value, for people: a regular expression is for machines. Our own schemas have words; those of others may not. */

/** zod, valibot and JSON Schema libraries put the expression behind these words. */
const EXPRESSION = /\bmust match (?:the )?pattern\b.*$|\bto match regexp\b.*$|\bpattern "?[/^].*$/is;

export const inWords = (message: string): string =>
  message.replace(EXPRESSION, "must have another form, which its description says");
