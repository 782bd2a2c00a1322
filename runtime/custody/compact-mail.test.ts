/** The compact header from one outbox to another inbox: docs/protocol/delivery.md "The compact form". */
import { describe, expect, test } from "bun:test";
import { MAIL_SESSIONS, PROTOCOL_CAPABILITIES } from "../identity/record.ts";
import { godwitError } from "../kernel/errors.ts";
import type { MessageId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore } from "../store/memory.ts";
import { BundleKind, decodeBundleFrame, encodeBundleFrame } from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import { messageIdOf, PlainForm, ReceiptStatus } from "../wire/message.ts";
import { decodeSessionHead, SealForm } from "../wire/sealed.ts";
import { pattern, stateOf, type TestNode } from "./testing.ts";
import { formsOf, receiptBundle, SealingMesh } from "./testing-sessions.ts";

const { first, later } = SealForm;
const CALLSIGN = "LON-B";
const HOUR_MS = 3_600_000;

async function pair(): Promise<{ mesh: SealingMesh; a: TestNode; b: TestNode }> {
  const mesh = new SealingMesh();
  const [a, b] = (await mesh.sealingLine(["a", "b"])) as [TestNode, TestNode];
  b.known.add(a.id);
  mesh.of(b).rename(CALLSIGN);
  a.names.set(CALLSIGN, [b.id]);
  return { mesh, a, b };
}

async function send(node: TestNode, to: string, text: string | Uint8Array, more = {}): Promise<MessageId> {
  const id = await node.send(to, text, more);
  await node.mesh.clock.advance(200);
  return id;
}

/** Bytes of the headers of the mail that the node sent, in order: what is left of the sealed bytes without the seal and a body of that length. */
const headersOf = (mesh: SealingMesh, node: TestNode, bodyBytes: number): number[] =>
  mesh.log.flatMap(({ from, type, bytes }) => {
    if (from !== node.name || type !== FrameType.bundle) return [];
    const { header, sealed } = decodeBundleFrame(bytes).bundle;
    if (header.kind !== BundleKind.message) return [];
    return [sealed.length - decodeSessionHead(sealed).bytes - 16 - bodyBytes];
  });

/** Each message is there once, by the id that its source knows, and to whom it was addressed. */
async function expectSame(a: TestNode, b: TestNode, ids: readonly MessageId[]): Promise<void> {
  expect(ids.map((id) => [id, stateOf(a, id)])).toEqual(ids.map((id) => [id, "delivered"]));
  // Not what was told of: a crash may come between the commit and that.
  const page = { order: "oldest-first", limit: 500 } as const;
  const there = await b.settle(b.custody!.inbox.page(page));
  expect(there.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
  for (const { id, to, contentType, subject, createdAtMs } of there) {
    const sent = a.sent(id)!;
    expect([to, contentType, subject]).toEqual([sent.to, sent.contentType, sent.subject]);
    const early = sent.createdAtMs - createdAtMs;
    expect(early >= 0 && early < 3_000).toBe(true);
    expect(sent.receipt!.by).toBe(b.id);
    expect(messageIdOf(a.id, to, Buffer.from(sent.epoch, "hex"), sent.counter)).toBe(id);
  }
}

async function forgetSessions(node: TestNode): Promise<void> {
  const { clock } = node.mesh;
  const store = await node.settle(
    openMemoryStore(node.disk, { clock, random: seededRandom(1), commitDelayMs: 1 }),
  );
  const keys = [...node.disk.rows("session").keys()];
  await node.settle(store.commit(keys.map((key) => ({ op: "delete", in: "session", key }) as const)));
  await node.settle(store.close());
}

/** As a start of a release that knows sessions and not this form: it opens what it can, and refuses the rest. */
function takeBack(node: TestNode): void {
  const { open } = node.sealer;
  Object.assign(node.sealer, {
    open(...args: Parameters<typeof open>) {
      const opened = open(...args);
      if (opened.plaintext[0]! >= PlainForm.compact)
        throw godwitError("GODWIT_DECODE", "message version 128, this node speaks 1");
      return opened;
    },
  });
}

describe("bytes of the header", () => {
  test("a text to one machine by its callsign: 14 alone, at most 5 in a session that is kept, for all of its day", async () => {
    const { mesh, a, b } = await pair();
    const ids = [await send(a, CALLSIGN, "telex")];
    for (let n = 1; n < 200; n++) {
      ids.push(
        await send(a, CALLSIGN, "telex", n % 2 === 0 ? { contentType: "text/plain; charset=utf-8" } : {}),
      );
      if (n % 10 === 0) await mesh.clock.advance(HOUR_MS);
    }
    const headers = headersOf(mesh, a, 5);
    const forms = formsOf(mesh, a);
    expect([forms[0], headers[0]]).toEqual([first, 14]);
    expect(forms.slice(1)).toEqual(forms.slice(1).map(() => later));
    expect(Math.max(...headers.slice(1))).toBe(5);
    expect(Math.min(...headers)).toBe(4);
    await expectSame(a, b, ids);
  });

  test("by its id, to which it costs the same; and by both names in one session", async () => {
    const { mesh, a, b } = await pair();
    const ids = [
      await send(a, b.id, "telex"),
      await send(a, CALLSIGN, "telex"),
      await send(a, b.id, "telex"),
    ];
    expect(headersOf(mesh, a, 5)).toEqual([14, 4, 4]);
    await expectSame(a, b, ids);
  });

  test("a transient message is one that stands for itself", async () => {
    const { mesh, a, b } = await pair();
    const id = await a.send(b.id, "now", { transient: true });
    await mesh.clock.advance(50);
    const packet = mesh.log.find(({ type }) => type === FrameType.packet)!;
    expect(packet.bytes.length - decodeSessionHead(packet.bytes).bytes - 16 - 3).toBe(14);
    expect(b.delivered.map(({ entry, text }) => [entry.id, entry.to, text])).toEqual([[id, b.id, "now"]]);
  });

  test("subject, other content types and other names follow, and large bodies have the same header", async () => {
    const { mesh, a, b } = await pair();
    a.names.set("PAR-X", [b.id]);
    const ids = [await send(a, CALLSIGN, "telex")];
    for (const more of [
      { subject: "höhe" },
      { contentType: "application/json" },
      { contentType: "image/png" },
      { subject: "s".repeat(1_024), contentType: "a/b" },
    ])
      ids.push(await send(a, CALLSIGN, "telex", more));
    ids.push(await send(a, "PAR-X", "telex"));
    expect(headersOf(mesh, a, 5)).toEqual([14, 4 + 1 + 6, 4 + 1, 4 + 2 + 9, 4 + 1 + 5 + 1_026, 4 + 6]);
    const body = pattern(300_000);
    const large = await a.send(CALLSIGN, body);
    await mesh.clock.advance(3_000);
    await expectSame(a, b, [...ids, large]);
    expect(Buffer.compare(await b.settle(b.custody!.inbox.body(large)), body)).toBe(0);
  });
});

describe("both ends come to the same id", () => {
  test("whatever its recipient is called by now, and where it is called so by others alone", async () => {
    const { mesh, a, b } = await pair();
    mesh.cut(a, b);
    const ids = [await a.send(CALLSIGN, "to the old name")];
    mesh.of(b).rename("PAR-X");
    await mesh.restart(b);
    mesh.connect(a, b);
    await mesh.clock.advance(20_000);
    // Its record says another name by now, and an operator calls it by the old one.
    ids.push(await send(a, CALLSIGN, "told"));
    a.names.set("PAR-X", [b.id]);
    ids.push(await send(a, "PAR-X", "to the new name"));
    await expectSame(a, b, ids);
    expect(b.delivered.map(({ entry }) => entry.to)).toEqual([CALLSIGN, CALLSIGN, "PAR-X"]);
  });

  test("where the session was kept anew with another message, of another name", async () => {
    const { mesh, a, b } = await pair();
    // Both say what the session was agreed by, and the second one comes late.
    mesh.cut(a, b);
    const ids = [await a.send(CALLSIGN, "one"), await a.send(b.id, "two")];
    await mesh.clock.advance(100);
    const late = a.sent(ids[1]!)!.targets[0]!.bundle;
    mesh.filter = ({ from, type, bytes }) =>
      from !== "a" || type !== FrameType.bundle || decodeBundleFrame(bytes).bundle.id !== late;
    mesh.connect(a, b);
    await mesh.clock.advance(200);
    ids.push(await send(a, CALLSIGN, "three"));
    expect(headersOf(mesh, a, 5).at(-1)).toBe(4);
    const [kept] = b.disk.rows("session").values();
    b.crash();
    await forgetSessions(b);
    await mesh.restart(b);
    // Nor does its source hear what it was kept with by now.
    mesh.filter = ({ from, type, bytes }) =>
      from !== "b" ||
      type !== FrameType.bundle ||
      decodeBundleFrame(bytes).bundle.sealed[2] !== ReceiptStatus.delivered;
    await mesh.clock.advance(60_000);
    expect(b.delivered.length).toBe(3);
    const [anew] = b.disk.rows("session").values();
    expect(anew!.meta.split(" ").slice(0, 2)).toEqual(kept!.meta.split(" ").slice(0, 2));
    expect(anew!.meta).not.toBe(kept!.meta);
    // It refers to what the first one told, which is not there: it comes sealed anew.
    const before = formsOf(mesh, a).length;
    ids.push(await send(a, CALLSIGN, "four"));
    expect(formsOf(mesh, a).slice(before)).toEqual([later, first]);
    mesh.filter = () => true;
    await mesh.clock.advance(600_000);
    await expectSame(a, b, ids);
  });

  test("where a receipt says that more is kept than is", async () => {
    const { mesh, a, b } = await pair();
    const ids = [await send(a, CALLSIGN, "one")];
    mesh.filter = ({ from }) => from !== "b";
    ids.push(await send(a, b.id, "two"));
    mesh.filter = () => true;
    const receipt = {
      ...{
        status: ReceiptStatus.delivered,
        messageId: ids[1]!,
        bundleId: a.sent(ids[1]!)!.targets[0]!.bundle,
      },
      ...{ atMs: 0, isUnconfirmed: false, isSessionKept: true, isContextKept: true, trace: [] },
    };
    const told = receiptBundle(b, a, receipt);
    a.receive(b.id, encodeBundleFrame(told, { remainingMs: 60_000, hops: 1, trace: [] }));
    await mesh.clock.advance(100);
    ids.push(await send(a, b.id, "three"), await send(a, CALLSIGN, "four"));
    await mesh.clock.advance(60_000);
    await expectSame(a, b, ids);
  });

  test("at each machine of a location", async () => {
    const mesh = new SealingMesh();
    const [a, b, c] = (await mesh.sealingLine(["a", "b", "c"], { failoverDelayMs: 1_000 })) as [
      TestNode,
      TestNode,
      TestNode,
    ];
    mesh.of(b).rename(CALLSIGN);
    mesh.of(c).rename("LON-C");
    a.names.set(CALLSIGN, [b.id, c.id]);
    const ids: MessageId[] = [];
    for (const text of ["one", "two", "three"]) {
      ids.push(await a.send(CALLSIGN, text, { failover: true }));
      await mesh.clock.advance(10_000);
    }
    const there = [...b.delivered, ...c.delivered].map(({ entry }) => [entry.id, entry.to]);
    expect(there).toEqual(ids.map((id) => [id, CALLSIGN]));
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
  });
});

describe("the clock of the source", () => {
  test("that was put back, put ahead, and is out of all bounds is told as it was", async () => {
    const { mesh, a, b } = await pair();
    const ids = [await send(a, CALLSIGN, "telex")];
    const { wallMs } = mesh.clock;
    using _ = { [Symbol.dispose]: () => void Object.assign(mesh.clock, { wallMs }) };
    for (const shiftMs of [-HOUR_MS, 0, 72 * HOUR_MS, 300 * 365 * 24 * HOUR_MS, 0]) {
      Object.assign(mesh.clock, { wallMs: () => wallMs.call(mesh.clock) + shiftMs });
      ids.push(await send(a, CALLSIGN, "telex"));
    }
    expect(headersOf(mesh, a, 5)).toEqual([14, 6, 4, 6, 38, 4]);
    await expectSame(a, b, ids);
  });
});

describe("a restart of the source seals the same bundle", () => {
  test.each([
    ["that stands for itself", 0],
    ["in a session that is kept", 1],
  ])("of a message %s, whatever its recipient's record says by then", async (_, before) => {
    const { mesh, a, b } = await pair();
    const ids: MessageId[] = [];
    for (let n = 0; n < before; n++) ids.push(await send(a, CALLSIGN, "before"));
    mesh.cut(a, b);
    ids.push(await a.send(CALLSIGN, "waits", { subject: "höhe", contentType: "image/png" }));
    const large = await a.send(CALLSIGN, pattern(300_000));
    const bundles = () => [ids.at(-1)!, large].map((id) => a.sent(id)!.targets[0]!.bundle);
    await mesh.clock.advance(3_000);
    const sealed = bundles();
    mesh.of(b).capabilities = [MAIL_SESSIONS];
    await mesh.restart(a);
    mesh.connect(a, b);
    await mesh.clock.advance(60_000);
    expect(bundles()).toEqual(sealed);
    await expectSame(a, b, [...ids, large]);
  });
});

describe("releases", () => {
  test("one that knows sessions alone gets the long header, by the session's own id", async () => {
    const { mesh, a, b } = await pair();
    const ids = [await send(a, CALLSIGN, "telex"), await send(a, CALLSIGN, "telex")];
    mesh.of(b).capabilities = [MAIL_SESSIONS];
    takeBack(b);
    // Of its row only what it knows.
    for (const [key, { meta }] of b.disk.rows("session"))
      b.disk.apply([{ op: "put", in: "session", key, meta: meta.split(" ").slice(0, 3).join(" ") }]);
    b.crash();
    await b.start();
    ids.push(await send(a, CALLSIGN, "telex"));
    expect(formsOf(mesh, a)).toEqual([first, later, later]);
    expect(headersOf(mesh, a, 5)).toEqual([14, 4, 38]);
    // And comes back.
    mesh.of(b).capabilities = PROTOCOL_CAPABILITIES;
    await mesh.restart(b);
    ids.push(await send(a, CALLSIGN, "telex"));
    await mesh.clock.advance(60_000);
    await expectSame(a, b, ids);
    expect(headersOf(mesh, a, 5).slice(3)).toEqual([4, 14]);
  });

  test("one that went back without telling refuses it, and gets the long header at once", async () => {
    const { mesh, a, b } = await pair();
    takeBack(b);
    const ids = [await send(a, CALLSIGN, "telex")];
    await mesh.clock.advance(1_000);
    expect(headersOf(mesh, a, 5)).toEqual([14, 38]);
    await expectSame(a, b, ids);
  });

  test("a prekey of which nobody kept the callsign is refused, and its mail comes with the long header", async () => {
    const { mesh, a, b } = await pair();
    const { callsignOf } = mesh.of(b);
    Object.assign(mesh.of(b), { callsignOf: () => undefined });
    const ids = [await send(a, CALLSIGN, "telex")];
    await mesh.clock.advance(1_000);
    Object.assign(mesh.of(b), { callsignOf });
    expect(headersOf(mesh, a, 5)).toEqual([14, 38]);
    await expectSame(a, b, ids);
  });
});

/** What may happen to either end between two messages. */
function disturbances(mesh: SealingMesh, a: TestNode, b: TestNode) {
  const lost = { kinds: 0 };
  mesh.filter = ({ from, type, bytes }) => {
    if (type !== FrameType.bundle || lost.kinds === 0) return true;
    const { kind } = decodeBundleFrame(bytes).bundle.header;
    return (
      !((lost.kinds & 1) !== 0 && from === "a") && !((lost.kinds & 2) !== 0 && kind === BundleKind.receipt)
    );
  };
  let names = 0;
  return [
    () => mesh.restart(a),
    () => mesh.restart(b),
    async () => {
      b.crash();
      await forgetSessions(b);
      await mesh.restart(b);
    },
    () => mesh.of(b).rotate(),
    async () => {
      const callsign = `LON-${"BCDEF"[++names % 5]!}`;
      mesh.of(b).rename(callsign);
      a.names.set(callsign, [b.id]);
      await mesh.restart(b);
    },
    () => void (mesh.of(b).capabilities = [MAIL_SESSIONS]),
    () => void (mesh.of(b).capabilities = PROTOCOL_CAPABILITIES),
    () => void (lost.kinds = 0),
    () => void (lost.kinds = 1),
    () => void (lost.kinds = 2),
    () => a.custody!.outbox.onRevoked(b.id),
    () => mesh.cut(a, b),
    () => mesh.connect(a, b),
  ];
}

for (let seed = 1; seed <= 24; seed++)
  test(`in any order of losses, restarts, names and releases nothing is lost, there twice, or there by another id: ${seed}`, async () => {
    const { mesh, a, b } = await pair();
    const random = seededRandom(seed);
    const disturb = disturbances(mesh, a, b);
    const ids: MessageId[] = [];
    for (let n = 0; n < 60; n++) {
      const to = random.below(3) === 0 ? b.id : ([...a.names.keys()][random.below(a.names.size)] as string);
      ids.push(await a.send(to, `${n}`));
      if (random.below(2) === 0) await mesh.clock.advance(random.below(2_000));
      if (random.below(3) === 0) await disturb[random.below(disturb.length)]!();
    }
    mesh.filter = () => true;
    mesh.connect(a, b);
    for (let n = 0; n < 40 && ids.some((id) => stateOf(a, id) !== "delivered"); n++)
      await mesh.clock.advance(HOUR_MS / 2);
    await expectSame(a, b, ids);
  });

describe("the machines of a location, over a slow link", () => {
  /** A sender behind a slow link, and machines of one location that have others. */
  async function location(count: number) {
    const mesh = new SealingMesh();
    const names = ["s", ...Array.from({ length: count }, (_, n) => String.fromCharCode(97 + n))];
    const [s, ...machines] = (await mesh.sealingLine(names, { failoverDelayMs: 60_000 })) as [
      TestNode,
      ...TestNode[],
    ];
    s.takesBulk = () => false;
    for (const node of [s, ...machines]) {
      node.names.set(
        "LOC",
        machines.map(({ id }) => id),
      );
      for (const other of machines) s.known.add(other.id);
      node.known.add(s.id);
    }
    return { mesh, s, machines };
  }
  const inboxes = (machines: readonly TestNode[]) =>
    machines.reduce((sum, { custody }) => sum + (custody?.inbox.count ?? 0), 0);
  /** Of one message: what each copy has in its header beyond what it has to one machine. */
  const extras = (mesh: SealingMesh, s: TestNode, from: number) =>
    headersOf(mesh, s, 5)
      .slice(from)
      .map((bytes, n) => bytes - (formsOf(mesh, s)[from + n] === first ? 14 : 5));

  test.each([2, 3, 8])("of %d each costs two bytes, where its id had 32", async (count) => {
    const { mesh, s, machines } = await location(count);
    const id = await send(s, "LOC", "telex");
    await mesh.clock.advance(2_000);
    expect(stateOf(s, id)).toBe("delivered");
    expect(inboxes(machines)).toBe(1);
    const before = headersOf(mesh, s, 5);
    // More flags, how many, the check; and the address, which is the recipient's own callsign nowhere.
    expect(extras(mesh, s, 0)).toEqual(before.map(() => 1 + 1 + 2 * count + 4 + "LOC".length + 1));
    // In the session of whoever delivered it: the address is that of the context.
    const again = await send(s, "LOC", "telex");
    await mesh.clock.advance(2_000);
    expect(stateOf(s, again)).toBe("delivered");
    expect(Math.min(...extras(mesh, s, before.length))).toBeLessThanOrEqual(1 + 1 + 2 * count + 4);
    expect(inboxes(machines)).toBe(2);
  });

  test("by their ids, where a way without a slow link leads there", async () => {
    const { mesh, s } = await location(3);
    s.takesBulk = () => true;
    await send(s, "LOC", "telex");
    expect(extras(mesh, s, 0)[0]).toBe(1 + 1 + 3 * 32 + 3 + "LOC".length + 1);
  });

  test("a machine that does not know the others says so once, and gets their ids from then on", async () => {
    const { mesh, s, machines } = await location(3);
    const [a] = machines;
    a!.names.clear();
    const ids = [await send(s, "LOC", "telex")];
    await mesh.clock.advance(20_000);
    // Each copy, and each once more.
    const told = extras(mesh, s, 0);
    expect(told.length).toBe(6);
    expect(told.filter((bytes) => bytes > 3 * 32)).toHaveLength(1);
    ids.push(await send(s, "LOC", "telex"));
    await mesh.clock.advance(20_000);
    expect(extras(mesh, s, 6).length).toBe(3);
    expect(extras(mesh, s, 6).filter((bytes) => bytes > 3 * 32)).toHaveLength(1);
    expect(ids.map((id) => stateOf(s, id))).toEqual(["delivered", "delivered"]);
    expect(inboxes(machines)).toBe(2);
  });

  test("a copy that waits for the others is there after a restart", async () => {
    const { mesh, s, machines } = await location(2);
    const [a, b] = machines as [TestNode, TestNode];
    b.crash();
    const id = await send(s, "LOC", "telex");
    await mesh.clock.advance(1_000);
    await mesh.restart(a);
    await mesh.clock.advance(130_000);
    expect(stateOf(s, id)).toBe("delivered");
    expect(a.custody!.inbox.count).toBe(1);
  });
});
