/** A recipient over a disk that takes its time. For tests only. */
import { ManualClock } from "../../kernel/clock.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { type Share } from "../../kernel/room.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { custodyLimitsDefault, type CustodyContext } from "../context.ts";
import { testId } from "../testing.ts";
import { noBundleId } from "../../wire/message.ts";
import { Delivery } from "./delivery.ts";
import { Inbox } from "./inbox.ts";
import { Receipts } from "./receipts.ts";
import { Seen } from "./seen.ts";
import { ReceivedSessions } from "./sessions.ts";
import { testTime } from "../../time/testing.ts";

export const SLOW_COMMIT_MS = 1_000;
export const KNOWN: Share = { by: "known", isKnown: true };

export const messageOf = (n: number) => n.toString(16).padStart(32, "0") as MessageId;

export async function open(commitDelayMs = SLOW_COMMIT_MS, disk = new SimDisk()) {
  const clock = new ManualClock(1_800_000_000_000);
  const random = seededRandom(1);
  const store = await openMemoryStore(disk, { clock, random, commitDelayMs });
  const metrics = new Metrics();
  const life = { isContested: false };
  const seams: Partial<CustodyContext> = {
    ...{ self: testId("anna"), network: "test", clock, random, log: silentLog, metrics, store },
    limits: { ...custodyLimitsDefault, inboxMessagesMax: 1_000_000 },
    isContested: () => life.isContested,
    time: testTime(clock).time,
    regard: {
      isKnown: () => true,
      worthOf: () => "kept",
      shareOf: () => ({ by: "known", isKnown: true }),
      wrote() {},
      waits() {},
    },
  };
  const ctx = seams as CustodyContext;
  const inbox = new Inbox(ctx);
  const parts = {
    inbox,
    seen: new Seen(),
    receipts: new Receipts(ctx, { ready() {} }),
    sessions: new ReceivedSessions(ctx),
  };
  const delivery = new Delivery(ctx, parts, { emit() {} });
  const send = (n: number, bodyBytes: number, isTransient = true, share: Share = KNOWN) =>
    delivery.deliver({
      id: messageOf(n),
      from: testId("bert"),
      share,
      inner: {
        mailEpoch: new Uint8Array(8).fill(n),
        counter: n,
        to: testId("anna"),
        createdAtMs: 0,
        machines: [],
        failoverDelayMs: 0,
        subject: "",
        contentType: "text/plain",
        body: new Uint8Array(bodyBytes),
      },
      priority: 2,
      lifetimeMs: 0,
      forwardSecret: true,
      isUnconfirmed: false,
      trace: [],
      bundleId: noBundleId,
      wantsReceipt: false,
      ...(isTransient ? { isTransient: true as const } : {}),
      ops: [],
    });
  return { clock, inbox, metrics, life, send };
}
