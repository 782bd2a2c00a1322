/** Tables and lists of facts, for a terminal of so many columns or for a pipe that takes any width. Cells are made safe here. */
import type { Paint } from "./paint.ts";
import { safeLine } from "./render.ts";

/** A column by its title, or with what is to be known of it. */
export type Column =
  | string
  | {
      readonly title: string;
      /** What is left of a cell where room is scarce: less of an id. */
      readonly shorten?: (cell: string) => string;
      /** Holds states, and is coloured by them. */
      readonly isState?: boolean;
      /** Is left out where all else does not make the table fit. */
      readonly isSpare?: boolean;
    };

export const stateColumn = (title = "STATE", isSpare = false): Column => ({
  title,
  isState: true,
  isSpare,
});

/** `DUN-A (abcdefghij)` is DUN-A where room is scarce. */
export const nodeColumn = (title: string): Column => ({
  title,
  shorten: (cell) => cell.replace(/^(\S+) \([a-z2-7]{10}\)$/, "$1"),
});

export const spareColumn = (title: string): Column => ({ title, isSpare: true });

const GAP = 2;
/** A text is cut to so many columns and no further while there is something else to do. */
const TEXT_MIN = 24;
/** Then to so many. */
const CELL_MIN = 6;
const ELLIPSIS = "…";

interface Drawn {
  readonly title: string;
  readonly cells: string[];
  readonly isState: boolean;
  readonly isSpare: boolean;
  readonly shorten: ((cell: string) => string) | undefined;
  /** Columns that the cells are given. */
  width: number;
}

/** A header and a line for each row. */
export function table(header: readonly Column[], rows: readonly (readonly string[])[], paint: Paint): string {
  const drawn = header.map((column, index): Drawn => {
    const { title, shorten, isState = false, isSpare = false } = specOf(column);
    const cells = rows.map((row) => safeLine(row[index] ?? ""));
    return { title, cells, isState, isSpare, shorten, width: widthOf(title, cells) };
  });
  const fitted = paint.columns === undefined ? drawn : fit(drawn, paint.columns);
  const line = (textOf: (column: Drawn) => string, dress: (column: Drawn, text: string) => string) =>
    fitted
      .map((column, index) => {
        const text = cut(textOf(column), column.width);
        const isLast = index === fitted.length - 1;
        const padding = isLast ? 0 : column.width - Bun.stringWidth(text);
        return dress(column, text) + " ".repeat(Math.max(0, padding));
      })
      .join(" ".repeat(GAP))
      .trimEnd();
  const lines = [
    line(
      ({ title }) => title,
      (_, text) => paint.dim(text),
    ),
  ];
  for (let row = 0; row < rows.length; row++)
    lines.push(
      line(
        ({ cells }) => cells[row]!,
        ({ isState, cells }, text) => (isState ? paint.state(cells[row]!)(text) : text),
      ),
    );
  return `${lines.join("\n")}\n`;
}

const specOf = (column: Column): Exclude<Column, string> =>
  typeof column === "string" ? { title: column } : column;

const widthOf = (title: string, cells: readonly string[]): number =>
  cells.reduce((widest, cell) => Math.max(widest, Bun.stringWidth(cell)), Bun.stringWidth(title));

/** By what a reader takes for one character; `Bun.sliceAnsi` lets a wide one stick out by half. */
function cut(text: string, width: number): string {
  if (Bun.stringWidth(text) <= width) return text;
  let kept = "";
  for (const { segment } of (characters ??= new Intl.Segmenter()).segment(text)) {
    if (Bun.stringWidth(kept + segment) > width - 1) break;
    kept += segment;
  }
  return `${kept}${ELLIPSIS}`;
}

/** Made when the first cell is cut: most commands cut none. */
let characters: Intl.Segmenter | undefined;

/** Ids first, then the longest text, then what can be spared, and at last whatever is the widest. */
function fit(columns: readonly Drawn[], room: number): readonly Drawn[] {
  if (excess(columns, room) <= 0) return columns;
  let left = columns.map(({ shorten, ...column }): Drawn => {
    const cells = shorten === undefined ? column.cells : column.cells.map((cell) => shorten(cell));
    return { ...column, cells, shorten, width: widthOf(column.title, cells) };
  });
  const natural = left;
  const trimmed = (minimum: number) => {
    left = left.map((column) => ({ ...column }));
    narrow(left, room, minimum);
    return excess(left, room) <= 0;
  };
  while (!trimmed(TEXT_MIN)) {
    const spared = left.findLast(({ isSpare }) => isSpare)?.title;
    if (spared === undefined) break;
    const titles = new Set(left.map(({ title }) => title).filter((title) => title !== spared));
    left = natural.filter(({ title }) => titles.has(title));
  }
  trimmed(CELL_MIN);
  return left;
}

const excess = (columns: readonly Drawn[], room: number): number =>
  columns.reduce((sum, { width }) => sum + width + GAP, -GAP) - room;

/** Takes from the widest column what is too much, down to the next widest, and so on. */
function narrow(columns: readonly Drawn[], room: number, minimum: number): void {
  for (let over = excess(columns, room); over > 0; over = excess(columns, room)) {
    const widest = columns.reduce((a, b) => (b.width > a.width ? b : a));
    if (widest.width <= minimum) return;
    const next = Math.max(
      minimum,
      ...columns.filter((column) => column !== widest).map(({ width }) => width),
    );
    widest.width = Math.max(minimum, widest.width - over, Math.min(next, widest.width - 1));
  }
}

/** A name, its value, and the state that the value begins with, if it is to be coloured by one. */
export type Fact = readonly [name: string, value: string, state?: string];

/** `name  value` lines; what is longer than a terminal is wide goes on below its beginning. */
export function facts(rows: readonly Fact[], paint: Paint, indent = ""): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  const room = paint.columns === undefined ? undefined : paint.columns - indent.length - width - GAP;
  return rows
    .map(([name, value, stateWord = ""]) => {
      const dressName = /^(?:ok|degraded|down)$/.test(name) ? paint.state(name) : paint.dim;
      const [first = "", ...rest] = wrap(safeLine(value), room);
      const dressed = first.startsWith(stateWord)
        ? paint.state(stateWord)(stateWord) + first.slice(stateWord.length)
        : first;
      const below = rest.map((text) => `${indent}${" ".repeat(width + GAP)}${text}\n`).join("");
      return `${indent}${dressName(name)}${" ".repeat(width - name.length + GAP)}${dressed}\n${below}`;
    })
    .join("");
}

/** Lines of at most so many columns, broken at spaces; a word that is longer stays whole. */
export function wrap(text: string, columns: number | undefined): string[] {
  return columns === undefined || Bun.stringWidth(text) <= columns
    ? [text]
    : Bun.wrapAnsi(text, Math.max(columns, 1)).split("\n");
}

/** Sentences, one after the other, each on lines of its own. */
export const sentences = (lines: readonly string[], paint: Paint): string =>
  lines.map((line) => `${wrap(safeLine(line), paint.columns).join("\n")}\n`).join("");
