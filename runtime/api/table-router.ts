/**
 * Which handlers a path has, for hono: a look into a table. Hono's own router compiles all routes into one expression at the first request,
 * which costs 4 ms of a start. Knows the patterns that the API has and no others: fixed paths, whole segments `:name`, and what begins with
 * a path (`/x/*`). Of several it names the first that was added, because none of them hands on; must name the one that hono's would
 * (table-router.test.ts).
 */
import { METHOD_NAME_ALL, type Params, type Result, type Router } from "hono/router";

interface Entry<Handler> {
  /** Of its registration: the order in which handlers run. */
  readonly order: number;
  readonly method: string;
  readonly handler: Handler;
  readonly segments: readonly string[];
}

const NO_PARAMS: Params = Object.freeze(Object.create(null) as Params);

export class TableRouter<Handler> implements Router<Handler> {
  readonly name = "TableRouter";
  readonly #fixed = new Map<string, Entry<Handler>[]>();
  /** With a parameter, by the number of segments. */
  readonly #varying = new Map<number, Entry<Handler>[]>();
  /** Of all that begins with their segments. */
  readonly #below: Entry<Handler>[] = [];
  #count = 0;

  /** Throws on a pattern that it does not know. */
  add(method: string, path: string, handler: Handler): void {
    const isBelow = path.endsWith("/*");
    const segments = (isBelow ? path.slice(0, -2) : path).split("/").slice(1);
    const entry = { order: this.#count++, method, handler, segments };
    if (/[*?{}]|[^/]:/.test(segments.join("/")) || (isBelow && segments.some(isParam)) || path === "*")
      throw new Error(`no such routes here: ${path}`);
    if (isBelow) this.#below.push(entry);
    else if (segments.some(isParam)) push(this.#varying, segments.length, entry);
    else push(this.#fixed, path, entry);
  }

  match(method: string, path: string): Result<Handler> {
    let first: Entry<Handler> | undefined;
    let params: Params = NO_PARAMS;
    const isFirst = ({ order, method: of }: Entry<Handler>): boolean =>
      (of === method || of === METHOD_NAME_ALL) && (first === undefined || order < first.order);
    for (const entry of this.#fixed.get(path) ?? []) if (isFirst(entry)) first = entry;
    const segments = path.split("/").slice(1);
    for (const entry of this.#below)
      if (isFirst(entry) && entry.segments.every((segment, index) => segment === segments[index]))
        first = entry;
    for (const entry of this.#varying.get(segments.length) ?? []) {
      const found = isFirst(entry) ? paramsOf(entry.segments, segments) : undefined;
      if (found !== undefined) [first, params] = [entry, found];
    }
    return [first === undefined ? [] : [[first.handler, params]]];
  }
}

const isParam = (segment: string): boolean => segment.startsWith(":");

/** Undefined: this path is another. */
function paramsOf(pattern: readonly string[], segments: readonly string[]): Params | undefined {
  const params = Object.create(null) as Params;
  for (const [index, wanted] of pattern.entries()) {
    const given = segments[index]!;
    if (!isParam(wanted)) {
      if (wanted !== given) return undefined;
    } else if (given === "") return undefined;
    else params[wanted.slice(1)] = given;
  }
  return params;
}

function push<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const held = map.get(key);
  if (held === undefined) map.set(key, [value]);
  else held.push(value);
}
