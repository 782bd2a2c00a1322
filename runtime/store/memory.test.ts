import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk, type MemoryStore } from "./memory.ts";
import { storeSuite } from "./suite.ts";
import type { StoreOp } from "./types.ts";

const put = (key: string, meta = "{}"): StoreOp => ({ op: "put", in: "setting", key, meta });

storeSuite("memory", async () => {
  const disk = new SimDisk();
  const clock = new ManualClock();
  return {
    open: () => openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 5 }),
    async settle(promise) {
      const state = { isSettled: false };
      const watched = promise.finally(() => (state.isSettled = true));
      watched.catch(() => {});
      for (let i = 0; i < 1_000 && !state.isSettled; i++) await clock.advance(1);
      expect(state.isSettled).toBe(true);
      return watched;
    },
    full() {
      disk.fail("full");
      return { ops: [], end: () => disk.fail(undefined) };
    },
    rot: async (collection, key) => disk.rot(collection, key),
    dispose: async () => {},
  };
});

describe("the simulated disk", () => {
  const open = (disk: SimDisk, clock: ManualClock, seed = 1): Promise<MemoryStore> =>
    openMemoryStore(disk, { clock, random: seededRandom(seed), commitDelayMs: 10 });

  test("a commit is durable only after the delay, and those of meanwhile share the next", async () => {
    const clock = new ManualClock();
    const store = await open(new SimDisk(), clock);
    const done: string[] = [];
    void store.commit([put("a")]).then(() => done.push("a"));
    await clock.advance(4);
    void store.commit([put("b")]).then(() => done.push("b"));
    void store.commit([put("c"), put("d")]).then(() => done.push("c"));
    await clock.advance(5);
    expect(done).toEqual([]);
    expect(store.pendingOps).toBe(4);
    await clock.advance(1);
    expect(done).toEqual(["a"]);
    await clock.advance(9);
    expect(done).toEqual(["a"]);
    await clock.advance(1);
    expect(done).toEqual(["a", "b", "c"]);
    expect(store.pendingOps).toBe(0);
  });

  test("a crash keeps what was acknowledged and some whole prefix of the rest; every prefix happens", async () => {
    const prefixes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const disk = new SimDisk();
      const clock = new ManualClock();
      const store = await open(disk, clock, seed);
      void store.commit([put("acked")]);
      await clock.advance(10);
      let settled = 0;
      for (const pair of ["1", "2", "3"])
        void store.commit([put(`${pair}a`), put(`${pair}b`)]).finally(() => settled++);
      await clock.advance(3);
      disk.crash();
      await clock.advance(100);
      expect(settled).toBe(0);
      const again = await open(disk, clock, seed);
      prefixes.add((await again.load("setting")).map((row) => row.key).join());
    }
    expect([...prefixes].sort()).toEqual([
      "1a,1b,2a,2b,3a,3b,acked",
      "1a,1b,2a,2b,acked",
      "1a,1b,acked",
      "acked",
    ]);
  });

  test("a dead store neither settles nor writes; its close resolves", async () => {
    const disk = new SimDisk();
    const clock = new ManualClock();
    const dead = await open(disk, clock);
    disk.crash();
    let settled = 0;
    void dead.commit([put("ghost")]).finally(() => settled++);
    void dead.load("setting").finally(() => settled++);
    const store = await open(disk, clock);
    await dead.close();
    await clock.advance(100);
    expect(settled).toBe(0);
    expect(await store.load("setting")).toEqual([]);
    // The late close of the dead one must not free the disk under the living one.
    await expect(open(disk, clock)).rejects.toThrow("another node");
  });

  test("destroy leaves an empty medium, a copy is independent of it", async () => {
    const disk = new SimDisk();
    const clock = new ManualClock();
    const store = await open(disk, clock);
    void store.commit([put("a")]);
    await clock.advance(10);
    const backup = disk.copy();
    disk.destroy();
    expect(await (await open(disk, clock)).load("setting")).toEqual([]);
    expect((await (await open(backup, clock)).load("setting")).length).toBe(1);
  });
});
