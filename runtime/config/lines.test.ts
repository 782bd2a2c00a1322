import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { linesOf, parsePath } from "./lines.ts";
import { formatPath } from "./problems.ts";

const lineIn = (text: string, format: "toml" | "json", path: string) =>
  linesOf(text, format, [parsePath(path)])[0];

/** Only of a text that its parser takes: no other is asked about. */
function expectLines(text: string, format: "toml" | "json", lines: Readonly<Record<string, number>>): void {
  if (format === "toml") Bun.TOML.parse(text);
  else JSON.parse(text);
  const paths = Object.keys(lines);
  const found = linesOf(text, format, paths.map(parsePath));
  expect(Object.fromEntries(paths.map((path, index) => [path, found[index]]))).toEqual(lines);
}

describe("TOML", () => {
  test("tables, keys, and lists of tables with tables in them", () => {
    expectLines(
      `# a comment with [brackets] and = signs
network = "x"

[node]
callsign = "DUN-A"   # [not.a.table]
  log_level = "info"
[transports.lan]
type = "tcp"
[[api.tokens]]
secret = "env:A"
[[api.tokens]]
# nothing yet
secret = "env:B"
[api.tokens.more]
deep = 1
[[api.tokens.list]]
x = 1
[[api.tokens.list]]
x = 2
[[trust.rules]]
level = "blocked"
`,
      "toml",
      {
        network: 2,
        node: 4,
        "node.callsign": 5,
        "node.log_level": 6,
        transports: 7,
        "transports.lan": 7,
        "transports.lan.type": 8,
        "api.tokens[0]": 9,
        "api.tokens[0].secret": 10,
        "api.tokens[1]": 11,
        "api.tokens[1].secret": 13,
        "api.tokens[1].more.deep": 15,
        "api.tokens[1].list[0].x": 17,
        "api.tokens[1].list[1].x": 19,
        "trust.rules[0].level": 21,
      },
    );
  });

  test("dotted and quoted keys, inline tables, and lists over many lines", () => {
    expectLines(
      `node.callsign = "A"
[names]
"LON-B" = "id"
'quo"ted' = 1
"a.b" = { x = 1, y.z = [ 1, 2 ], "w w" = { v = "}" } }
[peers]
dial_networks = [
  "10.0.0.0/8", # one ]
  # and
  "192.0.2.0/24",
  [ "nested",
    { in = 1,
      list = [3, 4] } ],
]
after = 1
`,
      "toml",
      {
        "node.callsign": 1,
        "names.LON-B": 3,
        'names."quo\\"ted"': 4,
        'names."a.b"': 5,
        'names."a.b".x': 5,
        'names."a.b".y.z[1]': 5,
        'names."a.b"."w w".v': 5,
        "peers.dial_networks": 7,
        "peers.dial_networks[0]": 8,
        "peers.dial_networks[1]": 10,
        "peers.dial_networks[2]": 11,
        "peers.dial_networks[2][0]": 11,
        "peers.dial_networks[2][1].in": 12,
        "peers.dial_networks[2][1].list[1]": 13,
        "peers.after": 15,
      },
    );
  });

  test("strings of every kind, whatever they contain", () => {
    expectLines(
      `a = "x = [ # \\" \\\\"
b = 'C:\\\\'
c = """
[not.a.table]
d = 1
\\"""  ""
"""
e = '''
# no comment
'''
f = 1979-05-27 07:32:00
g = 1.5e+3
h = ""
i = [ """
x""", 'y' ]
j = true
`,
      "toml",
      { a: 1, b: 2, c: 3, e: 8, f: 11, g: 12, h: 13, i: 14, "i[0]": 14, "i[1]": 15, j: 16 },
    );
    // Quotes of its own right before the end.
    expectLines(`a = """x"""""\nb = '''y''''\nc = 1\n`, "toml", { a: 1, b: 2, c: 3 });
    expect(lineIn('c = """\n[not.a.table]\nd = 1\n"""\n', "toml", "d")).toBeUndefined();
  });

  test("lines of other systems, and a text that ends in the middle of something", () => {
    expectLines('[node]\r\ncallsign = "A"\r\nlist = [\r\n1,\r\n2]\r\n', "toml", {
      "node.callsign": 2,
      "node.list[1]": 5,
    });
    for (const text of [
      "",
      "a",
      "a =",
      "[",
      "[[",
      "[a",
      "a = [",
      "a = {",
      'a = "',
      "a = [1",
      "= 1",
      "a.= 1",
      "a = { b",
      "]",
    ])
      expect(() => lineIn(text, "toml", "b.c")).not.toThrow();
  });
});

test("JSON", () => {
  expectLines(
    `{
  "node": { "callsign": "DUN-A",
    "list": [1,
      {"x": [ ]},
      "a:b,}" ] },
  "names": {
    "LON-B": "id", "a.b": 1
  }
}
`,
    "json",
    {
      "node.callsign": 2,
      "node.list": 3,
      "node.list[0]": 3,
      "node.list[1].x": 4,
      "node.list[2]": 5,
      "names.LON-B": 7,
      'names."a.b"': 7,
    },
  );
});

test("what is missing has the line of what it is missing in, and what is nowhere has none", () => {
  const text = '[[api.tokens]]\nscopes = ["read"]\n["x y"]\n';
  const lineAt = (path: string) => lineIn(text, "toml", path);
  expect(lineAt("api.tokens[0].secret")).toBe(1);
  expect(lineAt("api.tokens[0].scopes[4]")).toBe(2);
  expect(lineAt("api.tokens[7].secret")).toBe(1);
  expect(lineAt('"x y"."z w"')).toBe(3);
  for (const path of [
    "node.callsign",
    "the whole configuration",
    "environment variable GODWIT_X",
    "",
    "..",
    "[3]",
  ])
    expect(lineAt(path)).toBeUndefined();
});

/** Every path of a document, as problems name them. */
function pathsOf(document: unknown): string[] {
  const paths: string[] = [];
  const pending: { value: unknown; path: (string | number)[] }[] = [{ value: document, path: [] }];
  for (let one = pending.pop(); one !== undefined; one = pending.pop()) {
    const { value, path } = one;
    if (path.length > 0) paths.push(formatPath(path));
    if (Array.isArray(value))
      pending.push(...value.map((item, i) => ({ value: item as unknown, path: [...path, i] })));
    else if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype)
      pending.push(
        ...Object.entries(value).map(([key, item]) => ({ value: item as unknown, path: [...path, key] })),
      );
  }
  return paths;
}

const key = fc.oneof(
  fc.stringMatching(/^[a-z_-]{1,6}$/),
  fc.string({ maxLength: 6 }).filter((text) => text !== "__proto__"),
);
const scalar = fc.oneof(fc.string({ maxLength: 12 }), fc.integer(), fc.boolean());
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    scalar,
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4 }),
  ),
}));
const document = fc.dictionary(key, value, { maxKeys: 6 });

test("a path as problems name it has the parts that it was made of", () => {
  const part = fc.oneof(key, fc.nat(99));
  fc.assert(
    fc.property(key, fc.array(part, { maxLength: 5 }), (first, more) => {
      expect(parsePath(formatPath([first, ...more]))).toEqual([first, ...more]);
    }),
  );
  for (const path of [
    "the whole configuration",
    "line 3, column 5",
    "environment variable GODWIT_X",
    "a..b",
    "a[",
  ])
    expect(parsePath(path)).toEqual([]);
});

test("every path of any JSON is found, on its line", () => {
  fc.assert(
    fc.property(document, fc.constantFrom(undefined, 1, "\t"), (made, space) => {
      const text = JSON.stringify(made, null, space);
      const paths = pathsOf(JSON.parse(text)).map(parsePath);
      const found = linesOf(text, "json", paths);
      for (const [index, path] of paths.entries()) {
        const line = text.split("\n")[found[index]! - 1];
        const last = path.at(-1);
        if (typeof last === "string") expect(line).toContain(JSON.stringify(last));
        else expect(line).toBeDefined();
      }
    }),
  );
});

/** One item or key a line, so that the line of each is known by counting. */
function write(made: Record<string, unknown>): { text: string; lines: Map<string, number> } {
  const out: string[] = [];
  const lines = new Map<string, number>();
  const put = (text: string, path?: readonly (string | number)[]) => {
    out.push(text);
    if (path !== undefined && !lines.has(formatPath(path))) lines.set(formatPath(path), out.length);
  };
  const quoted = (text: string) => JSON.stringify(text).replaceAll("\u007f", "\\u007f");
  const valueOf = (item: unknown): string => {
    if (Array.isArray(item)) return `[${item.map(valueOf).join(", ")}]`;
    if (typeof item === "object" && item !== null)
      return `{ ${Object.entries(item)
        .map(([name, one]) => `${quoted(name)} = ${valueOf(one)}`)
        .join(", ")} }`;
    return typeof item === "string" ? quoted(item) : JSON.stringify(item);
  };
  for (const [name, item] of Object.entries(made)) {
    put("# [x]");
    if (Array.isArray(item) && item.length > 0) {
      put(`${quoted(name)} = [`, [name]);
      item.forEach((one, index) => put(`  ${valueOf(one)}, # ]`, [name, index]));
      put("]");
    } else if (typeof item !== "object" || Array.isArray(item))
      put(`${quoted(name)} = ${valueOf(item)}`, [name]);
  }
  for (const [name, item] of Object.entries(made)) {
    if (typeof item !== "object" || Array.isArray(item)) continue;
    put(`[ ${quoted(name)} ] # = 1`, [name]);
    for (const [inner, one] of Object.entries(item as object))
      put(`${quoted(inner)} = ${valueOf(one)}`, [name, inner]);
  }
  return { text: `${out.join("\n")}\n`, lines };
}

test("every path of any TOML is found on its own line", () => {
  fc.assert(
    fc.property(document, (made) => {
      const { text, lines } = write(made);
      let parsed: unknown;
      try {
        parsed = Bun.TOML.parse(text);
      } catch {
        // A key or a number that its parser does not take.
        return fc.pre(false);
      }
      const paths = [...lines.keys()];
      const found = linesOf(text, "toml", paths.map(parsePath));
      expect(paths.map((path, index) => [path, found[index]])).toEqual([...lines]);
      // What is written within one line has that one.
      for (const path of pathsOf(parsed)) expect(lineIn(text, "toml", path)).toBeDefined();
    }),
  );
});

test("a file as large as one may be is gone through in a moment, however deep it is", () => {
  const wide = `[peers]\ndial = [${"1,".repeat(2_000_000)}]\nx = 1\n`;
  const deep = `[${"a.".repeat(300_000)}b]\n[c]\nx = ${"{a=".repeat(100_000)}1${"}".repeat(100_000)}\ny = 1\n`;
  const startedMs = process.cpuUsage().user;
  expect(
    linesOf(wide, "toml", [
      ["peers", "x"],
      ["peers", "dial", 1_999_999],
    ]),
  ).toEqual([3, 2]);
  expect(linesOf(deep, "toml", [["c", "y"]])).toEqual([4]);
  expect((process.cpuUsage().user - startedMs) / 1_000).toBeLessThan(5_000);
});
