import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { MemberEntryKind } from "../wire/member-messages.ts";
import { Credit } from "./credit.ts";
import {
  heldFact,
  LISTED_MS,
  MEMBERS_MAX,
  MEMBERS_PER_NEIGHBOUR_MAX,
  MemberTable,
  REMEMBERED_MS,
} from "./member.ts";

const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

test("a member gone for a day is not listed and not brought back by who forgets later", () => {
  const forgotten: NodeId[] = [];
  const table = new MemberTable((gone) => void forgotten.push(gone));
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

test("one neighbour fills its share, the table its bound, and the gone make room and leave the store", () => {
  const forgotten: NodeId[] = [];
  const table = new MemberTable((gone) => void forgotten.push(gone));
  for (let n = 0; n < MEMBERS_PER_NEIGHBOUR_MAX; n++) table.add(id(n), id(99_999), 0, 0);
  expect(table.add(id(50_000), id(99_999), 0, 0)).toBeUndefined();
  for (let n = MEMBERS_PER_NEIGHBOUR_MAX; n < MEMBERS_MAX; n++) table.add(id(n), "self", 0, 0);
  expect(table.add(id(60_000), "self", 0, 0)).toBeUndefined();
  table.get(id(3))!.state = "failed";
  expect(table.add(id(60_000), "self", 0, 0)).toBeDefined();
  expect([table.size, table.get(id(3))]).toEqual([MEMBERS_MAX, undefined]);
  // Else its row would stay in the store for ever.
  expect(forgotten).toEqual([id(3)]);
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
