/**
 * The name of a file, as the `name` parameter of its media type (RFC 2045 section 5.1, RFC 2231 section 4 for what is not
 * ASCII): a message has no other place for it, and who does not know of it passes it on unharmed.
 */

/** What the HTTP API takes of a media type, in characters. */
const MEDIA_TYPE_CHARS_MAX = 128;
/** In a quoted string without escapes. */
const PLAIN = /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/;

/** The media type with the name; without it where there is no room for both. */
export function withFileName(mediaType: string, name: string): string {
  const parameter = PLAIN.test(name)
    ? `name="${name}"`
    : `name*=UTF-8''${encodeURIComponent(name.toWellFormed()).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)}`;
  const named = `${mediaType}; ${parameter}`;
  return named.length <= MEDIA_TYPE_CHARS_MAX ? named : mediaType;
}

/**
 * The name that a sender gave, fit to be that of a file here: no folder, nothing hidden, no control character; undefined
 * where there is none. A stranger's word all the same: never write over a file because of it.
 */
export function fileNameOf(mediaType: string): string | undefined {
  const found = /;\s*name(?:="([^"\\]{1,255})"|=([^\s;"]{1,255})|\*=UTF-8''([^\s;"]{1,255}))\s*(?:;|$)/i.exec(
    mediaType,
  );
  if (found === null) return undefined;
  const [, quoted, bare, encoded] = found;
  const given = quoted ?? bare ?? decoded(encoded!);
  const base = given?.split(/[/\\]/).at(-1) ?? "";
  // What a terminal or a file system would act on.
  const safe = base
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "_")
    .replace(/^\.+/, "")
    .trim();
  return safe === "" ? undefined : safe;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** A Content-Disposition (RFC 6266) that makes a client keep what it is given as a file. */
export function attachment(mediaType: string): string {
  const name = fileNameOf(mediaType);
  return name === undefined ? "attachment" : `attachment; filename*=UTF-8''${encodeURIComponent(name)}`;
}
