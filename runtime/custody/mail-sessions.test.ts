/** Mail sessions from one outbox to another inbox: docs/protocol/sealing.md "Sessions". */
import { describe, expect, spyOn, test } from "bun:test";
import { godwitError } from "../kernel/errors.ts";
import type { MessageId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore } from "../store/memory.ts";
import { BundleKind, decodeBundleFrame, encodeBundleFrame, makeBundle, type Bundle } from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import { ReceiptStatus } from "../wire/message.ts";
import { SealForm } from "../wire/sealed.ts";
import { numbers, pattern, sendNumbers, stateOf, texts, type TestNode } from "./testing.ts";
import { ReceivedSessions } from "./recipient/sessions.ts";
import { formsOf, SealingMesh, sessionUnknown } from "./testing-sessions.ts";

const { first, later, whole, firstSegmented, laterSegmented } = SealForm;

async function pair(): Promise<{ mesh: SealingMesh; a: TestNode; b: TestNode }> {
  const mesh = new SealingMesh();
  const [a, b] = (await mesh.sealingLine(["a", "b"])) as [TestNode, TestNode];
  b.known.add(a.id);
  return { mesh, a, b };
}

/** An older disk, as far as sessions go. */
async function forget(node: TestNode): Promise<void> {
  const { clock } = node.mesh;
  const store = await node.settle(
    openMemoryStore(node.disk, { clock, random: seededRandom(1), commitDelayMs: 1 }),
  );
  const ops = sessionsOf(node).map((key) => ({ op: "delete", in: "session", key }) as const);
  await node.settle(store.commit(ops));
  await node.settle(store.close());
}

const sessionsOf = (node: TestNode) => [...node.disk.rows("session").keys()];

describe("a session", () => {
  test("is agreed by its first message, proven by its receipt, and a name from then on", async () => {
    const { mesh, a, b } = await pair();
    const ids: MessageId[] = [];
    for (const text of ["one", "two", "three"]) {
      ids.push(await a.send(b.id, text));
      await mesh.clock.advance(200);
    }
    expect(formsOf(mesh, a)).toEqual([first, later, later]);
    expect(texts(b)).toEqual(["one", "two", "three"]);
    expect(ids.map((id) => stateOf(a, id))).toEqual(["delivered", "delivered", "delivered"]);
    expect(sessionsOf(b).length).toBe(1);
  });

  test("of a crowd before the first receipt each message brings what it was agreed by, and one row is kept", async () => {
    const { mesh, a, b } = await pair();
    await sendNumbers(a, b.id, 300);
    await mesh.clock.advance(2_000);
    expect(texts(b).sort()).toEqual(numbers(300).sort());
    expect(sessionsOf(b).length).toBe(1);
    await a.send(b.id, "after");
    await mesh.clock.advance(200);
    expect(formsOf(mesh, a).at(-1)).toBe(later);
  });

  test("seals large bodies as well, which are read again as they were written", async () => {
    const { mesh, a, b } = await pair();
    const body = pattern(300_000);
    const ids: MessageId[] = [];
    const forms: (number | undefined)[] = [];
    for (const _ of [1, 2]) {
      ids.push(await a.send(b.id, body));
      await mesh.clock.advance(10);
      const [holding] = a.custody!.forwarder.toward(b.id);
      forms.push((await (await holding!.pieces!())!.read(0))![0]);
      await mesh.clock.advance(2_000);
    }
    expect(forms).toEqual([firstSegmented, laterSegmented]);
    expect(ids.map((id) => stateOf(a, id))).toEqual(["delivered", "delivered"]);
    for (const id of ids) {
      const read = await b.settle(b.custody!.inbox.body(id));
      expect(Buffer.compare(read, body)).toBe(0);
    }
  });

  test("ends with the start of its sender, whose open mail stays the same bundle", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    mesh.cut(a, b);
    const id = await a.send(b.id, "waits");
    const bundle = a.sent(id)!.targets[0]!.bundle;
    await mesh.clock.advance(100);
    await mesh.restart(a);
    expect(a.sent(id)!.targets[0]!.bundle).toBe(bundle);
    mesh.connect(a, b);
    await mesh.clock.advance(500);
    expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["one", "waits"]]);
    await a.send(b.id, "new");
    await mesh.clock.advance(200);
    expect(formsOf(mesh, a)).toEqual([first, later, first]);
    expect(sessionsOf(b).length).toBe(2);
  });

  test("goes on over a restart of its recipient", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    await mesh.restart(b);
    await mesh.clock.advance(200);
    await a.send(b.id, "two");
    await mesh.clock.advance(200);
    expect([formsOf(mesh, a), texts(b)]).toEqual([
      [first, later],
      ["one", "two"],
    ]);
  });

  test("whose key of a message goes from the disk with the message", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    mesh.cut(a, b);
    const id = await a.send(b.id, "two");
    await mesh.clock.advance(100);
    const { session } = a.sent(id)!.targets[0]!;
    // Ten bytes stand before it in the row, which are no whole number of characters.
    const key = Buffer.from([0, ...session!.key])
      .toString("base64url")
      .slice(4, 40);
    const holdsKey = () => a.disk.rows("outbox").get(id)!.meta.includes(key);
    expect(holdsKey()).toBe(true);
    mesh.connect(a, b);
    await mesh.clock.advance(12_000);
    expect([stateOf(a, id), holdsKey()]).toEqual(["delivered", false]);
  });
});

describe("a session that its recipient lost", () => {
  async function lost(count: number) {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    b.crash();
    await forget(b);
    await mesh.restart(b);
    return { mesh, a, b, ids: await sendNumbers(a, b.id, count) };
  }

  test("costs its messages one more sealing, and none is lost or there twice", async () => {
    const { mesh, a, b, ids } = await lost(50);
    await mesh.clock.advance(20_000);
    expect(texts(b).sort()).toEqual(["one", ...numbers(50)].sort());
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
    const refusals = mesh.log.filter(({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle) return false;
      const { bundle } = decodeBundleFrame(bytes);
      return bundle.header.kind === BundleKind.receipt && bundle.sealed[2] === ReceiptStatus.sessionUnknown;
    });
    expect(refusals.length).toBe(1);
    expect(sessionsOf(b).length).toBe(1);
  });

  test("is named by the word about it, should the bundle that brought that about have been delivered long ago", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    await a.send(b.id, "two");
    await mesh.clock.advance(200);
    const sent = mesh.log.findLast(({ from, type }) => from === "a" && type === FrameType.bundle)!;
    b.crash();
    await forget(b);
    await mesh.restart(b);
    b.receive(a.id, sent.bytes); // as a relay that still held it hands it on
    await mesh.clock.advance(200);
    const ids = await sendNumbers(a, b.id, 5);
    await mesh.clock.advance(1_000);
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
  });

  test("is told of again, if its source had no time to write down what it was told", async () => {
    const { mesh, a, b, ids } = await lost(5);
    let told = 0;
    mesh.filter = ({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle) return true;
      if (decodeBundleFrame(bytes).bundle.sealed[2] !== ReceiptStatus.sessionUnknown) return true;
      if (told++ > 0) return true;
      a.crash(); // and it was acknowledged
      return false;
    };
    await mesh.clock.advance(1_000);
    expect(told).toBe(1);
    for (const { id } of b.custody!.forwarder.toward(a.id)) b.custody!.forwarder.remove(id);
    await mesh.restart(a);
    await mesh.clock.advance(120_000);
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
  });

  test("is found out without a word, where its recipient can say none", async () => {
    const { mesh, a, b, ids } = await lost(0);
    expect(ids).toEqual([]);
    mesh.filter = ({ from, type, bytes }) => {
      if (from !== "b" || type !== FrameType.bundle) return true;
      return decodeBundleFrame(bytes).bundle.sealed[2] !== ReceiptStatus.sessionUnknown;
    };
    const id = await a.send(b.id, "silent");
    await mesh.clock.advance(3_600_000);
    expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["one", "silent"]]);
  });
});

test("a session that its recipient has no place for is brought along by each message, and none waits", async () => {
  const { mesh, a, b } = await pair();
  const place = spyOn(ReceivedSessions.prototype, "keep").mockReturnValue([]);
  using _ = { [Symbol.dispose]: () => place.mockRestore() };
  for (const text of ["one", "two", "three"]) {
    await a.send(b.id, text);
    await mesh.clock.advance(200);
  }
  expect([texts(b), formsOf(mesh, a)]).toEqual([
    ["one", "two", "three"],
    [first, first, first],
  ]);
});

test("a flood of sessions that nobody knows, in somebody's name by another neighbour, keeps back no word to it", async () => {
  const mesh = new SealingMesh();
  const [a, b, c] = (await mesh.sealingLine(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  b.known.add(a.id);
  await a.send(b.id, "one");
  await mesh.clock.advance(200);
  b.crash();
  await forget(b);
  await mesh.restart(b);
  const random = seededRandom(5);
  const header = {
    kind: BundleKind.message,
    priority: 2,
    source: a.id,
    destination: b.id,
    lifetimeMs: 60_000,
  } as const;
  for (let n = 0; n < 300; n++) {
    const sealed = new Uint8Array([later, ...random.bytes(60)]);
    sealed[9] = 1;
    b.receive(
      c.id,
      encodeBundleFrame(makeBundle(header, sealed), { remainingMs: 60_000, hops: 1, trace: [] }),
    );
  }
  await mesh.clock.advance(10);
  const id = await a.send(b.id, "two");
  await mesh.clock.advance(2_000);
  expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["one", "two"]]);
});

describe("nobody but the recipient ends a session", () => {
  test("forged, of another session, of a first, and replayed ones change nothing", async () => {
    const mesh = new SealingMesh();
    const [a, b, c] = (await mesh.sealingLine(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    const told = (bundle: Bundle) =>
      a.receive(b.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
    mesh.cut(b, c);
    const one = await a.send(c.id, "first");
    await mesh.clock.advance(100);
    const targetOf = (id: MessageId) => a.sent(id)!.targets[0]!;
    const bundleOf = (id: MessageId) => targetOf(id).bundle;
    const before = targetOf(one);
    told(sessionUnknown(c, a, before, c));
    await mesh.clock.advance(100);
    expect(bundleOf(one)).toBe(before.bundle);
    mesh.connect(b, c);
    await mesh.clock.advance(20_000);
    mesh.cut(b, c);
    const two = await a.send(c.id, "later");
    const three = await a.send(c.id, "too");
    await mesh.clock.advance(100);
    const sealed = [bundleOf(two), bundleOf(three)];
    const named = targetOf(two);
    const other = { ...named, session: { ...named.session!, id: new Uint8Array(8).fill(7) } };
    for (const forged of [
      sessionUnknown(c, a, named, b),
      sessionUnknown(b, a, named, b),
      sessionUnknown(c, a, other, c),
    ]) {
      told(forged);
      await mesh.clock.advance(100);
    }
    expect([bundleOf(two), bundleOf(three)]).toEqual(sealed);
    const right = sessionUnknown(c, a, named, c);
    told(right);
    await mesh.clock.advance(100);
    const anew = [bundleOf(two), bundleOf(three)];
    for (const [index, bundle] of anew.entries()) expect(bundle).not.toBe(sealed[index]!);
    told(right);
    await mesh.clock.advance(100);
    expect([bundleOf(two), bundleOf(three)]).toEqual(anew);
    mesh.connect(b, c);
    await mesh.clock.advance(60_000);
    expect(texts(c).sort()).toEqual(["first", "later", "too"]);
  });
});

describe("prekeys", () => {
  test("another one in the record is another session; one that is deleted takes its sessions along", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    mesh.of(b).rotate();
    await a.send(b.id, "two");
    await mesh.clock.advance(200);
    expect([formsOf(mesh, a), sessionsOf(b).length]).toEqual([[first, first], 2]);
    mesh.of(b).forgetOldPrekeys();
    await mesh.clock.advance(100);
    expect(sessionsOf(b).length).toBe(1);
    await a.send(b.id, "three");
    await mesh.clock.advance(200);
    expect([formsOf(mesh, a), texts(b)]).toEqual([
      [first, first, later],
      ["one", "two", "three"],
    ]);
  });

  test("rotated and deleted under mail that is under way: it is sealed anew", async () => {
    const { mesh, a, b } = await pair();
    await a.send(b.id, "one");
    await mesh.clock.advance(200);
    mesh.cut(a, b);
    const ids = [await a.send(b.id, "two"), await a.send(b.id, "three")];
    mesh.of(b).rotate();
    mesh.of(b).forgetOldPrekeys();
    mesh.connect(a, b);
    await mesh.clock.advance(20_000);
    expect(ids.map((id) => stateOf(a, id))).toEqual(["delivered", "delivered"]);
    expect(texts(b).sort()).toEqual(["one", "three", "two"]);
  });
});

describe("releases", () => {
  test("those without sessions write as before", async () => {
    const { mesh, a, b } = await pair();
    for (const node of [a, b]) mesh.of(node).capabilities = [];
    await a.send(b.id, "to");
    await mesh.clock.advance(200);
    expect([formsOf(mesh, a), texts(b)]).toEqual([[whole], ["to"]]);
  });

  test("the older form from a node that has sessions opens nothing, and its mail comes once it knows better", async () => {
    const { mesh, a, b } = await pair();
    mesh.of(b).capabilities = [];
    mesh.cut(a, b);
    const id = await a.send(b.id, "old");
    await mesh.clock.advance(100);
    mesh.of(b).capabilities = mesh.of(a).capabilities;
    mesh.connect(a, b);
    await mesh.clock.advance(1_000);
    expect([formsOf(mesh, a), texts(b)]).toEqual([[whole], []]);
    await mesh.clock.advance(60_000);
    expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["old"]]);
    expect(formsOf(mesh, a).at(-1)).toBe(first);
  });

  test("what a recipient cannot open in a session it gets in the older form, where its key is still the same", async () => {
    const { mesh, a, b } = await pair();
    // It went back to a release without, and the record that says so has not come here.
    const { open } = b.sealer;
    Object.assign(b.sealer, {
      open(...[from, sealed, ...rest]: Parameters<typeof open>) {
        if (sealed[0]! >= first) throw godwitError("GODWIT_DECODE", `seal form ${sealed[0]} is not known`);
        const capabilities = mesh.of(a).capabilities;
        mesh.of(a).capabilities = [];
        try {
          return open(from, sealed, ...rest);
        } finally {
          mesh.of(a).capabilities = capabilities;
        }
      },
    });
    const id = await a.send(b.id, "back");
    await mesh.clock.advance(2_000);
    expect([stateOf(a, id), texts(b), formsOf(mesh, a)]).toEqual([
      "delivered",
      ["back"],
      [first, first, whole],
    ]);
  });
});
