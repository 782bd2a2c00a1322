/** JSON that a terminal may be shown: what others chose to write into it must not move a cursor or turn text around. */

/** What JSON leaves as it is and a terminal acts on: DEL and C1, line separators, direction marks, overrides and isolates. */
const ACTED_ON = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The same document. `json` is valid, so that these stand inside its strings alone. */
export const escapeJson = (json: string): string =>
  json.replace(ACTED_ON, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
