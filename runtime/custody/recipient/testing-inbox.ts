/** An inbox, and mail of as many senders as are wanted. For tests only. */
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import type { CustodyLimits } from "../context.ts";
import { testId } from "../testing.ts";
import type { InboxEntry } from "./inbox.ts";
import { openTestInbox } from "./testing.ts";

export const [anna, bert] = [testId("anna"), testId("bert")] as const;
export const share = { by: "known", isKnown: true };
export const idOf = (n: number) => n.toString(16).padStart(32, "0") as MessageId;

export const entryOf = (n: number, more: Partial<InboxEntry> = {}): InboxEntry => ({
  id: idOf(n),
  from: anna,
  to: "DUN-A",
  subject: "",
  contentType: "text/plain",
  priority: 2,
  size: 10,
  createdAtMs: 1_800_000_000_000,
  deliveredAtMs: 1_800_000_000_000 + n,
  forwardSecret: true,
  isUnconfirmed: false,
  trace: [],
  ...more,
});

export async function open(limits: Partial<CustodyLimits> = {}) {
  const clock = new ManualClock(1_800_000_000_000);
  const disk = new SimDisk();
  const settle = async <T>(promise: Promise<T>): Promise<T> => {
    await clock.advance(5);
    return promise;
  };
  const start = async () => {
    disk.crash(); // only what is durable
    const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 1 });
    const { inbox, refused } = openTestInbox(store, {
      limits,
      clock,
      isKnown: (id) => id === anna || id === bert,
    });
    return { store, inbox, refused };
  };
  return { disk, settle, start, ...(await start()) };
}
