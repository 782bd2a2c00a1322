/** Real meshes and links on one channel that all in earshot share (testing-channel.ts), in virtual time. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { HandshakeState } from "../identity/noise.ts";
import { seededRandom } from "../kernel/random.ts";
import { VERSIONS } from "../link/handshake.ts";
import { encodeMessage1, networkKeys, prologue } from "../link/hello.ts";
import { decodeChannelBeacon, encodeChannelBeacon } from "../wire/channel-beacon.ts";
import { type ChannelNode, ChannelWorld } from "./testing-channel.ts";

// Hours of ten nodes take what they take beside others: none of this is about that.
setDefaultTimeout(60_000);

const NETWORK_KEY = networkKeys("test", undefined).beaconKey;
const budgetOf = ({ airtime, station }: ChannelNode) => airtime.of(station.medium);
const heardBy = ({ mesh, station }: ChannelNode) => mesh.channels.heardOn(station.medium);
const peersOf = ({ mesh }: ChannelNode) => mesh.peers.count;
const deliveredTo = ({ heard }: ChannelNode) => heard.filter((event) => event === "delivered").length;
/** A copies B's record, as it would have it from a lookup. */
const introduce = (a: ChannelNode, b: ChannelNode) => a.mesh.records.offer(b.mesh.ownRecord.bytes);

async function nodesOn(world: ChannelWorld, count: number): Promise<ChannelNode[]> {
  const nodes: ChannelNode[] = [];
  for (let i = 0; i < count; i++) nodes.push(await world.node());
  return nodes;
}

test("ten nodes in earshot, one of them a gateway: control of all stays below 2 % of the channel, and nobody links with everybody", async () => {
  const world = new ChannelWorld(1);
  const core = await world.core();
  const gateway = await world.node();
  world.wire(gateway, core);
  const edges = await nodesOn(world, 9);
  const start = world.mark();
  await world.hours(2);
  // All of them started at once, and thought first that they were alone.
  expect(world.shareSince(start)).toBeLessThan(0.02);
  // The gateway tells each of nine who it is, from its part of the channel.
  await world.hours(14);
  for (const edge of edges) {
    expect(peersOf(edge)).toBe(1);
    expect(edge.mesh.router.hasDefaultRoute).toBe(true);
    expect(budgetOf(edge).nodes).toBe(10);
    expect(core.mesh.router.reachable(edge.identity.id)).toBe(true);
  }
  const steady = world.mark();
  await world.hours(6);
  expect(world.shareSince(steady)).toBeLessThan(0.003);
  await world.stop();
});

test("a gateway that flaps all the time makes nobody say more than the budget has", async () => {
  const world = new ChannelWorld(2);
  const core = await world.core();
  const gateway = await world.node();
  let cut = world.wire(gateway, core);
  const edges = await nodesOn(world, 9);
  await world.hours(6);
  const from = world.mark();
  for (let i = 0; i < 120; i++) {
    cut();
    await world.clock.advance(90_000);
    cut = world.wire(gateway, core);
    await world.clock.advance(90_000);
  }
  expect(world.shareSince(from)).toBeLessThan(0.02);
  // What was told last holds in the end.
  await world.hours(3);
  for (const edge of edges) expect(edge.mesh.router.hasDefaultRoute).toBe(true);
  cut();
  await world.hours(2);
  for (const edge of edges) expect(edge.mesh.router.hasDefaultRoute).toBe(false);
  await world.stop();
});

test("a link is made when mail waits for a node that is heard, by whoever has the mail, and starts at once", async () => {
  const world = new ChannelWorld(3);
  const nodes = await nodesOn(world, 6);
  await world.hours(3);
  expect(nodes.map(peersOf)).toEqual([0, 0, 0, 0, 0, 0]);
  const [a, b] = [nodes[1]!, nodes[4]!];
  introduce(a, b);
  await world.send(a, b);
  await world.clock.advance(120_000);
  expect(nodes.map(peersOf)).toEqual([0, 1, 0, 0, 1, 0]);
  expect(deliveredTo(b)).toBe(1);
  // It stands, and nobody asks whether it does.
  await world.hours(48);
  expect(nodes.map(peersOf)).toEqual([0, 1, 0, 0, 1, 0]);
  expect([a.links, b.links]).toEqual([1, 1]);
  await world.stop();
});

test("mail for a node that is not heard yet makes the link as soon as it is", async () => {
  const world = new ChannelWorld(4);
  const [a, b] = await nodesOn(world, 2);
  b!.station.isOn = false;
  await world.hours(1);
  introduce(a!, b!);
  await world.send(a!, b!);
  await world.hours(1);
  expect(a!.links).toBe(0);
  b!.station.isOn = true;
  await world.hours(3);
  expect([peersOf(a!), peersOf(b!)]).toEqual([1, 1]);
  expect(deliveredTo(b!)).toBe(1);
  await world.stop();
});

test("a neighbour that is not heard any more leads nowhere, and its link serves again when it is back", async () => {
  const world = new ChannelWorld(5);
  const [a, b] = await nodesOn(world, 2);
  await world.hours(1);
  introduce(a!, b!);
  await world.send(a!, b!);
  await world.hours(1);
  expect(a!.mesh.router.reachable(b!.identity.id)).toBe(true);
  b!.station.isOn = false;
  await world.hours(14);
  expect(a!.mesh.router.reachable(b!.identity.id)).toBe(false);
  expect(peersOf(a!)).toBe(1);
  b!.station.isOn = true;
  await world.hours(2);
  expect(a!.mesh.router.reachable(b!.identity.id)).toBe(true);
  expect(a!.links).toBe(1);
  await world.stop();
});

test("a radio that was away is heard again at once: its beacons have larger numbers than those before", async () => {
  const world = new ChannelWorld(18);
  const [a, b] = await nodesOn(world, 2);
  const numbers: number[] = [];
  world.channel.station().heardAll = (from, bytes) => {
    if (from === b!.station.address) numbers.push(decodeChannelBeacon([NETWORK_KEY], bytes)!.number);
  };
  await world.hours(24);
  b!.station.isOn = false;
  await world.hours(7);
  expect(heardBy(a!)).toEqual([]);
  b!.station.isOn = true;
  b!.replug();
  const before = numbers.length;
  await world.clock.advance(120_000);
  expect(numbers.length).toBeGreaterThan(before);
  expect(numbers).toEqual([...new Set(numbers)].sort((x, y) => x - y));
  expect(heardBy(a!).length).toBe(1);
  await world.stop();
});

for (const isLinked of [true, false])
  test(`mail that came while a channel was busy for seconds goes once it is not, ${isLinked ? "over a link that is there" : "by the link that it needs"}`, async () => {
    const world = new ChannelWorld(19);
    const [a, b] = await nodesOn(world, 2);
    await world.hours(3);
    introduce(a!, b!);
    if (isLinked) {
      await world.send(a!, b!);
      await world.hours(1);
    }
    const before = deliveredTo(b!);
    await world.clock.advance(5_000);
    a!.station.admits = 0;
    await world.clock.advance(1_000);
    await world.send(a!, b!);
    await world.clock.advance(6_000);
    expect([deliveredTo(b!), peersOf(a!)]).toEqual([before, isLinked ? 1 : 0]);
    a!.station.admits = 4;
    await world.clock.advance(90_000);
    expect(deliveredTo(b!)).toBe(before + 1);
    await world.stop();
  });

test("of two meshes on one channel neither hears the other, links with it or gives way to its names", async () => {
  const world = new ChannelWorld(6);
  const ours = await nodesOn(world, 3);
  const theirs = [await world.node("other"), await world.node("other")];
  const start = world.mark();
  await world.hours(4);
  for (const node of ours) expect(heardBy(node).length).toBe(2);
  for (const node of theirs) expect(heardBy(node).length).toBe(1);
  expect([...ours, ...theirs].map(peersOf)).toEqual([0, 0, 0, 0, 0]);
  expect(world.shareSince(start)).toBeLessThan(0.02);
  await world.stop();
});

test("forged and replayed beacons make no route and no gateway, and cost no more airtime than the budget has", async () => {
  const world = new ChannelWorld(7);
  const [a, b, c] = await nodesOn(world, 3);
  const stranger = world.channel.station();
  const overheard: Uint8Array[] = [];
  stranger.heardAll = (_, bytes) => void overheard.push(bytes.slice());
  await world.hours(3);
  const before = [a!, b!, c!].map(({ station }) => station.airtimeMs);
  const from = world.clock.monotonicMs();
  // The key of an open mesh is known to all: each beacon is another gateway, and every second one is an old one of b.
  for (let i = 0; i < 600; i++) {
    const who = i.toString(16).padStart(12, "a");
    const forged = { who, number: 2 ** 40 + i, gateway: 1, earshot: i };
    stranger.broadcast(
      i % 2 === 0 ? encodeChannelBeacon(NETWORK_KEY, forged) : overheard[i % overheard.length]!,
    );
    await world.clock.advance(30_000);
  }
  const spentMs = world.clock.monotonicMs() - from;
  for (const [at, node] of [a!, b!, c!].entries()) {
    expect(node.mesh.router.hasDefaultRoute).toBe(false);
    expect(node.mesh.router.routes().map(({ destination }) => destination)).toEqual([]);
    expect(node.mesh.peers.count).toBe(0);
    expect((node.station.airtimeMs - before[at]!) / spentMs).toBeLessThan(0.02 / 3);
    expect(heardBy(node).length).toBeLessThanOrEqual(256);
  }
  await world.stop();
});

test("a beacon that claims another's name moves nobody and keeps no dead neighbour alive when it is old", async () => {
  const world = new ChannelWorld(8);
  const [a, b] = await nodesOn(world, 2);
  const stranger = world.channel.station();
  let last: Uint8Array | undefined;
  stranger.heardAll = (from, bytes) => void (from === b!.station.address && (last = bytes.slice()));
  await world.hours(2);
  b!.station.isOn = false;
  for (let i = 0; i < 100; i++) {
    stranger.broadcast(last!);
    await world.clock.advance(300_000);
  }
  expect(heardBy(a!)).toEqual([]);
  await world.stop();
});

test("a flood of forged handshakes is answered within the budget, and the node's own beacons go on", async () => {
  const world = new ChannelWorld(9);
  const [a, b] = await nodesOn(world, 2);
  await world.hours(2);
  const stranger = world.channel.station();
  const before = {
    airtimeMs: a!.station.airtimeMs,
    atMs: world.clock.monotonicMs(),
    beacons: budgetOf(a!).sums.beacons.usedMs,
  };
  const random = seededRandom(99);
  for (let i = 0; i < 1_000; i++) {
    const state = new HandshakeState({
      pattern: "XX",
      role: "initiator",
      prologue: prologue("XX", VERSIONS, "test"),
      s: generateIdentity(random).dh,
      random,
    });
    const message = encodeMessage1(networkKeys("test", undefined), undefined, VERSIONS, state.writeMessage());
    stranger.forge(a!.station.address, message);
    await world.clock.advance(20_000);
  }
  const spentMs = world.clock.monotonicMs() - before.atMs;
  expect((a!.station.airtimeMs - before.airtimeMs) / spentMs).toBeLessThan(0.012);
  expect(budgetOf(a!).sums.handshakes.refused).toBeGreaterThan(500);
  expect(budgetOf(a!).sums.beacons.usedMs).toBeGreaterThan(before.beacons);
  expect(heardBy(b!).length).toBe(1);
  await world.stop();
});

test("where the channel is busy nobody says that he is there, and nobody is taken for gone because of that", async () => {
  const world = new ChannelWorld(10);
  const [a, b] = await nodesOn(world, 2);
  await world.hours(2);
  for (const { station } of [a!, b!]) station.foreignUtilisation = 0.3;
  const used = budgetOf(a!).sums.beacons.usedMs;
  await world.hours(24);
  expect(budgetOf(a!).sums.beacons.usedMs).toBe(used);
  expect(heardBy(a!).length).toBe(1);
  // Only what mail needs, above 40 %: the link for it is made all the same.
  for (const { station } of [a!, b!]) station.foreignUtilisation = 0.6;
  introduce(a!, b!);
  await world.send(a!, b!);
  await world.hours(1);
  expect(deliveredTo(b!)).toBe(1);
  await world.stop();
});

test.each([0.3, 0.6])(
  "on a channel that is busy with %d from the very start mail makes its link all the same, and who has none is silent",
  async (foreign) => {
    const world = new ChannelWorld(14);
    const nodes = await nodesOn(world, 6);
    for (const { station } of nodes) station.foreignUtilisation = foreign;
    const [a, b, ...others] = nodes as [ChannelNode, ChannelNode, ...ChannelNode[]];
    await world.hours(3);
    expect(nodes.map((node) => heardBy(node).length)).toEqual(nodes.map(() => 0));
    introduce(a, b);
    const from = world.mark();
    await world.send(a, b);
    await world.hours(2);
    expect(deliveredTo(b)).toBe(1);
    for (const node of others) expect(budgetOf(node).sums.beacons.usedMs).toBe(0);
    // Mail among it.
    expect(world.shareSince(from)).toBeLessThan(0.02);
    await world.stop();
  },
);

test("nodes that do not hear each other reach each other by a gateway that hears both", async () => {
  const world = new ChannelWorld(11);
  const core = await world.core();
  const gateway = await world.node();
  world.wire(gateway, core);
  const edges = await nodesOn(world, 6);
  for (let i = 0; i < 3; i++)
    for (let j = 3; j < 6; j++) world.channel.hide(edges[i]!.station, edges[j]!.station);
  const start = world.mark();
  await world.hours(14);
  expect(world.shareSince(start)).toBeLessThan(0.02);
  for (const edge of edges) expect(edge.mesh.router.hasDefaultRoute).toBe(true);
  const [a, b] = [edges[0]!, edges[5]!];
  introduce(a, b);
  await world.send(a, b);
  await world.hours(1);
  expect(deliveredTo(b)).toBe(1);
  expect(peersOf(a)).toBe(1);
  await world.stop();
});

test("whose neighbours all hear his mail says nothing beside it", async () => {
  const world = new ChannelWorld(12);
  const [a, b] = await nodesOn(world, 2);
  introduce(a!, b!);
  introduce(b!, a!);
  await world.hours(1);
  await world.send(a!, b!);
  await world.hours(2);
  const used = [a!, b!].map((node) => budgetOf(node).sums.beacons.usedMs);
  for (let i = 0; i < 48; i++) {
    await world.send(a!, b!);
    await world.hours(0.25);
  }
  expect([a!, b!].map((node) => budgetOf(node).sums.beacons.usedMs)).toEqual(used);
  expect(a!.mesh.router.reachable(b!.identity.id)).toBe(true);
  await world.stop();
});

test("a place on the channel that somebody names is not called for that; one that the operator wrote down is", async () => {
  const world = new ChannelWorld(13);
  const [a, b, c] = await nodesOn(world, 3);
  a!.mesh.hints.add("told", { endpoint: b!.station.address, nodeId: b!.identity.id }, "member");
  await world.hours(6);
  expect([a!, b!, c!].map(peersOf)).toEqual([0, 0, 0]);
  a!.mesh.hints.add("static", { endpoint: c!.station.address, permanent: true }, "operator");
  await world.hours(2);
  expect([a!, b!, c!].map(peersOf)).toEqual([1, 0, 1]);
  await world.stop();
});

test("a node that is heard and does not hear is called ever less often, and the caller's beacons go on", async () => {
  const world = new ChannelWorld(14);
  const [a, b] = await nodesOn(world, 2);
  await world.hours(2);
  b!.station.screen = () => undefined;
  introduce(a!, b!);
  await world.send(a!, b!);
  const before = {
    handshakes: budgetOf(a!).sums.handshakes.usedMs,
    beacons: budgetOf(a!).sums.beacons.usedMs,
  };
  // Somebody looks for a way all the time.
  for (let i = 0; i < 24 * 60; i++) {
    a!.mesh.channels.want(b!.identity.id, true);
    await world.clock.advance(60_000);
  }
  const message1Ms = budgetOf(a!).costMs(107, false);
  const calls = (budgetOf(a!).sums.handshakes.usedMs - before.handshakes) / message1Ms;
  // Some for each beacon of the other one, of which there is one an hour or two.
  expect(calls).toBeGreaterThan(10);
  expect(calls).toBeLessThan(24 * 8);
  expect(budgetOf(a!).sums.beacons.usedMs - before.beacons).toBeGreaterThan(10 * world.channel.costMs(22));
  await world.stop();
});
