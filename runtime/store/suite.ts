/**
 * What every `Store` must do, run against the real one and the simulated one alike. Knows only the interface; how to
 * reopen, to fill the medium and to let time pass is the fixture's.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { GodwitError } from "../kernel/errors.ts";
import {
  collections,
  DAMAGED_ROWS_MAX,
  PAGE_ROWS_MAX,
  type Collection,
  type RowPage,
  type Store,
  type StoreOp,
} from "./types.ts";

export interface StoreFixture {
  /** Opens a store on the same medium; the one before is closed or dead. */
  open(): Promise<Store>;
  /** Lets whatever the store waits for happen, until `promise` settles. */
  settle<T>(promise: Promise<T>): Promise<T>;
  /** From now until `end` a commit that contains `ops` finds the medium full. */
  full(): { readonly ops: readonly StoreOp[]; end(): void };
  /** While no store is open: the medium gives another byte for one of the row's body, or of its meta when it has no body. */
  rot(collection: Collection, key: string): Promise<void>;
  dispose(): Promise<void>;
}

const bytes = (length: number, seed = 1): Uint8Array => {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = (i * 31 + seed * 17 + (i >> 8)) & 255;
  return out;
};
const put = (collection: Collection, key: string, meta: string, body?: Uint8Array): StoreOp =>
  body === undefined
    ? { op: "put", in: collection, key, meta }
    : { op: "put", in: collection, key, meta, body };
const remove = (collection: Collection, key: string): StoreOp => ({ op: "delete", in: collection, key });

/** A row of mail, with a body of `size` bytes. */
const mail = (order: number, group: string, size: number, key = `m${order}`): StoreOp => ({
  op: "put",
  in: "inbox",
  key,
  meta: `{"n":${order}}`,
  body: bytes(size),
  slot: { order, group },
});

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "resolved";
  } catch (error) {
    return error instanceof GodwitError ? error.code : String(error);
  }
}

export function storeSuite(name: string, setup: () => Promise<StoreFixture>): void {
  describe(`${name}: a store`, () => {
    let fixture: StoreFixture;
    let store: Store;
    const run = <T>(promise: Promise<T>): Promise<T> => fixture.settle(promise);
    const load = (collection: Collection) => run(store.load(collection));
    const body = (collection: Collection, key: string) => run(store.body(collection, key));
    const reopen = async (): Promise<void> => {
      await run(store.close());
      store = await fixture.open();
    };

    beforeEach(async () => {
      fixture = await setup();
      store = await fixture.open();
    });
    afterEach(async () => {
      await run(store.close());
      await fixture.dispose();
    });

    test("starts with every collection, empty", async () => {
      for (const collection of collections) expect(await load(collection)).toEqual([]);
      expect((await run(store.usage())).bytes).toBe(0);
    });

    test("keeps rows and bodies over a restart, in every collection", async () => {
      for (const collection of collections)
        await run(store.commit([put(collection, "k", `{"in":"${collection}"}`, bytes(700))]));
      await reopen();
      for (const collection of collections) {
        expect(await load(collection)).toEqual([
          { key: "k", meta: `{"in":"${collection}"}`, bodyBytes: 700 },
        ]);
        expect(await body(collection, "k")).toEqual(bytes(700));
      }
    });

    test("load sees every commit called before it, and rows come in the order of their keys' UTF-8", async () => {
      const keys = ["b", "a", "ä", "a/2", "a/10", "", "\u{1f600}", "\uffee", "Z", "a\0b", "日本"];
      const commits = keys.map((key) => store.commit([put("plugin", key, "{}")]));
      const rows = await load("plugin");
      await run(Promise.all(commits));
      const expected = keys.toSorted((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
      expect(rows.map((row) => row.key)).toEqual(expected);
      await reopen();
      expect((await load("plugin")).map((row) => row.key)).toEqual(expected);
    });

    test("a body sees every commit called before it", async () => {
      const first = store.commit([put("inbox", "k", "{}", bytes(10, 1))]);
      const early = store.body("inbox", "k");
      const second = store.commit([put("inbox", "k", "{}", bytes(10, 2))]);
      const late = store.body("inbox", "k");
      await run(Promise.all([first, second]));
      expect(await run(late)).toEqual(bytes(10, 2));
      expect((await run(early))?.length).toBe(10);
    });

    test("put without body keeps the body, with an empty one replaces it", async () => {
      await run(store.commit([put("outbox", "k", "1", bytes(100)), put("outbox", "none", "1")]));
      await run(store.commit([put("outbox", "k", "2")]));
      expect(await body("outbox", "k")).toEqual(bytes(100));
      expect(await load("outbox")).toEqual([
        { key: "k", meta: "2", bodyBytes: 100 },
        { key: "none", meta: "1", bodyBytes: 0 },
      ]);
      await run(store.commit([put("outbox", "k", "3", new Uint8Array(0))]));
      expect(await body("outbox", "k")).toEqual(new Uint8Array(0));
      expect(await body("outbox", "none")).toBeUndefined();
      expect(await body("outbox", "missing")).toBeUndefined();
    });

    test("reading a body that was never there, or no more, is no damage", async () => {
      await run(store.commit([put("transit", "k", "1", bytes(9))]));
      await run(store.commit([remove("transit", "k")]));
      for (const key of ["k", "never"]) expect(await body("transit", key)).toBeUndefined();
      expect(store.state.damageCount).toBe(0);
      await run(store.commit([put("transit", "k", "2", bytes(3))]));
      expect(await body("transit", "k")).toEqual(bytes(3));
    });

    test("delete removes, a put afterwards starts without the old body, deleting nothing is no error", async () => {
      await run(store.commit([put("transit", "k", "1", bytes(9))]));
      await run(store.commit([remove("transit", "k"), remove("transit", "never")]));
      expect(await load("transit")).toEqual([]);
      await run(store.commit([put("transit", "k", "2")]));
      expect(await body("transit", "k")).toBeUndefined();
    });

    test("ops of one commit apply in order, and so do commits", async () => {
      await run(
        store.commit([
          put("seen", "k", "1", bytes(5)),
          remove("seen", "k"),
          put("seen", "k", "2"),
          put("seen", "k", "3"),
        ]),
      );
      expect(await load("seen")).toEqual([{ key: "k", meta: "3", bodyBytes: 0 }]);
      const many = Array.from({ length: 700 }, (_, i) => store.commit([put("seen", "k", String(i))]));
      await run(Promise.all(many));
      expect((await load("seen"))[0]?.meta).toBe("699");
    });

    test("commits resolve in the order of their calls", async () => {
      const order: number[] = [];
      await run(
        Promise.all(
          Array.from({ length: 600 }, async (_, i) => {
            await store.commit([put("receipt", String(i), "{}", bytes(i))]);
            order.push(i);
          }),
        ),
      );
      expect(order).toEqual(Array.from({ length: 600 }, (_, i) => i));
    });

    test("an empty commit resolves", async () => {
      await run(store.commit([]));
    });

    test("bodies: 16 MiB and a bit, views into larger buffers, and the caller's buffer is not kept", async () => {
      const large = bytes(16 * 1024 * 1024 + 1_000);
      const view = Buffer.from(bytes(4_096)).subarray(1_000, 1_100);
      await run(store.commit([put("inbox", "large", "{}", large), put("inbox", "view", "{}", view)]));
      expect(await body("inbox", "view")).toEqual(bytes(4_096).slice(1_000, 1_100));
      const borrowed = bytes(64);
      await run(store.commit([put("inbox", "borrowed", "{}", borrowed)]));
      borrowed.fill(0);
      expect(await body("inbox", "borrowed")).toEqual(bytes(64));
      const read = (await body("inbox", "borrowed"))!;
      read.fill(9);
      expect(await body("inbox", "borrowed")).toEqual(bytes(64));
      expect(Buffer.compare((await body("inbox", "large"))!, large)).toBe(0);
    });

    test("a body with a head is the chunks it names and what follows, for bodies of any size, and is read in pieces", async () => {
      for (const [id, size] of [
        ["small", 90],
        ["large", 200_000],
      ] as const) {
        const whole = bytes(size);
        const cut = [0, Math.floor(size / 3), Math.floor(size / 2)];
        const chunk = (index: number) => `${id}/00000${index}`;
        for (const index of [0, 1])
          await run(store.commit([put("chunk", chunk(index), "", whole.slice(cut[index], cut[index + 1]))]));
        const head = { of: id, bytes: cut[2]! };
        const joined: StoreOp = {
          op: "put",
          in: "transit",
          key: id,
          meta: "{}",
          head,
          body: whole.slice(cut[2]),
        };
        await run(store.commit([joined, remove("chunk", chunk(0)), remove("chunk", chunk(1))]));
        for (let life = 0; life < 2; life++) {
          expect(Buffer.compare((await body("transit", id))!, whole)).toBe(0);
          const piece = (at: number, length: number) => run(store.piece("transit", id, at, length));
          expect(await piece(cut[1]! - 3, 9)).toEqual(whole.slice(cut[1]! - 3, cut[1]! + 6));
          expect(await piece(size - 4, 9)).toEqual(whole.slice(-4));
          expect((await piece(size + 4, 9))?.length ?? 0).toBe(0);
          await reopen();
        }
        expect(await load("chunk")).toEqual([]);
        expect((await load("transit")).find(({ key }) => key === id)!.bodyBytes).toBe(size);
        expect(await run(store.piece("transit", "nobody", 0, 9))).toBeUndefined();
      }
    });

    test("a head whose chunks are not here fails the commit, and nothing of it was applied", async () => {
      const head = { of: "gone", bytes: 50_000 };
      const ops: StoreOp[] = [
        put("setting", "beside", "{}"),
        { op: "put", in: "transit", key: "gone", meta: "{}", head },
      ];
      expect(await codeOf(run(store.commit(ops)))).toBe("GODWIT_STORE_FAILED");
      expect([await load("setting"), await load("transit")]).toEqual([[], []]);
    });

    test("usage counts metas in bytes and bodies through put, replace, keep and delete", async () => {
      const used = async () => (await run(store.usage())).bytes;
      await run(store.commit([put("name", "k", '"ä"', bytes(100)), put("name", "l", "{}", bytes(50))]));
      expect(await used()).toBe(4 + 100 + 2 + 50);
      await run(store.commit([put("name", "k", "12345")]));
      expect(await used()).toBe(5 + 100 + 52);
      await run(store.commit([put("name", "k", "1", bytes(7)), remove("name", "l"), remove("name", "x")]));
      expect(await used()).toBe(8);
      await reopen();
      expect(await used()).toBe(8);
    });

    test("a full medium refuses the whole commit, reading goes on, and there is a later", async () => {
      await run(store.commit([put("outbox", "kept", "1", bytes(50)), put("outbox", "old", "1")]));
      const before = await run(store.usage());
      const full = fixture.full();
      const refused = store.commit([
        put("outbox", "kept", "2"),
        remove("outbox", "old"),
        put("outbox", "new", "1"),
        ...full.ops,
      ]);
      const seen = store.load("outbox");
      expect(await run(codeOf(refused))).toBe("GODWIT_STORE_FAILED");
      const rows = [
        { key: "kept", meta: "1", bodyBytes: 50 },
        { key: "old", meta: "1", bodyBytes: 0 },
      ];
      expect(await run(seen)).toEqual(rows);
      expect(await body("outbox", "kept")).toEqual(bytes(50));
      expect((await run(store.usage())).bytes).toBe(before.bytes);
      full.end();
      await run(store.commit([put("outbox", "after", "1")]));
      await reopen();
      expect((await load("outbox")).map((row) => row.key)).toEqual(["after", "kept", "old"]);
      expect((await run(store.usage())).bytes).toBe(before.bytes + 1);
    });

    test("one flipped byte of a body, or of a meta, is shown to nobody: the row is named, set aside, and the only one lost", async () => {
      await run(
        store.commit([
          put("inbox", "short", "{}", bytes(300, 3)),
          put("inbox", "long", "{}", bytes(50_000)),
          put("inbox", "sound", "{}", new Uint8Array(50_000).fill(9)),
          put("seen", "counted", "[[0,41]]"),
          put("seen", "other", "[[0,1]]"),
        ]),
      );
      const used = (await run(store.usage())).bytes;
      await run(store.close());
      for (const key of ["short", "long"]) await fixture.rot("inbox", key);
      await fixture.rot("seen", "counted");
      store = await fixture.open();
      const found: string[] = [];
      store.onState((rows) => found.push(...rows.map((row) => `${row.in} ${row.key}`)));
      expect((await load("seen")).map((row) => row.key)).toEqual(["other"]);
      for (const key of ["short", "long"]) expect(await body("inbox", key)).toBeUndefined();
      expect(await body("inbox", "sound")).toEqual(new Uint8Array(50_000).fill(9));
      expect((await load("inbox")).map((row) => row.key)).toEqual(["sound"]);
      expect(found.sort()).toEqual(["inbox long", "inbox short", "seen counted"]);
      expect(store.state.damageCount).toBe(3);
      expect(store.state.damage.map((row) => row.key).sort()).toEqual(["counted", "long", "short"]);
      const aside = await load("damaged");
      expect(aside.map(({ key }) => key.slice(key.indexOf("/") + 1)).sort()).toEqual(
        found.sort().map((row) => row.replace(" ", "/")),
      );
      expect(aside.map(({ bodyBytes }) => bodyBytes).sort((a, b) => a - b)).toEqual([0, 300, 50_000]);
      expect((await run(store.usage())).bytes).toBe(used);
    });

    test("a row that its owner cannot read is set aside with its body, and a new one may take its place", async () => {
      await run(store.commit([put("outbox", "k", "{", bytes(5_000))]));
      await run(
        store.commit([
          { op: "set-aside", in: "outbox", key: "k" },
          { op: "set-aside", in: "outbox", key: "none" },
        ]),
      );
      expect(await load("outbox")).toEqual([]);
      const [row] = await load("damaged");
      expect([row!.meta, row!.bodyBytes]).toEqual(["{", 5_000]);
      expect(await body("damaged", row!.key)).toEqual(bytes(5_000));
      expect(store.state.damage).toContainEqual({ in: "outbox", key: "k" });
      await run(store.commit([put("outbox", "k", "{}", bytes(7))]));
      await reopen();
      expect(await body("outbox", "k")).toEqual(bytes(7));
      expect(store.state.damageCount).toBe(0);
    });

    test("what is set aside is bounded, the oldest goes first", async () => {
      for (let i = 0; i < DAMAGED_ROWS_MAX + 4; i++) {
        const key = String(i).padStart(4, "0");
        await run(store.commit([put("peer", key, "{}"), { op: "set-aside", in: "peer", key }]));
      }
      const aside = await load("damaged");
      expect(aside.length).toBe(DAMAGED_ROWS_MAX);
      expect(aside.at(-1)!.key).toEndWith("/peer/0259");
    });

    const ordersOn = async (page: RowPage): Promise<number[]> =>
      (await run(store.page("inbox", page))).map(({ order }) => order);
    /** Place, group and size of each row. */
    const index = async () => {
      const rows = await run(store.page("inbox", { order: "oldest-first", limit: PAGE_ROWS_MAX }));
      return rows.map(({ order, group, bodyBytes }) => [order, group, bodyBytes]);
    };
    const totals = async () => {
      const { groups, last } = await run(store.totals("inbox"));
      const named = groups.map(({ group, count, bytes: size }) => [group, count, size] as const);
      return { last, groups: named.sort(([a], [b]) => (a < b ? -1 : 1)) };
    };

    test("mail has the order that it was given, and a page of it begins anywhere, in either direction", async () => {
      const keys = new Map<number, string>();
      // Keys in no order: only the places say which.
      for (let order = 1; order <= 60; order++) keys.set(order, `${(order * 37) % 61}`.padStart(2, "0"));
      const commits = [...keys].map(([order, key]) => store.commit([mail(order, "a", 3, key)]));
      const early = store.page("inbox", { order: "newest-first", limit: 3 });
      await run(Promise.all(commits));
      expect((await run(early)).map(({ order }) => order)).toEqual([60, 59, 58]);
      await run(store.commit([remove("inbox", keys.get(30)!), remove("inbox", keys.get(60)!)]));
      for (const when of ["in the log", "in the database"]) {
        if (when === "in the database") await reopen();
        expect(await ordersOn({ order: "oldest-first", limit: 3 })).toEqual([1, 2, 3]);
        expect(await ordersOn({ order: "oldest-first", limit: 4, after: 28 })).toEqual([29, 31, 32, 33]);
        expect(await ordersOn({ order: "oldest-first", limit: 4, after: 30 })).toEqual([31, 32, 33, 34]);
        expect(await ordersOn({ order: "newest-first", limit: 4, after: 32 })).toEqual([31, 29, 28, 27]);
        expect(await ordersOn({ order: "newest-first", limit: 100 })).toHaveLength(58);
        expect(await ordersOn({ order: "oldest-first", limit: 9, after: 59 })).toEqual([]);
        const [row] = await run(store.page("inbox", { order: "oldest-first", limit: 1, after: 6 }));
        expect(row).toEqual({ key: keys.get(7)!, meta: '{"n":7}', bodyBytes: 3, order: 7, group: "a" });
      }
    });

    test("a later put keeps the place and the group, one after a delete may have others, and all are seen at once", async () => {
      await run(store.commit([mail(1, "a", 5), mail(2, "a", 6), mail(3, "b", 7)]));
      await reopen();
      await run(store.commit([put("inbox", "m2", "changed"), mail(4, "b", 8)]));
      await run(store.commit([remove("inbox", "m1"), mail(5, "c", 9, "m1")]));
      const seen = async () =>
        (await run(store.page("inbox", { order: "oldest-first", limit: 9 }))).map(({ key, meta, order }) =>
          [order, key, meta].join(" "),
        );
      const rows = ["2 m2 changed", '3 m3 {"n":3}', '4 m4 {"n":4}', '5 m1 {"n":5}'];
      const sums = [
        ["a", 1, 6],
        ["b", 2, 15],
        ["c", 1, 9],
      ] as const;
      expect(await seen()).toEqual(rows);
      expect(await totals()).toEqual({ last: 5, groups: [...sums] });
      const stands = [
        [2, "a", 6],
        [3, "b", 7],
        [4, "b", 8],
        [5, "c", 9],
      ];
      expect(await index()).toEqual(stands);
      await reopen();
      expect(await index()).toEqual(stands);
      expect(await seen()).toEqual(rows);
      expect(await totals()).toEqual({ last: 5, groups: [...sums] });
      await run(store.commit([put("inbox", "m3", "shorter", bytes(1))]));
      expect((await index())[1]).toEqual([3, "b", 1]);
      expect((await totals()).groups).toEqual([sums[0], ["b", 2, 9], sums[2]]);
      expect(await ordersOn({ order: "newest-first", limit: 9, group: "b" })).toEqual([4, 3]);
      await reopen();
      expect((await totals()).groups).toEqual([sums[0], ["b", 2, 9], sums[2]]);
      expect(await ordersOn({ order: "newest-first", limit: 9, group: "b" })).toEqual([4, 3]);
    });

    test("a group is given anew with the same place, and what has no rows is no group any more", async () => {
      await run(store.commit([mail(1, "", 5), mail(2, "", 6)]));
      await reopen();
      const again = { ...mail(1, "late", 5), body: undefined } as unknown as StoreOp;
      await run(store.commit([again]));
      expect((await totals()).groups).toEqual([
        ["", 1, 6],
        ["late", 1, 5],
      ]);
      expect(await ordersOn({ order: "oldest-first", limit: 9, group: "" })).toEqual([2]);
      await reopen();
      expect(await ordersOn({ order: "oldest-first", limit: 9, group: "late" })).toEqual([1]);
      expect(await body("inbox", "m1")).toEqual(bytes(5));
      await run(store.commit([remove("inbox", "m1"), remove("inbox", "m2")]));
      expect(await totals()).toMatchObject({ groups: [] });
      await reopen();
      expect(await totals()).toEqual({ last: 0, groups: [] });
    });

    test("rows are answered by key, in the order asked for, and those that are not there are left out", async () => {
      await run(store.commit([mail(1, "a", 5), put("seen", "x", "1"), put("seen", "y", "2", bytes(4))]));
      await reopen();
      await run(store.commit([put("seen", "y", "3"), put("seen", "z", "4"), remove("seen", "x")]));
      const wanted = ["z", "x", "none", "y"];
      const rows = [
        { key: "z", meta: "4", bodyBytes: 0, order: 0, group: "" },
        { key: "y", meta: "3", bodyBytes: 4, order: 0, group: "" },
      ];
      expect(await run(store.rows("seen", wanted))).toEqual(rows);
      expect(await run(store.rows("seen", []))).toEqual([]);
      expect(await run(store.rows("inbox", ["m1"]))).toMatchObject([
        { key: "m1", bodyBytes: 5, order: 1, group: "a" },
      ]);
      await reopen();
      expect(await run(store.rows("seen", wanted))).toEqual(rows);
    });

    test("mail that is damaged is on no page and in no total, and a page has as many as it asked for all the same", async () => {
      await run(
        store.commit([put("inbox", "bad", "[[0,41]]"), ...[2, 3, 4, 5].map((order) => mail(order, "a", 5))]),
      );
      await run(store.close());
      await fixture.rot("inbox", "bad");
      store = await fixture.open();
      expect(await ordersOn({ order: "oldest-first", limit: 3 })).toEqual([2, 3, 4]);
      expect(store.state.damageCount).toBe(1);
      expect((await totals()).groups).toEqual([["a", 4, 20]]);
      await run(store.commit([{ op: "set-aside", in: "inbox", key: "m3" }]));
      expect((await totals()).groups).toEqual([["a", 3, 15]]);
      expect(await ordersOn({ order: "newest-first", limit: 9 })).toEqual([5, 4, 2]);
    });

    test("a full medium takes neither a place nor a count", async () => {
      await run(store.commit([mail(1, "a", 5)]));
      const full = fixture.full();
      const refused = store.commit([mail(2, "a", 5), ...full.ops]);
      const seen = store.totals("inbox");
      expect(await run(codeOf(refused))).toBe("GODWIT_STORE_FAILED");
      expect(await run(seen)).toEqual({ groups: [{ group: "a", count: 1, bytes: 5 }], last: 1 });
      full.end();
      await run(store.commit([mail(2, "a", 6)]));
      expect((await totals()).groups).toEqual([["a", 2, 11]]);
    });

    test("close finishes what was called, and what comes later is refused", async () => {
      const called = Array.from({ length: 400 }, (_, i) => store.commit([put("token", String(i), "{}")]));
      const closing = store.close();
      expect(store.close()).toBe(closing);
      expect(await run(codeOf(store.commit([put("token", "late", "{}")])))).toBe("GODWIT_STOPPED");
      await run(closing);
      await run(Promise.all(called));
      const late = [
        () => store.load("token"),
        () => store.body("token", "1"),
        () => store.usage(),
        () => store.rows("token", ["1"]),
        () => store.page("inbox", { order: "oldest-first", limit: 1 }),
        () => store.totals("inbox"),
        () => store.commit([]),
      ];
      for (const call of late) expect(await run(codeOf(call()))).toBe("GODWIT_STOPPED");
      store = await fixture.open();
      expect((await load("token")).length).toBe(400);
    });

    test("only one store at a time", async () => {
      expect(await codeOf(fixture.open())).toBe("GODWIT_STATE_UNUSABLE");
      await run(store.commit([put("peer", "still", "{}")]));
      await reopen();
      expect((await load("peer")).length).toBe(1);
    });

    test("what no caller may pass is a bug, not a row", async () => {
      const tooLong = "k".repeat(1_025);
      for (const op of [
        put("peer", tooLong, "{}"),
        put("peer", "\ud800", "{}"),
        put("peer", "k", "\udc00"),
        put("nowhere" as Collection, "k", "{}"),
        { ...put("peer", "k", "{}"), slot: { order: 1, group: "" } } as StoreOp,
        mail(0, "a", 1),
        mail(1.5, "a", 1),
        mail(1, "g".repeat(1_025), 1),
      ])
        expect(await codeOf(store.commit([op]))).toBe("GODWIT_BUG");
      expect(await codeOf(store.load("sqlite_schema" as Collection))).toBe("GODWIT_BUG");
      expect(await load("peer")).toEqual([]);
    });
  });
}
