/** The last lines that a program said, within a bound of bytes. */

const BYTES_MAX = 64 * 1024;
/** UTF-16 units; the rest of a longer line is dropped. */
const LINE_CHARS_MAX = 400;

export class LogRing {
  readonly #bytesMax: number;
  readonly #lines: string[] = [];
  #bytes = 0;
  /** Of the line that has not ended yet, for each source. */
  readonly #rests = new Map<string, string>();

  constructor(bytesMax = BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Bytes of UTF-8 that it holds, ends of lines included, lines that have not ended not. */
  get bytes(): number {
    return this.#bytes;
  }

  /** `source` keeps pieces of lines apart that come from two streams. */
  push(text: string, source = ""): void {
    const pieces = ((this.#rests.get(source) ?? "") + text).split("\n");
    this.#rests.set(source, pieces.pop()!.slice(0, LINE_CHARS_MAX));
    for (const piece of pieces) this.#add(piece.replace(/\r$/, "").slice(0, LINE_CHARS_MAX));
  }

  /** What never ended is a line after all. */
  flush(source = ""): void {
    const rest = this.#rests.get(source) ?? "";
    this.#rests.delete(source);
    if (rest !== "") this.#add(rest);
  }

  #add(line: string): void {
    this.#lines.push(line);
    this.#bytes += bytesOf(line);
    let gone = 0;
    while (this.#bytes > this.#bytesMax) this.#bytes -= bytesOf(this.#lines[gone++]!);
    if (gone > 0) this.#lines.splice(0, gone);
  }
}

const bytesOf = (line: string): number => Buffer.byteLength(line) + 1;
