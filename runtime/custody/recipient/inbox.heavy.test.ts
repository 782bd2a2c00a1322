/** An inbox in a flood of keys. */
import { describe, expect, test } from "bun:test";
import type { NodeId } from "../../kernel/ids.ts";
import type { Share } from "../../kernel/room.ts";
import { testId } from "../testing.ts";
import type { Inbox } from "./inbox.ts";
import { INBOX_SENDERS_MAX } from "./inbox-shares.ts";
import { anna, share, entryOf, open } from "./testing-inbox.ts";

describe("room", () => {
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
});
