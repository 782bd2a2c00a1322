import { expect, test } from "bun:test";
import { silentLog } from "../../kernel/log.ts";
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
