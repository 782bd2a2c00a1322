/** A book of peers over a memory disk. For tests only. */
import { ManualClock } from "../kernel/clock.ts";
import { type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import type { Regard } from "../kernel/room.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { PeerBook, type TrustLevel } from "./book.ts";
import { testTime } from "../time/testing.ts";
import { noRegard } from "./testing.ts";

export async function setup(configured = new Map<NodeId, TrustLevel>(), regard: Regard = noRegard) {
  const clock = new ManualClock();
  const disk = new SimDisk();
  const open = () => openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  let store = await open();
  const lived = testTime(clock);
  const book = new PeerBook({ store, configured, time: lived.time, log: silentLog, regard });
  const settle = async (promise: Promise<unknown>) => {
    await clock.advance(2);
    await promise;
  };
  const reopen = async () => {
    await settle(store.close());
    store = await open();
    await lived.time.save(true);
    const { time } = testTime(clock, lived.kept);
    const next = new PeerBook({ store, configured, time, log: silentLog, regard });
    await settle(next.load());
    return next;
  };
  return { book, clock, settle, reopen, store: () => store };
}
