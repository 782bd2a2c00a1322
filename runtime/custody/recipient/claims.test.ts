import { describe, expect, test } from "bun:test";
import { godwitError } from "../../kernel/errors.ts";
import { TestMesh, testId, type TestNode } from "../testing.ts";

/** A sender and two machines of one location, all neighbours of each other. */
async function location(failoverDelayMs = 10_000) {
  const mesh = new TestMesh();
  const nodes: TestNode[] = [];
  for (const name of ["s", "x", "y"]) nodes.push(await mesh.add(name, { failoverDelayMs }));
  const [s, x, y] = nodes as [TestNode, TestNode, TestNode];
  for (const node of nodes)
    for (const other of nodes) if (node !== other) node.routes.set(other.id, [other.id]);
  mesh.connect(s, x);
  mesh.connect(s, y);
  mesh.connect(x, y);
  s.names.set("LOC", [x.id, y.id]);
  const rows = () => (x.custody?.inbox.count ?? 0) + (y.custody?.inbox.count ?? 0);
  const receipt = (id: string) => s.sent(id)!.receipt;
  return { mesh, s, x, y, rows, receipt };
}

describe("a message to a location of two machines", () => {
  test("both up: the first of the list delivers, confirmed, and the other drops its copy", async () => {
    const { mesh, s, x, y, rows, receipt } = await location();
    const id = await s.send("LOC", "hi");
    await mesh.clock.advance(500);
    expect([x.custody!.inbox.count, y.custody!.inbox.count]).toEqual([1, 0]);
    expect(receipt(id)).toMatchObject({ by: x.id, isUnconfirmed: false });
    await mesh.clock.advance(120_000);
    expect(rows()).toBe(1);
    for (const node of [x, y]) {
      expect(node.custody!.queuedCount).toBe(0);
      expect(await node.settle(node.store!.load("transit"))).toEqual([]);
    }
  });

  test("the first dead: the second waits the delay, delivers and says unconfirmed", async () => {
    const { mesh, s, x, y, receipt } = await location();
    x.crash();
    const id = await s.send("LOC", "hi");
    await mesh.clock.advance(9_900);
    expect(y.custody!.inbox.count).toBe(0);
    await mesh.clock.advance(300);
    expect(y.custody!.inbox.count).toBe(1);
    expect(receipt(id)).toMatchObject({ by: y.id, isUnconfirmed: true });
  });

  test("the first said farewell: the second delivers at once, and says unconfirmed", async () => {
    const { mesh, s, x, y, receipt } = await location(60_000);
    x.crash();
    y.knows(x, "left");
    const id = await s.send("LOC", "hi");
    await mesh.clock.advance(500);
    expect(y.custody!.inbox.count).toBe(1);
    expect(receipt(id)).toMatchObject({ by: y.id, isUnconfirmed: true });
  });

  test("the first says farewell while the second waits for it: that waits no longer", async () => {
    const { mesh, s, x, y } = await location(60_000);
    x.crash();
    await s.send("LOC", "hi");
    await mesh.clock.advance(20_000);
    expect(y.custody!.inbox.count).toBe(0);
    y.knows(x, "left");
    await mesh.clock.advance(100);
    expect(y.custody!.inbox.count).toBe(1);
  });

  test("the first failed: the second waits 5 s, or the delay where that is shorter", async () => {
    for (const [delayMs, waitMs] of [
      [60_000, 5_000],
      [2_000, 2_000],
    ] as const) {
      const { mesh, s, x, y, receipt } = await location(delayMs);
      x.crash();
      y.knows(x, "failed");
      const id = await s.send("LOC", "hi");
      await mesh.clock.advance(waitMs - 100);
      expect(y.custody!.inbox.count).toBe(0);
      await mesh.clock.advance(400);
      expect(y.custody!.inbox.count).toBe(1);
      expect(receipt(id)).toMatchObject({ by: y.id, isUnconfirmed: true });
    }
  });

  test("the first is merely silent: the second waits the delay", async () => {
    const { mesh, s, x, y } = await location(60_000);
    x.crash();
    y.knows(x, "there");
    await s.send("LOC", "hi");
    await mesh.clock.advance(59_000);
    expect(y.custody!.inbox.count).toBe(0);
    await mesh.clock.advance(1_500);
    expect(y.custody!.inbox.count).toBe(1);
  });

  test("who granted and whose claimer left then waits 5 s for its last words, and delivers", async () => {
    const { mesh, s, x, y } = await location(60_000);
    mesh.filter = ({ from, to }) => !(from === "y" && to === "x"); // x never hears the grant
    await s.send("LOC", "hi");
    await mesh.clock.advance(200);
    x.crash();
    y.knows(x, "left");
    await mesh.clock.advance(4_500);
    expect(y.custody!.inbox.count).toBe(0);
    await mesh.clock.advance(1_000);
    expect(y.custody!.inbox.count).toBe(1);
  });

  test("a machine that may run twice delivers no copy that it holds until it is known which of the two goes on", async () => {
    const { mesh, s, x, y } = await location();
    x.crash();
    await s.send("LOC", "hi");
    await mesh.clock.advance(5_000);
    y.isContested = true;
    await mesh.clock.advance(60_000);
    expect(y.custody!.inbox.count).toBe(0);
    y.isContested = false;
    await mesh.clock.advance(10_200);
    expect(y.custody!.inbox.count).toBe(1);
  });

  test("a mail for a machine that may run twice waits with its sender until it is known which of the two goes on", async () => {
    const { mesh, s, x } = await location();
    x.isContested = true;
    const id = await s.send(x.id, "hi");
    await mesh.clock.advance(30_000);
    expect([x.custody!.inbox.count, s.sent(id)!.state]).toEqual([0, "queued"]);
    x.isContested = false;
    await mesh.clock.advance(5_000);
    expect(x.custody!.inbox.count).toBe(1);
  });

  test("a grant is kept over a restart, and the claimer dies: the one that granted delivers in the end", async () => {
    const { mesh, s, x, y } = await location();
    mesh.filter = ({ from, to }) => !(from === "y" && to === "x"); // x never hears the grant
    await s.send("LOC", "hi");
    await mesh.clock.advance(100);
    x.crash();
    y.crash();
    mesh.filter = () => true;
    await y.start();
    await mesh.clock.advance(19_000);
    expect(y.custody!.inbox.count).toBe(0);
    await mesh.clock.advance(12_000);
    expect(y.custody!.inbox.count).toBe(1);
  });

  test("cut off from each other: each delivers once its delay is over; no copy stays behind when they meet", async () => {
    const { mesh, s, x, y, rows } = await location();
    mesh.cut(x, y);
    x.routes.delete(y.id);
    y.routes.delete(x.id);
    await s.send("LOC", "hi");
    await mesh.clock.advance(25_000);
    expect(rows()).toBe(2);
    expect([...x.delivered, ...y.delivered].every(({ entry }) => entry.isUnconfirmed)).toBe(true);
    x.routes.set(y.id, [y.id]);
    y.routes.set(x.id, [x.id]);
    mesh.connect(x, y);
    await mesh.clock.advance(60_000);
    expect(rows()).toBe(2);
    for (const node of [x, y]) expect(await node.settle(node.store!.load("transit"))).toEqual([]);
  });

  test("a restart of both with the copies held: delivered once", async () => {
    for (let atMs = 0; atMs < 40; atMs += 4) {
      const { mesh, s, x, y, rows, receipt } = await location();
      const id = await s.send("LOC", "hi");
      await mesh.clock.advance(atMs);
      x.crash();
      y.crash();
      await x.start();
      await y.start();
      await mesh.clock.advance(90_000);
      expect({ atMs, rows: rows(), by: receipt(id)?.by }).toEqual({ atMs, rows: 1, by: expect.anything() });
    }
  });

  test("a store that fails while it delivers: the copy is held and delivered later, and no other was told that it was", async () => {
    const { mesh, s, x, y, rows } = await location();
    mesh.filter = ({ from, to }) => {
      if (from === "y" && to === "x") x.disk.fail("full");
      return true;
    };
    await s.send("LOC", "hi");
    await mesh.clock.advance(200);
    expect(rows()).toBe(0);
    mesh.filter = () => true;
    x.disk.fail(undefined);
    await mesh.clock.advance(60_000);
    expect(rows()).toBe(1);
    void y;
  });
});

test("one machine that cannot open its copy does not end the message for the other", async () => {
  const { mesh, s, x, y, receipt } = await location();
  x.sealer.open = () => {
    throw godwitError("GODWIT_DECODE", "the key is gone");
  };
  mesh.cut(s, y);
  const id = await s.send("LOC", "hi");
  await mesh.clock.advance(500);
  expect(s.sent(id)!.state).toBe("relayed");
  mesh.connect(s, y);
  await mesh.clock.advance(12_000);
  expect([y.custody!.inbox.count, receipt(id)?.by]).toEqual([1, y.id]);
});

describe("hostile neighbours", () => {
  test("a stranger's claim before the message came holds nothing up", async () => {
    const { mesh, s, x } = await location();
    const mallory = await mesh.add("m");
    mesh.connect(mallory, x);
    const id = await s.send("LOC", "hi");
    const { BundleKind, encodeBundleFrame, encodeBundleHeader, makeBundle } =
      await import("../../wire/bundle.ts");
    const { encodeClaim } = await import("../../wire/message.ts");
    const header = {
      kind: BundleKind.claim,
      priority: 0,
      source: mallory.id,
      destination: x.id,
      lifetimeMs: 9_999,
    } as const;
    const sealed = mallory.sealer.seal(
      x.id,
      undefined,
      encodeClaim({ messageId: id, sender: s.id }),
      encodeBundleHeader(header),
      new Uint8Array(16),
    );
    x.receive(
      mallory.id,
      encodeBundleFrame(makeBundle(header, sealed), { remainingMs: 9_999, hops: 1, trace: [] }),
    );
    await mesh.clock.advance(500);
    expect(x.custody!.inbox.count).toBe(1);
  });

  test("a machine in the list that cannot be sealed to delays the message and crashes nobody", async () => {
    const { mesh, s, x, y } = await location();
    const ghost = testId("ghost");
    s.names.set("LOC", [x.id, y.id, ghost]);
    for (const node of [x, y]) {
      const { sealer } = node;
      const { seal } = sealer;
      sealer.seal = (to, ...rest) => {
        if (to === ghost) throw new Error("bad key");
        return seal(to, ...rest);
      };
    }
    await s.send("LOC", "hi");
    await mesh.clock.advance(60_000);
    expect(x.delivered.length + y.delivered.length).toBe(1);
  });
});
