import { expect, test } from "bun:test";
import { ChannelBudget } from "../kernel/airtime.ts";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { encodeChannelBeacon, whoIs } from "../wire/channel-beacon.ts";
import { Beacons, RESET_GAP_MS, URGENT_GAP_MS } from "./beacons.ts";
import { Earshot, HEARD_MAX } from "./earshot.ts";
import { BEACON_MIN_MS, HEARD_FOR_MS } from "./presence.ts";
import { type Station, TestChannel } from "./testing.ts";

const key = new Uint8Array(32).fill(1);

class Node {
  readonly station: Station;
  readonly budget: ChannelBudget;
  readonly beacons: Beacons;
  readonly counts: Record<string, number> = {};
  gateway: number | undefined;
  isKnownByTraffic = false;
  wanted: string | undefined;
  number = 0;
  readonly needed = new Set<string>();
  readonly name: string;

  constructor(clock: ManualClock, channel: TestChannel, index: number) {
    this.station = channel.station();
    this.budget = new ChannelBudget(clock, this.station.medium);
    this.name = whoIs(key, formatNodeId(new Uint8Array(32).fill(index + 1)));
    this.beacons = new Beacons({
      clock,
      random: seededRandom(index),
      budget: this.budget,
      keys: () => [key],
      ownName: () => this.name,
      nextNumber: () => 5 * 2 ** 24 + ++this.number,
      gateway: () => this.gateway,
      isNeeded: (who) => this.needed.has(who),
      isKnownByTraffic: () => this.isKnownByTraffic,
      heard() {},
      passedOver() {},
      look() {},
      linkedUnheard: () => 0,
      wanted: () => this.wanted,
      count: (outcome) => (this.counts[outcome] = (this.counts[outcome] ?? 0) + 1),
    });
  }

  get sent(): number {
    return this.counts["sent"] ?? 0;
  }

  get heard(): number {
    return this.beacons.earshot.all.length;
  }
}

function world(count: number) {
  const clock = new ManualClock();
  const channel = new TestChannel(clock, seededRandom(3));
  const nodes = Array.from({ length: count }, (_, index) => new Node(clock, channel, index));
  return { clock, channel, nodes, hours: (many: number) => clock.advance(many * 3_600_000) };
}

test("all hear of all, and say less and less", async () => {
  const { nodes, hours } = world(8);
  await hours(1);
  expect(nodes.map(({ heard }) => heard)).toEqual(Array(8).fill(7));
  await hours(3);
  const before = nodes.map(({ sent }) => sent);
  await hours(24);
  // Every second interval of an hour at least, and about that where all hear the same.
  const sent = nodes.map((node, at) => node.sent - before[at]!);
  expect(Math.min(...sent)).toBeGreaterThanOrEqual(11);
  expect(sent.reduce((sum, one) => sum + one, 0)).toBeLessThan(8 * 20);
  expect(nodes.map(({ heard }) => heard)).toEqual(Array(8).fill(7));
});

test("who is heard by others than those that say that they hear the same is not silent for their sake", async () => {
  const { channel, nodes, hours } = world(6);
  // A line: each hears its two neighbours, and no two hear the same.
  for (let i = 0; i < 6; i++)
    for (let j = i + 2; j < 6; j++) channel.hide(nodes[i]!.station, nodes[j]!.station);
  await hours(4);
  const before = nodes.map(({ sent }) => sent);
  await hours(24);
  for (const [at, node] of nodes.entries()) expect(node.sent - before[at]!).toBeGreaterThanOrEqual(22);
});

test("a node that is gone is missed, a newcomer is answered by beacons, and a change is told to all", async () => {
  const { clock, nodes, hours } = world(5);
  await hours(6);
  nodes[4]!.station.isOn = false;
  nodes[4]!.beacons.stop();
  await clock.advance(HEARD_FOR_MS + 3_600_000);
  expect(nodes.slice(0, 4).map(({ heard }) => heard)).toEqual([3, 3, 3, 3]);
  const late = new Node(clock, nodes[0]!.station.channel, 9);
  await clock.advance(RESET_GAP_MS + 4 * BEACON_MIN_MS);
  expect(late.heard).toBe(4);
  nodes[1]!.gateway = 7;
  nodes[1]!.beacons.changed();
  await clock.advance(RESET_GAP_MS + 4 * BEACON_MIN_MS);
  expect(late.beacons.earshot.get(nodes[1]!.name)?.gateway).toBe(7);
});

test("what a known node says of itself now is said once more than else, and makes nobody else speak", async () => {
  const quiet = world(4);
  const flapping = world(4);
  for (const { hours } of [quiet, flapping]) await hours(6);
  const before = flapping.nodes.map(({ sent }) => sent);
  const usual = quiet.nodes.map(({ sent }) => sent);
  const [gateway] = flapping.nodes;
  for (let i = 0; i < 12; i++) {
    gateway!.gateway = i % 2 === 0 ? 3 : undefined;
    gateway!.beacons.changed();
    for (const { hours } of [quiet, flapping]) await hours(1);
    expect(flapping.nodes[1]!.beacons.earshot.get(gateway!.name)?.gateway).toBe(gateway!.gateway);
  }
  const more = flapping.nodes.map(
    ({ sent }, at) => sent - before[at]! - (quiet.nodes[at]!.sent - usual[at]!),
  );
  expect(more[0]).toBeLessThanOrEqual(18);
  for (const others of more.slice(1)) expect(others).toBeLessThanOrEqual(2);
});

test("traffic that everybody had stands for a beacon", async () => {
  const { nodes, hours } = world(3);
  await hours(3);
  nodes[0]!.isKnownByTraffic = true;
  const before = nodes[0]!.sent;
  await hours(12);
  expect(nodes[0]!.sent).toBe(before);
});

test("what somebody says all the time makes nobody speak all the time", async () => {
  const { clock, channel, nodes, hours } = world(2);
  await hours(5);
  const stranger = channel.station();
  const before = nodes[0]!.sent;
  // A name that is a gateway and none, by turns: each is news.
  for (let i = 0; i < 600; i++) {
    const beacon = { who: "aaaaaaaaaaaa", number: i + 1, gateway: i % 2 === 0 ? 3 : undefined, earshot: 0 };
    stranger.broadcast(encodeChannelBeacon(key, beacon));
    await clock.advance(30_000);
  }
  // Trickle starts over at most once in a gap, and has three intervals in it.
  expect(nodes[0]!.sent - before).toBeLessThanOrEqual(3 * ((600 * 30_000) / RESET_GAP_MS + 1));
});

function earshot(needed = new Set<string>()) {
  const clock = new ManualClock();
  const table = new Earshot({
    clock,
    channel: "radio",
    quietMs: () => clock.monotonicMs(),
    isNeeded: (who) => needed.has(who),
  });
  return { clock, table };
}
const said = (who: string, number: number) => ({ who, number, gateway: undefined, earshot: 0 });
const nameOf = (index: number): string => index.toString(16).padStart(12, "0");

test("an old beacon keeps nobody alive and moves nobody", () => {
  const { clock, table } = earshot();
  expect(table.hear(said("a".repeat(12), 5), "radio://1")).toBe("new");
  clock.jumpTo(HEARD_FOR_MS / 2);
  for (const number of [5, 4, 0])
    expect(table.hear(said("a".repeat(12), number), "radio://2")).toBe("passed-over");
  expect(table.get("a".repeat(12))?.from).toBe("radio://1");
  clock.jumpTo(HEARD_FOR_MS);
  expect(table.all).toEqual([]);
  expect(table.hear(said("a".repeat(12), 6), "radio://2")).toBe("new");
});

test("invented names come at a pace, and push out invented names", () => {
  const needed = new Set<string>();
  const { clock, table } = earshot(needed);
  table.hear(said(nameOf(1), 1), "radio://1");
  // Mail for it came later.
  needed.add(nameOf(1));
  let taken = 0;
  for (let i = 2; i < 200; i++) if (table.hear(said(nameOf(i), 1), "radio://2") === "new") taken++;
  expect(taken).toBe(15);
  for (let i = 200; i < 500; i++) {
    clock.jumpTo(clock.monotonicMs() + 60_000);
    table.hear(said(nameOf(i), 1), "radio://2");
  }
  expect(table.all.length).toBe(HEARD_MAX);
  expect(table.get(nameOf(2))).toBeUndefined();
  expect(table.get(nameOf(1))?.from).toBe("radio://1");
  expect(table.get(nameOf(499))).toBeDefined();
});

test("invented names take nobody's turn whom mail waits for", () => {
  const needed = new Set([nameOf(1)]);
  const { clock, table } = earshot(needed);
  for (let i = 2; i < 100; i++) table.hear(said(nameOf(i), 1), "radio://2");
  expect(table.all.length).toBe(16);
  expect(table.hear(said(nameOf(1), 1), "radio://1")).toBe("new");
  // Nor does it take one of theirs.
  clock.jumpTo(60_000);
  expect(table.hear(said(nameOf(100), 1), "radio://2")).toBe("new");
});

test("where the channel is too busy for beacons only whoever wants somebody asks, seldom, and only who is meant answers", async () => {
  const { nodes, hours } = world(5);
  const [asker, meant, other, gateway, second] = nodes as [Node, Node, Node, Node, Node];
  gateway.gateway = 3;
  for (const { station } of nodes) station.foreignUtilisation = 0.3;
  await hours(3);
  expect(nodes.map(({ sent, heard }) => sent + heard)).toEqual([0, 0, 0, 0, 0]);
  asker.wanted = meant.name;
  await hours(1);
  expect([asker.beacons.earshot.get(meant.name)?.who, asker.heard]).toEqual([meant.name, 2]);
  // Once in ten minutes, for as long as somebody is wanted.
  expect(asker.counts["asked"]).toBeGreaterThan(3);
  expect(asker.counts["asked"]).toBeLessThanOrEqual(6);
  expect([other, second].map(({ counts }) => counts["answered"] ?? 0)).toEqual([0, 0]);
  for (const { counts } of [meant, gateway]) expect(counts["answered"]).toBeLessThanOrEqual(6);
  // Above 40 %, once in an hour.
  for (const { station } of nodes) station.foreignUtilisation = 0.6;
  const before = asker.counts["asked"]!;
  await hours(12);
  expect(asker.counts["asked"]! - before).toBeGreaterThan(9);
  expect(asker.counts["asked"]! - before).toBeLessThanOrEqual(12);
  asker.wanted = undefined;
  const ended = asker.counts["asked"];
  await hours(3);
  expect(asker.counts["asked"] ?? 0).toBe(ended ?? 0);
});

test("where the channel admits neither presence nor text who asks for somebody, and who answers, is heard all the same", async () => {
  const { nodes, hours } = world(2);
  const [asker, meant] = nodes as [Node, Node];
  for (const { station } of nodes) Object.assign(station, { foreignUtilisation: 0.6, admits: 0 });
  await hours(3);
  expect(nodes.map(({ sent, heard }) => sent + heard)).toEqual([0, 0]);
  asker.wanted = meant.name;
  await hours(2);
  expect(nodes.map(({ heard }) => heard)).toEqual([1, 1]);
  expect([asker.counts["asked"], meant.counts["answered"]]).toEqual([2, 2]);
});

test("a flood of questions makes nobody say more than one answer in its time", async () => {
  const { clock, nodes } = world(2);
  const [victim, liar] = nodes as [Node, Node];
  victim.gateway = 3;
  for (const { station } of nodes) station.foreignUtilisation = 0.3;
  for (let n = 1; n <= 2_000; n++) {
    const who = n.toString(16).padStart(12, "0");
    liar.station.broadcast(
      encodeChannelBeacon(key, { who, number: n, gateway: undefined, earshot: 0, asks: victim.name }),
    );
    await clock.advance(5_000);
  }
  expect(victim.counts["answered"]).toBeGreaterThan(1);
  expect(victim.counts["answered"]).toBeLessThanOrEqual(1 + 10_000_000 / URGENT_GAP_MS);
});

test("whoever asks all the time takes nobody's turn to ask", async () => {
  const { clock, nodes } = world(2);
  const [victim, liar] = nodes as [Node, Node];
  for (const { station } of nodes) station.foreignUtilisation = 0.3;
  victim.wanted = "a".repeat(12);
  const beacon = { who: "b".repeat(12), gateway: undefined, earshot: 0, asks: victim.name };
  for (let n = 1; n <= 720; n++) {
    liar.station.broadcast(encodeChannelBeacon(key, { ...beacon, number: n }));
    await clock.advance(10_000);
  }
  expect(victim.counts["asked"]).toBeGreaterThan(8);
  expect(victim.counts["answered"] ?? 0).toBeLessThanOrEqual(12);
});
