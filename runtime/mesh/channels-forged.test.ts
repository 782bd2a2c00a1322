/** Who holds the key of a channel and says on it what he likes, in anybody's name: nobody is silenced, moved for good or kept alive by that. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { NUMBERS_MAX } from "../channel/numbers.ts";
import type { Station } from "../channel/testing.ts";
import { networkKeys } from "../link/hello.ts";
import { decodeChannelBeacon, encodeChannelBeacon, whoIs } from "../wire/channel-beacon.ts";
import { type ChannelNode, ChannelWorld } from "./testing-channel.ts";

setDefaultTimeout(60_000);

const KEY = networkKeys("test", undefined).beaconKey;
const HIGHEST = 2 ** 48 - 1;
/** Above what any node says: its first boot has a number of 20 bits. */
const HIGH = 2 ** 47;
const nameOf = ({ identity }: ChannelNode): string => whoIs(KEY, identity.id);
const heardBy = ({ mesh, station }: ChannelNode) => mesh.channels.heardOn(station.medium);
const deliveredTo = ({ heard }: ChannelNode) => heard.filter((event) => event === "delivered").length;
const introduce = (a: ChannelNode, b: ChannelNode) => a.mesh.records.offer(b.mesh.ownRecord.bytes);

interface Said {
  readonly number?: number;
  readonly gateway?: number | undefined;
}
function forge(by: Station, who: string, { number = HIGHEST, gateway }: Said = {}): void {
  by.broadcast(encodeChannelBeacon(KEY, { who, number, gateway, earshot: 0 }));
}

async function three(seed: number) {
  const world = new ChannelWorld(seed);
  const [a, b, c] = [await world.node(), await world.node(), await world.node()];
  return { world, a, b, c, liar: world.channel.station() };
}

test("the highest number in another's name, said once, silences nobody", async () => {
  const { world, a, b, c, liar } = await three(21);
  await world.hours(2);
  introduce(a, b);
  await world.send(a, b);
  await world.hours(1);
  for (const node of [b, c]) {
    forge(liar, nameOf(node));
    await world.clock.advance(10_000);
  }
  await world.hours(20);
  // Its own beacons, from its own place, hours after that was all that was said.
  expect(heardBy(a).map(({ who, from }) => [who, from])).toContainEqual([nameOf(c), c.station.address]);
  expect(a.mesh.router.reachable(b.identity.id)).toBe(true);
  introduce(a, c);
  await world.send(a, c);
  await world.hours(1);
  expect(deliveredTo(c)).toBe(1);
  await world.stop();
});

test("a neighbour whose next numbers were all said before it could stays there, since it answers on its link", async () => {
  const { world, a, b, liar } = await three(22);
  let last = 0;
  liar.heardAll = (from, bytes) => {
    if (from === b.station.address) last = decodeChannelBeacon([KEY], bytes)!.number;
  };
  await world.hours(2);
  introduce(a, b);
  await world.send(a, b);
  await world.hours(6);
  const first = last;
  for (let i = 1; i < NUMBERS_MAX; i++) {
    forge(liar, nameOf(b), { number: first + i });
    await world.clock.advance(10_000);
  }
  const there: boolean[] = [];
  const isSaid = () => last >= first + NUMBERS_MAX;
  while (!isSaid()) {
    await world.hours(1);
    there.push(a.mesh.router.reachable(b.identity.id));
  }
  expect(there.length).toBeGreaterThan(24);
  expect(there).not.toContain(false);
  expect([a.links, b.links]).toEqual([1, 1]);
  await world.stop();
});

test("beacons in the name of who is gone keep it there for two days, and make its neighbour say little", async () => {
  const { world, a, b, liar } = await three(23);
  await world.hours(2);
  introduce(a, b);
  await world.send(a, b);
  await world.hours(1);
  b.station.isOn = false;
  const from = a.station.airtimeMs;
  for (let i = 0; i < 160; i++) {
    forge(liar, nameOf(b), { number: HIGH + i });
    await world.hours(0.5);
  }
  expect(heardBy(a).some(({ who }) => who === nameOf(b))).toBe(true);
  expect(a.mesh.router.reachable(b.identity.id)).toBe(false);
  expect((a.station.airtimeMs - from) / (80 * 3_600_000)).toBeLessThan(0.001);
  // Back, it has its mail.
  b.station.isOn = true;
  await world.send(a, b);
  await world.hours(3);
  expect(deliveredTo(b)).toBe(2);
  await world.stop();
});

test("gateways that are invented, at no cost and for ever, keep nobody from the one that is there", async () => {
  const world = new ChannelWorld(24);
  const core = await world.core();
  const gateway = await world.node();
  world.wire(gateway, core);
  await world.hours(1);
  const edge = await world.node();
  const liars = Array.from({ length: 3 }, () => world.channel.station());
  const called: string[] = [];
  const { hints } = edge.mesh;
  const add = hints.add.bind(hints);
  hints.add = (source, hint, by) => {
    called.push(hint.endpoint);
    return add(source, hint, by);
  };
  // With so many gateways in earshot its part is small: what is bounded is whom it calls with it.
  for (let minutes = 0; minutes < 48 * 60 && !edge.mesh.router.hasDefaultRoute; minutes++) {
    const liar = minutes % liars.length;
    forge(liars[liar]!, `cccccccccc0${liar}`, { number: HIGH + minutes, gateway: 0 });
    await world.clock.advance(60_000);
  }
  expect(called.length).toBeLessThanOrEqual(2 * (liars.length + 1));
  expect(edge.mesh.peers.get(gateway.identity.id)).toBeDefined();
  await world.stop();
});

test("a name that a liar said first, and goes on with, is called where its owner says it", async () => {
  const world = new ChannelWorld(27);
  const core = await world.core();
  const gateway = await world.node();
  const liar = world.channel.station();
  world.wire(gateway, core);
  const edge = await world.node();
  let minutes = 0;
  for (; minutes < 24 * 60 && !edge.mesh.router.hasDefaultRoute; minutes++) {
    if (minutes % 10 === 0) forge(liar, nameOf(gateway), { number: HIGHEST - 2_000 + minutes });
    await world.clock.advance(minutes === 0 ? 1_000 : 60_000);
  }
  expect(minutes).toBeLessThan(3 * 60);
  expect(edge.mesh.peers.get(gateway.identity.id)).toBeDefined();
  await world.stop();
});

test("whoever says that he is another is called in its place, and the other is called where it signed that it is", async () => {
  const { world, a, b, c, liar } = await three(25);
  await world.hours(2);
  introduce(a, b);
  introduce(a, c);
  // Behind each beacon of b's there is one of the liar's in its name; of places it has as many as it likes.
  const places = [liar, ...Array.from({ length: 20 }, () => world.channel.station())];
  let number = HIGH;
  const spread = async (minutes: number) => {
    for (let i = 0; i < minutes; i++) {
      forge(places[i % places.length]!, nameOf(b), { number: number++ });
      await world.clock.advance(60_000);
    }
  };
  await spread(30);
  expect(heardBy(a).find(({ who }) => who === nameOf(b))!.from).not.toBe(b.station.address);
  await world.send(a, b);
  await spread(60);
  expect(deliveredTo(b)).toBe(1);
  await world.send(a, c);
  await spread(60);
  expect(deliveredTo(c)).toBe(1);
  await world.stop();
});

test("a name that is said to be at ever new places is called at a pace, and others meanwhile", async () => {
  const { world, a, b, c, liar } = await three(26);
  await world.hours(2);
  introduce(a, b);
  introduce(a, c);
  b.station.isOn = false;
  await world.hours(8);
  const before = a.airtime.of(a.station.medium).sums.handshakes.usedMs;
  const places = [liar, ...Array.from({ length: 100 }, () => world.channel.station())];
  await world.send(a, b);
  for (let i = 0; i < 10 * 60; i++) {
    forge(places[i % places.length]!, nameOf(b), { number: HIGH + i });
    if (i === 300) await world.send(a, c);
    a.mesh.channels.want(b.identity.id, true);
    await world.clock.advance(60_000);
  }
  expect(deliveredTo(c)).toBe(1);
  const calls =
    (a.airtime.of(a.station.medium).sums.handshakes.usedMs - before) / a.airtime.of(a.station.medium).linkMs;
  expect(calls).toBeLessThan(40);
  await world.stop();
});
