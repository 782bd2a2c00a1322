import { expect, test } from "bun:test";
import {
  blockSum,
  decodeChunk,
  decodeWant,
  encodeChunk,
  encodeCustodyRefuse,
  encodeOffer,
  makeBundle,
  RefuseReason,
  type BundleHeader,
} from "../../wire/bundle.ts";
import { BLOCK_BYTES, FrameType } from "../../wire/constants.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { pattern, TestMesh, type Sent, type TestNode } from "../testing.ts";
import { MEGABYTE, chunkBytes, refusals, received, line } from "./testing-cut-through.ts";

const leftOvers = async (node: TestNode) => (await node.settle(node.store!.load("chunk"))).length;

/** Stops the chunks between two nodes once so many bytes passed. */
function stopsAfter(mesh: TestMesh, between: string, bytes: number): () => boolean {
  let passed = 0;
  mesh.filter = ({ type, from, to, bytes: frame }) => {
    if (type === FrameType.chunk && `${from}>${to}` === between) passed += frame.length;
    return passed <= bytes || type !== FrameType.chunk || `${from}>${to}` !== between;
  };
  return () => passed > bytes;
}

/** A neighbour that offers what it likes. */
async function liarAt(mesh: TestMesh, b: TestNode): Promise<TestNode> {
  const liar = await mesh.add("liar");
  mesh.connect(liar, b);
  return liar;
}

/** Offers `told` under an id that is another bundle's, with sums that fit. Answers how to send what is wanted of it. */
function lie(
  liar: TestNode,
  b: TestNode,
  to: TestNode,
  told: Uint8Array,
  seed = 1,
): (bytesMax?: number) => void {
  const { mesh } = b;
  const header: BundleHeader = {
    kind: 0,
    priority: 1,
    source: liar.id,
    destination: to.id,
    lifetimeMs: 3_600_000,
  };
  const { id } = makeBundle(header, pattern(told.length, 7 + seed));
  const sums: Uint8Array[] = [];
  for (let at = 0; at < told.length; at += BLOCK_BYTES)
    sums.push(blockSum(told.subarray(at, at + BLOCK_BYTES)));
  const journey = { remainingMs: 3_600_000, hops: 1, trace: [] };
  b.receive(liar.id, encodeOffer({ id, header, journey, sealedBytes: told.length, sums: concatBytes(sums) }));
  return (bytesMax = Number.POSITIVE_INFINITY) => {
    const wants = mesh.log.filter(
      (sent) => sent.type === FrameType.want && sent.to === "liar" && decodeWant(sent.bytes).id === id,
    );
    const want = wants.length === 0 ? undefined : decodeWant(wants.at(-1)!.bytes);
    if (want === undefined) return;
    const end = Math.min(want.offset + want.length, want.offset + bytesMax);
    for (let at = want.offset; at < end; at += 32_768)
      b.receive(liar.id, encodeChunk(id, at, told.subarray(at, Math.min(end, at + 32_768))));
  };
}

test("a large message goes on while it still arrives, and is acknowledged only as a whole", async () => {
  const { mesh, a, b, c } = await line();
  const body = pattern(8 * MEGABYTE);
  await a.send(c.id, body);
  await mesh.clock.advance(1_000);
  expect(await received(c)).toEqual(body);
  const first = mesh.log.findIndex(({ type, from }) => type === FrameType.chunk && from === "b");
  const last = mesh.log.findLastIndex(({ type, from }) => type === FrameType.chunk && from === "a");
  const acked = mesh.log.findIndex(
    ({ type, from, to }) => type === FrameType.custodyAck && from === "b" && to === "a",
  );
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(last);
  expect(acked).toBeGreaterThan(last);
  expect(chunkBytes(mesh, "b>c")).toBeLessThan(8.3 * MEGABYTE);
  expect([await leftOvers(b), await leftOvers(c)]).toEqual([0, 0]);
  expect([b.custody!.transit.count, b.custody!.forwarder.count]).toEqual([0, 0]);
});

test("a source whose chunks do not fit the id costs the next hop less than the body, once, and no relay is blamed", async () => {
  const { mesh, b, c } = await line();
  const liar = await liarAt(mesh, b);
  const told = pattern(2 * MEGABYTE);
  for (let round = 0; round < 3; round++) {
    const send = lie(liar, b, c, told, round);
    for (let i = 0; i < 20; i++) {
      send();
      await mesh.clock.advance(20);
    }
    await mesh.clock.advance(10_000);
    expect(refusals(mesh, "b>liar").length).toBe(round + 1);
    // What is under way to the next hop ends before the last block, and only the first time anything is.
    expect(chunkBytes(mesh, "b>c")).toBeGreaterThan(0);
    expect(chunkBytes(mesh, "b>c")).toBeLessThanOrEqual(2 * MEGABYTE);
  }
  expect(new Set(refusals(mesh, "b>liar"))).toEqual(new Set([RefuseReason.damaged]));
  // The relay took its offer back; the next hop blames it for nothing.
  expect(refusals(mesh, "b>c")).toEqual([RefuseReason.damaged]);
  expect(refusals(mesh, "c>b")).toEqual([]);
  expect([await leftOvers(b), await leftOvers(c)]).toEqual([0, 0]);
  expect([b.custody!.transit.count, b.custody!.forwarder.count]).toEqual([0, 0]);
});

test("behind a liar the mail of honest ones goes through the same relay as before, while it arrives", async () => {
  const { mesh, a, b, c } = await line();
  const liar = await liarAt(mesh, b);
  const send = lie(liar, b, c, pattern(2 * MEGABYTE));
  const body = pattern(8 * MEGABYTE);
  await a.send(c.id, body);
  for (let i = 0; i < 30; i++) {
    send();
    await mesh.clock.advance(20);
  }
  mesh.log.length = 0;
  const second = pattern(8 * MEGABYTE, 37);
  await a.send(c.id, second);
  await mesh.clock.advance(1_000);
  expect([await received(c), await received(c, 1)]).toEqual([body, second]);
  const first = mesh.log.findIndex(({ type, from }) => type === FrameType.chunk && from === "b");
  expect(first).toBeLessThan(
    mesh.log.findLastIndex(({ type, from }) => type === FrameType.chunk && from === "a"),
  );
  expect(refusals(mesh, "b>a")).toEqual([]);
});

test("two that drip a byte now and then do not keep whole mail from the next hop", async () => {
  const { mesh, a, b, c } = await line();
  const liar = await liarAt(mesh, b);
  const told = pattern(8 * MEGABYTE);
  const drips = [lie(liar, b, c, told, 1), lie(liar, b, c, told, 2)];
  await mesh.clock.advance(20);
  for (let i = 0; i < 6; i++) {
    for (const drip of drips) drip();
    await mesh.clock.advance(20);
  }
  await mesh.clock.advance(1_000);
  expect(mesh.count("offer", "b>c")).toBe(2);
  const body = pattern(MEGABYTE);
  await a.send(c.id, body);
  for (let i = 0; i < 20; i++) {
    for (const drip of i % 3 === 0 ? drips : []) drip(1_000);
    await mesh.clock.advance(1_000);
  }
  expect(await received(c)).toEqual(body);
});

test("a relay that dies in the middle goes on where it was, and so does the next hop", async () => {
  for (const who of ["a", "b", "c"] as const) {
    const { mesh, a, b, c } = await line();
    const isStopped = stopsAfter(mesh, "a>b", 2 * MEGABYTE);
    const body = pattern(4 * MEGABYTE);
    const id = await a.send(c.id, body);
    await mesh.clock.advance(300);
    expect(isStopped()).toBe(true);
    const dying = { a, b, c }[who];
    dying.crash();
    await mesh.clock.advance(50);
    mesh.filter = () => true;
    mesh.log.length = 0;
    await dying.start();
    await mesh.clock.advance(60_000);
    expect(await received(c)).toEqual(body);
    expect(c.delivered.length).toBe(1);
    expect(a.sent(id)!.state).toBe("delivered");
    expect(chunkBytes(mesh, "a>b")).toBeLessThan(3 * MEGABYTE);
    expect(chunkBytes(mesh, "b>c")).toBeLessThan(3.5 * MEGABYTE);
    expect([await leftOvers(b), await leftOvers(c)]).toEqual([0, 0]);
    expect([b.custody!.transit.count, b.custody!.forwarder.count]).toEqual([0, 0]);
  }
});

test("a link to the source that is cut in the middle takes the offer to the next hop back, and it goes on later", async () => {
  const { mesh, a, b, c } = await line();
  const isStopped = stopsAfter(mesh, "a>b", 2 * MEGABYTE);
  const body = pattern(4 * MEGABYTE);
  await a.send(c.id, body);
  await mesh.clock.advance(300);
  expect(isStopped()).toBe(true);
  mesh.cut(a, b);
  await mesh.clock.advance(20);
  expect(refusals(mesh, "b>c")).toEqual([RefuseReason.busy]);
  expect(b.custody!.forwarder.count).toBe(0);
  mesh.filter = () => true;
  mesh.log.length = 0;
  await mesh.clock.advance(1_000);
  mesh.connect(a, b);
  await mesh.clock.advance(5_000);
  expect(await received(c)).toEqual(body);
  expect(chunkBytes(mesh, "b>c")).toBeLessThan(3.5 * MEGABYTE);
});

test("a relay whose disk is full in the middle says so, keeps what it has, and goes on when there is room", async () => {
  const { mesh, a, b, c } = await line();
  let chunks = 0;
  mesh.filter = ({ type, to }: Sent) => {
    if (type === FrameType.chunk && to === "b" && ++chunks === 60) b.disk.fail("full");
    return true;
  };
  const body = pattern(4 * MEGABYTE);
  const id = await a.send(c.id, body);
  await mesh.clock.advance(3_000);
  expect(refusals(mesh, "b>a")).toContain(RefuseReason.full);
  expect(refusals(mesh, "b>c")).toContain(RefuseReason.busy);
  expect(c.delivered.length).toBe(0);
  b.disk.fail(undefined);
  await mesh.clock.advance(120_000);
  expect(await received(c)).toEqual(body);
  expect(a.sent(id)!.state).toBe("delivered");
  expect([await leftOvers(b), await leftOvers(c)]).toEqual([0, 0]);
});

test("two sources that race for what a relay may carry: one waits, both arrive, and no more lies there than may", async () => {
  const mesh = new TestMesh();
  const limits = { transitBytesMax: 3 * MEGABYTE, neighbourShare: 1 };
  const b = await mesh.add("b", limits);
  const [a, x, c] = await Promise.all(["a", "x", "c"].map((name) => mesh.add(name)));
  for (const source of [a!, x!]) {
    source.routes.set(c!.id, [b.id]);
    c!.routes.set(source.id, [b.id]);
    b.routes.set(source.id, [source.id]);
    mesh.connect(source, b);
  }
  b.routes.set(c!.id, [c!.id]);
  mesh.connect(b, c!);
  const bodies = [pattern(2 * MEGABYTE), pattern(2 * MEGABYTE, 37)];
  const ids = [await a!.send(c!.id, bodies[0]!), await x!.send(c!.id, bodies[1]!)];
  let most = 0;
  for (let i = 0; i < 40; i++) {
    await mesh.clock.advance(500);
    const rows = [...(await b.settle(b.store!.load("chunk"))), ...(await b.settle(b.store!.load("transit")))];
    most = Math.max(
      most,
      rows.reduce((total, { bodyBytes }) => total + bodyBytes, 0),
    );
  }
  expect([a!.sent(ids[0]!)!.state, x!.sent(ids[1]!)!.state]).toEqual(["delivered", "delivered"]);
  expect([...refusals(mesh, "b>a"), ...refusals(mesh, "b>x")].length).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(3 * MEGABYTE);
});

test("what the next hop has already is fetched no further", async () => {
  const { mesh, a, b, c } = await line();
  mesh.connect(a, c);
  a.routes.set(c.id, [c.id, b.id]);
  // The receipt does not come back, so that it is offered another way.
  mesh.filter = ({ type, from }) => !(type === FrameType.bundle && from === "c");
  await a.send(c.id, pattern(15 * MEGABYTE));
  await mesh.clock.advance(2_000);
  expect(c.delivered.length).toBe(1);
  a.routes.set(c.id, [b.id]);
  mesh.log.length = 0;
  await mesh.clock.advance(20_000);
  expect(c.delivered.length).toBe(1);
  expect(chunkBytes(mesh, "b>c")).toBe(0);
  expect(chunkBytes(mesh, "a>b")).toBeLessThan(8 * MEGABYTE);
  expect(mesh.count("custodyAck", "b>a")).toBeGreaterThan(0);
  expect([await leftOvers(b), b.custody!.forwarder.count]).toEqual([0, 0]);
});

test("an offer that is taken back by another than who made it changes nothing", async () => {
  const { mesh, a, c } = await line();
  const isStopped = stopsAfter(mesh, "a>b", MEGABYTE);
  await a.send(c.id, pattern(4 * MEGABYTE));
  await mesh.clock.advance(300);
  expect(isStopped()).toBe(true);
  const chunk = mesh.log.findLast(({ type, to }) => type === FrameType.chunk && to === "c")!;
  const { id } = decodeChunk(chunk.bytes);
  const stranger = await liarAt(mesh, c);
  for (const reason of [RefuseReason.damaged, RefuseReason.busy]) {
    c.receive(stranger.id, encodeCustodyRefuse(id, reason, 1_000));
  }
  mesh.filter = () => true;
  await mesh.clock.advance(30_000);
  expect(c.delivered.length).toBe(1);
});
