import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { type NodeId } from "../kernel/ids.ts";
import { MemberEntryKind } from "../wire/member-messages.ts";
import { Credit } from "./credit.ts";
import { heldFact, LISTED_MS, MemberTable, REMEMBERED_MS } from "./member.ts";
import { id, regard } from "./testing.ts";

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
