import { expect, test } from "bun:test";
import {
  hasFields,
  isAbsentOr,
  isBetween,
  isCount,
  isFlag,
  isListOf,
  isMatch,
  isNullOr,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "./json.ts";

const check = hasFields({
  id: isMatch(/^[0-9a-f]{4}$/),
  size: isCount,
  at: isTime,
  hops: isBetween(0, 3),
  done: isFlag,
  state: isOneOf("a", "b"),
  why: isNullOr(isText(3)),
  more: isAbsentOr(isListOf(isText(2), 2)),
});
const sound = { id: "00ff", size: 1, at: 0.5, hops: 3, done: false, state: "b", why: null };

test("text that is no JSON, or none of an object, is no row", () => {
  for (const meta of ["", "{", "null", "7", '"x"', "[]"]) expect(parseMeta(meta, check)).toBeUndefined();
  expect(parseMeta<{ a: number }>('{"a":1}', hasFields({}))).toEqual({ a: 1 });
});

test("a field of a wrong type or out of its range makes the whole row damaged; one that nobody knows does not", () => {
  const read = (fields: object) => parseMeta(JSON.stringify({ ...sound, ...fields }), check);
  expect(read({ later: [1] })).toEqual({ ...sound, later: [1] });
  expect(read({ more: ["x"], why: "abc" })).toBeDefined();
  for (const bad of [
    { id: "00fg" },
    { id: 1 },
    { id: undefined },
    { size: -1 },
    { size: 0.5 },
    { size: "1" },
    { at: -1 },
    { at: 1e300 },
    { hops: 4 },
    { done: 0 },
    { state: "c" },
    { why: "abcd" },
    { why: {} },
    { more: ["xyz"] },
    { more: ["a", "b", "c"] },
    { more: null },
  ])
    expect([bad, read(bad)]).toEqual([bad, undefined]);
});
