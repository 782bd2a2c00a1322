import { describe, expect, test } from "bun:test";
import { signRedemption, type Invite, type Redemption } from "../identity/invite.ts";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { doorId } from "../kernel/testing.ts";
import { emptyStore } from "../store/testing.ts";
import type { Store, StoreOp, StoreRow } from "../store/types.ts";
import { Redemptions, REDEMPTIONS_MAX } from "./redemptions.ts";
import { testTime } from "../time/testing.ts";

const random = seededRandom(5);
const [self, other, newcomer, thief] = Array.from({ length: 4 }, () => generateIdentity(random)) as [
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
];
const WALL_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const invite: Invite = { id: random.bytes(8), expiresAtS: WALL_MS / 1_000 + 3_600, uses: 1 };

/** Rows in a map; `failure` fails the next commits. */
function fakeStore() {
  const rows = new Map<string, string>();
  const state = { failure: undefined as Error | undefined };
  const store: Store = {
    ...emptyStore,
    load: async (): Promise<StoreRow[]> => [...rows].map(([key, meta]) => ({ key, meta, bodyBytes: 0 })),
    async commit(ops: readonly StoreOp[]) {
      if (state.failure !== undefined) throw state.failure;
      for (const op of ops)
        if (op.op === "put") rows.set(op.key, op.meta);
        else rows.delete(op.key);
    },
  };
  return { store, rows, state };
}

/** A neighbour that this node wrote to. */
const friend = generateIdentity(seededRandom(77)).id;

function setup(clock = new ManualClock(WALL_MS), fake = fakeStore(), time = testTime(clock).time) {
  const conflicts: (readonly Redemption[])[] = [];
  const full: string[] = [];
  const table = new Redemptions({
    identity: self,
    network: "telex",
    time,
    log: silentLog,
    metrics: new Metrics(),
    store: fake.store,
    verify: verifySignature,
    regard: {
      worthOf: () => "none",
      shareOf: (teller) => ({ by: teller === friend ? friend : "192.0.2.1", isKnown: teller === friend }),
    },
    fullTables: { refused: (name) => void full.push(name) },
    onConflict: (_, redeemers) => conflicts.push(redeemers),
  });
  return { clock, table, conflicts, full, ...fake };
}

const told = (redeemer: typeof self, of: Invite = invite, by = other) =>
  signRedemption(by, { invite: of, redeemer: redeemer.id, atMs: WALL_MS }, "telex");

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
