/**
 * Where each key of a configuration stands in its text, for errors that are found after it was parsed: the parsers of Bun keep no
 * places. Reads text that a parser has accepted, so it judges nothing; of what it does not understand it says nothing more. Pure, and
 * without recursion. Only needed once something is wrong.
 */
import type { ConfigProblem } from "./problems.ts";

export type ConfigFormat = "toml" | "json";

type Parts = (string | number)[];

/** What is deeper has no line of its own: nothing that is right is nearly as deep. */
const DEPTH_MAX = 40;

/** The problems with the lines of what they are about: of a key, or of the table or list that it is missing in. */
export function withLines(
  problems: readonly ConfigProblem[],
  text: string,
  format: ConfigFormat,
): ConfigProblem[] {
  const places = problems.map(({ path }) => parsePath(path));
  const lines = linesOf(text, format, places);
  return problems.map((one, index) => {
    const line = lines[index];
    return line === undefined ? one : { ...one, line };
  });
}

/** Line (from 1) of each of the paths, or of the longest part of it that is in the text; undefined where nothing of it is. */
export function linesOf(
  text: string,
  format: ConfigFormat,
  paths: readonly (readonly (string | number)[])[],
): (number | undefined)[] {
  const wanted = new Wanted();
  for (const path of paths) wanted.add(path);
  const scanner = new Scanner(text, format, wanted);
  if (format === "json") scanner.value([]);
  else scanToml(scanner);
  return paths.map((path) => wanted.lineOf(path));
}

/** `api.tokens[0].secret` as `formatPath` writes it, back in parts; none where it is something else. */
export function parsePath(path: string): Parts {
  const parts: Parts = [];
  const part = /(?:^|\.)("(?:[^"\\]|\\.)*"|[A-Za-z0-9_-]+)|\[(\d+)\]/y;
  while (part.lastIndex < path.length) {
    const found = part.exec(path);
    if (found === null) return [];
    const [, key, index] = found;
    parts.push(index !== undefined ? Number(index) : key!.startsWith('"') ? unescaped(key!) : key!);
  }
  return parts;
}

/** What somebody asks about, with the line where it was found. A text has millions of places of which a few are asked. */
interface Place {
  readonly below: Map<string | number, Place>;
  line: number | undefined;
}

const newPlace = (): Place => ({ below: new Map(), line: undefined });

class Wanted {
  readonly #top = newPlace();

  add(path: readonly (string | number)[]): void {
    let at = this.#top;
    for (const part of path.slice(0, DEPTH_MAX)) {
      const next = at.below.get(part) ?? newPlace();
      at.below.set(part, next);
      at = next;
    }
  }

  /** The path begins there, and so does each table above it that did not begin before. */
  mark(path: readonly (string | number)[], line: number): void {
    let at = this.#top;
    for (const part of path) {
      const next = at.below.get(part);
      if (next === undefined) return;
      next.line ??= line;
      at = next;
    }
  }

  lineOf(path: readonly (string | number)[]): number | undefined {
    let at = this.#top;
    for (const part of path) {
      const next = at.below.get(part);
      if (next?.line === undefined) break;
      at = next;
    }
    return at.line;
  }
}

function scanToml(scanner: Scanner): void {
  /** Tables of each list so far, by its path. */
  const counts = new Map<string, number>();
  const nameOf = (path: Parts) => JSON.stringify(path.slice(0, DEPTH_MAX));
  /** Within a list of tables its last one is meant. */
  const resolved = (keys: readonly string[]): Parts => {
    const path: Parts = [];
    for (const key of keys) {
      path.push(key);
      const count = path.length > DEPTH_MAX ? undefined : counts.get(nameOf(path));
      if (count !== undefined) path.push(count - 1);
    }
    return path;
  };
  let table: Parts = [];
  for (;;) {
    scanner.skipBlank();
    if (scanner.isAtEnd) return;
    if (scanner.take("[")) {
      const isList = scanner.take("[");
      const keys = scanner.keys();
      if (keys.length === 0) return;
      if (isList) {
        const list: Parts = [...resolved(keys.slice(0, -1)), keys.at(-1)!];
        const count = counts.get(nameOf(list)) ?? 0;
        counts.set(nameOf(list), count + 1);
        table = [...list, count];
      } else table = resolved(keys);
      scanner.mark(table);
      scanner.skipLine();
    } else {
      const keys = scanner.keys();
      if (keys.length === 0) return;
      const path = [...table, ...keys];
      scanner.mark(path);
      scanner.skipBlank();
      if (!scanner.take("=") || !scanner.value(path)) return;
    }
  }
}

/** A list or an inline table that is open: how long the path to it is, and of a list the item at hand. */
interface Open {
  readonly depth: number;
  index: number | undefined;
}

class Scanner {
  readonly #text: string;
  readonly #separator: string;
  readonly #wanted: Wanted;
  #at = 0;
  #line = 1;

  constructor(text: string, format: ConfigFormat, wanted: Wanted) {
    this.#text = text;
    this.#separator = format === "json" ? ":" : "=";
    this.#wanted = wanted;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  get #next(): string {
    return this.#text[this.#at] ?? "";
  }

  mark(path: readonly (string | number)[]): void {
    this.#wanted.mark(path, this.#line);
  }

  take(wanted: string): boolean {
    if (!this.#text.startsWith(wanted, this.#at)) return false;
    this.#at += wanted.length;
    return true;
  }

  /** White space, line ends and comments. */
  skipBlank(): void {
    for (;;) {
      if (this.#next === "#") this.skipLine();
      else if (isBlank(this.#text.charCodeAt(this.#at))) this.#step();
      else return;
    }
  }

  /** To the end of the line, which stays. */
  skipLine(): void {
    const end = this.#text.indexOf("\n", this.#at);
    this.#at = end < 0 ? this.#text.length : end;
  }

  /** The parts of `a."b.c".d`; none where no key stands. */
  keys(): string[] {
    const keys: string[] = [];
    do {
      this.skipBlank();
      const key = this.#key();
      if (key === undefined) return [];
      keys.push(key);
      this.skipBlank();
    } while (this.take("."));
    return keys;
  }

  /** Goes over a value at `path`, marking what is in it. False: it is none. */
  value(path: readonly (string | number)[]): boolean {
    const at: Parts = [...path];
    const open: Open[] = [];
    do {
      this.skipBlank();
      this.mark(at);
      if (this.take("[")) {
        open.push({ depth: at.length, index: -1 });
        if (!this.#enter(at, open)) return false;
      } else if (this.take("{")) {
        open.push({ depth: at.length, index: undefined });
        if (!this.#enter(at, open)) return false;
      } else if (!this.#skipScalar() || !this.#leave(at, open)) return false;
    } while (open.length > 0);
    return true;
  }

  /** To the next item or key of the innermost that is open, or out of it. */
  #enter(at: Parts, open: Open[]): boolean {
    const inner = open.at(-1)!;
    this.skipBlank();
    if (this.#next === (inner.index === undefined ? "}" : "]")) return this.#leave(at, open);
    at.length = inner.depth;
    if (inner.index !== undefined) {
      at.push(++inner.index);
      return true;
    }
    const keys = this.keys();
    for (const key of keys) at.push(key);
    this.mark(at);
    this.skipBlank();
    return keys.length > 0 && this.take(this.#separator);
  }

  /** Behind a value: what follows it in whatever is open. */
  #leave(at: Parts, open: Open[]): boolean {
    for (;;) {
      const inner = open.at(-1);
      if (inner === undefined) return true;
      this.skipBlank();
      if (this.take(",")) return this.#enter(at, open);
      if (!this.take(inner.index === undefined ? "}" : "]")) return false;
      open.pop();
      at.length = inner.depth;
    }
  }

  #key(): string | undefined {
    if (this.#next === '"' || this.#next === "'") {
      const from = this.#at;
      this.#skipString();
      const quoted = this.#text.slice(from, this.#at);
      return quoted.startsWith("'") ? quoted.slice(1, -1) : unescaped(quoted);
    }
    const bare = /[A-Za-z0-9_-]+/y;
    bare.lastIndex = this.#at;
    const found = bare.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #skipScalar(): boolean {
    if (this.#next === '"' || this.#next === "'") {
      this.#skipString();
      return true;
    }
    const from = this.#at;
    while (!this.isAtEnd && !/[\s,\]}#]/.test(this.#next)) this.#at++;
    // A date and its time may stand apart by one blank.
    if (
      /^\d{4}-\d\d-\d\d$/.test(this.#text.slice(from, this.#at)) &&
      /^ \d\d:/.test(this.#text.slice(this.#at, this.#at + 4))
    )
      for (this.#at++; !this.isAtEnd && !/[\s,\]}#]/.test(this.#next);) this.#at++;
    return this.#at > from;
  }

  #skipString(): void {
    const quote = this.#next;
    const isLong = this.#text.startsWith(quote.repeat(3), this.#at);
    const end = isLong ? quote.repeat(3) : quote;
    this.#at += end.length;
    while (!this.isAtEnd && !this.#text.startsWith(end, this.#at)) {
      if (quote === '"' && this.#next === "\\") this.#step();
      this.#step();
    }
    this.#at += end.length;
    // Up to two quotes may stand right before the end of a long one.
    if (isLong) for (let more = 0; more < 2 && this.#next === quote; more++) this.#at++;
  }

  #step(): void {
    if (this.#next === "\n") this.#line++;
    this.#at++;
  }
}

/** Blank, tab, line feed or carriage return. */
const isBlank = (code: number): boolean => code === 32 || code === 9 || code === 10 || code === 13;

function unescaped(quoted: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    // An escape that only TOML has: then its key is not found by name.
    return quoted.slice(1, -1);
  }
}
