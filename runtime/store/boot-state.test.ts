import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openBootState, type BootState } from "./boot-state.ts";
import { openMemoryStore, SimDisk } from "./memory.ts";

const clock = new ManualClock();
const random = seededRandom(3);

async function boot<T>(disk: SimDisk, use: (state: BootState) => Promise<T>): Promise<T> {
  const store = await openMemoryStore(disk, { clock, random, commitDelayMs: 0 });
  const result = (async () => {
    const value = await use(await openBootState(store, random));
    await store.close();
    return value;
  })();
  await clock.advance(100);
  return result;
}

describe("a node's numbers", () => {
  test("rise with every boot and every record", async () => {
    const disk = new SimDisk();
    const first = await boot(disk, async (state) => ({
      epoch: state.bootEpoch,
      storeEpoch: state.storeEpoch,
      records: [await state.nextRecordSequence(), await state.nextRecordSequence()],
    }));
    const second = await boot(disk, async (state) => ({
      epoch: state.bootEpoch,
      storeEpoch: state.storeEpoch,
      records: [await state.nextRecordSequence()],
    }));
    expect(second.epoch).toBeGreaterThan(first.epoch);
    expect(second.storeEpoch).toEqual(first.storeEpoch);
    expect(first.records[1]).toBeGreaterThan(first.records[0]!);
    expect(second.records[0]).toBeGreaterThan(first.records[1]!);
  });

  test("a store that lost its counters is another store to neighbours; so is one that says so, and it stays that one", async () => {
    const disk = new SimDisk();
    const first = await boot(disk, async (state) => state.storeEpoch);
    expect(await boot(disk, async (state) => state.storeEpoch)).toEqual(first);
    disk.rot("setting", "boot-epoch");
    const second = await boot(disk, async (state) => {
      // Mail of before mail epochs keeps the names that it has.
      expect(state.foundStoreEpoch).toEqual(first);
      return state.storeEpoch;
    });
    expect(second).not.toEqual(first);
    const third = await boot(disk, async (state) => {
      expect(state.storeEpoch).toEqual(second);
      await state.renewStoreEpoch();
      return state.storeEpoch;
    });
    expect(third).not.toEqual(second);
    expect(await boot(disk, async (state) => state.storeEpoch)).toEqual(third);
  });

  test("the record of a node that lost its store gets above the old ones once routing told it its epoch", async () => {
    const lived = new SimDisk();
    let old = 0;
    let oldEpoch = 0;
    for (let i = 0; i < 3; i++)
      await boot(lived, async (state) => {
        oldEpoch = state.bootEpoch;
        for (let j = 0; j < 5; j++) old = await state.nextRecordSequence();
      });
    const fresh = await boot(new SimDisk(), async (state) => {
      await state.raiseBootEpoch(oldEpoch + 1);
      return { sequence: await state.nextRecordSequence(), epoch: state.bootEpoch };
    });
    expect(fresh.epoch).toBeGreaterThan(oldEpoch);
    expect(fresh.sequence).toBeGreaterThan(old);
  });
});
