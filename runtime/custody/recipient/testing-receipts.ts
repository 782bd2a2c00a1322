/** A recipient that keeps receipts, over a disk that survives it. For tests only. */
import { ManualClock } from "../../kernel/clock.ts";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { doorId, DoorRegard } from "../../kernel/testing.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import type { StoreOp } from "../../store/types.ts";
import { ReceiptStatus } from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import { Receipts } from "./receipts.ts";

export const friend = doorId(1);
export const message = (n: number) => n.toString(16).padStart(32, "0") as MessageId;

export async function open() {
  const clock = new ManualClock(1_800_000_000_000);
  const disk = new SimDisk();
  const regard = new DoorRegard();
  regard.known.add(friend);
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  const seams: Partial<CustodyContext> = { clock, store, regard, log: silentLog, metrics: new Metrics() };
  const start = () => new Receipts(seams as CustodyContext, { ready() {} });
  const settle = async <T>(promise: Promise<T>): Promise<T> => {
    await clock.advance(2);
    return promise;
  };
  const keep = (receipts: Receipts, n: number, sender: NodeId, by: string): StoreOp[] => {
    const receipt = {
      status: ReceiptStatus.delivered,
      messageId: message(n),
      bundleId: message(n) as string as BundleId,
      atMs: n,
      isUnconfirmed: false,
      trace: [],
    };
    return receipts.keep(receipt, sender, { by, isKnown: regard.isKnown(sender) });
  };
  return { clock, disk, store, start, settle, keep };
}
