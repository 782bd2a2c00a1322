/**
 * Judges a document by shapes that `bun run docs` made of the schemas (scripts/shapes.ts): for the start of a node, to which making the schemas
 * costs more than all the rest of its configuration. Accepts what the schemas accept, with the same values; whatever it does not accept, the
 * schemas judge themselves, and say what is wrong. Must never accept what they refuse.
 */

/** What a schema says, without its words. */
export type Shape = (
  | { readonly is: "text" | "number" | "boolean" }
  | { readonly is: "one"; readonly of: readonly unknown[] }
  | { readonly is: "list"; readonly of: Shape }
  /** `isOpen`: other keys pass as they are. */
  | { readonly is: "table"; readonly keys: Readonly<Record<string, Shape>>; readonly isOpen: boolean }
  | { readonly is: "record"; readonly key: Shape; readonly value: Shape }
  | { readonly is: "either"; readonly of: readonly Shape[] }
  | { readonly is: "made"; readonly from: Shape; readonly by: Make }
  /** `absent` makes what stands for a value that is not there; undefined: nothing does. */
  | { readonly is: "or"; readonly of: Shape; readonly absent: (() => unknown) | undefined }
  /** Made when a document has it. */
  | { readonly is: "later"; readonly of: () => Shape }
) & { readonly checks?: readonly Check[] };

/** As a schema calls it; `addIssue` refuses. */
export type Make = (value: never, context: { addIssue(issue: { code: "custom" }): void }) => unknown;
/** Of a value that has the right form. */
export type Check = (value: never) => boolean;

export const REFUSED = Symbol("refused");

/** The value, or REFUSED. What it answers shares nothing with `document` that a schema would have made anew. */
export function judgeQuickly(shape: Shape, document: unknown): unknown {
  const value = valueOf(shape, document);
  if (value === REFUSED) return REFUSED;
  return shape.checks?.every((check) => check(value as never)) === false ? REFUSED : value;
}

function valueOf(shape: Shape, given: unknown): unknown {
  switch (shape.is) {
    case "text":
      return typeof given === "string" ? given : REFUSED;
    case "boolean":
      return typeof given === "boolean" ? given : REFUSED;
    case "number":
      return Number.isFinite(given) ? given : REFUSED;
    case "one":
      return shape.of.includes(given) ? given : REFUSED;
    case "list":
      return listOf(shape.of, given);
    case "table":
      return isTable(given) ? tableOf(shape.keys, shape.isOpen, given) : REFUSED;
    case "record":
      return isTable(given) ? recordOf(shape.key, shape.value, given) : REFUSED;
    case "either": {
      for (const option of shape.of) {
        const value = judgeQuickly(option, given);
        if (value !== REFUSED) return value;
      }
      return REFUSED;
    }
    case "made":
      return resultOf(shape.from, shape.by, given);
    case "or":
      return given === undefined ? shape.absent?.() : judgeQuickly(shape.of, given);
    case "later":
      return judgeQuickly(shape.of(), given);
  }
}

function listOf(item: Shape, given: unknown): unknown {
  if (!Array.isArray(given)) return REFUSED;
  const list: unknown[] = [];
  for (const one of given) {
    const value = judgeQuickly(item, one);
    if (value === REFUSED) return REFUSED;
    list.push(value);
  }
  return list;
}

type Table = Readonly<Record<string, unknown>>;

/** A plain one, as parsers make them; what else there may be is for the schemas. */
const isTable = (given: unknown): given is Table =>
  typeof given === "object" &&
  given !== null &&
  Object.getPrototypeOf(given) === Object.prototype &&
  !Object.hasOwn(given, "__proto__");

function tableOf(keys: Readonly<Record<string, Shape>>, isOpen: boolean, given: Table): unknown {
  const table: Record<string, unknown> = {};
  for (const [key, shape] of Object.entries(keys)) {
    const isThere = Object.hasOwn(given, key);
    if (isThere && given[key] === undefined) return REFUSED;
    // A schema would find what an object has by inheritance.
    if (!isThere && key in given) return REFUSED;
    const value = judgeQuickly(shape, isThere ? given[key] : undefined);
    if (value === REFUSED) return REFUSED;
    if (value !== undefined) table[key] = value;
  }
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(keys, key)) continue;
    if (!isOpen) return REFUSED;
    table[key] = given[key];
  }
  return table;
}

function recordOf(keyShape: Shape, shape: Shape, given: Table): unknown {
  const record: Record<string, unknown> = {};
  for (const [givenKey, one] of Object.entries(given)) {
    const key = judgeQuickly(keyShape, givenKey);
    const value = judgeQuickly(shape, one);
    if (typeof key !== "string" || key === "__proto__" || value === REFUSED) return REFUSED;
    record[key] = value;
  }
  return record;
}

function resultOf(from: Shape, by: Make, given: unknown): unknown {
  const value = judgeQuickly(from, given);
  if (value === REFUSED) return REFUSED;
  let isRefused = false;
  const result = by(value as never, { addIssue: () => (isRefused = true) });
  return isRefused ? REFUSED : result;
}

/** What shapes are written with: `checks` are those of the value, in their order. */
export const text = (...checks: Check[]): Shape => ({ is: "text", checks });
export const flag = (...checks: Check[]): Shape => ({ is: "boolean", checks });
export const number = (...checks: Check[]): Shape => ({ is: "number", checks });
export const one = (of: readonly unknown[], ...checks: Check[]): Shape => ({ is: "one", of, checks });
export const list = (of: Shape, ...checks: Check[]): Shape => ({ is: "list", of, checks });
type Keys = Readonly<Record<string, Shape>>;
export const table = (keys: Keys, ...checks: Check[]): Shape => ({
  is: "table",
  keys,
  isOpen: false,
  checks,
});
export const openTable = (keys: Keys, ...checks: Check[]): Shape => ({
  is: "table",
  keys,
  isOpen: true,
  checks,
});
export const record = (key: Shape, value: Shape, ...checks: Check[]): Shape => ({
  is: "record",
  key,
  value,
  checks,
});
export const either = (of: readonly Shape[], ...checks: Check[]): Shape => ({ is: "either", of, checks });
export const made = (from: Shape, by: Make, ...checks: Check[]): Shape => ({ is: "made", from, by, checks });
export const or = (absent: (() => unknown) | undefined, of: Shape, ...checks: Check[]): Shape => ({
  is: "or",
  absent,
  of,
  checks,
});
export const later = (of: () => Shape): Shape => ({ is: "later", of });

export const longerThan = (least: number) => (value: { readonly length: number }) => value.length >= least;
export const shorterThan = (most: number) => (value: { readonly length: number }) => value.length <= most;
export const atLeast = (least: number) => (value: number) => value >= least;
export const atMost = (most: number) => (value: number) => value <= most;
export const whole = (value: number) => Number.isSafeInteger(value);
/** The expression has no memory: neither `g` nor `y`. */
export const matches = (pattern: RegExp) => (value: string) => pattern.test(value);
