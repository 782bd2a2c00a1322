import { expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import { createPaint } from "./paint.ts";
import { facts, nodeColumn, sentences, spareColumn, stateColumn, table } from "./table-text.ts";

const paintOf = (columns?: number, isColoured = false) =>
  createPaint({ isColoured, columns, clock: new ManualClock(), isUtc: false });

const header = [
  { title: "ID", shorten: (cell: string) => cell.slice(0, 6) },
  nodeColumn("NODE"),
  stateColumn(),
  spareColumn("BY"),
  "WHY",
];
const rows = [
  ["0123456789", "DUN-A (abcdefghij)", "alive", "this node", "it answers"],
  ["abcdef0123", "klmnopqrst", "failed", "abcdefghij", "no frame came over its last link for 10 s"],
];

test("a pipe is given all of it, a terminal what fits: ids give way first, then the longest text, then what can be spared", () => {
  expect(table(header, rows, paintOf())).toMatchInlineSnapshot(`
    "ID          NODE                STATE   BY          WHY
    0123456789  DUN-A (abcdefghij)  alive   this node   it answers
    abcdef0123  klmnopqrst          failed  abcdefghij  no frame came over its last link for 10 s
    "
  `);
  expect(table(header, rows, paintOf(85))).toMatchInlineSnapshot(`
    "ID      NODE        STATE   BY          WHY
    012345  DUN-A       alive   this node   it answers
    abcdef  klmnopqrst  failed  abcdefghij  no frame came over its last link for 10 s
    "
  `);
  expect(table(header, rows, paintOf(70))).toMatchInlineSnapshot(`
    "ID      NODE        STATE   BY          WHY
    012345  DUN-A       alive   this node   it answers
    abcdef  klmnopqrst  failed  abcdefghij  no frame came over its last l…
    "
  `);
  expect(table(header, rows, paintOf(50))).toMatchInlineSnapshot(`
    "ID      NODE        STATE   WHY
    012345  DUN-A       alive   it answers
    abcdef  klmnopqrst  failed  no frame came over it…
    "
  `);
  expect(table(header, rows, paintOf(36))).toMatchInlineSnapshot(`
    "ID      NODE       STATE   WHY
    012345  DUN-A      alive   it answe…
    abcdef  klmnopqr…  failed  no frame…
    "
  `);
});

test("no line is wider than the terminal, whatever is written", () => {
  const cell = fc.string({
    unit: fc.oneof(
      fc.constantFrom("漢", "e\u0301", "👨‍👩‍👧", "ß", "\u200b", "x", " ", "\x1b[31m"),
      fc.string({ minLength: 1, maxLength: 1, unit: "grapheme" }),
    ),
    maxLength: 60,
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(cell, cell, cell, cell, cell), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 40, max: 200 }),
      (cells, columns) => {
        const lines = table(header, cells, paintOf(columns)).trimEnd().split("\n");
        expect(lines).toHaveLength(cells.length + 1);
        for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
      },
    ),
  );
});

test("wide characters and combining marks are counted by what they take of a line", () => {
  const drawn = table(
    ["A", "B"],
    [
      ["漢字", "x"],
      ["e\u0301e\u0301", "x"],
      ["plain", "x"],
    ],
    paintOf(),
  );
  expect(drawn).toBe("A      B\n漢字   x\ne\u0301e\u0301     x\nplain  x\n");
});

test("a state keeps its colour where it is cut, and colours take no room", () => {
  const drawn = table(
    [stateColumn(), "B"],
    [["queued: no route to anybody whatsoever", "x"]],
    paintOf(20, true),
  );
  expect(drawn.split("\n")[1]).toBe("\x1b[33mqueued: no route…\x1b[0m  x");
});

test("a long fact goes on below its beginning; its state and a warning are coloured", () => {
  const long = "confirmed: its time source vouches for it and has done so for a while";
  expect(
    facts(
      [
        ["id", "x"],
        ["clock", long, "confirmed"],
      ],
      paintOf(40),
    ),
  ).toBe(
    "id     x\nclock  confirmed: its time source\n       vouches for it and has done so\n       for a while\n",
  );
  const coloured = facts(
    [
      ["degraded", "links: none"],
      ["clock", long, "confirmed"],
    ],
    paintOf(undefined, true),
  );
  expect(coloured).toStartWith("\x1b[33mdegraded\x1b[0m  links: none\n");
  expect(coloured).toContain("\x1b[32mconfirmed\x1b[0m: its time");
  expect(facts([["subject", "\x1b[31mred"]], paintOf(undefined, true))).toContain("\ufffd[31mred");
});

test("sentences are broken at spaces", () => {
  expect(sentences(["one two three", "four"], paintOf(8))).toBe("one two\nthree\nfour\n");
});
