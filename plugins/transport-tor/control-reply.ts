/**
 * What a control port says (control-spec, section 2.3), byte by byte: lines `250-key=value`, `250+key=` with a block of
 * data that ends with a lone dot, and `250 OK` as the last. Pure. The far end is whoever answers on that port, so every
 * length has a bound.
 */
export const LINE_BYTES_MAX = 65_536;
export const REPLY_BYTES_MAX = 1_048_576;
export const REPLY_LINES_MAX = 4_096;

export interface ReplyLine {
  readonly text: string;
  /** The block behind a `+` line, its dots unstuffed. */
  readonly data?: string;
}

export interface Reply {
  /** 250 is fine, 650 an event, 5xx a refusal. */
  readonly code: number;
  readonly lines: readonly ReplyLine[];
}

export class ControlSyntaxError extends Error {}

export class ReplyParser {
  #rest = "";
  #lines: ReplyLine[] = [];
  #bytes = 0;
  #code: number | undefined;
  #data: string[] | undefined;
  #dataText = "";

  /** Answers the replies that are whole now. Throws ControlSyntaxError; then the connection is of no more use. */
  push(bytes: Uint8Array): Reply[] {
    const replies: Reply[] = [];
    // Latin-1: one character a byte, so that no byte sequence can fail to decode.
    const pieces = (this.#rest + Buffer.from(bytes).toString("latin1")).split("\n");
    this.#rest = pieces.pop()!;
    for (const piece of pieces) {
      const reply = this.#line(piece.endsWith("\r") ? piece.slice(0, -1) : piece);
      if (reply !== undefined) replies.push(reply);
    }
    if (this.#rest.length > LINE_BYTES_MAX) throw new ControlSyntaxError("a line is too long");
    return replies;
  }

  #line(line: string): Reply | undefined {
    this.#bytes += line.length + 1;
    if (line.length > LINE_BYTES_MAX || this.#bytes > REPLY_BYTES_MAX)
      throw new ControlSyntaxError("a reply is too long");
    if (this.#data !== undefined) return this.#dataLine(line);
    const match = /^(\d{3})([ +-])(.*)$/s.exec(line);
    if (match === null) throw new ControlSyntaxError("a line is no line of a reply");
    const code = Number(match[1]);
    if (this.#code !== undefined && this.#code !== code)
      throw new ControlSyntaxError("a reply changes its code");
    if (this.#lines.length >= REPLY_LINES_MAX) throw new ControlSyntaxError("a reply has too many lines");
    this.#code = code;
    if (match[2] === "+") {
      this.#data = [];
      this.#dataText = match[3]!;
      return undefined;
    }
    this.#lines.push({ text: match[3]! });
    return match[2] === " " ? this.#finish(code) : undefined;
  }

  #dataLine(line: string): undefined {
    if (line !== ".") {
      if (this.#data!.length >= REPLY_LINES_MAX) throw new ControlSyntaxError("a reply has too many lines");
      this.#data!.push(line.startsWith(".") ? line.slice(1) : line);
      return;
    }
    this.#lines.push({ text: this.#dataText, data: this.#data!.join("\n") });
    this.#data = undefined;
  }

  #finish(code: number): Reply {
    const reply = { code, lines: this.#lines };
    this.#lines = [];
    this.#bytes = 0;
    this.#code = undefined;
    return reply;
  }
}

/** `A B C=1 D="two words"`: positional words and keyed values, quotes undone. Later keys of one name win. */
export interface Words {
  readonly words: readonly string[];
  readonly values: ReadonlyMap<string, string>;
}

export function parseWords(text: string): Words {
  const words: string[] = [];
  const values = new Map<string, string>();
  const pattern = /\s*(?:([A-Za-z_][A-Za-z0-9_/-]*)=)?("(?:[^"\\]|\\.)*"|[^\s"]*)/gy;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    // A quote that does not end: what came before it still counts.
    if (match === null || match[0] === "") break;
    const value = match[2]!.startsWith('"') ? unquote(match[2]!) : match[2]!;
    if (match[1] !== undefined) values.set(match[1], value);
    else if (value !== "") words.push(value);
  }
  return { words, values };
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

function unquote(text: string): string {
  return text
    .slice(1, -1)
    .replace(/\\([0-3][0-7]{2}|.)/gs, (_, escape: string) =>
      /^[0-7]{3}$/.test(escape)
        ? String.fromCharCode(Number.parseInt(escape, 8))
        : (ESCAPES[escape] ?? escape),
    );
}

/** A QuotedString of control-spec section 2.1.1. */
export const quote = (text: string): string => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/** Of `GETINFO key`: tor answers one line `key=value`, or a block of data where the value has several lines. */
export function infoOf(reply: Reply, key: string): string | undefined {
  for (const { text, data } of reply.lines)
    if (text.startsWith(`${key}=`)) return data ?? text.slice(key.length + 1);
  return undefined;
}
