/**
 * Worlds on radio channels that hold today, and the proof that their oracles see. What they cannot hold yet is printed only; the
 * large ones are `bun run sim:radio`.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Mesh } from "../../../runtime/mesh/mesh.ts";
import { Seen } from "../../../runtime/custody/recipient/seen.ts";
import { Peer } from "../../../runtime/peer/peer.ts";
import { FrameType } from "../../../runtime/wire/constants.ts";
import { bareModem, presets } from "./lora.ts";
import { Radio } from "./radio.ts";
import { reportLines } from "./report.ts";
import { bridge, dayApart, earshot, edge, line } from "./scenarios.ts";
import type { RadioWorldOptions } from "./options.ts";
import type { RadioResult } from "./result.ts";
import { RadioWorld } from "./world.ts";

const TIMEOUT_MS = 60_000;
// A world takes what it takes beside others: none of them is about that.
setDefaultTimeout(TIMEOUT_MS);

/** A gateway and three edge nodes at 3,516 bit/s, without a budget of their own: what is found is not for want of airtime. */
const calm = (seed: number): RadioWorldOptions => ({
  ...edge(seed),
  lora: presets.mediumFast,
  mailPerHour: 40,
  ...{ ownShare: 1, dutyCycle: 1 },
  ...{ warmUpMinutes: 40, minutes: 40, drainMinutes: 65, lifetimeMs: 3_600_000 },
});

/** Nothing is under way any more, and nothing was lost without a word. */
const allEnd = ({ outcomes, sent }: RadioResult): boolean =>
  (outcomes["delivered"] ?? 0) + (outcomes["expired"] ?? 0) === sent;

function run(name: string, options: RadioWorldOptions) {
  const before = process.cpuUsage();
  const result = new RadioWorld(options).run();
  const { user, system } = process.cpuUsage(before);
  console.log(reportLines(name, result, (user + system) / 1e6).join("\n"));
  return result;
}

describe("a gateway and edge nodes", () => {
  // LongFast, packets of 200 bytes, 1 % of the airtime each.
  for (const [name, options] of [
    ["alone", edge(1)],
    ["alone", edge(2)],
    ["with 30 % foreign traffic", { ...edge(1), foreignShare: 0.3 }],
  ] as const)
    test(`${name}, seed ${options.seed}: all mail arrives, once, and nothing is said again too early`, () => {
      const result = run(`edge, ${name}`, options);
      expect(result.faults).toEqual([]);
      expect(result.sent).toBeGreaterThan(9);
      expect(result.outcomes).toEqual({ delivered: result.sent });
      expect(result.delivered).toBe(1);
      expect(result.onTime).toBeGreaterThanOrEqual(0.9);
      expect(result.early).toEqual([]);
      expect(result.talkControl).toBeLessThanOrEqual(0.02);
      expect(result.shares["foreign"] ?? 0).toBeCloseTo(options.foreignShare, 1);
    });

  test("who knows nobody but by callsign is answered", () => {
    const result = run("edge, callsigns", { ...edge(2), introduced: false, addresses: "callsigns" });
    expect(result.faults).toEqual([]);
    expect(result.outcomes).toEqual({ delivered: result.sent });
  });

  test("one seed is one run", () => {
    const [first, second, other] = [calm(4), calm(4), calm(5)].map((options) =>
      new RadioWorld(options).run(),
    );
    expect(second!.traceHash).toBe(first!.traceHash);
    expect(other!.traceHash).not.toBe(first!.traceHash);
  });

  test("nodes that die and come back lose nothing", () => {
    const world = new RadioWorld({ ...calm(8), crashes: { pauseMs: 120_000, downMs: 60_000 } });
    const result = world.run();
    expect(result.faults).toEqual([]);
    expect(allEnd(result)).toBe(true);
    expect(world.crashed).toBeGreaterThan(5);
  });

  test("who sends again what he heard gets nothing delivered, and less airtime spent than he spends", () => {
    const attacked = run("edge, attacked", { ...calm(1), attackShare: 0.05 });
    expect(attacked.faults).toEqual([]);
    expect(attacked.delivered).toBe(1);
    expect(attacked.outcomes).toEqual({ delivered: attacked.sent });
    const own = ({ shares }: RadioResult) =>
      Object.entries(shares).reduce((sum, [kind, share]) => sum + (kind === "foreign" ? 0 : share), 0);
    const spentMore = own(attacked) - own(new RadioWorld(calm(1)).run());
    expect(spentMore).toBeLessThan(attacked.shares["foreign"]! / 2);
  });

  test("mail goes over a wire as soon as there is one", () => {
    const options = { ...calm(9), wires: [[0, 1] as const, [1, 2] as const], pair: () => [0, 2] as const };
    const world = new RadioWorld(options);
    const [, late] = world.wires;
    late!.block("both");
    const mailMs = () => world.airtime.total.get("mail") ?? 0;
    let beforeMs = Number.NaN;
    world.time.after(60 * 60_000, () => late!.unblock("both"));
    // Time to dial it, and to tell.
    world.time.after(62 * 60_000, () => (beforeMs = mailMs()));
    const result = world.run();
    expect(result.faults).toEqual([]);
    expect(result.delivered).toBe(1);
    expect(beforeMs).toBeGreaterThan(0);
    expect(mailMs()).toBe(beforeMs);
  });

  test("the same message prefers a fast way when one appears", () => {
    const options: RadioWorldOptions = {
      ...calm(9),
      wires: [
        [0, 1],
        [1, 2],
      ],
      pair: () => [0, 2],
      // Out of earshot from before the mail: all of it waits for the radio.
      cellars: [{ node: 2, fromMs: 0, forMs: 24 * 3_600_000 }],
      lifetimeMs: 12 * 3_600_000,
      ...{ minutes: 20, drainMinutes: 13 * 60 },
    };
    const world = new RadioWorld(options);
    const [, late] = world.wires;
    late!.block("both");
    const waiting = () =>
      [...world.ledger.messages.values()].filter(({ deliveries }) => deliveries.length === 0);
    let [before, mailMs] = [0, 0];
    world.time.after(120 * 60_000, () => {
      before = waiting().length;
      mailMs = world.airtime.total.get("mail") ?? 0;
      late!.unblock("both");
    });
    const result = world.run();
    expect(result.faults).toEqual([]);
    expect(before).toBe(result.sent);
    expect(before).toBeGreaterThan(3);
    expect(result.outcomes).toEqual({ delivered: result.sent });
    // What may have been under way for the radio stays there; no more of it goes there.
    expect((world.airtime.total.get("mail") ?? 0) - mailMs).toBeLessThan(1_000);
    expect(result.delayP95Ms).toBeLessThan(2 * 3_600_000);
  });

  test("what cannot be sent in time expires and is told", () => {
    const result = new RadioWorld({ ...calm(6), ownShare: 0.001, burstMs: 3_000 }).run();
    expect(result.faults).toEqual([]);
    expect(result.outcomes["expired"]).toBeGreaterThan(0);
  });

  test("who was out of earshot for a day gets its mail afterwards", () => {
    const result = run("a day apart", dayApart(1));
    expect(result.faults).toEqual([]);
    expect(result.outcomes).toEqual({ delivered: result.sent });
    expect(result.onTime).toBeLessThan(0.9);
    expect(result.delayP95Ms).toBeGreaterThan(20 * 3_600_000);
  });
});

/** Two islands of a gateway and an edge node, which do not hear each other: a wire between the gateways is cut for a day. */
test("an island gets its mail after a day apart", () => {
  const islandOf = (node: number) => node >> 1;
  const world = new RadioWorld({
    ...calm(3),
    nodes: 4,
    hasRadio: () => true,
    wires: [[0, 2]],
    hears: (a, b) => (islandOf(a) === islandOf(b) ? 12 : undefined),
    peers: [
      [1, 0],
      [3, 2],
    ],
    pair: (random) => (random.float() < 0.5 ? [1, 3] : [3, 1]),
    lifetimeMs: 48 * 3_600_000,
    ...{ minutes: 20, drainMinutes: 50 * 60 },
  });
  const [cable] = world.wires;
  const talkFromMs = 40 * 60_000;
  world.time.after(talkFromMs, () => cable!.block("both"));
  world.time.after(talkFromMs + 24 * 3_600_000, () => cable!.unblock("both"));
  const result = world.run();
  expect(result.faults).toEqual([]);
  expect(result.sent).toBeGreaterThan(5);
  expect(result.onTime).toBe(0);
  expect(result.outcomes).toEqual({ delivered: result.sent });
  expect(result.delayP50Ms).toBeGreaterThan(20 * 3_600_000);
});

/** Ways of several slow links, which nobody is told of before mail needs them. */
describe("paths on demand", () => {
  for (const seed of [1, 2])
    test(`fast, slow, fast, seed ${seed}: mail for a node behind the other gateway is there at once`, () => {
      const result = run("bridge", bridge(seed));
      expect(result.faults).toEqual([]);
      expect(result.sent).toBeGreaterThan(9);
      expect(result.outcomes).toEqual({ delivered: result.sent });
      expect(result.onTime).toBeGreaterThanOrEqual(0.9);
      expect(Math.max(result.control, result.talkControl)).toBeLessThanOrEqual(0.02);
    });

  // Of 2, 6 and 8 the nodes in the middle have as much to say as they have airtime: what is said again too soon is what others wait for.
  for (const seed of [1, 2, 4, 6, 8])
    test(`five in a line, seed ${seed}: mail crosses up to four slow links`, () => {
      const result = run("line of five", line(seed, 5));
      expect(result.faults).toEqual([]);
      expect(result.sent).toBeGreaterThan(9);
      expect(result.outcomes).toEqual({ delivered: result.sent });
      expect(result.onTime).toBeGreaterThanOrEqual(0.9);
      expect(Math.max(result.control, result.talkControl)).toBeLessThanOrEqual(0.02);
    });

  test("nodes that die and come back make no loop, and lose nothing", () => {
    const crashes = { pauseMs: 600_000, downMs: 120_000 };
    const world = new RadioWorld({
      ...line(7, 4),
      lora: presets.mediumFast,
      ...{ ownShare: 1, dutyCycle: 1 },
      crashes,
    });
    const result = world.run();
    expect(result.faults).toEqual([]);
    expect(allEnd(result)).toBe(true);
    expect(result.delivered).toBeGreaterThan(0.7);
    expect(world.crashed).toBeGreaterThan(3);
  });
});

describe("the oracles see", () => {
  test("airtime adds up to what was on the air", () => {
    const world = new RadioWorld({ ...calm(1), minutes: 20, foreignShare: 0.1 });
    world.run();
    const sum = [...world.airtime.total.values()].reduce((whole, ms) => whole + ms, 0);
    expect(sum).toBeCloseTo(world.channel.airtimeMs, 0);
    const perNode = [...world.airtime.byNode.values()].flatMap((kinds) => [...kinds.values()]);
    expect(perNode.reduce((whole, ms) => whole + ms, 0)).toBeCloseTo(world.channel.airtimeMs, 0);
    for (const kind of ["mail", "receipts", "custody", "routing", "handshakes", "foreign"])
      expect(world.airtime.total.get(kind)).toBeGreaterThan(0);
  });

  test("what others on another island send is not heard here", () => {
    const islands = {
      ...calm(1),
      minutes: 20,
      hears: (a: number, b: number) => (a === 4 || b === 4 ? undefined : 12),
    };
    const { airtime, channel } = (() => {
      const world = new RadioWorld(islands);
      world.run();
      return world;
    })();
    const lonely = [...airtime.byNode.get(channel.radios.at(-1)!.address)!.values()];
    const lonelyMs = lonely.reduce((sum, ms) => sum + ms, 0);
    const heardMs = [...airtime.heard.values()].reduce((sum, ms) => sum + ms, 0);
    expect(lonelyMs).toBeGreaterThan(0);
    expect(heardMs).toBeCloseTo((channel.airtimeMs - lonelyMs) * 0.75 + lonelyMs * 0.25, 0);
  });

  test("mail that is written again before its answer could come", () => {
    const early = (world: RadioWorld) =>
      world
        .run()
        .early.filter(
          ({ what, because }) => what.startsWith("bundle ") && because === "the first waits still",
        ).length;
    const calmly = early(new RadioWorld({ ...calm(1), minutes: 20 }));
    const send = Peer.prototype.send;
    Peer.prototype.send = function (lane, frame) {
      if (frame[0] === FrameType.bundle) {
        send.call(this, lane, frame);
        // In records of their own.
        this.best?.session.flush();
      }
      return send.call(this, lane, frame);
    };
    try {
      expect(early(new RadioWorld({ ...calm(1), minutes: 20 }))).toBeGreaterThan(calmly + 10);
    } finally {
      Peer.prototype.send = send;
    }
  });

  test("a radio that takes more of the air than is its own", () => {
    const greedy = Radio.prototype.offer;
    Radio.prototype.offer = function (to, bytes, shares, done) {
      // Whatever it may send by its share, it sends four times more.
      for (let i = 0; i < 4; i++)
        this.channel.send(this, { from: this.address, to, bytes, id: -1 - i, hops: 0, shares }, () => {});
      return greedy.call(this, to, bytes, shares, done);
    };
    try {
      const options = { ...edge(1), mailPerHour: 200, ownShare: 0.002, burstMs: 3_000 };
      expect(new RadioWorld(options).run().faults.join("\n")).toContain("was on the air for");
    } finally {
      Radio.prototype.offer = greedy;
    }
  });

  test("mail that comes twice", () => {
    const has = Seen.prototype.has;
    Seen.prototype.has = () => false;
    try {
      const world = new RadioWorld({ ...calm(3), loss: 0.3, faultsMax: 1 });
      expect(world.run().faults.join("\n")).toContain("delivered twice");
    } finally {
      Seen.prototype.has = has;
    }
  });

  test("mail that nobody brings and nobody ends", () => {
    // The gateway takes custody and forgets; nobody's lifetime is over when the world ends.
    const mutate = ({ custody: { forwarder } }: Mesh) => {
      const add = forwarder.add.bind(forwarder);
      forwarder.add = (holding) => holding.role === "relay" || add(holding);
    };
    expect(new RadioWorld({ ...calm(1), drainMinutes: 30, mutate }).run().faults.join("\n")).toContain(
      "is still",
    );
  });
});

/** GOALS row 11: a day and a half for the links, then mail at half of what the airtime of these nodes carries. */
describe("ten nodes in earshot on 1,074 bit/s", () => {
  for (const [seed, foreign] of [
    [1, 0],
    [2, 0.3],
    [3, 0.6],
  ] as const)
    test(`with ${foreign * 100} % foreign traffic control is at most 2 % of the channel, and mail is there within 10 min`, () => {
      const result = run(`earshot, ${foreign * 100} % foreign`, earshot(seed, foreign));
      expect(result.faults).toEqual([]);
      expect(result.sent).toBeGreaterThan(50);
      expect(Math.max(result.control, result.talkControl)).toBeLessThanOrEqual(0.02);
      expect(result.onTime).toBeGreaterThanOrEqual(0.9);
      expect(result.early.length).toBeLessThan(10);
    });
});

describe("ten nodes in earshot that know nothing but what they hear", () => {
  /** Two hours in which pairs write to each other; then what is heard while mail is offered. */
  const heard = (seed: number, foreignShare: number): RadioWorldOptions => ({
    ...earshot(seed, foreignShare, false),
    ...{ overhead: bareModem, mtu: 508, isConfigured: false },
    ...{
      minutes: 30,
      startMinutes: 30,
      warmUpMinutes: 60,
      practiceMinutes: 120,
      lifetimeMs: 3_600_000,
      drainMinutes: 65,
    },
  });

  test("control of all together is at most 2 % of the channel, and links are made for mail", () => {
    const result = run("earshot by beacons", heard(1, 0));
    expect(result.faults).toEqual([]);
    expect(result.control).toBeLessThan(0.02);
    expect(result.links).toBeGreaterThan(3);
  });

  test("with 60 % of foreign traffic from the very start mail asks for whom it is for, seldom, and gets its links", () => {
    const result = run("earshot by beacons, 60 % foreign", heard(2, 0.6));
    expect(result.faults).toEqual([]);
    // Each asks once in an hour and answers once: nobody says anything for himself.
    expect(result.talkShares["beacons"] ?? 0).toBeLessThan(0.005);
    expect(Math.max(result.control, result.talkControl)).toBeLessThan(0.02);
    expect(result.links).toBeGreaterThan(3);
    expect(result.outcomes["delivered"]).toBeGreaterThan(10);
  });

  test("with 60 % of foreign traffic and no mail nobody says that he is there", () => {
    const result = run("earshot by beacons, 60 % foreign", {
      ...heard(2, 0.6),
      practiceMinutes: 0,
      mailPerHour: 1e-6,
    });
    expect(result.faults).toEqual([]);
    // A station that starts has not heard yet how busy it is.
    expect(result.control).toBeLessThan(0.0002);
    expect(result.talkControl).toBe(0);
  });
});
