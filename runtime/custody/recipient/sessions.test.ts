import { describe, expect, test } from "bun:test";
import { silentLog } from "../../kernel/log.ts";
import type { StoreOp } from "../../store/types.ts";
import type { CustodyContext, OpenedSession } from "../context.ts";
import { testId } from "../testing.ts";
import { ReceivedSessions } from "./sessions.ts";

const SENDERS = 600;

const inner = { mailEpoch: new Uint8Array(8), counter: 0, createdAtMs: 0, to: "LON-B" };

const sessionOf = (n: number): OpenedSession => ({
  id: new Uint8Array([n >> 8, n & 255, 0, 0, 0, 0, 0, 0]),
  keyId: 1,
  keys: { root: new Uint8Array(32).fill(n), key: () => new Uint8Array(32) },
  callsign: undefined,
  context: undefined,
  contextId: () => new Uint8Array([n >> 8, n & 255, 9, 9, 9, 9, 9, 9]),
  receiptCode: () => new Uint8Array(8),
});

test("a crowd of senders that comes in one moment leaves each its session, and a commit that fails none", () => {
  const sealer = { keyFor: () => undefined };
  const sessions = new ReceivedSessions({ sealer, log: silentLog } as unknown as CustodyContext);
  const crowd = Array.from({ length: SENDERS }, (_, n) => ({ from: testId(`s${n}`), session: sessionOf(n) }));
  const keepAll = () => {
    for (const { from, session } of crowd) sessions.note(from, session);
    return crowd.flatMap(({ from, session }) =>
      sessions.keep(from, session, { by: from, isKnown: true }, inner),
    );
  };
  expect(keepAll().length).toBe(SENDERS);
  for (const { from, session } of crowd) sessions.undo(from, session);
  expect(sessions.count).toBe(0);
  expect(keepAll().length).toBe(SENDERS);
  for (const { from, session } of crowd) sessions.kept(from, session);
  for (const { from, session } of crowd) sessions.undo(from, session);
  expect(sessions.count).toBe(SENDERS);
});

describe("what later messages leave out", () => {
  const from = testId("sender");
  const share = { by: from, isKnown: true } as const;
  const contextOf = (n: number) => ({ ...inner, counter: n });
  const nameOf = (n: number) => sessionOf(n).contextId({ ...inner, createdAtS: 0 });

  function open(rows: readonly { readonly key: string; readonly meta: string }[] = []) {
    const disk = new Map(rows.map(({ key, meta }) => [key, meta]));
    const apply = (ops: readonly StoreOp[]) => {
      for (const op of ops) {
        if (op.op === "put") disk.set(op.key, op.meta);
        else disk.delete(op.key);
      }
    };
    const store = {
      load: async () => [...disk].map(([key, meta]) => ({ key, meta })),
      commit: async (ops: readonly StoreOp[]) => apply(ops),
    };
    const sealer = {
      keyFor: () => undefined,
      sessions: {
        keysOf: (root: Uint8Array) => ({ root, key: () => new Uint8Array(32) }),
        holdsPrekey: () => true,
        onPrekeysGone() {},
      },
    };
    const regard = { isKnown: () => true, shareOf: () => share };
    const sessions = new ReceivedSessions({
      store,
      regard,
      sealer,
      log: silentLog,
    } as unknown as CustodyContext);
    const keep = (n: number) => {
      apply(sessions.keep(from, sessionOf(n), share, contextOf(n)));
      sessions.kept(from, sessionOf(n));
    };
    return { sessions, keep, rows: () => [...disk].map(([key, meta]) => ({ key, meta })) };
  }

  test("is found by its name after a restart, and not where a row has none or a damaged one", async () => {
    const { keep, rows } = open();
    for (const n of [1, 2, 3]) keep(n);
    const [whole, cut, older] = rows() as [
      { key: string; meta: string },
      { key: string; meta: string },
      { key: string; meta: string },
    ];
    const { sessions } = open([
      whole,
      { ...cut, meta: cut.meta.slice(0, -12) },
      { ...older, meta: older.meta.split(" ").slice(0, 3).join(" ") },
    ]);
    await sessions.load();
    expect(sessions.count).toBe(3);
    expect([1, 2, 3].map((n) => sessions.find(from, nameOf(n))?.context)).toEqual([
      { mailEpoch: inner.mailEpoch, counter: 1, createdAtS: 0, to: "LON-B" },
      undefined,
      undefined,
    ]);
    // By the session's own name it is there, and leaves nothing out.
    expect([1, 2, 3].map((n) => sessions.find(from, sessionOf(n).id)?.context)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(sessions.find(testId("another"), nameOf(1))).toBeUndefined();
  });

  test("goes with its session, and is that of the one message that this was kept with", () => {
    const { sessions, keep, rows } = open();
    for (let n = 1; n <= 40; n++) keep(n);
    // Of one sender 32 are kept, and of the others no name is left.
    expect([sessions.count, rows().length]).toEqual([32, 32]);
    for (let n = 1; n <= 40; n++) {
      expect(sessions.find(from, nameOf(n)) === undefined).toBe(n <= 8);
      expect(sessions.has(from, { id: nameOf(n) })).toBe(n > 8);
      expect(sessions.isKeptWith(from, sessionOf(n), contextOf(n))).toBe(n > 8);
    }
    expect(
      sessions.isKeptWith(from, { ...sessionOf(9), contextId: () => new Uint8Array(8) }, contextOf(9)),
    ).toBe(false);
    // A message that only names it keeps nothing anew.
    const named = { ...sessionOf(9), id: nameOf(9), keyId: undefined };
    expect(sessions.keep(from, named, share, contextOf(99))).toEqual([]);
    expect(sessions.isKeptWith(from, named, contextOf(9))).toBe(false);
  });
});

test.each([
  ["a stranger", false, 4],
  ["a known node", true, 32],
])("%s has only so many sessions here: its oldest gives way to its next", (_who, isKnown, most) => {
  const sealer = { keyFor: () => undefined };
  const sessions = new ReceivedSessions({ sealer, log: silentLog } as unknown as CustodyContext);
  const from = testId("sender");
  for (let n = 0; n < 40; n++) {
    sessions.note(from, sessionOf(n));
    sessions.keep(from, sessionOf(n), { by: from, isKnown }, inner);
    sessions.kept(from, sessionOf(n));
  }
  expect(sessions.count).toBe(most);
});
