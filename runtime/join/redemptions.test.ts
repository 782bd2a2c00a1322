import { describe, expect, test } from "bun:test";
import { signRedemption, type Invite } from "../identity/invite.ts";
import { REDEMPTIONS_MAX } from "./redemptions.ts";
import { ManualClock } from "../kernel/clock.ts";
import { testTime } from "../time/testing.ts";
import { other, newcomer, thief, WALL_MS, invite, fakeStore, setup, told } from "./testing-redemptions.ts";

const HOUR_MS = 3_600_000;

describe("one use", () => {
  test("is taken at once, kept over a restart, and free again to the same node", async () => {
    const { table, clock, ...fake } = setup();
    expect(table.isFree(invite, newcomer.id)).toBe(true);
    const redeeming = table.redeem(invite, newcomer.id);
    expect(table.isFree(invite, thief.id)).toBe(false);
    expect(table.all).toEqual([]);
    expect(await redeeming).toBeInstanceOf(Uint8Array);
    const again = setup(clock, fake);
    await again.table.load();
    expect([again.table.isFree(invite, thief.id), again.table.isFree(invite, newcomer.id)]).toEqual([
      false,
      true,
    ]);
    expect(await again.table.redeem(invite, newcomer.id)).toBeUndefined();
    expect(again.table.all.length).toBe(1);
  });

  test("a disk that fails takes the use back", async () => {
    const { table, state } = setup();
    state.failure = new Error("disk full");
    await expect(table.redeem(invite, newcomer.id)).rejects.toThrow("disk full");
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(table.isFree(invite, thief.id)).toBe(true);
  });

  test("is forgotten when the invitation has long expired, also on the disk", async () => {
    const { table, clock, rows } = setup();
    await table.redeem(invite, newcomer.id);
    await clock.advance(2 * HOUR_MS);
    expect(table.all).toEqual([]);
    await Promise.resolve();
    expect(rows.size).toBe(0);
  });

  test("without a clock it is kept for 30 days of running", async () => {
    const { table, clock } = setup(new ManualClock(0));
    await table.redeem(invite, newcomer.id);
    await clock.advance(29 * 24 * HOUR_MS);
    expect(table.all.length).toBe(1);
    await clock.advance(2 * 24 * HOUR_MS);
    expect(table.all).toEqual([]);
  });
});

describe("what neighbours tell", () => {
  test("counts as a use, is new once, and tells of a conflict with both names", async () => {
    const { table, conflicts } = setup();
    expect(table.offer(told(newcomer), other.id)).toBe(true);
    expect(table.offer(told(newcomer), other.id)).toBe(false);
    expect(table.isFree(invite, thief.id)).toBe(false);
    expect(conflicts).toEqual([]);
    expect(table.offer(told(thief), other.id)).toBe(true);
    expect(conflicts.map((uses) => uses.map(({ redeemer }) => redeemer))).toEqual([[newcomer.id, thief.id]]);
  });

  test("forged, foreign and expired ones are dropped", () => {
    const { table } = setup();
    const forged = told(newcomer);
    forged[30]! ^= 1;
    expect(() => table.offer(forged, other.id)).toThrow("wrong signature");
    const foreign = signRedemption(other, { invite, redeemer: newcomer.id, atMs: 0 }, "elsewhere");
    expect(() => table.offer(foreign, other.id)).toThrow("wrong signature");
    const old = { ...invite, expiresAtS: WALL_MS / 1_000 - 3_600 };
    expect(table.offer(told(newcomer, old), other.id)).toBe(false);
    expect(table.isFree(invite, newcomer.id)).toBe(true);
    expect(table.all).toEqual([]);
  });
});

describe("a used invitation, on a machine whose clock is wrong", () => {
  const DAY_MS = 24 * HOUR_MS;
  /** Over restarts: the same rows, the running time goes on. */
  function machine() {
    const clock = new ManualClock(WALL_MS);
    const fake = fakeStore();
    let lived = testTime(clock);
    const start = async (wallOffsetMs: number) => {
      await lived.time.save(true);
      clock.wallOffsetMs = wallOffsetMs;
      lived = testTime(clock, lived.kept);
      const { table } = setup(clock, fake, lived.time);
      await table.load();
      return table;
    };
    return { clock, fake, start };
  }

  test("stays used after one start decades ahead, in 1970, or a year behind", async () => {
    for (const wrongMs of [WALL_MS + 40 * 365 * DAY_MS, 0, WALL_MS - 365 * DAY_MS]) {
      const { clock, start } = machine();
      await (await start(WALL_MS)).redeem(invite, newcomer.id);
      const wrong = await start(wrongMs);
      expect(wrong.isFree(invite, thief.id)).toBe(false);
      await clock.advance(60_000);
      expect(wrong.all.length).toBe(1);
      expect((await start(WALL_MS)).isFree(invite, thief.id)).toBe(false);
    }
  });

  test("is noted also when a neighbour tells of it while the clock is decades ahead", async () => {
    const { start } = machine();
    await start(WALL_MS);
    expect((await start(WALL_MS + 40 * 365 * DAY_MS)).offer(told(newcomer), other.id)).toBe(true);
    expect((await start(WALL_MS)).isFree(invite, thief.id)).toBe(false);
  });

  test("is forgotten when both clocks are past its end, over any number of restarts", async () => {
    const { clock, fake, start } = machine();
    await (await start(WALL_MS)).redeem(invite, newcomer.id);
    for (let i = 0; i < 4; i++) {
      expect((await start(WALL_MS)).all.length).toBe(1);
      await clock.advance(HOUR_MS / 4 + 60_000);
    }
    expect((await start(WALL_MS)).all).toEqual([]);
    expect([...fake.rows.keys()]).toEqual([]);
  });

  test("of an earlier release is kept for a month of running time at most", async () => {
    const { clock, fake, start } = machine();
    await (await start(WALL_MS)).redeem(invite, newcomer.id);
    for (const [key, meta] of fake.rows) fake.rows.set(key, meta.split(" ")[0]!);
    expect((await start(WALL_MS + 365 * DAY_MS)).isFree(invite, thief.id)).toBe(false);
    await clock.advance(29 * DAY_MS);
    expect((await start(WALL_MS)).all.length).toBe(1);
    await clock.advance(2 * DAY_MS);
    expect((await start(WALL_MS)).all).toEqual([]);
  });
});

test("only so many used invitations are held; the next one is refused and told to the operator", async () => {
  const { table, full } = setup();
  const of = (n: number): Invite => ({ ...invite, id: new Uint8Array([n >> 8, n & 255, 1, 1, 1, 1, 1, 1]) });
  for (let n = 0; n < REDEMPTIONS_MAX; n++)
    expect(await table.redeem(of(n), newcomer.id)).toBeInstanceOf(Uint8Array);
  expect(await table.redeem(of(REDEMPTIONS_MAX), newcomer.id)).toBe("full");
  expect(full).toEqual(["used invitations"]);
  // What is held already goes on.
  expect(await table.redeem(of(0), newcomer.id)).toBeUndefined();
});
