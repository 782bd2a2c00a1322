/**
 * What a caller's machine gets to print: lines of safe characters with carriage return before line feed. Text of others
 * never carries control characters to a terminal, and never looks like a note of ours.
 */

/** Columns of a teletype. */
export const TELETYPE_COLUMNS = 69;
/** Notes of this node begin with it; lines of messages never do. */
export const NOTE = "***";

/** Text of others on one line: controls, line ends and what turns the writing direction become a question mark. */
export const safeLine = (text: string): string =>
  text.replace(/\t/g, " ").replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029]/gu, "?");

/** Text of others as lines; what would pass for a note or an end of message is moved by a blank. */
export const safeLines = (text: string): string[] =>
  text
    .replace(/\r\n?/g, "\n")
    .split("\n")
    .map((line) => {
      const safe = safeLine(line);
      return /^(\*\*\*|ZCZC|NNNN)/i.test(safe) ? ` ${safe}` : safe;
    });

export class Printer {
  isTeletype = false;

  /** Lines with their ends, wrapped and in upper case for a teletype. */
  format(lines: readonly string[]): string {
    return lines
      .flatMap((line) => (this.isTeletype ? wrap(toTeletype(line), TELETYPE_COLUMNS) : [line]))
      .map((line) => `${line}\r\n`)
      .join("");
  }

  /** The prompt, without an end. */
  prompt(text: string): string {
    return this.isTeletype ? toTeletype(text) : text;
  }
}

/** Accents go, what has no letter in ASCII becomes a question mark. */
const toTeletype = (line: string): string =>
  line
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .replace(/ß/g, "ss")
    .replace(/[^\x20-\x7e]/gu, "?")
    .toUpperCase();

/** At blanks where there are some, else in the middle of a word. */
export function wrap(line: string, columns: number): string[] {
  const lines: string[] = [];
  let start = 0;
  while (line.length - start > columns) {
    const space = line.lastIndexOf(" ", start + columns);
    const end = space > start ? space : start + columns;
    lines.push(line.slice(start, end));
    start = space > start ? space + 1 : end;
  }
  lines.push(line.slice(start));
  return lines;
}
