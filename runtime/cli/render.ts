/**
 * Text for people. What other nodes chose (callsigns, subjects, bodies, reasons) passes `safeLine` or `safeText` before
 * it reaches a terminal: an escape sequence in a subject must not move a cursor, retitle a window or type a command.
 */
import type { MessageView } from "../view/contract/node.ts";
import { METRIC_INFINITE } from "../wire/route-messages.ts";

/** C0 but tab and newline, DEL, C1, line and paragraph separators, bidirectional overrides, lone surrogates. */
const UNSAFE =
  // oxlint-disable-next-line no-control-regex
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]|\p{Cs}/gu;

/** Several lines, as they are but for what a terminal would obey. */
export const safeText = (text: string): string => text.replace(/\r\n/g, "\n").replace(UNSAFE, "\ufffd");

/** One line: breaks and tabs become spaces. */
export const safeLine = (text: string): string => safeText(text).replace(/[\n\t]/g, " ");

/** `1 address`, `2 addresses`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;

/** What a person needs of an id: its first ten characters. */
export const short = (id: string): string => id.slice(0, 10);

/** `DUN-A (abcdefghij)`, or the short id alone. */
export const nodeName = (id: string, callsign: string | null): string =>
  callsign === null ? short(id) : `${callsign} (${short(id)})`;

/** Who gave a receipt, and what shows it: behind "a receipt". */
export function receiptBy({ by, by_callsign, proof }: NonNullable<MessageView["receipt"]>): string {
  const whom = nodeName(by, by_callsign);
  switch (proof) {
    case "signature":
      return `signed by ${whom}`;
    case "session":
      return `proven by the session with ${whom}`;
    case "lost":
      return `by ${whom} (this disk damaged its proof)`;
  }
}

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
