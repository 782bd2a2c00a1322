/** What waits for the disk at the last step; deliveries themselves are tested in custody.test.ts and test/sim. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS } from "../../kernel/testing.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { custodyLimitsDefault, type CustodyContext } from "../context.ts";
import { testId } from "../testing.ts";
import { noBundleId } from "../../wire/message.ts";
import { Delivery, TRANSIENT_BYTES_WAITING_MAX, TRANSIENTS_WAITING_MAX } from "./delivery.ts";
import { Inbox } from "./inbox.ts";
import { Receipts } from "./receipts.ts";
import { Seen } from "./seen.ts";
import { testTime } from "../../time/testing.ts";

const SLOW_COMMIT_MS = 1_000;
const KNOWN: Share = { by: "known", isKnown: true };

const messageOf = (n: number) => n.toString(16).padStart(32, "0") as MessageId;

async function open(commitDelayMs = SLOW_COMMIT_MS, disk = new SimDisk()) {
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
    },
  };
  const ctx = seams as CustodyContext;
  const inbox = new Inbox(ctx);
  const parts = { inbox, seen: new Seen(), receipts: new Receipts(ctx, { ready() {} }) };
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

test("transient messages that come faster than the disk takes them are dropped and counted, not kept without bound", async () => {
  const { clock, inbox, metrics, send } = await open();
  const outcomes = Array.from({ length: TRANSIENTS_WAITING_MAX + 10 }, (_, n) => send(n, 1));
  const kept = send(5_000, 1, false);
  await clock.advance(4 * SLOW_COMMIT_MS);
  const settled = await Promise.all(outcomes);
  expect(settled.filter((outcome) => outcome === "full")).toHaveLength(10);
  expect(settled.filter((outcome) => outcome === "delivered")).toHaveLength(TRANSIENTS_WAITING_MAX);
  expect(await kept).toBe("delivered");
  expect(inbox.count).toBe(TRANSIENTS_WAITING_MAX + 1);
  expect(await metrics.render()).toContain("godwit_transients_dropped_total 10");
  // Room comes back with the disk, for one that was dropped as well.
  const again = send(TRANSIENTS_WAITING_MAX + 1, 1);
  await clock.advance(2 * SLOW_COMMIT_MS);
  expect(await again).toBe("delivered");
});

test("a transient message that is in the inbox is not put there again, whatever was forgotten since", async () => {
  const disk = new SimDisk();
  const before = await open(0, disk);
  const first = before.send(1, 1);
  await before.clock.advance(1);
  expect(await first).toBe("delivered");
  disk.crash();
  const { clock, send } = await open(0, disk);
  const outcomes = [send(1, 1), send(2, 1)];
  await clock.advance(1);
  expect(await Promise.all(outcomes)).toEqual(["again", "delivered"]);
});

test("their bodies are bounded as well", async () => {
  const { clock, send } = await open();
  const half = TRANSIENT_BYTES_WAITING_MAX / 2;
  const outcomes = [send(1, half), send(2, half), send(3, 1)];
  await clock.advance(4 * SLOW_COMMIT_MS);
  expect(await Promise.all(outcomes)).toEqual(["delivered", "delivered", "full"]);
});

test(
  "a flood of transient messages does not make a node deliver one of a friend twice that comes on two ways",
  async () => {
    const { clock, inbox, send } = await open(0);
    const settle = async (outcome: Promise<unknown>) => {
      await clock.advance(1);
      return outcome;
    };
    expect(await settle(send(1, 1))).toBe("delivered");
    await settle(inbox.remove(messageOf(1)));
    for (let n = 0; n < DOOR_IDENTITIES; n += TRANSIENTS_WAITING_MAX) {
      const some = Array.from({ length: TRANSIENTS_WAITING_MAX }, (_, i) =>
        send(1_000 + n + i, 0, true, EARLIER_RUN),
      );
      await settle(Promise.all(some));
    }
    expect(await settle(send(1, 1))).toBe("again");
  },
  DOOR_TEST_MS,
);

test("mail that waits for the disk when word of another machine under this identity comes is not delivered by both", async () => {
  const { clock, inbox, life, send } = await open();
  const first = send(1, 10, false);
  await clock.advance(1);
  const second = send(2, 10, false);
  life.isContested = true;
  await clock.advance(3 * SLOW_COMMIT_MS);
  // The first was on its way to the disk; the second is for whoever goes on.
  expect([await first, await second]).toEqual(["delivered", "contested"]);
  expect(inbox.count).toBe(1);
  life.isContested = false;
  const again = send(2, 10, false);
  await clock.advance(2 * SLOW_COMMIT_MS);
  expect(await again).toBe("delivered");
});
