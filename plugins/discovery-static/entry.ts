/** One known endpoint as text: `tcp://host:port`, optionally `#<node id>` behind it to insist on who answers. */

export interface Entry {
  readonly endpoint: string;
  /** Lower case. */
  readonly nodeId: string | undefined;
}

/** A node id is 32 bytes: the last of its 52 characters carries one bit. */
export const ENTRY_PATTERN = /^[a-z][a-z0-9+.-]*:\/\/[^\s#]+(#[a-zA-Z2-7]{51}[aAqQ])?$/;
export const ENTRY_CHARS_MAX = 253;
/** Of one source. */
export const ENTRIES_MAX = 1_024;

/** Undefined for what is no entry. */
export function parseEntry(text: string): Entry | undefined {
  if (text.length > ENTRY_CHARS_MAX || !ENTRY_PATTERN.test(text)) return undefined;
  const at = text.indexOf("#");
  return at < 0
    ? { endpoint: text, nodeId: undefined }
    : { endpoint: text.slice(0, at), nodeId: text.slice(at + 1).toLowerCase() };
}

export interface ParsedLines {
  readonly entries: readonly Entry[];
  /** In words, with their place. */
  readonly problems: readonly string[];
}

/** One entry a line; what follows a `#` at the start or after white space is a comment. Several words on a line: several entries. */
export function parseLines(text: string): ParsedLines {
  const entries: Entry[] = [];
  const problems: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const words = line
      .replace(/(^|\s)#.*$/, "")
      .split(/[\s,]+/)
      .filter((word) => word !== "");
    for (const word of words) {
      const entry = parseEntry(word);
      if (entry === undefined) problems.push(`line ${index + 1}: "${word.slice(0, 60)}" is no endpoint`);
      else if (entries.length >= ENTRIES_MAX) {
        problems.push(`line ${index + 1}: more than ${ENTRIES_MAX} entries`);
        return { entries, problems };
      } else entries.push(entry);
    }
  }
  return { entries, problems };
}

/** Host and port of `scheme://host:port` where the host is a name; undefined for addresses and other endpoints. */
export function namedHost(endpoint: string): { scheme: string; host: string; port: number } | undefined {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([A-Za-z0-9_.-]+):(\d{1,5})$/.exec(endpoint);
  if (match === null || /^[\d.]+$/.test(match[2]!) || /\.onion\.?$/i.test(match[2]!)) return undefined;
  return { scheme: match[1]!, host: match[2]!, port: Number(match[3]) };
}

export const formatEndpoint = (scheme: string, host: string, port: number): string =>
  host.includes(":") ? `${scheme}://[${host}]:${port}` : `${scheme}://${host}:${port}`;
