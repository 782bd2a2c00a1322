/** Uses of invitations in a flood of free identities. */
import { describe, expect, test } from "bun:test";
import { type Invite } from "../identity/invite.ts";
import { doorId } from "../kernel/testing.ts";
import { REDEMPTIONS_MAX } from "./redemptions.ts";
import { other, newcomer, thief, invite, friend, setup, told } from "./testing-redemptions.ts";

describe("what neighbours tell", () => {
  test("a thousand neighbours of one address fill half, and the node itself and known ones still let newcomers in", async () => {
    const { table } = setup();
    let taken = 0;
    for (let index = 0; index < 2 * REDEMPTIONS_MAX; index++) {
      const fresh = { ...invite, id: Uint8Array.of(0, 0, 0, 0, 0, 0, index >> 8, index & 255) };
      const teller = index % 2 === 0 ? other.id : newcomer.id;
      if (table.offer(told(newcomer, fresh), teller)) taken++;
    }
    expect(taken).toBe(REDEMPTIONS_MAX / 2);
    expect(table.offer(told(newcomer), friend)).toBe(true);
    const mine = { ...invite, id: Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9) };
    expect(await table.redeem(mine, newcomer.id)).toBeInstanceOf(Uint8Array);
  });
});

test("100,000 uses that free identities tell of are refused and told to the operator; known ones, another address and the node itself have room, after a restart too", async () => {
  const { table, clock, full, ...fake } = setup();
  const of = (n: number, first: number): Invite => {
    const id = new Uint8Array(8).fill(first);
    new DataView(id.buffer).setUint32(4, n);
    return { ...invite, id };
  };
  // The signature of what finds no place is not checked: for those any does.
  let taken = 0;
  const enough = told(newcomer, of(0, 3));
  for (let n = 0; n < 2 * REDEMPTIONS_MAX && full.length === 0; n++)
    if (table.offer(told(newcomer, of(n, 3)), other.id)) taken++;
  const renumbered = enough.slice();
  for (let n = taken; n < 100_000; n++) {
    new DataView(renumbered.buffer).setUint32(4, n);
    if (table.offer(renumbered, doorId(n % 1_000))) taken++;
  }
  expect([taken, new Set(full)]).toEqual([REDEMPTIONS_MAX / 2, new Set(["used invitations"])]);
  for (const life of [table, setup(clock, fake).table]) {
    if (life !== table) await life.load();
    expect(life.offer(told(newcomer, of(life === table ? 1 : 2, 4)), friend)).toBe(true);
    expect(await life.redeem(of(life === table ? 1 : 2, 5), newcomer.id)).toBeInstanceOf(Uint8Array);
    expect(life.isFree(of(0, 3), thief.id)).toBe(false);
  }
}, 60_000);
