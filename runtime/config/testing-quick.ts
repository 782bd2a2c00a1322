/** Values that one key or another takes, and what shapes and schemas make of a document. For tests only. */
import { expect } from "bun:test";
import { judgeQuickly, REFUSED } from "./quick.ts";
import { configSchema } from "./schema.ts";
import { settingsShape } from "./shapes.ts";

export const ID = "ci3ndeblmoqxlzxw6mjhrxqxjb2k6wytbgwqz4rmqq3y4xq2nkfq";
/** Right values for one key or another, what is nearly right, and what no key takes. */
export const VALUES: readonly unknown[] = [
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

export const sections = Object.entries(configSchema.shape);

export const isOfParsers = (value: unknown): boolean => {
  if (Array.isArray(value)) return value.every(isOfParsers);
  if (typeof value !== "object" || value === null)
    return ["string", "number", "boolean"].includes(typeof value);
  return (
    Object.getPrototypeOf(value) === Object.prototype &&
    Object.entries(value).every(([key, one]) => key !== "__proto__" && !(key in {}) && isOfParsers(one))
  );
};

export function compare(document: unknown): "accepted" | "refused" {
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
