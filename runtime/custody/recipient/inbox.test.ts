import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import type { Share } from "../../kernel/room.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import type { CustodyLimits } from "../context.ts";
import { testId } from "../testing.ts";
import type { Inbox, InboxEntry } from "./inbox.ts";
import { INBOX_SENDERS_MAX } from "./inbox-shares.ts";
import { openTestInbox } from "./testing.ts";

const [anna, bert] = [testId("anna"), testId("bert")] as const;
const share = { by: "known", isKnown: true };
const idOf = (n: number) => n.toString(16).padStart(32, "0") as MessageId;

const entryOf = (n: number, more: Partial<InboxEntry> = {}): InboxEntry => ({
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

async function open(limits: Partial<CustodyLimits> = {}) {
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

describe("a page", () => {
  test("costs what is on it, wherever it begins, and begins behind one that was removed since as well", async () => {
    const { inbox, store, settle } = await open();
    const ops = Array.from({ length: 2_000 }, (_, n) => inbox.add(entryOf(n), new Uint8Array(10)));
    await settle(store.commit(ops));
    for (const order of ["newest-first", "oldest-first"] as const) {
      const step = order === "newest-first" ? -1 : 1;
      const idsAfter = (n: number) => Array.from({ length: 50 }, (_, i) => idOf(n + step * (i + 1)));
      const next = async (after: MessageId) =>
        (await settle(inbox.page({ order, limit: 50, after }))).map(({ id }) => id);
      const ids = await next(idOf(1_000));
      expect(ids).toEqual(idsAfter(1_000));
      await settle(inbox.remove(ids.at(-1)!));
      expect(await next(ids.at(-1)!)).toEqual(idsAfter(1_000 + 50 * step));
    }
  });

  test("follows the order of delivery over a restart, whatever the clock said, and what was removed is on none", async () => {
    const { inbox, store, start, settle } = await open();
    for (const n of [3, 1, 2]) await settle(store.commit([inbox.add(entryOf(n), new Uint8Array(10))]));
    await settle(inbox.remove(idOf(1)));
    const again = (await start()).inbox;
    await settle(again.load());
    const page = await again.page({ order: "newest-first", limit: 9 });
    expect(page.map(({ id }) => id)).toEqual([idOf(2), idOf(3)]);
    expect(await again.page({ order: "newest-first", limit: 9, after: idOf(1) })).toEqual([]);
    again.stop();
  });
});

describe("room", () => {
  test("the box is bounded in messages and bytes, and one sender gets its share", async () => {
    const { inbox } = await open({ inboxMessagesMax: 4, inboxBytesMax: 100, senderShare: 0.5 });
    inbox.add(entryOf(1), new Uint8Array(10));
    expect(inbox.refusal(anna, share, 41)).toBe("quota");
    expect(inbox.refusal(anna, share, 40)).toBeUndefined();
    inbox.add(entryOf(2), new Uint8Array(10));
    expect([
      inbox.refusal(anna, share, 1),
      inbox.refusal(bert, share, 1),
      inbox.refusal(bert, share, 81),
    ]).toEqual(["quota", undefined, "full"]);
    inbox.add(entryOf(3, { from: bert }), new Uint8Array(10));
    inbox.add(entryOf(4, { from: bert }), new Uint8Array(10));
    expect(inbox.refusal(testId("carl"), share, 0)).toBe("full");
    inbox.undo(entryOf(1), new Uint8Array(10));
    expect([inbox.count, inbox.refusal(anna, share, 1)]).toEqual([3, undefined]);
  });

  test("100,000 keys of one address fill half of the box; others and those this node knows find room, after a restart too", async () => {
    const { inbox, start, settle, store } = await open({ inboxMessagesMax: 400 });
    const stranger = (via: string) => ({ by: via, isKnown: false });
    const fill = (box: Inbox, via: string, keys: number) => {
      let taken = 0;
      const ops = [];
      for (let key = 0; key < keys; key++)
        for (let n = 0; n < 3; n++) {
          const from = testId(`${via} ${key}`);
          if (box.refusal(from, stranger(via), 10) !== undefined) break;
          ops.push(
            box.add(entryOf(via.length * 1_000_000 + key * 10 + n, { from, via }), new Uint8Array(10)),
          );
          taken++;
        }
      return { taken, ops };
    };
    const { taken, ops } = fill(inbox, "192.0.2.1", 100_000);
    expect(taken).toBe(200);
    await settle(store.commit(ops));
    const again = (await start()).inbox;
    await settle(again.load());
    for (const box of [inbox, again]) {
      expect(box.refusal(testId("sybil"), stranger("192.0.2.1"), 10)).toBe("quota");
      expect(box.refusal(testId("carl"), stranger("10.0.0.7"), 10)).toBeUndefined();
      expect(box.refusal(anna, share, 10)).toBeUndefined();
      fill(box, "10.0.0.77", 10_000);
      expect(box.refusal(anna, share, 10)).toBeUndefined();
    }
    again.stop();
  });

  test("senders of one address take half of the places for senders, and are told; others and those this node knows find room", async () => {
    const { inbox, refused } = await open({ inboxMessagesMax: 10_000_000 });
    const [one, other] = ["192.0.2.1", "10.0.0.7"].map((by) => ({ by, isKnown: false })) as [Share, Share];
    const bounded = (n: number, by: Share): boolean => {
      const from = `${n}`.padStart(52, "a") as NodeId;
      if (inbox.refusal(from, by, 10) !== undefined) return true;
      inbox.add(entryOf(n, { from, via: by.by }), new Uint8Array(10));
      return false;
    };
    let taken = 0;
    while (taken <= INBOX_SENDERS_MAX && !bounded(taken, one)) taken++;
    expect([taken, refused]).toEqual([INBOX_SENDERS_MAX / 2, ["senders in the inbox"]]);
    // Whoever has something in it already, and whose place is free again.
    expect(bounded(0, one)).toBe(false);
    inbox.undo(entryOf(1, { from: `${1}`.padStart(52, "a") as NodeId, via: one.by }), new Uint8Array(10));
    expect([bounded(taken, one), bounded(taken + 1, one)]).toEqual([false, true]);
    expect(bounded(taken + 2, other)).toBe(false);
    expect(inbox.refusal(anna, share, 10)).toBeUndefined();
  });

  test("what the store finds damaged by itself counts no more, and what comes meanwhile does", async () => {
    const { inbox, store, start, settle, disk } = await open();
    const ops = [1, 2, 3].map((n) => inbox.add(entryOf(n), new Uint8Array(10)));
    await settle(store.commit(ops));
    const again = await start();
    await settle(again.inbox.load());
    disk.rot("inbox", idOf(2));
    const deliver = (n: number) => again.store.commit([again.inbox.add(entryOf(n), new Uint8Array(10))]);
    const page = again.inbox.page({ order: "oldest-first", limit: 9 });
    // One before the sums are asked for anew, and one between the question and its answer.
    const first = deliver(4);
    expect((await page).map(({ id }) => id)).toEqual([idOf(1), idOf(3)]);
    const second = deliver(5);
    await settle(Promise.all([first, second]));
    expect([again.inbox.count, again.inbox.bytes]).toEqual([4, 40]);
    again.inbox.stop();
  });

  test("what is not there cannot be read or removed", async () => {
    const { inbox } = await open();
    await expect(inbox.body(idOf(9))).rejects.toMatchObject({ code: "GODWIT_MESSAGE_UNKNOWN" });
    await expect(inbox.remove(idOf(9))).rejects.toMatchObject({ code: "GODWIT_MESSAGE_UNKNOWN" });
  });
});
