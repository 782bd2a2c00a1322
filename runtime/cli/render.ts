/**
 * Text for people. What other nodes chose (callsigns, subjects, bodies, reasons) passes `safeLine` or `safeText` before
 * it reaches a terminal: an escape sequence in a subject must not move a cursor, retitle a window or type a command.
 */
import { METRIC_INFINITE } from "../wire/route-messages.ts";

/** Colours, or nothing where there is no terminal or NO_COLOR is set (https://no-color.org). */
export interface Paint {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly good: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly bad: (text: string) => string;
}

export function createPaint(isTty: boolean, env: Readonly<Record<string, string | undefined>>): Paint {
  const isOn = isTty && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  const sgr = (code: number) => (text: string) => (isOn ? `\x1b[${code}m${text}\x1b[0m` : text);
  return { bold: sgr(1), dim: sgr(2), good: sgr(32), warn: sgr(33), bad: sgr(31) };
}

/** C0 but tab and newline, DEL, C1, line and paragraph separators, bidirectional overrides, lone surrogates. */
const UNSAFE =
  // oxlint-disable-next-line no-control-regex
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]|\p{Cs}/gu;

/** Several lines, as they are but for what a terminal would obey. */
export const safeText = (text: string): string => text.replace(/\r\n/g, "\n").replace(UNSAFE, "\ufffd");

/** One line: breaks and tabs become spaces. */
export const safeLine = (text: string): string => safeText(text).replace(/[\n\t]/g, " ");

/** Columns aligned by display width; every cell made safe. Empty text without rows but for the header. */
export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint,
  style: (cell: string, column: number, row: number) => string = (cell) => cell,
): string {
  const cells = rows.map((row) => row.map((cell) => safeLine(cell)));
  const widths = header.map((title, column) =>
    Math.max(Bun.stringWidth(title), ...cells.map((row) => Bun.stringWidth(row[column] ?? ""))),
  );
  const line = (row: readonly string[], dress: (cell: string, column: number) => string) =>
    row
      .map((cell, column) => {
        const padding = column === row.length - 1 ? 0 : widths[column]! - Bun.stringWidth(cell);
        return dress(cell, column) + " ".repeat(Math.max(0, padding));
      })
      .join("  ");
  const lines = [line(header, (cell) => paint.dim(cell))];
  for (const [index, row] of cells.entries())
    lines.push(line(row, (cell, column) => style(cell, column, index)));
  return `${lines.map((text) => text.trimEnd()).join("\n")}\n`;
}

/** `name  value` lines. */
export function facts(rows: readonly (readonly [string, string])[], paint: Paint): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${paint.dim(name.padEnd(width))}  ${safeLine(value)}\n`).join("");
}

/** What a person needs of an id: its first ten characters. */
export const short = (id: string): string => id.slice(0, 10);

/** `DUN-A (abcdefghij)`, or the short id alone. */
export const nodeName = (id: string, callsign: string | null): string =>
  callsign === null ? short(id) : `${callsign} (${short(id)})`;

export function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

const SIZE_UNITS = ["B", "KiB", "MiB", "GiB"] as const;

/** In the largest unit of which there is at least one. */
export const size = (bytes: number): string => `${inUnit(bytes, unitOf(bytes))} ${SIZE_UNITS[unitOf(bytes)]}`;

/** `3.1 of 16.0 MiB` */
export function sizeOf(bytes: number, total: number): string {
  const unit = unitOf(total);
  return `${inUnit(bytes, unit)} of ${inUnit(total, unit)} ${SIZE_UNITS[unit]}`;
}

const unitOf = (bytes: number): number =>
  SIZE_UNITS.findLastIndex((_, unit) => unit === 0 || bytes >= 1024 ** unit);
const inUnit = (bytes: number, unit: number): string =>
  unit === 0 ? `${bytes}` : (bytes / 1024 ** unit).toFixed(1);

/** `2.0 Mbit/s`: decimal, as rates of links are. */
export function bitRate(bitsPerSecond: number): string {
  if (bitsPerSecond < 1e3) return `${Math.round(bitsPerSecond)} bit/s`;
  if (bitsPerSecond < 1e6) return `${(bitsPerSecond / 1e3).toFixed(1)} kbit/s`;
  if (bitsPerSecond < 1e9) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${(bitsPerSecond / 1e9).toFixed(1)} Gbit/s`;
}

export const millis = (ms: number | null): string =>
  ms === null ? "-" : `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;

/** A metric is in 0.1 ms; the highest stands for no way at all. */
export const cost = (metric: number): string =>
  metric === METRIC_INFINITE ? "none" : `${(metric / 10).toFixed(1)} ms`;

/** `2026-01-01 12:00:00` in UTC, from ISO 8601; the time zone of a node without /etc is anybody's guess. */
export const moment = (iso: string | null): string =>
  iso === null ? "never" : iso.slice(0, 19).replace("T", " ");
