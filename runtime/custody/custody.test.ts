import type { SealKey } from "./context.ts";
import { describe, expect, test } from "bun:test";
import { LATE_MS } from "./source/rows.ts";
import { formatHex, type MessageId } from "../kernel/ids.ts";
import {
  encodeBundleFrame,
  encodeCustodyAck,
  encodeCustodyRefuse,
  BundleKind,
  makeBundle,
  RefuseReason,
} from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import {
  encodeInnerMessage,
  encodeReceipt,
  encodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
  type Receipt,
} from "../wire/message.ts";
import { decodeEntry } from "./source/entry-row.ts";
import { TestMesh, testId, testSealer, testSign, type TestNode, stateOf, texts } from "./testing.ts";

describe("the way there and back", () => {
  test("through a relay: accepted when durable, relayed, delivered once, receipt with the trace; nothing is left", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    const before = mesh.clock.monotonicMs();
    const id = await a.send(c.id, "hello");
    expect(mesh.clock.monotonicMs() - before).toBeGreaterThanOrEqual(5);
    await mesh.clock.advance(200);
    expect(texts(c)).toEqual(["hello"]);
    expect(a.states).toEqual(["queued", "relayed", "delivered"]);
    const entry = a.sent(id)!;
    expect(entry.receipt?.by).toBe(c.id);
    expect(entry.receipt?.trace.map(({ node }) => node)).toEqual([a.id, b.id, c.id]);
    // Provable to anyone: the signature covers the hash of the receipt.
    const { encoded, proof } = entry.receipt!;
    expect(proof!.hashes.map(formatHex)).toContain(formatHex(receiptHash(encoded)));
    expect(formatHex(testSign(c.id, receiptSigningBytes("test", c.id, a.id, proof!.hashes)))).toBe(
      formatHex(proof!.signature),
    );
    for (const node of [a, b, c]) {
      expect([node.custody!.queuedCount, node.custody!.queuedBytes, node.custody!.forwarder.count]).toEqual([
        0, 0, 0,
      ]);
      expect(await node.settle(node.store!.load("transit"))).toEqual([]);
    }
    expect(c.custody!.inbox.count).toBe(1);
    expect((await c.settle(c.custody!.inbox.body(id))).length).toBe(5);
  });

  test("what a relay took is written late, and not at all when the receipt comes first; an orderly end writes it", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    const states = async () =>
      (await a.settle(a.store!.load("outbox"))).map(
        ({ key, meta }) => decodeEntry(key, meta, () => undefined)!.state,
      );
    mesh.cut(b, c);
    const id = await a.send(c.id, "hello");
    await mesh.clock.advance(1_000);
    expect([stateOf(a, id), await states()]).toEqual(["relayed", ["queued"]]);
    await mesh.clock.advance(LATE_MS);
    expect(await states()).toEqual(["relayed"]);
    const second = await a.send(c.id, "again");
    await mesh.clock.advance(1_000);
    expect(stateOf(a, second)).toBe("relayed");
    a.custody!.stop();
    expect(await states()).toEqual(["relayed", "relayed"]);
  });

  test("receipts of one moment share a signature, and each proves itself", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const ids = await a.settle(
      Promise.all(
        Array.from({ length: 20 }, (_, i) => a.custody!.send({ to: b.id, body: Buffer.from(`${i}`) })),
      ),
    );
    await mesh.clock.advance(300);
    expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
    expect(mesh.count("bundle", "b>a")).toBeLessThanOrEqual(5);
    const batches = ids.map((id) => a.sent(id)!.receipt!.proof!.hashes.length);
    expect(Math.max(...batches)).toBe(16);
  });

  test("to itself needs no wire", async () => {
    const mesh = new TestMesh();
    const a = await mesh.add("a");
    const id = await a.send(a.id, "note");
    expect([texts(a), stateOf(a, id), mesh.log.length]).toEqual([["note"], "delivered", 0]);
  });

  test("a name nobody has heard of waits unsealed and goes when it means somebody", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const id = await a.send("LON-B", "later");
    await mesh.clock.advance(100);
    expect(stateOf(a, id)).toBe("queued");
    expect(a.custody!.outbox.waitReason(a.sent(id)!)).toContain("nobody called LON-B");
    a.names.set("LON-B", [b.id]);
    a.custody!.onDirectory();
    await mesh.clock.advance(200);
    expect([texts(b), stateOf(a, id)]).toEqual([["later"], "delivered"]);
  });

  test("a thousand that waited for one name are read a few at a time, and all arrive", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    await a.settle(
      Promise.all(
        Array.from({ length: 300 }, (_, i) => a.custody!.send({ to: "X", body: Buffer.from(`${i}`) })),
      ),
    );
    a.names.set("X", [b.id]);
    const { store } = a;
    let reading = 0;
    let most = 0;
    const body = store!.body.bind(store);
    store!.body = async (...args) => {
      most = Math.max(most, ++reading);
      try {
        return await body(...args);
      } finally {
        reading--;
      }
    };
    a.custody!.onDirectory();
    await mesh.clock.advance(2_000);
    expect(new Set(texts(b)).size).toBe(300);
    expect(most).toBeLessThanOrEqual(16);
  });
});

describe("the next hop", () => {
  async function diamond(): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode; c: TestNode; d: TestNode }> {
    const mesh = new TestMesh();
    const nodes = [];
    for (const name of ["a", "b", "c", "d"]) nodes.push(await mesh.add(name));
    const [na, nb, nc, nd] = nodes as [TestNode, TestNode, TestNode, TestNode];
    na.routes.set(nd.id, [nb.id, nc.id]);
    for (const relay of [nb, nc]) {
      relay.routes.set(nd.id, [nd.id]);
      relay.routes.set(na.id, [na.id]);
    }
    nd.routes.set(na.id, [nc.id, nb.id]);
    mesh.connect(na, nb);
    mesh.connect(na, nc);
    mesh.connect(nb, nd);
    mesh.connect(nc, nd);
    return { mesh, a: na, b: nb, c: nc, d: nd };
  }

  test("refuses: another takes it at once", async () => {
    const { mesh, a, b, d } = await diamond();
    b.disk.fail("full");
    const id = await a.send(d.id, "x");
    await mesh.clock.advance(100);
    expect([texts(d), stateOf(a, id)]).toEqual([["x"], "delivered"]);
    expect(mesh.count("custodyRefuse", "b>a")).toBe(1);
  });

  test("and all others refuse: it is asked again after the pause, and others are not held up", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    b.disk.fail("full");
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(500);
    expect(mesh.count("bundle", "a>b")).toBe(1);
    expect(a.custody!.outbox.waitReason(a.sent(id)!)).toContain("it is full");
    b.disk.fail(undefined);
    await mesh.clock.advance(2_500);
    expect(stateOf(a, id)).toBe("delivered");
  });

  test("goes with what it had not acknowledged: the other hop gets it in the same order", async () => {
    const { mesh, a, c, b } = await diamond();
    const d = mesh.nodes.get(testId("d"))!;
    mesh.filter = (sent) => !(sent.from === "a" && sent.to === "b");
    for (const text of ["1", "2", "3", "4"]) await a.send(d.id, text);
    await mesh.clock.advance(50);
    expect(mesh.count("bundle", "a>b")).toBe(4);
    mesh.log.length = 0;
    mesh.cut(a, b);
    await mesh.clock.advance(100);
    expect(mesh.count("bundle", "a>c")).toBe(4);
    expect(texts(d)).toEqual(["1", "2", "3", "4"]);
    expect(c.custody!.forwarder.count).toBe(0);
  });

  test("is silent on a lossy link: offered again within seconds, delivered once", async () => {
    const mesh = new TestMesh();
    mesh.isReliable = false;
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    let lost = 0;
    mesh.filter = ({ from, type }) => !(from === "b" && type === FrameType.custodyAck && lost++ < 2);
    const id = await a.send(b.id, "x");
    await mesh.clock.advance(3_500);
    expect([texts(b), stateOf(a, id)]).toEqual([["x"], "delivered"]);
  });

  test("is reached by a stick that is carried: offered once in days, and not every 20 s", async () => {
    for (const patienceMs of [0, 7 * 86_400_000]) {
      const mesh = new TestMesh();
      mesh.patienceMs = patienceMs;
      const [a, b] = (await mesh.line(["a", "b"], { lifetimeDefaultMs: 30 * 86_400_000 })) as [
        TestNode,
        TestNode,
      ];
      mesh.filter = ({ from }) => from !== "b";
      await a.send(b.id, "x");
      await mesh.clock.advance(3_600_000);
      expect(mesh.count("bundle", "a>b") === 1).toBe(patienceMs > 0);
    }
  });

  test("has no room in its lane: the node neither hangs nor loses it", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    let asked = 0;
    let isFull = true;
    mesh.hasRoom = ({ type }) => {
      if (type === FrameType.bundle && isFull && ++asked > 100) throw new Error("spins");
      return !(type === FrameType.bundle && isFull);
    };
    for (const size of [10, 10, 5_000, 5_000]) await a.send(b.id, new Uint8Array(size));
    expect(asked).toBeLessThan(30);
    isFull = false;
    a.custody!.onWritable(b.id);
    await mesh.clock.advance(300);
    expect(b.delivered.length).toBe(4);
  });

  test("takes at most its window unacknowledged, by count and by bytes; the rest follows the acks", async () => {
    for (const { count, size, most } of [
      { count: 700, size: 10, most: 512 },
      { count: 290, size: 16_000, most: 262 },
    ]) {
      const mesh = new TestMesh();
      const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
      mesh.filter = () => false;
      await a.settle(
        Promise.all(
          Array.from({ length: count }, () => a.custody!.send({ to: b.id, body: new Uint8Array(size) })),
        ),
      );
      await mesh.clock.advance(50);
      expect(mesh.count("bundle", "a>b")).toBeLessThanOrEqual(most);
      expect(mesh.count("bundle", "a>b")).toBeGreaterThan(most / 2);
      mesh.filter = () => true;
      mesh.cut(a, b);
      mesh.connect(a, b);
      await mesh.clock.advance(1_500);
      expect(b.delivered.length).toBe(count);
    }
  });

  test("urgent first, small before large, large ones by size", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    mesh.cut(a, b);
    const send = (text: string, priority: 0 | 1 | 2 | 3, size = 0) =>
      a.send(b.id, Buffer.from(text.padEnd(size, ".")), { priority });
    await send("low", 3);
    await send("big", 2, 9_000);
    await send("middle", 2, 5_000);
    await send("one", 2);
    await send("two", 2);
    await send("urgent", 0);
    mesh.connect(a, b);
    await mesh.clock.advance(100);
    expect(texts(b).map((text) => text.replaceAll(".", ""))).toEqual([
      "urgent",
      "one",
      "two",
      "middle",
      "big",
      "low",
    ]);
  });
});

describe("the source offers again", () => {
  test("15 s after the first ack, then twice as long each time, however often it was refused before", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    let refusals = 0;
    mesh.filter = ({ from, to }) => from !== "b" || to !== "c"; // b loses all that goes on
    b.disk.fail("full");
    const id = await a.send(c.id, "x");
    while (refusals++ < 5) await mesh.clock.advance(3_000);
    b.disk.fail(undefined);
    while (stateOf(a, id) !== "relayed") await mesh.clock.advance(500);
    const offers = () => mesh.count("bundle", "a>b");
    const first = offers();
    await mesh.clock.advance(10_000);
    expect(offers()).toBe(first);
    await mesh.clock.advance(8_000);
    expect(offers()).toBe(first + 1);
    await mesh.clock.advance(20_000);
    expect(offers()).toBe(first + 1);
    await mesh.clock.advance(16_000);
    expect(offers()).toBe(first + 2);
  });

  test("a full neighbour is asked less and less often, up to once a minute", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"], { inboxMessagesMax: 1, senderShare: 1 })) as [
      TestNode,
      TestNode,
    ];
    await a.send(b.id, "first");
    await mesh.clock.advance(1_000);
    await a.send(b.id, "second");
    const offers = () => mesh.count("bundle", "a>b");
    const before = offers();
    await mesh.clock.advance(600_000);
    expect(offers() - before).toBeGreaterThan(8);
    expect(offers() - before).toBeLessThan(18);
    await b.settle(b.custody!.inbox.remove(b.delivered[0]!.entry.id));
    await mesh.clock.advance(70_000);
    expect(texts(b)).toEqual(["first", "second"]);
  });

  test("at once to a neighbour that came back with another store", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(100);
    expect(stateOf(a, id)).toBe("relayed");
    b.destroy();
    await b.start();
    mesh.connect(b, c);
    await mesh.clock.advance(300);
    expect([texts(c), stateOf(a, id)]).toEqual([["x"], "delivered"]);
  });

  test("what comes back to it is acknowledged and goes another way", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(100);
    b.routes.set(c.id, [a.id]);
    a.routes.set(c.id, [c.id]);
    b.reroute();
    await mesh.clock.advance(50);
    expect(b.custody!.forwarder.count).toBe(0);
    mesh.connect(a, c);
    c.routes.set(a.id, [a.id]);
    await mesh.clock.advance(300);
    expect([texts(c), stateOf(a, id)]).toEqual([["x"], "delivered"]);
  });

  test("a lost receipt is replaced, and the message stays one", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    b.routes.delete(a.id); // the receipt cannot leave
    const id = await a.send(b.id, "x");
    await mesh.clock.advance(20_000);
    expect([texts(b), stateOf(a, id)]).toEqual([["x"], "relayed"]);
    b.routes.set(a.id, [a.id]);
    b.reroute();
    await mesh.clock.advance(60_000);
    expect([texts(b), stateOf(a, id)]).toEqual([["x"], "delivered"]);
  });
});

describe("ends", () => {
  test("expiry at the source, with the reason; the relay forgets it as well", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const known = await a.send(c.id, "x", { ttlSeconds: 5 });
    const unknown = await a.send("NOBODY", "y", { ttlSeconds: 5 });
    await mesh.clock.advance(100);
    expect(b.custody!.transit.count).toBe(1);
    await mesh.clock.advance(6_000);
    expect([stateOf(a, known), stateOf(a, unknown)]).toEqual(["expired", "expired"]);
    expect(a.sent(unknown)!.reason).toContain("nobody called NOBODY");
    expect([b.custody!.transit.count, b.custody!.transit.bytes, a.custody!.queuedBytes]).toEqual([0, 0, 0]);
    mesh.connect(b, c);
    await mesh.clock.advance(200);
    expect(c.delivered).toEqual([]);
  });

  test("withdrawn: final, not twice, and a later receipt wins", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    mesh.filter = ({ from }) => from === "a"; // b answers in vain
    const id = await a.send(b.id, "x");
    await mesh.clock.advance(100);
    await a.settle(a.custody!.outbox.withdraw(id));
    expect(stateOf(a, id)).toBe("withdrawn");
    expect(await a.custody!.outbox.withdraw(id).catch((e: { code: string }) => e.code)).toBe(
      "GODWIT_MESSAGE_FINAL",
    );
    expect(a.custody!.forwarder.count).toBe(0);
    mesh.filter = () => true;
    mesh.cut(a, b);
    mesh.connect(a, b);
    await mesh.clock.advance(200);
    expect(stateOf(a, id)).toBe("delivered");
  });

  test("the same idempotency key is the same message, also at the same time and after a restart", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const order = { to: b.id, body: Buffer.from("x"), idempotencyKey: "k" };
    const [one, two] = await a.settle(Promise.all([a.custody!.send(order), a.custody!.send(order)]));
    expect(one).toBe(two);
    expect(() => a.custody!.send({ ...order, subject: "other" })).toThrow("different message");
    a.crash();
    await a.start();
    expect(await a.settle(a.custody!.send(order))).toBe(one);
    await mesh.clock.advance(20_000);
    expect(texts(b)).toEqual(["x"]);
  });

  test("what one message of an idempotency key is refused for, the others at the same time are not", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const order = { to: b.id, body: Buffer.from("x"), idempotencyKey: "k" };
    const orders = [order, { ...order, subject: "other" }, order, { ...order, subject: "third" }, order];
    const ends = await a.settle(Promise.allSettled(orders.map((one) => a.custody!.send(one))));
    expect(ends.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    await mesh.clock.advance(20_000);
    expect(texts(b)).toEqual(["x"]);
  });

  test("finished messages keep no more than their share of bytes", async () => {
    const mesh = new TestMesh();
    const limits = { outboxBytesMax: 40_000, historyMessagesMax: 1_000 };
    const [a, b] = (await mesh.line(["a", "b"], limits)) as [TestNode, TestNode];
    for (let i = 0; i < 12; i++) {
      await a.send(b.id, new Uint8Array(4_000));
      await mesh.clock.advance(60);
    }
    expect(b.delivered.length).toBe(12);
    expect(a.custody!.outbox.count).toBe(5);
    expect((await a.settle(a.store!.load("outbox"))).length).toBe(5);
  });

  test("a full outbox says so and takes more when there is room", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"], { outboxMessagesMax: 2 })) as [TestNode, TestNode];
    mesh.cut(a, b);
    await a.send(b.id, "1");
    await a.send(b.id, "2");
    expect(await a.send(b.id, "3").catch((e: { code: string }) => e.code)).toBe("GODWIT_QUEUE_FULL");
    mesh.connect(a, b);
    await mesh.clock.advance(100);
    await a.send(b.id, "3");
  });
});

describe("the store fails", () => {
  test("while accepting: the sender is told, and the number is not used for another message", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    a.disk.fail("full");
    expect(await a.send(b.id, "x").catch((e: { code: string }) => e.code)).toBe("GODWIT_STORE_FAILED");
    a.disk.fail(undefined);
    await a.send(b.id, "y");
    await mesh.clock.advance(100);
    expect(texts(b)).toEqual(["y"]);
    expect(a.custody!.queuedBytes).toBe(0);
  });

  test("while delivering: nothing counts as delivered, and the next try delivers", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    b.disk.fail("full");
    const id = await a.send(b.id, "x");
    await mesh.clock.advance(100);
    expect([b.custody!.inbox.count, texts(b), stateOf(a, id)]).toEqual([0, [], "queued"]);
    b.disk.fail(undefined);
    await mesh.clock.advance(3_000);
    expect([b.custody!.inbox.count, texts(b), stateOf(a, id)]).toEqual([1, ["x"], "delivered"]);
  });

  test("damaged rows keep nobody from starting", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    await a.send(b.id, "kept");
    const bad = "00".repeat(16);
    await b.settle(
      b.store!.commit(
        (["outbox", "inbox", "transit", "seen", "receipt", "idempotency"] as const).flatMap((collection) =>
          ["{", "null", '{"header":"a"}'].map(
            (meta, i) => ({ op: "put", in: collection, key: `${bad}${i}`, meta }) as const,
          ),
        ),
      ),
    );
    b.crash();
    await b.start();
    await mesh.clock.advance(30_000);
    expect(new Set(texts(b))).toEqual(new Set(["kept"]));
  });
});

describe("restart from the same store at every point", () => {
  for (const who of ["a", "b", "c"]) {
    test(`of ${who}: delivered exactly once`, async () => {
      for (let atMs = 0; atMs < 60; atMs += 3) {
        const mesh = new TestMesh();
        const nodes = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
        const [a, , c] = nodes;
        const id = await a.send(c.id, "x");
        await mesh.clock.advance(atMs);
        const victim = nodes.find(({ name }) => name === who)!;
        victim.crash();
        await mesh.clock.advance(7);
        await victim.start();
        await mesh.clock.advance(40_000);
        expect({ atMs, rows: c.custody!.inbox.count, state: stateOf(a, id) }).toEqual({
          atMs,
          rows: 1,
          state: "delivered",
        });
        const times = c.delivered.length;
        expect(times === 1 || (who === "c" && times <= 1)).toBe(true);
      }
    });
  }
});

describe("hostile neighbours", () => {
  test("an ack for what they were never given changes nothing", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    await a.send(c.id, "x");
    await mesh.clock.advance(100);
    const [holding] = [...b.custody!.forwarder.toward(c.id)];
    b.receive(testId("mallory"), encodeCustodyAck([holding!.id]));
    b.receive(testId("mallory"), encodeCustodyRefuse(holding!.id, RefuseReason.expired, 1e9));
    expect(b.custody!.forwarder.count).toBe(1);
    mesh.connect(b, c);
    await mesh.clock.advance(100);
    expect(texts(c)).toEqual(["x"]);
  });

  test("repeating an ack does not put the next offer off", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    await a.send(c.id, "x");
    await mesh.clock.advance(100);
    const [holding] = [...a.custody!.forwarder.toward(c.id)];
    for (let i = 0; i < 20; i++) {
      a.receive(b.id, encodeCustodyAck([holding!.id]));
      await mesh.clock.advance(1_000);
    }
    expect(mesh.count("bundle", "a>b")).toBe(2);
  });

  test("receipts with a bad signature, of the wrong signer or for another are ignored", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(100);
    const [holding] = [...a.custody!.forwarder.toward(c.id)];
    const receipt: Receipt = {
      status: ReceiptStatus.delivered,
      messageId: id,
      bundleId: holding!.id,
      atMs: 0,
      isUnconfirmed: false,
      trace: [],
    };
    const encoded = encodeReceipt(receipt);
    const forge = (signer: TestNode, addressee: TestNode, isDamaged: boolean) => {
      const signing = receiptSigningBytes("test", signer.id, addressee.id, [receiptHash(encoded)]);
      const signature = testSign(signer.id, signing);
      if (isDamaged) signature[5]! ^= 1;
      const bundle = makeBundle(
        { kind: 1, priority: 1, source: signer.id, destination: a.id, lifetimeMs: 60_000 },
        encodeReceiptBody([encoded], signature),
      );
      a.receive(b.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
    };
    forge(c, a, true);
    forge(b, a, false);
    forge(c, b, false);
    await mesh.clock.advance(50);
    expect([stateOf(a, id), a.protocolErrors]).toEqual(["relayed", []]);
    forge(c, a, false);
    await mesh.clock.advance(50);
    expect(stateOf(a, id)).toBe("delivered");
  });

  test("a recipient that says twice that it cannot open a bundle does not burn the key that the message was sealed to since", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    let keyId = 1;
    const { seal } = a.sealer;
    const { open } = c.sealer;
    Object.assign(a.sealer, {
      keyFor: () => ({ keyId, publicKey: new Uint8Array(32).fill(keyId) }),
      seal: (...[to, key, plaintext, ...rest]: Parameters<typeof seal>) =>
        Buffer.concat([seal(to, key, plaintext, ...rest), Uint8Array.of((key as SealKey).keyId)]),
    });
    Object.assign(c.sealer, {
      open: (...[from, sealed, ...rest]: Parameters<typeof open>) => open(from, sealed.slice(0, -1), ...rest),
    });
    mesh.cut(b, c);
    const id = await a.send(c.id, "x");
    await mesh.clock.advance(100);
    const [first] = [...a.custody!.forwarder.toward(c.id)].map((holding) => holding.id);
    const refuse = (lifetimeMs: number) => {
      const encoded = encodeReceipt({
        status: ReceiptStatus.refused,
        messageId: "00".repeat(16) as MessageId,
        bundleId: first!,
        atMs: 0,
        isUnconfirmed: false,
        trace: [],
      });
      const signature = testSign(c.id, receiptSigningBytes("test", c.id, a.id, [receiptHash(encoded)]));
      const bundle = makeBundle(
        { kind: 1, priority: 1, source: c.id, destination: a.id, lifetimeMs },
        encodeReceiptBody([encoded], signature),
      );
      a.receive(b.id, encodeBundleFrame(bundle, { remainingMs: lifetimeMs, hops: 1, trace: [] }));
      return mesh.clock.advance(100);
    };
    await refuse(60_000);
    const entry = a.sent(id)!;
    expect([entry.targets.length, entry.lostKeys]).toEqual([0, ["01".repeat(32)]]);
    keyId = 2;
    a.custody!.outbox.onDirectory();
    await mesh.clock.advance(100);
    expect(entry.targets.map(({ key }) => key?.id)).toEqual([2]);
    await refuse(60_001);
    expect([entry.targets.length, entry.lostKeys]).toEqual([1, ["01".repeat(32)]]);
    mesh.connect(b, c);
    await mesh.clock.advance(1_000);
    expect([stateOf(a, id), texts(c)]).toEqual(["delivered", ["x"]]);
  });

  test("bundles that nobody can open fill no store with answers", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    for (let i = 0; i < 2_000; i++) {
      const bundle = makeBundle(
        { kind: 0, priority: 2, source: testId(`forged ${i}`), destination: b.id, lifetimeMs: 2e9 },
        new Uint8Array(40),
      );
      b.receive(a.id, encodeBundleFrame(bundle, { remainingMs: 2e9, hops: 1, trace: [] }));
    }
    await mesh.clock.advance(1_000);
    expect(b.custody!.transit.count).toBeLessThanOrEqual(110);
    await mesh.clock.advance(3_700_000);
    expect(b.custody!.transit.count).toBe(0);
  });

  test("one that ignores its window is refused before its bundles pile up", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    for (let i = 0; i < 2_100; i++) {
      const bundle = makeBundle(
        { kind: 0, priority: 2, source: a.id, destination: c.id, lifetimeMs: 60_000 },
        Buffer.from(`${i}`),
      );
      b.receive(a.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
    }
    await mesh.clock.advance(1);
    expect(mesh.count("custodyRefuse", "b>a")).toBe(52);
  });

  test("a neighbour that puts this node's id on its bundles does not have the outbox searched for each", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    const { outbox } = b.custody!;
    const page = outbox.page.bind(outbox);
    let searches = 0;
    outbox.page = (which) => (searches++, page(which));
    const header = {
      kind: BundleKind.message,
      priority: 2,
      source: b.id,
      destination: a.id,
      lifetimeMs: 60_000,
    } as const;
    for (let n = 0; n < 1_000; n++) {
      const bundle = makeBundle(header, new Uint8Array(100).fill(n & 255).fill(n >> 8, 0, 50));
      b.receive(a.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
    }
    await mesh.clock.advance(100);
    expect(searches).toBeLessThan(110);
    // One of its own that comes back is known all the same, a little later.
    await mesh.clock.advance(5_000);
    const id = await b.send(a.id, "x");
    await mesh.clock.advance(100);
    expect([texts(a), stateOf(b, id)]).toEqual([["x"], "delivered"]);
  });

  test("a neighbour over its share is refused with quota", async () => {
    const mesh = new TestMesh();
    const limits = { transitMessagesMax: 10 };
    const [a, b, c] = (await mesh.line(["a", "b", "c"], limits)) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    for (let i = 0; i < 7; i++) await a.send(c.id, `${i}`);
    await mesh.clock.advance(50);
    expect(b.custody!.transit.count).toBe(5);
    mesh.connect(b, c);
    await mesh.clock.advance(12_000);
    expect(texts(c).sort()).toEqual(["0", "1", "2", "3", "4", "5", "6"]);
  });
});

describe("transient messages", () => {
  const transient = (a: TestNode, b: TestNode, i: number) => {
    const sealer = testSealer(a.id);
    const associated = new Uint8Array(1);
    const epoch = new Uint8Array(8).fill(i);
    const inner = {
      mailEpoch: epoch,
      counter: 0,
      to: b.id,
      createdAtMs: 0,
      machines: [],
      failoverDelayMs: 0,
    };
    const plaintext = encodeInnerMessage({
      ...inner,
      subject: "",
      contentType: "",
      body: Buffer.from(`t${i}`),
    });
    b.custody!.deliverTransient(
      a.id,
      sealer.seal(b.id, undefined, plaintext, associated, epoch),
      associated,
      2,
    );
  };

  test("a hundred of them do not make the inbox forget what was delivered", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    b.routes.delete(a.id); // no receipt: the source will offer it again
    await a.send(b.id, "once");
    await mesh.clock.advance(50);
    for (let i = 1; i <= 100; i++) transient(a, b, i);
    await mesh.clock.advance(40_000);
    expect(texts(b).filter((text) => text === "once")).toEqual(["once"]);
    expect(b.delivered.length).toBe(101);
    expect((await b.settle(b.store!.load("seen"))).length).toBe(1);
  });

  test("one that comes on two ways is delivered once", async () => {
    const mesh = new TestMesh();
    const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
    transient(a, b, 1);
    transient(a, b, 1);
    await mesh.clock.advance(50);
    transient(a, b, 1);
    await mesh.clock.advance(50);
    expect(texts(b)).toEqual(["t1"]);
  });
});

test("mail that came while the clock stood in 1970 is not thrown away when the clock gets right", async () => {
  const mesh = new TestMesh();
  mesh.clock.wallOffsetMs = 0;
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  await a.send(b.id, "x");
  await mesh.clock.advance(100);
  mesh.clock.wallOffsetMs = 1_800_000_000_000;
  await mesh.clock.advance(3 * 3_600_000);
  expect(b.custody!.inbox.count).toBe(1);
  await mesh.clock.advance(31 * 24 * 3_600_000);
  expect(b.custody!.inbox.count).toBe(0);
});

test("a clock that jumps a year ahead for some hours does not empty the inbox", async () => {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"])) as [TestNode, TestNode];
  await a.send(b.id, "x");
  await mesh.clock.advance(100);
  const rightMs = mesh.clock.wallOffsetMs;
  mesh.clock.wallOffsetMs = rightMs + 365 * 24 * 3_600_000;
  await mesh.clock.advance(5 * 3_600_000);
  mesh.clock.wallOffsetMs = rightMs;
  await mesh.clock.advance(25 * 3_600_000);
  expect(b.custody!.inbox.count).toBe(1);
});

test("two relays that hand the same bundle to each other at once do not both drop it", async () => {
  const mesh = new TestMesh();
  const source = await mesh.add("s");
  const relays = [await mesh.add("r1"), await mesh.add("r2")] as const;
  const end = await mesh.add("d");
  for (const relay of relays) mesh.connect(source, relay);
  source.routes.set(end.id, [relays[0].id]);
  await source.send(end.id, "x");
  await mesh.clock.advance(1_000);
  source.routes.set(end.id, [relays[1].id]);
  await mesh.clock.advance(20_000);
  expect(relays.map((relay) => relay.custody!.transit.count)).toEqual([1, 1]);
  for (const relay of relays) mesh.cut(source, relay);
  relays[0].routes.set(end.id, [relays[1].id]);
  relays[1].routes.set(end.id, [relays[0].id]);
  mesh.connect(...relays);
  await mesh.clock.advance(40);
  expect(relays.map((relay) => relay.custody!.transit.count).toSorted()).toEqual([0, 1]);
  for (const relay of relays) {
    relay.routes.set(end.id, [end.id]);
    mesh.connect(relay, end);
  }
  await mesh.clock.advance(5_000);
  expect(texts(end)).toEqual(["x"]);
});

test("after stop no timer is left", async () => {
  const mesh = new TestMesh();
  const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  await a.send(c.id, "x");
  await a.send("NOBODY", "y");
  await mesh.clock.advance(100);
  for (const node of [a, b, c]) node.custody!.stop();
  await mesh.clock.advance(100);
  expect(mesh.clock.nextAtMs()).toBeUndefined();
});

describe("nodes that are blocked or revoked", () => {
  test("a relay drops what it carries from or for them and takes no more; the hop before does not keep it", async () => {
    const mesh = new TestMesh();
    const [a, b, c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    mesh.cut(b, c);
    await a.send(c.id, "held at b");
    await mesh.clock.advance(200);
    expect(b.custody!.transit.count).toBe(1);
    b.refused.add(c.id);
    b.custody!.onRevoked(c.id);
    expect([b.custody!.transit.count, b.custody!.forwarder.count]).toEqual([0, 0]);
    const id = await a.send(c.id, "dropped at b");
    await mesh.clock.advance(200);
    expect([b.custody!.transit.count, stateOf(a, id)]).toEqual([0, "relayed"]);
  });

  test("a system message is sealed, carried and handed over, and leaves no trace in a box", async () => {
    const mesh = new TestMesh();
    const [a, , c] = (await mesh.line(["a", "b", "c"])) as [TestNode, TestNode, TestNode];
    expect(await a.settle(a.custody!.sendSystem(c.id, Uint8Array.of(1, 2, 3), 60_000))).toBe(true);
    await mesh.clock.advance(500);
    expect(c.system).toEqual([{ from: a.id, plaintext: Uint8Array.of(1, 2, 3) }]);
    expect([c.custody!.inbox.count, a.custody!.outbox.count, a.custody!.queuedCount]).toEqual([0, 0, 0]);
  });
});
