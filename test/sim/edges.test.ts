/** Names, records and prekeys over slow links (docs/protocol/slow.md "Asking for names"): whole nodes in virtual time. */
import { describe, expect, test } from "bun:test";
import { briefOf } from "../../runtime/identity/brief.ts";
import { generateIdentity, verifySignature } from "../../runtime/identity/keys.ts";
import {
  decodeRecord,
  encodeRecord,
  encodeRevocation,
  peekRecord,
  signName,
} from "../../runtime/identity/record.ts";
import { nodeIdBytes } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { decodeLookupReply, encodeLookupReply } from "../../runtime/wire/lookup-messages.ts";
import { NETWORK } from "./node.ts";
import { EdgesWorld, type EdgesWorldOptions } from "./edges-world.ts";

/** What a link adds to a frame, and the most that one packet may have, bytes. */
const LINK_BYTES = 11;
const PACKET_BYTES_MAX = 200;

/** Two gateways that a cable joins, an edge node behind each, and a node behind both by cable. */
const [EAST, WEST, GATE_E, GATE_W, CITY] = [0, 1, 2, 3, 4];
const plan = {
  callsigns: ["EAS-A", "WES-A", "GTE-A", "GTW-A", "CTY-A"],
  cables: [
    [GATE_E, GATE_W],
    [GATE_W, CITY],
  ],
  radios: [
    [EAST, GATE_E],
    [WEST, GATE_W],
  ],
} as const satisfies Omit<EdgesWorldOptions, "seed">;
const seeds = [1, 2, 3];
/** Of a test that a week passes in, real ms. */
const WEEK_TIMEOUT_MS = 60_000;

function worldOf(
  seed: number,
  changes: Partial<EdgesWorldOptions> = {},
  ...off: readonly number[]
): EdgesWorld {
  const world = new EdgesWorld({ ...plan, seed, ...changes });
  world.start(...world.nodes.keys().filter((index) => !off.includes(index)));
  world.run(5);
  return world;
}

describe("a node that never had any link but the radio", () => {
  for (const seed of seeds)
    test(`writes to callsigns that it never met, and is answered: seed ${seed}`, () => {
      const world = worldOf(seed);
      expect(world.mesh(EAST).names.resolve("CTY-A").kind).toBe("unknown");
      expect(world.arrives(EAST, "CTY-A", "to the city")).toBe(true);
      expect(world.arrives(EAST, "WES-A", "to the west")).toBe(true);
      // Who got it answers to the node id that it came from, which has a record there by no other way.
      const [, { from }] = world.delivered as [unknown, { from: string }];
      expect(world.arrives(WEST, from, "and back")).toBe(true);
      expect(world.arrives(CITY, "EAS-A", "from the city")).toBe(true);
      expect([world.at(CITY), world.at(WEST), world.at(EAST)]).toEqual([
        ["to the city"],
        ["to the west"],
        ["and back", "from the city"],
      ]);
      // What they asked for says that they have mail sessions: nobody wrote to an identity key, nor in an older form.
      for (const index of [CITY, WEST, EAST])
        expect(world.nodes[index]!.disk.rows("session").size).toBeGreaterThan(0);
      for (const { bytes } of world.asked) expect(bytes + LINK_BYTES).toBeLessThanOrEqual(PACKET_BYTES_MAX);
    });

  test("asks once for one name, however much mail waits for it, and not again for what it knows", () => {
    const world = worldOf(4, { loss: 0 });
    for (let i = 0; i < 4; i++) world.send(EAST, "WES-A", `message ${i}`);
    expect(world.run(30, () => world.at(WEST).length === 4)).toBe(true);
    expect(world.arrives(EAST, "WES-A", "one more")).toBe(true);
    expect(world.asked.filter(({ type }) => type === FrameType.lookup)).toHaveLength(1);
    expect(world.asked.filter(({ type }) => type === FrameType.lookupReply)).toHaveLength(1);
  });

  test("keeps what it learnt over a restart", () => {
    const world = worldOf(5, { loss: 0 });
    expect(world.arrives(EAST, "WES-A", "before")).toBe(true);
    world.nodes[EAST]!.crash("kill");
    world.start(EAST);
    world.run(5);
    expect(world.arrives(EAST, "WES-A", "after")).toBe(true);
    expect(world.asked.filter(({ type }) => type === FrameType.lookup)).toHaveLength(1);
  });

  test("gets its mail to a name that appears later out soon after that, and asks seldom until then", () => {
    const world = worldOf(6, {}, CITY);
    const sent = world.send(EAST, "CTY-A", "patience");
    world.run(180);
    expect(sent().state).toBe("queued");
    expect(world.asked.filter(({ type }) => type === FrameType.lookup).length).toBeLessThan(14);
    world.start(CITY);
    // Not at the next hourly question: the gateway tells of it.
    expect(world.run(15, () => sent().state === "delivered")).toBe(true);
    expect(world.at(CITY)).toEqual(["patience"]);
  });

  test("any machine of a location gets what is for the location", () => {
    const world = worldOf(7);
    expect(world.arrives(EAST, "CTY", "to whom it may concern")).toBe(true);
    expect(world.at(CITY)).toEqual(["to whom it may concern"]);
  });

  test("mail sent before there is a gateway waits for one and asks it", () => {
    const world = worldOf(8, { loss: 0.1 }, GATE_E);
    const sent = world.send(EAST, "CTY-A", "early");
    world.run(20);
    expect(sent().state).toBe("queued");
    world.start(GATE_E);
    expect(world.run(20, () => sent().state === "delivered")).toBe(true);
  });
});

describe("nodes that have radios alone, without any gateway", () => {
  const ring = (count: number, loss: number): Partial<EdgesWorldOptions> => ({
    callsigns: Array.from({ length: count }, (_, n) => `R${String.fromCharCode(65 + n)}-A`),
    cables: [],
    radios: Array.from({ length: count }, (_, n) => [n, (n + 1) % count] as const),
    loss,
  });

  test("write over three radio links to a callsign that they never met, and are answered", () => {
    const options = ring(6, 0.1);
    const world = worldOf(1, {
      ...options,
      radios: options.radios!.slice(0, 3),
      callsigns: options.callsigns!.slice(0, 4),
    });
    world.run(60);
    expect(world.mesh(0).names.resolve("RD-A").kind).toBe("unknown");
    expect(world.arrives(0, "RD-A", "over three hops", 60)).toBe(true);
    const from = world.delivered[0]!.from;
    expect(world.arrives(3, from, "and back", 60)).toBe(true);
    expect([world.at(3), world.at(0)]).toEqual([["over three hops"], ["and back"]]);
  });

  test("ask in a ring for a name that nobody has: each asks on, few times, and nobody for ever", () => {
    const world = worldOf(2, ring(6, 0));
    world.run(60);
    const sent = world.send(0, "ZZ-Z", "to nobody");
    world.run(60);
    const asked = (by: number) =>
      world.asked.filter((one) => one.by === by && one.type === FrameType.lookup).length;
    const counts = world.nodes.map(({ index }) => asked(index));
    for (const others of counts.slice(1)) expect(others).toBeGreaterThan(0);
    expect(Math.max(...counts.slice(1))).toBeLessThan(12);
    expect(counts[0]).toBeLessThan(24);
    world.run(12 * 60);
    const later = world.nodes.map(({ index }) => asked(index) - counts[index]!);
    // The mail waits on: its node asks about once an hour, and each question has few asked on.
    expect(Math.max(...later)).toBeLessThan(60);
    expect(sent().state).toBe("queued");
  });
});

describe("names that move", () => {
  test("a renamed node is found under its new name, and no longer under the old one", () => {
    const world = worldOf(11);
    expect(world.arrives(EAST, "CTY-A", "first")).toBe(true);
    world.rename(CITY, "CTY-B");
    world.run(5);
    expect(world.arrives(EAST, "CTY-B", "second")).toBe(true);
    expect(world.mesh(EAST).names.resolve("CTY-A").kind).toBe("unknown");
    const late = world.send(EAST, "CTY-A", "to whoever that is now");
    world.run(60);
    expect(late().state).toBe("queued");
    expect(world.at(CITY)).toEqual(["first", "second"]);
  });

  test(
    "a record that is older than the prekey in it may be is asked for anew, with the next mail and not before",
    () => {
      const world = worldOf(12, { loss: 0 });
      expect(world.arrives(EAST, "CTY-A", "first")).toBe(true);
      const before = world.mesh(EAST).records.get(world.nodes[CITY]!.id)!.record;
      const countOf = () => world.asked.filter(({ type }) => type === FrameType.lookup).length;
      expect(countOf()).toBe(1);
      world.run(8 * 24 * 60);
      expect(countOf()).toBe(1);
      expect(world.arrives(EAST, "CTY-A", "a week later")).toBe(true);
      const { prekey, sequence } = world.mesh(EAST).records.get(world.nodes[CITY]!.id)!.record;
      expect(countOf()).toBe(2);
      expect(sequence).toBeGreaterThan(before.sequence);
      expect(prekey!.keyId).not.toBe(before.prekey!.keyId);
      // Nothing newer is an answer as well, and holds as long.
      expect(world.arrives(EAST, "CTY-A", "and another")).toBe(true);
      expect(countOf()).toBe(2);
    },
    WEEK_TIMEOUT_MS,
  );

  test("a new record of an edge node, with its prekeys, is known behind its gateway", () => {
    const world = worldOf(13);
    const sequenceOf = (at: number) => world.mesh(at).records.get(world.nodes[EAST]!.id)!.record.sequence;
    const before = sequenceOf(CITY);
    world.time.after(0, () => world.mesh(EAST).onPrekey());
    expect(world.run(30, () => sequenceOf(CITY) > before)).toBe(true);
    expect([sequenceOf(GATE_E), sequenceOf(CITY)]).toEqual([sequenceOf(EAST), sequenceOf(EAST)]);
  });

  test("mail to a recipient that lost its keys is sealed to the new ones", () => {
    const world = worldOf(14);
    expect(world.arrives(EAST, "CTY-A", "first")).toBe(true);
    const node = world.nodes[CITY]!;
    node.crash("kill");
    node.loseSessions(true);
    world.start(CITY);
    world.run(5);
    expect(world.arrives(EAST, "CTY-A", "second", 60)).toBe(true);
    expect(world.at(CITY)).toEqual(["first", "second"]);
  });
});

describe("where a name authority is set up", () => {
  const authority = generateIdentity(seededRandom(77));
  const settings = () => ({ authority: authority.id });
  const adopt = (world: EdgesWorld, index: number, callsign: string, serial: number) => {
    const { id } = world.nodes[index]!;
    const proof = signName(authority, { callsign, id, serial }, NETWORK);
    world.time.after(0, () => void world.mesh(index).adoptName(callsign, proof));
    world.run(5);
  };

  test("a name comes with its proof, in two packets, and without one it means nobody", () => {
    const world = worldOf(21, { settings, loss: 0 });
    adopt(world, CITY, "CTY-A", 3);
    const waiting = world.send(EAST, "WES-A", "nobody signed that");
    expect(world.arrives(EAST, "CTY-A", "signed")).toBe(true);
    const replies = world.asked.filter(({ by, type }) => by === GATE_E && type === FrameType.lookupReply);
    expect(replies.map(({ bytes }) => bytes + LINK_BYTES).filter((bytes) => bytes > 100)).toHaveLength(2);
    for (const { bytes } of replies) expect(bytes + LINK_BYTES).toBeLessThanOrEqual(PACKET_BYTES_MAX);
    world.run(60);
    expect(waiting().state).toBe("queued");
    expect(world.at(WEST)).toEqual([]);
    // As soon as somebody does, it goes.
    adopt(world, WEST, "WES-A", 1);
    expect(world.run(20, () => world.at(WEST).length > 0)).toBe(true);
  });

  test("either packet of an answer may be lost", () => {
    for (const lost of [0, 1]) {
      let count = 0;
      const replies = (_: number, frame: Uint8Array) => (count++ === lost ? [] : [frame]);
      const world = worldOf(22, { settings, loss: 0, replies });
      adopt(world, CITY, "CTY-A", 3);
      expect(world.arrives(EAST, "CTY-A", "signed", 30)).toBe(true);
      expect(count).toBeGreaterThan(2);
    }
  });

  test("a proof of somebody else's making, or for another node, binds nothing", () => {
    const forger = generateIdentity(seededRandom(78));
    const replies = (_: number, frame: Uint8Array) => {
      const reply = decodeLookupReply(frame);
      if (reply?.kind === "none") return [];
      if (reply?.kind !== "record") return [frame];
      const { id, callsign } = peekRecord(reply.record);
      const forged = signName(forger, { callsign: callsign!, id, serial: 9 }, NETWORK);
      const moved = signName(authority, { callsign: callsign!, id: forger.id, serial: 9 }, NETWORK);
      return [
        frame,
        ...[forged, moved].map((proof) =>
          encodeLookupReply({ kind: "nameProof", id, callsign: callsign!, ...proof }),
        ),
      ];
    };
    const world = worldOf(23, { settings: (at) => (at === EAST ? settings() : {}), replies });
    const sent = world.send(EAST, "CTY-A", "to nobody");
    world.run(90);
    expect(world.mesh(EAST).records.get(world.nodes[CITY]!.id)).toBeDefined();
    expect(world.mesh(EAST).names.resolve("CTY-A").kind).toBe("unknown");
    expect([sent().state, world.delivered]).toEqual(["queued", []]);
  });
});

/** Two gateways of one edge node, of which the one that it asks first lies. */
describe("a gateway that lies", () => {
  const [EDGE, ONE, TWO, INSIDE, OTHER] = [0, 1, 2, 3, 4];
  const two = {
    loss: 0.1,
    callsigns: ["EDG-A", "ONE-A", "TWO-A", "CTY-A", "CTY-B"],
    cables: [
      [ONE, INSIDE],
      [TWO, INSIDE],
      [INSIDE, OTHER],
    ],
    radios: [
      [EDGE, ONE],
      [EDGE, TWO],
    ],
  } as const satisfies Omit<EdgesWorldOptions, "seed">;
  /** What it sends in place of a record. */
  type Lie = (world: EdgesWorld, record: Uint8Array) => Uint8Array;
  const recordOf = (world: EdgesWorld, index: number) =>
    briefOf(world.mesh(INSIDE).records.get(world.nodes[index]!.id)!.record)!;
  const changed = (record: Uint8Array, at: number) => record.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const lies: Record<string, Lie> = {
    "the record of another node": (world) => recordOf(world, OTHER),
    "a record with another node's id in it": (world, record) => {
      const moved = record.slice();
      moved.set(nodeIdBytes(world.nodes[OTHER]!.id), 2);
      return moved;
    },
    "a record with another prekey in it": (_, record) => changed(record, record.length - 64 - 10),
    "a record with another name in it": (_, record) => changed(record, 44),
    "a record with another signature": (_, record) => changed(record, record.length - 1),
    nonsense: () => new Uint8Array(120).fill(7),
    "a record of another network": (world) =>
      briefOf(
        decodeRecord(
          encodeRecord(
            world.nodes[OTHER]!.identity,
            { sequence: 2 ** 40, callsign: "CTY-A", withBrief: true },
            "elsewhere",
          ),
          "elsewhere",
          verifySignature,
        ),
      )!,
  };
  for (const [what, lie] of Object.entries(lies))
    test(`${what}: mail goes to whom it is for, by what another gateway says`, () => {
      let liar: number | undefined;
      let lied = 0;
      const world: EdgesWorld = worldOf(31, {
        ...two,
        replies(by, frame) {
          const reply = decodeLookupReply(frame);
          liar ??= by;
          if (by !== liar || reply?.kind !== "record") return [frame];
          lied++;
          return [encodeLookupReply({ kind: "record", record: lie(world, reply.record) })];
        },
      });
      expect(world.arrives(EDGE, "CTY-A", "for A alone", 60)).toBe(true);
      expect(world.delivered.map(({ at, text }) => [at, text])).toEqual([[INSIDE, "for A alone"]]);
      expect(world.mesh(EDGE).names.resolve("CTY-B").kind).toBe("unknown");
      expect(lied).toBeGreaterThan(0);
    });

  test("an old record changes nothing about a newer one, and a revoked node stays revoked", () => {
    let old: Uint8Array | undefined;
    let liar: number | undefined;
    const world = worldOf(32, {
      ...two,
      replies(by, frame) {
        liar ??= by;
        return by === liar && old !== undefined && decodeLookupReply(frame)?.kind !== "none"
          ? [encodeLookupReply({ kind: "record", record: old })]
          : [frame];
      },
    });
    const other = world.nodes[OTHER]!;
    old = recordOf(world, OTHER);
    expect(world.arrives(EDGE, "CTY-B", "while it has the name", 60)).toBe(true);
    world.rename(OTHER, "CTY-C");
    world.run(5);
    expect(world.arrives(EDGE, "CTY-C", "by the new name", 60)).toBe(true);
    const late = world.send(EDGE, "CTY-B", "by the old name");
    world.run(60);
    expect(late().state).toBe("queued");
    const revocation = encodeRevocation(other.identity, other.id, NETWORK);
    world.time.after(0, () => world.mesh(EDGE).records.offer(revocation));
    const dead = world.send(EDGE, other.id, "to a revoked one");
    world.run(60);
    expect([dead().state, world.mesh(EDGE).records.isRevoked(other.id)]).toEqual(["queued", true]);
    expect(world.at(OTHER)).toEqual(["while it has the name", "by the new name"]);
  });

  test("one that says that nobody is known by that name is not believed alone", () => {
    let liar: number | undefined;
    const world = worldOf(33, {
      ...two,
      replies: (by, frame) => {
        liar ??= by;
        const none = { kind: "none", subject: { kind: "name", name: "CTY-A" } } as const;
        return by === liar ? [encodeLookupReply(none)] : [frame];
      },
    });
    expect(world.arrives(EDGE, "CTY-A", "he said there is none")).toBe(true);
  });

  test("one that is silent is passed over", () => {
    let silent: number | undefined;
    const world = worldOf(34, { ...two, replies: (by, frame) => (by === (silent ??= by) ? [] : [frame]) });
    expect(world.arrives(EDGE, "CTY-A", "into the silence")).toBe(true);
  });
});
