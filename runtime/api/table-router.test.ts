/** The table answers as hono's own router does, for every path near those of the API. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { SmartRouter } from "hono/router/smart-router";
import { TrieRouter } from "hono/router/trie-router";
import type { Result, Router } from "hono/router";
import { apiRoutes } from "./app.ts";
import { TableRouter } from "./table-router.ts";

const added: readonly (readonly [method: string, path: string])[] = [
  ...apiRoutes("0").map(
    ({ method, path }) => [method.toUpperCase(), path.replace(/\{(\w+)\}/g, ":$1")] as const,
  ),
  ["ALL", "/x/*"],
  ...apiRoutes("0").map(({ path }) => ["ALL", path.replace(/\{(\w+)\}/g, ":$1")] as const),
];

function filled(router: Router<string>): Router<string> {
  for (const [index, [method, path]] of added.entries())
    router.add(method, path, `${index} ${method} ${path}`);
  return router;
}

/** Handlers in their order, each with its parameters, however a router writes them down. */
function rowsOf(result: Result<string>): unknown[] {
  const [rows, stash] = result;
  return rows.map(([handler, params]) => [
    handler,
    Object.fromEntries(
      Object.entries(params).map(([name, value]) => [
        name,
        typeof value === "number" ? stash![value] : value,
      ]),
    ),
  ]);
}

const table = filled(new TableRouter());
const theirs = filled(new SmartRouter({ routers: [new RegExpRouter(), new TrieRouter()] }));
const words = [
  ...new Set(added.flatMap(([, path]) => path.split("/"))),
  "",
  "x",
  "%2F",
  "a b",
  "..",
  ":id",
  "*",
];
const paths = fc
  .array(fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 6 })), { minLength: 0, maxLength: 6 })
  .map((segments) => `/${segments.join("/")}`);
const known = fc.constantFrom(...added.map(([, path]) => path)).chain((path) =>
  fc.array(fc.constantFrom(...words), { minLength: 4, maxLength: 4 }).map((given) => {
    let next = 0;
    return path.replace(/:\w+|\*/g, () => given[next++]!);
  }),
);

test("every path has the handler that hono's own router finds first, with its parameters", () => {
  fc.assert(
    fc.property(
      fc.constantFrom("GET", "POST", "DELETE", "PUT", "HEAD"),
      fc.oneof(
        paths,
        known,
        known.map((path) => `${path}/`),
      ),
      (method, path) => {
        // Line ends cannot stand in the path of a request, and one that spells out a pattern is matched by its text there.
        fc.pre(path.startsWith("/") && !/[\n\r\u2028\u2029]|\/[:*]/.test(path));
        const ours = rowsOf(table.match(method, path));
        const wanted = rowsOf(theirs.match(method, path)).slice(0, 1);
        // Not `expect` alone: it would take most of the time.
        if (!Bun.deepEquals(ours, wanted)) expect(ours).toEqual(wanted);
      },
    ),
    { numRuns: 20_000 },
  );
});

test("a pattern that it does not know is refused when it is added, not matched wrongly", () => {
  for (const path of ["*", "/a/*/b", "/a/:b?", "/a/:b{[0-9]+}", "/a/:b/*", "/a-:b"])
    expect(() => new TableRouter().add("GET", path, 0)).toThrow("no such routes");
});
