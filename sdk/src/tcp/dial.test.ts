import { expect, test } from "bun:test";
import { ADDRESSES_MAX, interleave } from "./dial.ts";

test("of a name sixteen addresses are tried, each once, families in turn", () => {
  const found = (family: 4 | 6, count: number) =>
    Array.from({ length: count }, (_, n) => ({
      family,
      address: family === 4 ? `192.0.2.${n}` : `2001:db8::${n}`,
    }));
  const tried = interleave([...found(6, 40), ...found(4, 40), ...found(6, 40)]);
  expect(tried.slice(0, 4)).toEqual(["2001:db8::0", "192.0.2.0", "2001:db8::1", "192.0.2.1"]);
  expect([tried.length, new Set(tried).size]).toEqual([ADDRESSES_MAX, ADDRESSES_MAX]);
  expect(interleave([])).toEqual([]);
});
