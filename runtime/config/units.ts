/** Quantities as people write them: a number with its unit. A bare number is refused, because nobody remembers which unit it was. */

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const SIZE_UNITS_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

export const DURATION_PATTERN = /^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/;
export const SIZE_PATTERN = /^\d{1,12}(\.\d{1,6})?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/;

const NUMBER = /^[\d.]+/;

/** Milliseconds (fractions allowed), or undefined when `text` is not one number and one unit. */
export const parseDuration = (text: string): number | undefined =>
  DURATION_PATTERN.test(text) ? scaled(text, DURATION_UNITS_MS) : undefined;

/** Whole bytes (rounded down), or undefined when `text` is not one number and one unit. */
export function parseSize(text: string): number | undefined {
  return SIZE_PATTERN.test(text) ? Math.floor(scaled(text, SIZE_UNITS_BYTES)) : undefined;
}

function scaled(text: string, units: Readonly<Record<string, number>>): number {
  const digits = NUMBER.exec(text)![0];
  return Number(digits) * units[text.slice(digits.length)]!;
}

/** The nearest thing that would have been accepted, for an error message; undefined when there is no good guess. */
export function suggestDuration(value: unknown): string | undefined {
  if (typeof value === "number" && value >= 0) return `"${value}s" or "${value}ms", whichever is meant`;
  if (typeof value !== "string") return undefined;
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-zµ]*)\s*$/i.exec(value);
  if (match === null) return undefined;
  const [, digits, unit] = match as unknown as [string, string, string];
  if (unit === "") return `"${digits}s" or "${digits}ms", whichever is meant`;
  const word = unit.toLowerCase();
  if (word.startsWith("w")) return `"${Number(digits) * 7}d"`;
  if (word === "ms" || word.startsWith("mil") || word.startsWith("msec")) return `"${digits}ms"`;
  const guess = word[0]!;
  return guess in DURATION_UNITS_MS ? `"${digits}${guess}"` : undefined;
}

export function suggestSize(value: unknown): string | undefined {
  if (typeof value === "number" && value >= 0) return `"${value}B" or "${value}MiB", whichever is meant`;
  if (typeof value !== "string") return undefined;
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value);
  if (match === null) return undefined;
  const [, digits, unit] = match as unknown as [string, string, string];
  if (unit === "") return `"${digits}B" or "${digits}MiB", whichever is meant`;
  const same = Object.keys(SIZE_UNITS_BYTES).find((known) => known.toLowerCase() === unit.toLowerCase());
  if (same !== undefined) return `"${digits}${same}"`;
  const prefix = unit[0]!.toUpperCase();
  return "KMGT".includes(prefix) ? `"${digits}${prefix}iB"` : undefined;
}
