/** The shapes that a start judges by are those of the schemas, and accept what those accept, with the same values, and nothing else. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type * as z from "zod";
import { judgeQuickly, REFUSED } from "./quick.ts";
import { configSchema } from "./schema.ts";
import { definitionOf } from "./schema-problems.ts";
import { settingsShape } from "./shapes.ts";

const ID = "ci3ndeblmoqxlzxw6mjhrxqxjb2k6wytbgwqz4rmqq3y4xq2nkfq";
/** Right values for one key or another, what is nearly right, and what no key takes. */
const VALUES: readonly unknown[] = [
  ...[
    "DUN-A",
    "dun-a",
    "DUN",
    "LON-*",
    "trusted",
    "blocked",
    "member",
    "never",
    "off",
    "auto",
    "info",
    "json",
  ],
  ...[
    "nobody",
    "members",
    "authority",
    "read",
    "pages:map",
    "contained",
    "landlock",
    "/var/lib/x",
    "/",
    "relative",
  ],
  ...[
    "env:KEY_A",
    "file:/run/key",
    "credential:key",
    "secret",
    "godwit",
    "",
    " ",
    "a\u0000b",
    "tcp",
    "udp",
    "10s",
  ],
  ...[
    "60s",
    "1m",
    "24h",
    "90d",
    "0ms",
    "500ms",
    "1.5h",
    "99999999d",
    "10",
    "1GiB",
    "256MiB",
    "1B",
    "0B",
    "9999999TB",
  ],
  ...[
    "127.0.0.1:8000",
    "[::1]:8000",
    "localhost:80",
    "localhost:99999",
    "0.0.0.0:0",
    "10.0.0.0/8",
    "fd00::/8",
  ],
  ...[
    "10.0.0.1",
    "::1",
    "192.0.2.1:123",
    "example.net:80",
    "10.0.0.0/8:22",
    "*:80",
    "10.0.0.1:*",
    "eth0=dhcp",
  ],
  ...[
    "en*=off",
    "eth1=192.0.2.5/24,192.0.2.1",
    "/dev/vda",
    "LABEL=perm",
    "net.udp",
    ID,
    ID.toUpperCase(),
    `${ID}x`,
  ],
  ...[
    "x".repeat(64),
    "x".repeat(65),
    "x".repeat(301),
    "__proto__",
    "constructor",
    "toString",
    "é",
    "\u{1f600}",
  ],
  ...[0, 1, 4, 16, 64, 65, 256, 100_000, 10_000_001, 2 ** 53, -1, -0, 0.5, 0.01, 1.5, 1e300, Number.NaN],
  ...[
    Number.POSITIVE_INFINITY,
    true,
    false,
    null,
    undefined,
    5n,
    [],
    {},
    [[]],
    new Date(0),
    new Map(),
    () => 0,
  ],
  ...[
    ["DUN-A"],
    [ID],
    ["read"],
    [undefined],
    Object.create(null),
    Object.create({ type: "tcp" }),
    new Uint8Array(1),
  ],
];
const KEYS = ["lan", "a_b", "DUN-A", "dun-a", "x-y", "a__b", "__proto__", "constructor", "toString", "", "é"];

const anything = fc.constantFrom(...VALUES);
const tableOf = (rows: readonly (readonly [string, unknown])[]): unknown => {
  const table = {};
  // As a parser does it: a key of its own, whatever it is called.
  for (const [key, value] of rows)
    Object.defineProperty(table, key, { value, enumerable: true, configurable: true, writable: true });
  return table;
};

/** What this schema takes, more often than not. */
function near(schema: z.ZodType): fc.Arbitrary<unknown> {
  const { type, innerType, in: from, shape, valueType, element, options } = definitionOf(schema);
  const inner = innerType ?? from;
  if (inner !== undefined) return near(inner);
  const right = VALUES.filter((value) => schema.safeParse(value).success);
  const here =
    right.length === 0 ? anything : fc.oneof({ weight: 12, arbitrary: fc.constantFrom(...right) }, anything);
  if (type === "object")
    return fc
      .tuple(
        ...Object.entries(shape!).map(([key, one]) =>
          fc.option(
            near(one).map((value) => [key, value] as const),
            { nil: undefined },
          ),
        ),
        fc.option(fc.tuple(fc.constantFrom(...KEYS), anything), { nil: undefined, freq: 12 }),
      )
      .map((rows) => tableOf(rows.filter((row) => row !== undefined)));
  if (type === "record")
    return fc.array(fc.tuple(fc.constantFrom(...KEYS), near(valueType!)), { maxLength: 3 }).map(tableOf);
  if (type === "array")
    return fc.oneof({ weight: 12, arbitrary: fc.array(near(element!), { maxLength: 4 }) }, here);
  if (type === "union") return fc.oneof(...options!.map(near), here);
  return here;
}

const sections = Object.entries(configSchema.shape);
/** Few at a time, so that one that is wrong does not hide what becomes of the others. */
const entries = fc.oneof(
  ...sections.map(([name, schema]) => near(schema).map((value) => [name, value] as const)),
);
const documents = fc.uniqueArray(entries, { maxLength: 2, selector: ([name]) => name }).map(tableOf);

const isOfParsers = (value: unknown): boolean => {
  if (Array.isArray(value)) return value.every(isOfParsers);
  if (typeof value !== "object" || value === null)
    return ["string", "number", "boolean"].includes(typeof value);
  return (
    Object.getPrototypeOf(value) === Object.prototype &&
    Object.entries(value).every(([key, one]) => key !== "__proto__" && !(key in {}) && isOfParsers(one))
  );
};

function compare(document: unknown): "accepted" | "refused" {
  const quick = judgeQuickly(settingsShape, document);
  const full = configSchema.safeParse(document, { jitless: true });
  if (quick === REFUSED) {
    // Slower and right, but for what no parser makes needless.
    if (full.success) expect(isOfParsers(document)).toBe(false);
    return "refused";
  }
  expect(full.success).toBe(true);
  expect(quick).toStrictEqual(full.data as unknown);
  // The order of keys as well: a dump shows it.
  expect(Bun.inspect(quick, { depth: 20 })).toBe(Bun.inspect(full.data, { depth: 20 }));
  return "accepted";
}

test("what the shapes accept is what the schemas accept, with the same values", () => {
  const seen = { accepted: 0, refused: 0 };
  fc.assert(
    fc.property(documents, (document) => {
      seen[compare(document)]++;
    }),
    { numRuns: 3_000 },
  );
  // Both are met often, or the comparison says little.
  expect(Math.min(seen.accepted, seen.refused)).toBeGreaterThan(300);
});

test("each section alone, whole, with one value of each kind in each key", () => {
  let accepted = 0;
  for (const [section, schema] of sections)
    for (const key of Object.keys(definitionOf(definitionOf(schema).innerType!).shape ?? {}))
      for (const value of VALUES) if (compare({ [section]: { [key]: value } }) === "accepted") accepted++;
  expect(accepted).toBeGreaterThan(200);
  expect(compare({})).toBe("accepted");
});

test("a value that is accepted shares no default with the next one", () => {
  const first = judgeQuickly(settingsShape, {}) as { names: Record<string, unknown>; forwards: unknown[] };
  first.names["X"] = 1;
  first.forwards.push(1);
  expect(judgeQuickly(settingsShape, {})).toStrictEqual(configSchema.parse({}) as unknown);
});
