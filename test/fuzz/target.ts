/** What targets are made of: decoders of bytes, parsers of text, and what holds for whatever they took. */
import { parseHex } from "../../runtime/kernel/ids.ts";
import type { Target } from "./engine.ts";

export const utf8 = new TextEncoder();
const text = new TextDecoder();
export const texts = (...lines: readonly string[]): Uint8Array[] => lines.map((line) => utf8.encode(line));
export const fill = (length: number, value: number) => new Uint8Array(length).fill(value);
export const bytesOf = (hexText: string): Uint8Array => parseHex(hexText, hexText.length / 2)!;

export const decoder = (
  name: string,
  seeds: readonly Uint8Array[],
  run: (input: Uint8Array) => unknown,
): Target => ({
  name,
  seeds,
  tokens: [],
  run: (input) => void run(input),
});
export const parser = (
  name: string,
  seeds: readonly string[],
  run: (input: string) => unknown,
  tokens: readonly Uint8Array[] = [],
): Target => ({ name, seeds: texts(...seeds), tokens, run: (input) => void run(text.decode(input)) });

/** What its parser took must be written so that it parses to the same. */
export function checkText<T>(value: T, format: (value: T) => string, parse: (text: string) => T): void {
  if (!Bun.deepEquals(parse(format(value)), value)) throw new Error(`not stable: ${format(value)}`);
}

/** What its decoder took must encode to something that decodes to the same. */
export function checkStable<T>(
  value: T,
  encode: (value: T) => Uint8Array,
  decode: (bytes: Uint8Array) => T,
): void {
  const again = decode(encode(value));
  if (!Bun.deepEquals(again, value)) throw new Error(`not stable: ${JSON.stringify(value)}`);
}
