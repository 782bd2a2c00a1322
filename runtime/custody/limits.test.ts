/** Limits that an operator changes while the node runs: what comes next is measured by the new ones, what was accepted stays. */
import { expect, test } from "bun:test";
import type { CustodyLimits } from "./context.ts";
import { TestMesh, type TestNode, texts } from "./testing.ts";

type Limits = { -readonly [Key in keyof CustodyLimits]: CustodyLimits[Key] };
/** Those of the configuration. */
type Changed = Exclude<
  keyof CustodyLimits,
  | "senderShare"
  | "historyMessagesMax"
  | "laneAwakeMax"
  | "laneUnreachableMax"
  | "reofferFirstMs"
  | "reofferCapMs"
>;

const KIB = 1_024;
const DAY_MS = 86_400_000;
const change = (node: TestNode, limits: Partial<Limits>) => void Object.assign(node.limits, limits);
const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => "accepted",
    (error: { code: string }) => error.code,
  );

async function line(limits: Partial<CustodyLimits>, of: "sender" | "relay" | "recipient") {
  const mesh = new TestMesh();
  const nodes = (await mesh.line(["a", "b", "c"], limits)) as [TestNode, TestNode, TestNode];
  const [a, b, c] = nodes;
  if (of === "relay") mesh.cut(b, c);
  if (of === "sender") mesh.cut(a, b);
  return { mesh, a, b, c, many: (count: number, bytes = 1) => sendMany(a, c, count, bytes) };
}

async function sendMany(a: TestNode, c: TestNode, count: number, bytes: number): Promise<void> {
  for (let i = 0; i < count; i++) await a.send(c.id, new Uint8Array(bytes));
  await a.mesh.clock.advance(20_000);
}

const seen: Readonly<Record<Changed, () => Promise<void>>> = {
  async outboxMessagesMax() {
    const { a, c } = await line({ outboxMessagesMax: 1 }, "sender");
    await a.send(c.id, "1");
    expect(await refusal(a.send(c.id, "2"))).toBe("GODWIT_QUEUE_FULL");
    change(a, { outboxMessagesMax: 3 });
    await a.send(c.id, "2");
    await a.send(c.id, "3");
    change(a, { outboxMessagesMax: 1 });
    expect(await refusal(a.send(c.id, "4"))).toBe("GODWIT_QUEUE_FULL");
    expect(a.custody!.outbox.openCount).toBe(3);
    expect(a.custody!.fills.find(({ of }) => of === "outbox")?.countMax).toBe(1);
  },
  async outboxBytesMax() {
    const { a, c } = await line({ outboxBytesMax: KIB }, "sender");
    expect(await refusal(a.send(c.id, new Uint8Array(2 * KIB)))).toBe("GODWIT_QUEUE_FULL");
    change(a, { outboxBytesMax: 4 * KIB });
    await a.send(c.id, new Uint8Array(2 * KIB));
  },
  async transitMessagesMax() {
    const { b, many } = await line({ transitMessagesMax: 4 }, "relay");
    await many(6);
    expect(b.custody!.transit.count).toBe(2);
    change(b, { transitMessagesMax: 20 });
    await many(0);
    expect(b.custody!.transit.count).toBe(6);
    change(b, { transitMessagesMax: 0 });
    await many(2);
    expect(b.custody!.transit.count).toBe(6);
  },
  async transitBytesMax() {
    const { b, many } = await line({ transitBytesMax: 4 * KIB }, "relay");
    await many(3, 3 * KIB);
    expect(b.custody!.transit.count).toBe(0);
    change(b, { transitBytesMax: 1_024 * KIB });
    await many(0);
    expect(b.custody!.transit.count).toBe(3);
  },
  async neighbourShare() {
    const { b, many } = await line({ transitMessagesMax: 10, neighbourShare: 0.2 }, "relay");
    await many(4);
    expect(b.custody!.transit.count).toBe(2);
    change(b, { neighbourShare: 0.4 });
    await many(0);
    expect(b.custody!.transit.count).toBe(4);
  },
  async inboxMessagesMax() {
    const { a, c, many } = await line({ inboxMessagesMax: 4 }, "recipient");
    await many(5);
    expect(c.custody!.inbox.count).toBe(2);
    change(c, { inboxMessagesMax: 20 });
    await a.mesh.clock.advance(3_600_000);
    expect(c.custody!.inbox.count).toBe(5);
    expect(c.custody!.fills.find(({ of }) => of === "inbox")?.countMax).toBe(20);
  },
  async inboxBytesMax() {
    const { a, c, many } = await line({ inboxBytesMax: 4 * KIB }, "recipient");
    await many(2, 3 * KIB);
    expect(c.custody!.inbox.count).toBe(1);
    change(c, { inboxBytesMax: 64 * KIB });
    await a.mesh.clock.advance(3_600_000);
    expect(c.custody!.inbox.count).toBe(2);
  },
  async inboxRetentionMs() {
    const { a, c, many } = await line({ inboxRetentionMs: 30 * DAY_MS }, "recipient");
    await many(1);
    await a.mesh.clock.advance(2 * DAY_MS);
    expect(c.custody!.inbox.count).toBe(1);
    change(c, { inboxRetentionMs: DAY_MS });
    await a.mesh.clock.advance(DAY_MS);
    expect(c.custody!.inbox.count).toBe(0);
  },
  async lifetimeDefaultMs() {
    const { a, c } = await line({ lifetimeDefaultMs: DAY_MS }, "sender");
    const before = await a.send(c.id, "before");
    change(a, { lifetimeDefaultMs: 60_000 });
    const after = await a.send(c.id, "after");
    await a.mesh.clock.advance(120_000);
    expect([a.sent(before)?.state, a.sent(after)?.state]).toEqual(["queued", "expired"]);
  },
  async overdueAfterMs() {
    const { a, c } = await line({ overdueAfterMs: DAY_MS }, "sender");
    await a.send(c.id, "x");
    await a.mesh.clock.advance(600_000);
    expect(a.custody!.outbox.awake.overdue).toEqual([]);
    change(a, { overdueAfterMs: 60_000 });
    await a.mesh.clock.advance(10_000);
    expect(a.custody!.outbox.awake.overdue).toMatchObject([{ whom: c.id }]);
  },
  async failoverDelayMs() {
    const { a, c } = await line({ failoverDelayMs: 60_000 }, "sender");
    change(a, { failoverDelayMs: 5_000 });
    expect(a.sent(await a.send(c.id, "x"))?.failoverDelayMs).toBe(5_000);
  },
};

for (const [name, check] of Object.entries(seen))
  test(`${name} holds for what comes from the moment on that it is another`, check);

test("a smaller box takes nothing back", async () => {
  const { b, c, many, mesh } = await line({}, "relay");
  await many(5);
  change(b, { transitMessagesMax: 1, transitBytesMax: 1 });
  mesh.connect(b, c);
  await mesh.clock.advance(20_000);
  expect(texts(c)).toHaveLength(5);
});
