/** A hundred thousand members that a neighbour invents. */
import { expect, test } from "bun:test";
import { type NodeId } from "../kernel/ids.ts";
import { MEMBERS_MAX, MemberTable } from "./member.ts";
import { id, liar, regard } from "./testing.ts";

test("100,000 members that a neighbour invents push out each other; who is there and who tells of itself stays", () => {
  const forgotten: NodeId[] = [];
  const table = new MemberTable((gone) => void forgotten.push(gone), regard);
  for (let n = 0; n < 100; n++) table.add(id(n), "self", 0, 0)!.isReachable = true;
  for (let n = 100; n < 200; n++) table.add(id(n), "self", 0, 0)!.state = "failed";
  for (let n = 1_000; n < 101_000; n++) expect(table.add(id(n), liar, 0, 0)).toBeDefined();
  expect(table.size).toBe((MEMBERS_MAX * 3) / 4);
  for (let n = 0; n < 200; n++) expect(table.get(id(n))).toBeDefined();
  expect(table.add(id(500), "self", 0, 0)).toBeDefined();
  // Else their rows would stay in the store for ever.
  expect(forgotten.length).toBe(100_201 - table.size);
  for (const member of table.all) member.isReachable = true;
  expect(table.add(id(501), "self", 0, 0)).toBeUndefined();
});
