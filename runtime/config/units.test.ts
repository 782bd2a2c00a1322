import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { editDistance, nearest } from "./suggest.ts";
import { parseDuration, parseSize, suggestDuration, suggestSize } from "./units.ts";

describe("units", () => {
  test.each([
    ["500ms", 500],
    ["0.5ms", 0.5],
    ["1.5h", 5_400_000],
    ["72h", 259_200_000],
    ["30d", 2_592_000_000],
    ["72", undefined],
    ["72 h", undefined],
    ["-1s", undefined],
    ["1h30m", undefined],
    ["1e3s", undefined],
    ["", undefined],
    ["1w", undefined],
  ])("duration %j", (text, ms) => expect(parseDuration(text)).toBe(ms as number));

  test.each([
    ["0B", 0],
    ["64KiB", 65_536],
    ["1GiB", 2 ** 30],
    ["1.5MiB", 1_572_864],
    ["2MB", 2_000_000],
    ["1gib", undefined],
    ["1024", undefined],
  ])("size %j", (text, bytes) => expect(parseSize(text)).toBe(bytes as number));

  test("a suggestion for one value is itself accepted", () => {
    const quoted = (text: string | undefined) =>
      text?.match(/"[^"]*"/g)?.map((one) => one.slice(1, -1)) ?? [];
    const anything = fc.oneof(
      fc.nat(10_000),
      fc
        .tuple(
          fc.nat(10_000),
          fc.constantFrom("", " ", "  "),
          fc.constantFrom("sec", "hours", "Days", "gib", "MB", "weeks", ""),
        )
        .map((parts) => parts.join("")),
      fc.string(),
    );
    fc.assert(
      fc.property(anything, (value) => {
        for (const one of quoted(suggestDuration(value))) expect(parseDuration(one)).toBeDefined();
        for (const one of quoted(suggestSize(value))) expect(parseSize(one)).toBeDefined();
      }),
    );
  });
});

describe("suggestions", () => {
  test("edit distance against the plain definition", () => {
    const slow = (a: string, b: string): number => {
      if (a === "" || b === "") return a.length + b.length;
      const same = a.at(-1) === b.at(-1) ? 0 : 1;
      const cut = (text: string, by: number) => text.slice(0, text.length - by);
      const swap = a.length > 1 && b.length > 1 && a.at(-1) === b.at(-2) && a.at(-2) === b.at(-1);
      return Math.min(
        slow(cut(a, 1), b) + 1,
        slow(a, cut(b, 1)) + 1,
        slow(cut(a, 1), cut(b, 1)) + same,
        swap ? slow(cut(a, 2), cut(b, 2)) + 1 : Infinity,
      );
    };
    const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 5 });
    fc.assert(fc.property(word, word, (a, b) => editDistance(a, b) === slow(a, b)));
  });

  test("near enough or not at all", () => {
    const keys = ["callsign", "network", "network_secret", "state_dir"];
    expect(nearest("calsign", keys)).toBe("callsign");
    expect(nearest("networkSecret", keys)).toBe("network_secret");
    expect(nearest("STATE-DIR", keys)).toBe("state_dir");
    expect(nearest("colour", keys)).toBeUndefined();
    expect(nearest("x".repeat(100_000), keys)).toBeUndefined();
  });
});
