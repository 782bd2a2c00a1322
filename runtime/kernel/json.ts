/** JSON that was written by this program and may have been damaged since, and what its fields have to be. */

/** Whether a value is what its name says: of a row that is not, nothing is believed. */
export type Check = (value: unknown) => boolean;

export const isText =
  (charsMax: number): Check =>
  (value) =>
    typeof value === "string" && value.length <= charsMax;
export const isMatch =
  (pattern: RegExp): Check =>
  (value) =>
    typeof value === "string" && pattern.test(value);
export const isFlag: Check = (value) => typeof value === "boolean";
/** A finite number, both ends included. */
export const isBetween =
  (min: number, max: number): Check =>
  (value) =>
    typeof value === "number" && value >= min && value <= max;
export const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
/** A point in time or a span, ms: what a clock may have read. */
export const isTime: Check = isBetween(0, Number.MAX_SAFE_INTEGER);
export const isOneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
export const isNullOr =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
export const isAbsentOr =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
export const isListOf =
  (check: Check, itemsMax: number): Check =>
  (value) =>
    Array.isArray(value) && value.length <= itemsMax && value.every((item) => check(item));
/** Fields that are not named may be whatever they are: a later version's. */
export function hasFields(fields: Readonly<Record<string, Check>>): Check {
  const checks = Object.entries(fields);
  return (value) =>
    typeof value === "object" &&
    value !== null &&
    checks.every(([name, check]) => check((value as Record<string, unknown>)[name]));
}

/** The text as its owner wrote it, or undefined when it is damaged: one bad row must not keep a node with nobody on site from starting. */
export function parseMeta<T extends object>(meta: string, check: Check): T | undefined {
  try {
    const value: unknown = JSON.parse(meta);
    return typeof value === "object" && value !== null && check(value) ? (value as T) : undefined;
  } catch {
    return undefined;
  }
}
