import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatHex } from "../kernel/ids.ts";
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

  test("a store that is behind tells another epoch in hello, over restarts, and goes on naming old mail by its own", async () => {
    const disk = new SimDisk();
    const read = ({ storeEpoch, helloEpoch, isNew, stoodDown }: BootState) => ({
      ...{ store: formatHex(storeEpoch), hello: formatHex(helloEpoch), isNew, stoodDown },
    });
    const first = await boot(disk, async (state) => read(state));
    expect(first).toEqual({ store: first.store, hello: first.store, isNew: true, stoodDown: false });
    const renewed = await boot(disk, async (state) => {
      expect(read(state)).toEqual({ ...first, isNew: false });
      await state.renewHelloEpoch();
      await state.noteStoodDown(true);
      return read(state);
    });
    expect([renewed.store, renewed.hello === first.hello]).toEqual([first.store, false]);
    expect(await boot(disk, async (state) => read(state))).toEqual({ ...renewed, stoodDown: true });
  });

  test("a store that lost its counters is another store to neighbours, and stays that one", async () => {
    const disk = new SimDisk();
    const first = await boot(disk, async ({ storeEpoch }) => storeEpoch);
    expect(await boot(disk, async ({ helloEpoch }) => helloEpoch)).toEqual(first);
    disk.rot("setting", "boot-epoch");
    const second = await boot(disk, async ({ storeEpoch, helloEpoch }) => {
      // Mail of before mail epochs keeps the names that it has.
      expect(storeEpoch).toEqual(first);
      return helloEpoch;
    });
    expect(second).not.toEqual(first);
    expect(await boot(disk, async ({ helloEpoch }) => helloEpoch)).toEqual(second);
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
