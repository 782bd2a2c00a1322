/** Receipts that a session proves, over slow ways, and signed ones in their place: docs/protocol/delivery.md "Receipts of a session". */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { Hub } from "../kernel/hub.ts";
import type { BundleId, MessageId, NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { type Bundle, BundleKind, decodeBundleFrame, encodeBundleFrame, makeBundle } from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import {
  decodeReceiptBody,
  decodeReceiptsWanted,
  decodeSessionReceipts,
  encodeReceiptsWanted,
  encodeSessionReceipts,
  receiptSaid,
  type Receipt,
  ReceiptStatus,
  type SessionReceipt,
} from "../wire/message.ts";
import type { Carrier, CustodyLimits } from "./context.ts";
import { REQUESTS_OF_SENDER } from "./recipient/requests.ts";
import { OutboxEntries } from "./source/entries.ts";
import type {
  Live,
  OutboxEntry,
  OutboxEvents,
  ProvenReceipt,
  StoredReceipt,
  Target,
} from "./source/entry.ts";
import { SessionReceipts } from "./source/session-receipts.ts";
import {
  BUNDLES_AT_ONCE,
  FIRST_PAUSE_MS,
  PAUSE_MAX_MS,
  SignedWanted,
  type SignedWantedParts,
  TRIES_MAX,
  WANTED_MAX,
} from "./source/signed-wanted.ts";
import { COMMIT_MS, sendNumbers, stateOf, testId, texts, type TestNode } from "./testing.ts";
import { receiptBundle, SealingMesh } from "./testing-sessions.ts";

const LINE_MS = 300;

async function line(
  names: readonly string[],
  limits: Partial<CustodyLimits> = {},
): Promise<{ mesh: SealingMesh; nodes: TestNode[] }> {
  const mesh = new SealingMesh();
  const nodes = await mesh.sealingLine(names, limits);
  const ends = [nodes[0]!, nodes.at(-1)!];
  for (const one of ends) for (const other of ends) if (one !== other) one.known.add(other.id);
  for (const node of nodes) setSlow(node, true);
  return { mesh, nodes };
}

async function pair(): Promise<{ mesh: SealingMesh; a: TestNode; b: TestNode }> {
  const { mesh, nodes } = await line(["a", "b"]);
  return { mesh, a: nodes[0]!, b: nodes[1]! };
}

const setSlow = (node: TestNode, isSlow: boolean): void => void (node.takesBulk = () => !isSlow);

function makeFast(...nodes: readonly TestNode[]): void {
  for (const node of nodes) setSlow(node, false);
  for (const node of nodes) node.reroute();
}

/** What shows the receipt of a message. */
function proofOf(node: TestNode, id: string): "signature" | "session" | "lost" | "none" {
  const receipt = node.sent(id)?.receipt;
  if (receipt === null || receipt === undefined) return "none";
  return receipt.isSession ? "session" : receipt.proof === undefined ? "lost" : "signature";
}

interface Seen {
  readonly bundle: Bundle;
  /** Undefined: they are signed. */
  readonly inSession: readonly SessionReceipt[] | undefined;
  readonly count: number;
}

/** Bundles of that kind that the node itself made, in order, each once. */
function made(mesh: SealingMesh, node: TestNode, kind: number): Bundle[] {
  const bundles = new Map<string, Bundle>();
  for (const { from, type, bytes } of mesh.log) {
    if (from !== node.name || type !== FrameType.bundle) continue;
    const { bundle } = decodeBundleFrame(bytes);
    if (bundle.header.kind === kind && bundle.header.source === node.id) bundles.set(bundle.id, bundle);
  }
  return [...bundles.values()];
}

const receiptsOf = (mesh: SealingMesh, node: TestNode): Seen[] =>
  made(mesh, node, BundleKind.receipt).map((bundle) => {
    const inSession = decodeSessionReceipts(bundle.sealed);
    return { bundle, inSession, count: (inSession ?? decodeReceiptBody(bundle.sealed).receipts).length };
  });

const formsOf = (seen: readonly Seen[]) =>
  seen.map(({ inSession }) => (inSession === undefined ? "signed" : "session"));

const requestsOf = (mesh: SealingMesh, node: TestNode): number => made(mesh, node, BundleKind.system).length;

/** A frame with a signed receipt of that message and bundle. */
function signed(by: TestNode, to: TestNode, messageId: MessageId, bundleId: BundleId): Uint8Array {
  const said = { status: ReceiptStatus.delivered, messageId, bundleId };
  const receipt = { ...said, atMs: 1_800_000_000_000, isUnconfirmed: false, trace: [] };
  const bundle = receiptBundle(by, to, receipt);
  return encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] });
}

/** As the bundle of receipts that `by` would have made, brought to `to` by a neighbour. */
async function bring(
  to: TestNode,
  neighbour: TestNode,
  by: NodeId,
  receipts: readonly SessionReceipt[],
): Promise<void> {
  const header = {
    kind: BundleKind.receipt,
    priority: 1,
    source: by,
    destination: to.id,
    lifetimeMs: 60_000,
  } as const;
  const bundle = makeBundle(header, encodeSessionReceipts(receipts));
  to.receive(neighbour.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
  await to.mesh.clock.advance(50);
}

/** The receipt that the recipient of that message would give, made with what only its source knows. */
function honest(source: TestNode, id: MessageId, change: Partial<SessionReceipt> = {}): SessionReceipt {
  const { bundle, session } = source.sent(id)!.targets[0]!;
  const said = {
    ...{ reference: bundle.slice(0, 8), status: ReceiptStatus.delivered, flags: 0, atS: 1_800_000_001 },
    ...change,
  };
  const code = source.sealer.sessions!.receiptCode(session!.key, receiptSaid(said, bundle));
  return { ...said, code, ...(change.code === undefined ? {} : { code: change.code }) };
}

describe("over a slow way", () => {
  test("the session proves the delivery, in 19 bytes, and goes on", async () => {
    const { mesh, a, b } = await pair();
    const one = await a.send(b.id, "one");
    await mesh.clock.advance(LINE_MS);
    const two = await a.send(b.id, "two");
    await mesh.clock.advance(LINE_MS);
    const seen = receiptsOf(mesh, b);
    expect(formsOf(seen)).toEqual(["session", "session"]);
    expect(seen.map(({ bundle }) => bundle.sealed.length)).toEqual([19, 19]);
    expect([one, two].map((id) => [stateOf(a, id), proofOf(a, id)])).toEqual([
      ["delivered", "session"],
      ["delivered", "session"],
    ]);
    const { receipt, deliveredAtMs, targets } = a.sent(one)!;
    const [{ entry }] = b.delivered as [TestNode["delivered"][number]];
    expect([receipt!.by, receipt!.atMs, receipt!.trace]).toEqual([
      b.id,
      Math.floor(entry.deliveredAtMs / 1_000) * 1_000,
      [],
    ]);
    expect([deliveredAtMs, targets[0]!.session]).toEqual([receipt!.atMs, undefined]);
    // It proves the session as a signed one does.
    expect(made(mesh, a, BundleKind.message).map(({ sealed }) => sealed[0])).toEqual([3, 4]);
    expect(a.states.filter((state) => state === "delivered").length).toBe(2);
  });

  test("it is a signed one for what came in no session, and where another way is fit", async () => {
    const { mesh, a, b } = await pair();
    for (const node of [a, b]) mesh.of(node).capabilities = [];
    const one = await a.send(b.id, "older");
    await mesh.clock.advance(LINE_MS);
    for (const node of [a, b]) mesh.of(node).capabilities = ["mail-sessions"];
    makeFast(b);
    const two = await a.send(b.id, "session");
    await mesh.clock.advance(LINE_MS);
    expect([formsOf(receiptsOf(mesh, b)), proofOf(a, one), proofOf(a, two)]).toEqual([
      ["signed", "signed"],
      "signature",
      "signature",
    ]);
  });

  test("sixteen of a moment share a bundle of 274 bytes; signed they are 1,953", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "first");
    await mesh.clock.advance(LINE_MS);
    const bytesOfSixteen = async () => {
      const before = receiptsOf(mesh, b).length;
      const ids = await sendNumbers(a, b.id, 48);
      await mesh.clock.advance(1_000);
      expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
      const seen = receiptsOf(mesh, b).slice(before);
      return seen.find(({ count }) => count === 16)!.bundle.sealed.length;
    };
    expect(await bytesOfSixteen()).toBe(2 + 16 * 17);
    makeFast(b);
    expect(await bytesOfSixteen()).toBe(1_953);
  });

  test("one that is lost comes again with the message, the same, also after a restart of either end", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "first");
    await mesh.clock.advance(LINE_MS);
    const isReceipt = (bytes: Uint8Array) =>
      decodeBundleFrame(bytes).bundle.header.kind === BundleKind.receipt;
    // Acknowledged by whoever drops it: the recipient has nothing left to send again.
    mesh.filter = ({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle || !isReceipt(bytes)) return true;
      const ack = Buffer.concat([
        Buffer.of(FrameType.custodyAck),
        Buffer.from(decodeBundleFrame(bytes).bundle.id, "hex"),
      ]);
      b.receive(a.id, ack);
      return false;
    };
    const id = await a.send(b.id, "again");
    await mesh.clock.advance(LINE_MS);
    expect([stateOf(a, id), texts(b)]).toEqual(["relayed", ["first", "again"]]);
    await mesh.restart(a);
    await mesh.clock.advance(LINE_MS);
    await mesh.restart(b);
    mesh.filter = () => true;
    await mesh.clock.advance(60_000);
    expect([stateOf(a, id), proofOf(a, id), texts(b).length]).toEqual(["delivered", "session", 2]);
    const codes = receiptsOf(mesh, b).flatMap(({ inSession }) => inSession ?? []);
    expect(new Set(codes.slice(1).map(({ code }) => Buffer.from(code).toString("hex"))).size).toBe(1);
  });

  test("what was sealed anew meanwhile is answered by a signed one: its source has no key of what was delivered", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "first");
    await mesh.clock.advance(LINE_MS);
    mesh.filter = ({ from }) => from !== "b";
    const id = await a.send(b.id, "anew");
    await mesh.clock.advance(LINE_MS);
    const before = a.sent(id)!.targets[0]!.bundle;
    a.custody!.outbox.onRevoked(b.id);
    mesh.filter = () => true;
    await mesh.clock.advance(60_000);
    expect([stateOf(a, id), texts(b).length]).toEqual(["delivered", 2]);
    expect(a.sent(id)!.targets[0]!.bundle).not.toBe(before);
    expect([proofOf(a, id), formsOf(receiptsOf(mesh, b)).at(-1)]).toEqual(["signature", "signed"]);
  });

  test("a machine of a location that could not ask the others says unconfirmed, and no other is taken for it", async () => {
    const { mesh, nodes } = await line(["a", "b", "c"], { failoverDelayMs: 10_000 });
    const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
    a.names.set("LOC", [b.id, c.id]);
    // Once the session with it is kept.
    await a.send(b.id, "first");
    await mesh.clock.advance(LINE_MS);
    c.crash();
    const id = await a.send("LOC", "unconfirmed");
    await mesh.clock.advance(9_000);
    const bundles: Bundle[] = [];
    mesh.filter = ({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle) return true;
      const { bundle } = decodeBundleFrame(bytes);
      if (bundle.header.kind === BundleKind.receipt) bundles.push(bundle);
      return bundle.header.kind !== BundleKind.receipt;
    };
    await mesh.clock.advance(2_000);
    const [receipt] = decodeSessionReceipts(bundles.at(-1)!.sealed)!;
    expect([receipt!.flags, stateOf(a, id)]).toEqual([3, "relayed"]);
    await bring(a, b, c.id, [receipt!]);
    expect(stateOf(a, id)).toBe("relayed");
    const bundleOfC = a.sent(id)!.targets[1]!.bundle;
    await bring(a, b, b.id, [receipt!]);
    const kept = a.sent(id)!.receipt!;
    expect([stateOf(a, id), kept.by, kept.isUnconfirmed, proofOf(a, id)]).toEqual([
      "delivered",
      b.id,
      true,
      "session",
    ]);
    // Nor does the signature of another take its place.
    a.receive(b.id, signed(c, a, id, bundleOfC));
    await mesh.clock.advance(50);
    expect(a.sent(id)!.receipt).toEqual(kept);
  });

  test("mail that waits for its receipt on the disk alone is found there", async () => {
    const mesh = new SealingMesh();
    const [a, b] = (await mesh.sealingLine(["a", "b"], { laneAwakeMax: 8 })) as [TestNode, TestNode];
    for (const node of [a, b]) setSlow(node, true);
    b.known.add(a.id);
    await a.send(b.id, "first");
    await mesh.clock.advance(LINE_MS);
    const held: (() => void)[] = [];
    mesh.filter = ({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle) return true;
      held.push(() => a.receive(b.id, bytes));
      return false;
    };
    const ids = await sendNumbers(a, b.id, 40);
    // What is to be written late is in memory until then.
    await mesh.clock.advance(11_000);
    const parked = ids.filter((id) => a.custody!.outbox.peek(id) === undefined);
    expect([texts(b).length, parked.length > 20]).toEqual([41, true]);
    mesh.filter = () => true;
    for (const release of held.splice(0)) release();
    await mesh.clock.advance(500);
    expect(ids.map((id) => [stateOf(a, id), proofOf(a, id)])).toEqual(
      ids.map(() => ["delivered", "session"]),
    );
  });
});

describe("nothing is believed but what was delivered", () => {
  async function waiting() {
    const { mesh, nodes } = await line(["a", "b", "c"]);
    const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const ids = [await a.send(c.id, "one"), await a.send(c.id, "two")] as const;
    await mesh.clock.advance(LINE_MS);
    const states = () => ids.map((id) => stateOf(a, id));
    expect(states()).toEqual(["relayed", "relayed"]);
    return { mesh, a, b, c, ids, states };
  }

  test("forged codes, codes of other bundles, other words and other signers change nothing", async () => {
    const { a, b, c, ids, states } = await waiting();
    const [one, two] = ids.map((id) => honest(a, id)) as [SessionReceipt, SessionReceipt];
    const bent = (at: number) => one.code.map((byte, index) => (index === at ? byte ^ 1 : byte));
    const forged: [NodeId, SessionReceipt][] = [
      [c.id, { ...one, code: new Uint8Array(8) }],
      [c.id, { ...one, code: bent(0) }],
      [c.id, { ...one, code: bent(7) }],
      [c.id, { ...one, code: two.code }],
      [c.id, { ...two, code: one.code }],
      [c.id, { ...one, flags: 1 }],
      [c.id, { ...one, atS: one.atS + 1 }],
      [c.id, { ...one, reference: two.reference }],
      [b.id, one],
      [c.id, honest(a, ids[0], { status: ReceiptStatus.refused })],
      [c.id, honest(a, ids[0], { status: ReceiptStatus.sessionUnknown })],
      [c.id, honest(a, ids[0], { status: 0 })],
    ];
    const before = ids.map((id) => a.sent(id)!.targets[0]!.bundle);
    for (const [by, receipt] of forged) await bring(a, b, by, [receipt]);
    await bring(
      a,
      b,
      c.id,
      forged.filter(([by]) => by === c.id).map(([, receipt]) => receipt),
    );
    expect([states(), a.protocolErrors]).toEqual([["relayed", "relayed"], []]);
    expect(ids.map((id) => a.sent(id)!.targets[0]!.bundle)).toEqual(before);
    // And the honest one, among them, is.
    await bring(a, b, c.id, [forged[1]![1], one, forged[4]![1]]);
    expect([states(), proofOf(a, ids[0])]).toEqual([["delivered", "relayed"], "session"]);
  });

  test("two open bundles that begin alike are told apart by the code", async () => {
    const { mesh, a, c, ids } = await waiting();
    const beginning = "0a0b0c0d";
    const [first, second] = ids.map((id, order): Live => {
      const entry = a.custody!.outbox.peek(id)!;
      const [target] = entry.targets as [Target];
      const bundle = (beginning + target.bundle.slice(8)) as BundleId;
      return { entry: { ...entry, targets: [{ ...target, bundle }] }, order };
    }) as [Live, Live];
    const entries = new OutboxEntries();
    for (const live of [first, second]) entries.add(live);
    const { sealer, store } = a as { sealer: TestNode["sealer"]; store: NonNullable<TestNode["store"]> };
    const reading = new SessionReceipts({ sealer, store, clock: mesh.clock }, entries);
    const told = ({ entry }: Live): SessionReceipt => {
      const { bundle, session } = entry.targets[0]!;
      const said = { reference: beginning, status: ReceiptStatus.delivered, flags: 0, atS: 1 };
      return { ...said, code: sealer.sessions!.receiptCode(session!.key, receiptSaid(said, bundle)) };
    };
    const provenOf = (...lives: Live[]) =>
      [...reading.proven(c.id, lives.map(told)).values()].map(({ receipt }) => receipt.messageId);
    expect([provenOf(first), provenOf(second), provenOf(second, first)]).toEqual([
      [ids[0]],
      [ids[1]],
      [ids[1], ids[0]],
    ]);
    entries.delete(ids[0]);
    expect([provenOf(first), provenOf(second)]).toEqual([[], [ids[1]]]);
    expect([first, second].map(({ entry }) => entries.isOwn(entry.targets[0]!.bundle))).toEqual([
      false,
      true,
    ]);
    entries.dropTargets(second.entry);
    entries.delete(ids[1]);
    expect(entries.beginning(beginning)).toEqual([]);
  });

  test("a signed one that came first stays, or comes back", async () => {
    const { mesh, a, b, c, ids } = await waiting();
    const bundle = a.sent(ids[0])!.targets[0]!.bundle;
    const short = honest(a, ids[0]);
    // Both before the first is durable.
    a.receive(b.id, signed(c, a, ids[0], bundle));
    await mesh.clock.advance(COMMIT_MS - 2);
    expect(a.disk.rows("outbox").get(ids[0])!.meta).not.toContain('"q"');
    await bring(a, b, c.id, [short]);
    await mesh.clock.advance(100);
    expect([stateOf(a, ids[0]), proofOf(a, ids[0])]).toEqual(["delivered", "signature"]);
  });

  test("a replayed one tells of its message once, and of no other", async () => {
    const { mesh, a, b, c, ids } = await waiting();
    const one = honest(a, ids[0]);
    for (const _ of [1, 2, 3]) await bring(a, b, c.id, [one, one]);
    const { receipt } = a.sent(ids[0])!;
    await mesh.restart(a);
    await bring(a, b, c.id, [one]);
    expect(ids.map((id) => stateOf(a, id))).toEqual(["delivered", "relayed"]);
    expect(a.sent(ids[0])!.receipt).toEqual(receipt);
    expect(a.states.filter((state) => state === "delivered").length).toBe(1);
  });

  test("a message that has ended has no key left to prove by", async () => {
    const { a, b, c, ids } = await waiting();
    const one = honest(a, ids[0]);
    await a.settle(a.custody!.outbox.withdraw(ids[0]));
    await bring(a, b, c.id, [one]);
    expect(stateOf(a, ids[0])).toBe("withdrawn");
  });
});

describe("a signed one", () => {
  test("is asked for once the way is fit, comes, and takes the place of the other for good", async () => {
    const { mesh, a, b } = await pair();
    const ids = [await a.send(b.id, "one"), await a.send(b.id, "two")];
    await mesh.clock.advance(10 * FIRST_PAUSE_MS);
    // As long as only slow links lead there nothing is asked.
    expect([requestsOf(mesh, a), ids.map((id) => proofOf(a, id))]).toEqual([0, ["session", "session"]]);
    const told = a.states.length;
    makeFast(a, b);
    await mesh.clock.advance(LINE_MS);
    expect([requestsOf(mesh, a), ids.map((id) => proofOf(a, id))]).toEqual([1, ["signature", "signature"]]);
    expect(a.states.slice(told)).toEqual(["delivered", "delivered"]);
    expect(a.sent(ids[0]!)!.receipt!.trace.length).toBeGreaterThan(0);
    await mesh.restart(a);
    await mesh.clock.advance(10 * FIRST_PAUSE_MS);
    expect([requestsOf(mesh, a), ids.map((id) => proofOf(a, id))]).toEqual([1, ["signature", "signature"]]);
  });

  test("is asked for again when the answer is lost, and when its recipient was slow or restarted; never after a restart here", async () => {
    const { mesh, a, b } = await pair();
    const id = await a.send(b.id, "one");
    await mesh.clock.advance(LINE_MS);
    makeFast(a);
    await mesh.clock.advance(FIRST_PAUSE_MS + LINE_MS);
    // Its own way back is slow yet: it answers nothing.
    expect([requestsOf(mesh, a), proofOf(a, id)]).toEqual([1, "session"]);
    await mesh.restart(b);
    makeFast(b);
    await mesh.clock.advance(2 * FIRST_PAUSE_MS + LINE_MS);
    expect([requestsOf(mesh, a), proofOf(a, id)]).toEqual([2, "signature"]);

    setSlow(a, true);
    setSlow(b, true);
    const another = await a.send(b.id, "two");
    await mesh.clock.advance(LINE_MS);
    await mesh.restart(a);
    makeFast(a, b);
    await mesh.clock.advance(10 * FIRST_PAUSE_MS);
    expect([requestsOf(mesh, a), proofOf(a, another)]).toEqual([2, "session"]);
  });

  test("is given up after a few tries", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(LINE_MS);
    makeFast(a);
    for (let hour = 0; hour < 24; hour++) {
      await mesh.clock.advance(3_600_000);
      a.reroute();
    }
    expect(requestsOf(mesh, a)).toBe(TRIES_MAX);
  });

  test("is not given for somebody else's message, nor for one that was not delivered", async () => {
    const { mesh, nodes } = await line(["a", "c", "b"]);
    const [a, c, b] = nodes as [TestNode, TestNode, TestNode];
    b.known.add(c.id);
    const id = await a.send(b.id, "of a");
    await mesh.clock.advance(LINE_MS);
    makeFast(b, c);
    const before = receiptsOf(mesh, b).length;
    const ask = (ids: readonly MessageId[]) =>
      c.settle(c.custody!.sendSystem(b.id, encodeReceiptsWanted(ids), 60_000));
    await ask([id, "ab".repeat(16) as MessageId]);
    await mesh.clock.advance(LINE_MS);
    expect([receiptsOf(mesh, b).length, b.system.length]).toEqual([before, 0]);
    const own = await c.send(b.id, "of c");
    await mesh.clock.advance(LINE_MS);
    await ask([id, own, own]);
    await mesh.clock.advance(LINE_MS);
    const answers = receiptsOf(mesh, b).slice(before + 1);
    expect(answers.map(({ bundle, count }) => [bundle.header.destination, count])).toEqual([[c.id, 1]]);
  });

  test("is not asked for in a flood: so many answers, whatever comes", async () => {
    const { mesh, a, b } = await pair();
    const ids = await sendNumbers(a, b.id, 16);
    await mesh.clock.advance(1_000);
    makeFast(b);
    let answers = 0;
    const { rows } = b.store!;
    b.store!.rows = (collection, keys) => {
      if (collection === "receipt") answers++;
      return rows.call(b.store, collection, keys);
    };
    for (let i = 0; i < 200; i++) void a.custody!.sendSystem(b.id, encodeReceiptsWanted(ids), 60_000);
    await mesh.clock.advance(1_000);
    expect(answers).toBeGreaterThanOrEqual(REQUESTS_OF_SENDER.burst);
    expect(answers).toBeLessThanOrEqual(REQUESTS_OF_SENDER.burst + 2 * REQUESTS_OF_SENDER.perSecond);
    expect(b.system.length).toBe(0);
  });

  test("does not replace one of another bundle, or of another node", async () => {
    const { mesh, nodes } = await line(["a", "b", "c"]);
    const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
    const id = await a.send(c.id, "one");
    const other = await a.send(c.id, "two");
    await mesh.clock.advance(LINE_MS);
    expect(proofOf(a, id)).toBe("session");
    const { receipt } = a.sent(id)!;
    for (const [by, bundle] of [
      [b, a.sent(id)!.targets[0]!.bundle],
      [c, a.sent(other)!.targets[0]!.bundle],
      [c, "cd".repeat(16) as BundleId],
    ] as const) {
      a.receive(b.id, signed(by, a, id, bundle));
      await mesh.clock.advance(50);
      expect(a.sent(id)!.receipt).toEqual(receipt);
    }
    a.receive(b.id, signed(c, a, id, a.sent(id)!.targets[0]!.bundle));
    await mesh.clock.advance(50);
    expect(proofOf(a, id)).toBe("signature");
  });
});

describe("what waits for signed receipts", () => {
  const [self, recipient] = [testId("a"), testId("b")];
  const idOf = (n: number) => n.toString(16).padStart(32, "0") as MessageId;
  const bundleOf = (n: number) => idOf(n) as string as BundleId;

  /** Messages of whose rows nothing is known but what replacing a receipt looks at. */
  function open(count: number) {
    const clock = new ManualClock();
    const asked: (readonly MessageId[])[] = [];
    const told: OutboxEntry[] = [];
    const committed: OutboxEntry[] = [];
    const state = { uses: 0, isOwn: true, fails: false };
    const carrier: Pick<Carrier, "nextHop" | "isSlow"> = {
      nextHop: () => ({ kind: "forward", to: recipient }),
      isSlow: () => false,
    };
    const events = new Hub<OutboxEvents>(() => {});
    events.on("outboxChanged", (entry) => told.push(entry));
    const entryOf = (n: number) =>
      ({
        id: idOf(n),
        state: "delivered",
        receipt: { by: recipient, isSession: true, proof: undefined },
        targets: [{ node: recipient, bundle: bundleOf(n) }],
      }) as unknown as OutboxEntry;
    const parts = {
      proofs: { use: () => state.uses++, release: () => state.uses-- },
      rows: {
        commit: async (lives: readonly { entry: OutboxEntry }[]) => {
          if (state.fails) throw godwitError("GODWIT_STORE_FAILED", "no room");
          committed.push(...lives.map(({ entry }) => entry));
        },
      },
      entries: { isOwn: () => state.isOwn },
      reader: {
        rows: async (ids: readonly MessageId[]) => ids.map((id) => [id, entryOf(Number.parseInt(id, 16))]),
      },
      names: { toldAs: (id: MessageId) => id },
    } as unknown as SignedWantedParts;
    const sendSystem = async (_: NodeId, plaintext: Uint8Array) =>
      asked.push(decodeReceiptsWanted(plaintext)) > 0;
    const wanted = new SignedWanted(
      { self, clock, carrier: carrier as Carrier, log: silentLog },
      { events, sendSystem },
      parts,
    );
    for (let n = 0; n < count; n++) wanted.note(entryOf(n));
    const answer = (n: number): ProvenReceipt => {
      const receipt: Receipt = {
        ...{ status: ReceiptStatus.delivered, messageId: idOf(n), bundleId: bundleOf(n) },
        ...{ atMs: 5_000, isUnconfirmed: false, trace: [] },
      };
      const stored = { by: recipient, isSession: false, atMs: 5_000 } as StoredReceipt;
      return { receipt, stored };
    };
    return { clock, asked, told, committed, state, wanted, answer };
  }

  test("is bounded, and so is what is asked for at one time", async () => {
    const { clock, asked, wanted } = open(WANTED_MAX + 500);
    expect(wanted.count).toBe(WANTED_MAX);
    await clock.advance(FIRST_PAUSE_MS);
    expect(asked.map(({ length }) => length)).toEqual(Array.from({ length: BUNDLES_AT_ONCE }, () => 16));
    // The first ones were given up for the last.
    expect(asked[0]![0]).toBe(idOf(500));
    for (let i = 0; i < TRIES_MAX; i++) await clock.advance(PAUSE_MAX_MS);
    expect([asked.length, wanted.count]).toEqual([TRIES_MAX * BUNDLES_AT_ONCE, 0]);
    wanted.stop();
  });

  test("is asked for as long as some of it comes", async () => {
    const rounds = TRIES_MAX + 4;
    const { clock, asked, told, committed, wanted, answer } = open(rounds);
    for (let n = 0; n < rounds; n++) {
      const before = asked.length;
      for (let i = 0; i < 2 && asked.length === before; i++) await clock.advance(FIRST_PAUSE_MS);
      expect(asked.at(-1)!.length).toBe(rounds - n);
      await wanted.replace(recipient, [answer(n)]);
    }
    expect([asked.length, wanted.count, committed.length, told.length]).toEqual([rounds, 0, rounds, rounds]);
    expect(committed[0]).toMatchObject({ deliveredAtMs: 5_000, receipt: { isSession: false } });
    wanted.stop();
  });

  test("stays so where the commit fails, and is no more where the message was forgotten meanwhile", async () => {
    const { told, committed, state, wanted, answer } = open(2);
    state.fails = true;
    await expect(wanted.replace(recipient, [answer(0)])).rejects.toMatchObject({
      code: "GODWIT_STORE_FAILED",
    });
    expect([state.uses, wanted.count, told.length]).toEqual([0, 2, 0]);
    Object.assign(state, { fails: false, isOwn: false });
    await wanted.replace(recipient, [answer(0)]);
    expect([state.uses, committed.length, told.length]).toEqual([0, 0, 0]);
    state.isOwn = true;
    await wanted.replace(recipient, [answer(0)]);
    expect([state.uses, committed.length, told.length, wanted.count]).toEqual([1, 1, 1, 1]);
    wanted.stop();
  });
});
