import { describe, expect, test } from "bun:test";
import type { MessageId } from "../../kernel/ids.ts";
import { testId } from "../testing.ts";
import { anna, bert, share, idOf, entryOf, open } from "./testing-inbox.ts";

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
