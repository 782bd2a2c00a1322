import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { MemberEntryKind } from "../wire/member-messages.ts";
import { Credit } from "./credit.ts";
import { heldFact, LISTED_MS, MEMBERS_MAX, MemberTable, REMEMBERED_MS } from "./member.ts";

const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

const liar = id(999_999);
const regard = {
  worthOf: () => "none" as const,
  shareOf: (teller: NodeId) => ({ by: teller === liar ? "liar" : "others", isKnown: false }),
};

test("a member gone for a day is not listed and not brought back by who forgets later", () => {
  const forgotten: NodeId[] = [];
  const table = new MemberTable((gone) => void forgotten.push(gone), regard);
  const member = table.add(id(1), "self", 0, 0)!;
  member.held = heldFact({
    kind: MemberEntryKind.alive,
    node: id(1),
    incarnation: 5,
    signature: new Uint8Array(64),
  });
  member.state = "failed";
  table.sweep(LISTED_MS - 1);
  expect(forgotten).toEqual([]);
  table.sweep(LISTED_MS);
  expect(forgotten).toEqual([id(1)]);
  expect(table.isTomb(id(1), 5, LISTED_MS + 1)).toBe(true);
  expect(table.isTomb(id(1), 6, LISTED_MS + 1)).toBe(false);
  expect(table.isTomb(id(1), 5, LISTED_MS + REMEMBERED_MS)).toBe(false);
});

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

test("who is refuted too often is not heard until time has passed; a restart refutes nobody", async () => {
  const clock = new ManualClock();
  const credit = new Credit(clock);
  const epoch = 2 ** 24;
  for (let i = 0; i < 20; i++) credit.onRaise([id(2)], epoch, 2 * epoch);
  expect(credit.has(id(2))).toBe(true);
  for (let i = 0; i < 8; i++) credit.onRaise([id(2)], epoch + i, epoch + i + 1);
  expect(credit.has(id(2))).toBe(false);
  await clock.advance(60_000);
  expect(credit.has(id(2))).toBe(true);
});
