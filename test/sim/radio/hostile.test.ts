/**
 * What a member of the mesh can do to a channel: each world runs twice, once with somebody hostile in it. The others' mail goes on, nothing is delivered
 * that was not sent, nothing twice, and what the others spend on it is bounded.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import type { ChannelBeacon } from "../../../runtime/wire/channel-beacon.ts";
import { presets } from "./lora.ts";
import { beaconLiar, HIGHEST_NUMBER, type MakeHostile, nameOf, replayer } from "./hostile.ts";
import {
  answersForNothing,
  asksForEver,
  flaps,
  forgedReferences,
  type HostileMember,
  makeHostile,
  readsNothing,
} from "./hostile-member.ts";
import type { RadioWorldOptions } from "./options.ts";
import { edge } from "./scenarios.ts";
import { RadioWorld } from "./world.ts";

setDefaultTimeout(60_000);

const MINUTE_MS = 60_000;
const HONEST = 5;

/** A core, its gateway and three edges, at 3,516 bit/s, who know of each other what they hear and ask for; mail for two hours. */
const village = (seed: number): RadioWorldOptions => ({
  ...edge(seed),
  introduced: false,
  addresses: "callsigns",
  lora: presets.mediumFast,
  isConfigured: false,
  startMinutes: 10,
  warmUpMinutes: 240,
  minutes: 120,
  drainMinutes: 65,
  mailPerHour: 60,
  lifetimeMs: 60 * MINUTE_MS,
  pair: (random) => {
    const from = random.below(HONEST);
    return [from, (from + 1 + random.below(HONEST - 1)) % HONEST];
  },
});

interface Seen {
  readonly delivered: number;
  /** On the air, of the honest nodes, and of all others. */
  readonly honestMs: number;
  readonly hostileMs: number;
  /** Of the channel, while mail is offered. */
  readonly control: number;
  /** Of each honest node. */
  readonly beaconMs: readonly number[];
}

function run(world: RadioWorld): Seen {
  const { faults, outcomes, talkControl } = world.run();
  expect(faults).toEqual([]);
  const honest = new Set(world.radios.slice(0, HONEST));
  let [honestMs, hostileMs] = [0, 0];
  for (const radio of world.channel.radios)
    if (honest.has(radio)) honestMs += radio.airtimeMs;
    else hostileMs += radio.airtimeMs;
  const beaconMs = world.radios
    .slice(0, HONEST)
    .map((radio) => world.airtime.byNode.get(radio?.address ?? -1)?.get("beacons") ?? 0);
  return { delivered: outcomes["delivered"] ?? 0, honestMs, hostileMs, control: talkControl, beaconMs };
}

const calm = new Map<string, Seen>();
/** The same world without it. */
function without(name: string, options: RadioWorldOptions): Seen {
  let seen = calm.get(name);
  if (seen === undefined) calm.set(name, (seen = run(new RadioWorld(options))));
  return seen;
}

/** The honest spend less on it than whoever attacks. */
function judge(attacked: Seen, before: Seen, factor = 1): void {
  const moreMs = attacked.honestMs - before.honestMs;
  const spentMs = attacked.hostileMs - before.hostileMs;
  console.log(
    `${attacked.delivered} of ${before.delivered} delivered, ${Math.round(moreMs / 1_000)} s more airtime for ${Math.round(spentMs / 1_000)} s of the attack, ${Math.round(before.honestMs / 1_000)} s without it`,
  );
  expect(before.delivered).toBeGreaterThan(80);
  expect(attacked.delivered).toBeGreaterThanOrEqual(0.9 * before.delivered);
  expect(spentMs).toBeGreaterThan(60_000);
  expect(moreMs).toBeLessThan(factor * spentMs);
  expect(attacked.control).toBeLessThan(0.02);
}

describe("a station with the key of the channel", () => {
  const lie = (beacon: Partial<ChannelBeacon> & { who: string }): ChannelBeacon => ({
    number: HIGHEST_NUMBER,
    gateway: undefined,
    earshot: 0,
    ...beacon,
  });
  const anyOf = <T>(all: readonly T[], times: number): T | undefined => all[times % Math.max(1, all.length)];

  let world: RadioWorld;
  const names = (): string[] => world.nodes.map(({ id }) => nameOf(id));
  const stations: [name: string, hostile: MakeHostile][] = [
    [
      "says the highest numbers in all names",
      // It knows whom it will hear, and is there first.
      beaconLiar({
        everyMs: MINUTE_MS / 4,
        next: (_heard, times) =>
          lie({ who: anyOf(names(), times)!, number: HIGHEST_NUMBER - 2 ** 20 + times }),
      }),
    ],
    [
      "says each name's next number before its owner does",
      beaconLiar({
        everyMs: MINUTE_MS,
        next: (heard, times) => {
          const beacon = anyOf([...heard.values()], times);
          const next = 1 + Math.floor(times / Math.max(1, heard.size));
          return beacon && lie({ ...beacon, number: beacon.number + (next % 30) });
        },
      }),
    ],
    [
      "makes everybody a gateway and none, by turns",
      beaconLiar({
        everyMs: MINUTE_MS,
        next: (heard, times, random) => {
          const beacon = anyOf([...heard.values()], times);
          return (
            beacon &&
            lie({
              who: beacon.who,
              number: 2 ** 47 + times,
              gateway: beacon.gateway === undefined ? random.below(4) : undefined,
            })
          );
        },
      }),
    ],
    [
      "says everybody's own sum, so that nobody need speak",
      beaconLiar({
        everyMs: MINUTE_MS / 2,
        next: (heard, times) => {
          const sum = anyOf([...heard.values()], Math.floor(times / 3))?.earshot;
          const by = anyOf([...heard.keys()], times);
          return by === undefined || sum === undefined
            ? undefined
            : lie({ who: by, number: 2 ** 47 + times, earshot: sum });
        },
      }),
    ],
    [
      "invents nodes and gateways without end",
      beaconLiar({
        everyMs: MINUTE_MS,
        next: (_heard, times, random) =>
          lie({ who: random.bytes(6).toHex(), number: times, gateway: times % 2 === 0 ? 0 : undefined }),
      }),
    ],
    ["sends all that it heard again after an hour", replayer(60 * MINUTE_MS)],
  ];
  for (const [name, hostile] of stations)
    test(name, () => {
      world = new RadioWorld({ ...village(1), hostile: [hostile] });
      const before = without("village", village(1));
      const attacked = run(world);
      judge(attacked, before);
      // Who is there goes on saying so.
      for (const [node, ms] of attacked.beaconMs.entries())
        expect(ms).toBeGreaterThanOrEqual(0.4 * before.beaconMs[node]!);
    });
});

describe("a member with links that stand", () => {
  const MEMBER = HONEST;
  /** One node more, which all have links with. */
  const guest = (seed: number): RadioWorldOptions => ({
    ...village(seed),
    nodes: HONEST + 1,
    isConfigured: true,
    peers: [1, 2, 3, 4].map((node) => [MEMBER, node] as const),
    warmUpMinutes: 360,
  });

  function attacked(member: HostileMember): Seen & { readonly said: number } {
    const random = seededRandom(7);
    let said = () => 0;
    const options: RadioWorldOptions = {
      ...guest(1),
      mutate(mesh, node) {
        if (node.index === MEMBER) said = makeHostile(mesh, member, world.time, random).said;
      },
    };
    const world = new RadioWorld(options);
    const seen = run(world);
    return { ...seen, said: said() };
  }

  for (const [name, member] of [
    ["answers for bundles that were never sent to it", { everyMs: 20_000, says: answersForNothing }],
    ["reads nothing of what it is sent", { everyMs: 60_000, says: readsNothing }],
    [
      "names what it never taught, and what stands for something else by now",
      { everyMs: 30_000, says: forgedReferences },
    ],
    ["is a gateway and none, by turns", { everyMs: 30_000, says: flaps }],
    ["asks for paths and names without end", { everyMs: 20_000, says: asksForEver }],
  ] as const)
    test(name, () => {
      const seen = attacked(member);
      expect(seen.said).toBeGreaterThan(500);
      judge(seen, without("guest", guest(1)));
    });
});
