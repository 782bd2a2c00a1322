/** Whose word counts here, with real keys: one node, and others that say what they like to it. */
import { describe, expect, test } from "bun:test";
import { generateIdentity, verifySignature, type Identity } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { noRegard } from "../trust/testing.ts";
import { FrameType } from "../wire/constants.ts";
import * as wire from "../wire/member-messages.ts";
import { LISTED_MS } from "./member.ts";
import { Members } from "./members.ts";

const network = "test";
const random = seededRandom(7);
const [self, peer, subject, ...more] = Array.from({ length: 8 }, () => generateIdentity(random)) as [
  Identity,
  Identity,
  Identity,
  ...Identity[],
];
/** Of an incarnation; those below are older. */
const AT = 5 * 2 ** 24;

const fact = (
  of: Identity,
  incarnation = AT,
  kind: wire.MemberFact["kind"] = 1,
  by = of,
): wire.MemberFact => {
  const unsigned = { kind, node: of.id, incarnation };
  return { ...unsigned, signature: by.sign(wire.memberSigningBytes(network, unsigned)) };
};
const farewell = (of: Identity, incarnation = AT, by = of) =>
  fact(of, incarnation, wire.MemberEntryKind.left, by);

const accusation = (of: NodeId, accuser: Identity, incarnation = AT, by = accuser): wire.Accusation => {
  const kind = wire.MemberEntryKind.accusation;
  const unsigned = { kind, node: of, incarnation, reason: wire.AccusationReason.closed, accuser: accuser.id };
  return { ...unsigned, signature: by.sign(wire.memberSigningBytes(network, unsigned)) };
};

/** This node, linked to `peer`; everything else is reachable as `reachable` says. */
function open() {
  const clock = new ManualClock();
  const reachable = new Set<NodeId>();
  const pings: { to: NodeId; ping: wire.MemberPing }[] = [];
  const pongs: wire.MemberPong[] = [];
  const outrun: number[] = [];
  const kept = new Map<NodeId, wire.MemberFact | undefined>();
  const told: wire.MemberEntry[] = [];
  const metrics = new Metrics();
  const members = new Members({
    self: self.id,
    network,
    bootEpoch: 1,
    clock,
    random: seededRandom(3),
    metrics,
    regard: noRegard,
    sign: (bytes) => self.sign(bytes),
    verify: verifySignature,
    send(to, frame) {
      if (to === more[4]!.id && frame[0] === FrameType.memberFacts)
        told.push(...wire.decodeMemberFacts(frame.slice()).entries);
    },
    sendRouted(to, kind, payload) {
      if (kind === "ping") pings.push({ to, ping: wire.decodeMemberPing(payload) });
      else pongs.push(wire.decodeMemberPong(payload));
    },
    isReachable: (id) => reachable.has(id),
    checkLink() {},
    outrun: (epoch) => {
      outrun.push(epoch);
      return epoch + 1;
    },
    changed() {},
    persist: (id, one) => kept.set(id, one),
  });
  members.neighbourUp(peer.id, "fast");
  // Everybody tells this one, who only listens.
  members.neighbourUp(more[4]!.id, "fast");
  const hear = (...entries: wire.MemberEntry[]) =>
    members.handleFrame(peer.id, wire.encodeMemberFacts({ isRepair: false, entries }));
  const stateOf = (of: Identity) => members.row(of.id)?.state;
  /** A route leads to it. */
  const reach = (of: Identity, isReachable: boolean) => {
    if (isReachable) reachable.add(of.id);
    else reachable.delete(of.id);
    members.onRoute(of.id, isReachable);
  };
  return { clock, members, metrics, hear, stateOf, reach, pings, pongs, outrun, kept, told };
}

/** The subject is known and reachable, and was accused by the peer: this node pings it. */
async function asking() {
  const world = open();
  world.hear(fact(subject));
  world.reach(subject, true);
  world.hear(accusation(subject.id, peer));
  await world.clock.advance(1_000);
  const { nonce } = world.pings.at(-1)!.ping;
  const pong = (change: Partial<wire.MemberPong> & { signed?: Uint8Array; by?: Identity } = {}) => {
    const { signed = nonce, by = subject } = change;
    const signature = by.sign(wire.pongSigningBytes(network, subject.id, signed));
    return wire.encodeMemberPong({ nonce, signature, fact: fact(subject), ...change });
  };
  return { ...world, nonce, pong };
}

describe("what a node says of itself", () => {
  test("nobody says farewell for another, nor brings it back", async () => {
    const { clock, hear, stateOf, reach, told, kept } = open();
    hear(fact(subject));
    reach(subject, true);
    hear(farewell(subject, AT + 1, peer));
    expect(stateOf(subject)).toBe("alive");
    hear(farewell(subject, AT + 1));
    expect(stateOf(subject)).toBe("left");
    hear(fact(subject, AT + 2, wire.MemberEntryKind.alive, peer));
    expect(stateOf(subject)).toBe("left");
    expect(kept.get(subject.id)?.incarnation).toBe(AT + 1);
    await clock.advance(1_000);
    // Nor is it passed on; of what is true the last word is.
    expect(told.filter(({ node }) => node === subject.id).map(({ incarnation }) => incarnation)).toEqual([
      AT + 1,
    ]);
  });

  test("an older statement never replaces a newer one, signed as it is", () => {
    const { hear, stateOf, kept } = open();
    hear(farewell(subject, AT + 1));
    hear(fact(subject, AT));
    expect(stateOf(subject)).toBe("left");
    expect(kept.get(subject.id)?.incarnation).toBe(AT + 1);
  });

  test("who was forgotten comes back by a newer word alone, not by the one with which it was forgotten", async () => {
    const { clock, hear, stateOf, members } = open();
    hear(farewell(subject));
    await clock.advance(LISTED_MS + 3_600_000);
    expect(members.row(subject.id)).toBeUndefined();
    hear(fact(subject, AT - 1));
    hear(farewell(subject));
    expect(members.row(subject.id)).toBeUndefined();
    hear(fact(subject, AT + 1));
    expect(stateOf(subject)).toBe("suspect");
  });

  test("a member that routes lead to is not forgotten, however long ago it said farewell", async () => {
    const { clock, hear, stateOf, reach } = open();
    hear(farewell(subject));
    reach(subject, true);
    await clock.advance(LISTED_MS + 3_600_000);
    expect(stateOf(subject)).toBe("left");
  });

  test("a forged word of this node's other life does not make it take another epoch", () => {
    const { hear, outrun, members } = open();
    const before = members.own.incarnation;
    hear(fact(self, 9 * 2 ** 24, wire.MemberEntryKind.alive, peer));
    expect([outrun, members.own.incarnation]).toEqual([[], before]);
    hear(fact(self, 9 * 2 ** 24));
    expect(outrun).toEqual([9]);
    expect(members.own.incarnation).toBeGreaterThan(9 * 2 ** 24);
  });

  test("a saved statement is believed again only with its signature", () => {
    const { members, stateOf } = open();
    members.restore([fact(subject, AT, wire.MemberEntryKind.alive, peer), fact(more[0]!)]);
    expect([stateOf(subject), stateOf(more[0]!)]).toEqual([undefined, "suspect"]);
  });
});

describe("who answers a ping", () => {
  test("the node itself: it is alive, whatever others say", async () => {
    const { members, stateOf, pong } = await asking();
    expect(stateOf(subject)).toBe("suspect");
    members.handlePong(subject.id, pong());
    expect(stateOf(subject)).toBe("alive");
  });

  test("nobody answers for another", async () => {
    const { members, stateOf, pong } = await asking();
    members.handlePong(subject.id, pong({ by: peer }));
    members.handlePong(peer.id, pong());
    expect(stateOf(subject)).toBe("suspect");
  });

  test("an answer to an earlier ping does not answer this one, with whichever nonce it comes", async () => {
    const { members, stateOf, pong } = await asking();
    const earlier = new Uint8Array(wire.MEMBER_NONCE_BYTES).fill(9);
    members.handlePong(subject.id, pong({ nonce: earlier, signed: earlier }));
    members.handlePong(subject.id, pong({ signed: earlier }));
    expect(stateOf(subject)).toBe("suspect");
  });

  test("its word of now is taken with the answer only when it is its own", async () => {
    const { members, stateOf, pong } = await asking();
    members.handlePong(subject.id, pong({ fact: fact(more[0]!) }));
    expect([stateOf(subject), stateOf(more[0]!)]).toEqual(["suspect", undefined]);
  });

  test("this node signs 50 answers a second, however often it is asked", async () => {
    const { clock, members, pongs } = open();
    const ping = wire.encodeMemberPing({ nonce: new Uint8Array(8), accusation: undefined });
    for (let n = 0; n < 1_000; n++) members.handlePing(peer.id, ping);
    expect(pongs).toHaveLength(50);
    expect(
      verifySignature(
        self.id,
        wire.pongSigningBytes(network, self.id, new Uint8Array(8)),
        pongs[0]!.signature,
      ),
    ).toBe(true);
    await clock.advance(1_000);
    for (let n = 0; n < 1_000; n++) members.handlePing(peer.id, ping);
    expect(pongs).toHaveLength(100);
  });
});

describe("who is accused", () => {
  const known = () => {
    const world = open();
    world.hear(fact(subject));
    world.reach(subject, true);
    return world;
  };

  test("nobody accuses in the name of another", () => {
    const { hear, stateOf } = known();
    hear(accusation(subject.id, more[0]!, AT, peer));
    expect(stateOf(subject)).toBe("alive");
    hear(accusation(subject.id, more[0]!));
    expect(stateOf(subject)).toBe("suspect");
  });

  test("an accusation counts for the incarnation that it names, and dies with it", () => {
    const { hear, stateOf } = known();
    hear(accusation(subject.id, peer, AT - 1), accusation(subject.id, peer, AT + 1));
    expect(stateOf(subject)).toBe("alive");
    hear(accusation(subject.id, peer));
    expect(stateOf(subject)).toBe("suspect");
    hear(fact(subject, AT + 1));
    expect(stateOf(subject)).toBe("alive");
  });

  test("an accusation alone never makes a node failed", async () => {
    const { clock, hear, stateOf, members, pings } = known();
    hear(accusation(subject.id, peer), accusation(subject.id, more[0]!));
    await clock.advance(300);
    expect(stateOf(subject)).toBe("suspect");
    await clock.advance(1_000);
    // It is told of what it is accused, so that it can rise above that.
    expect(pings.at(-1)).toMatchObject({ to: subject.id, ping: { accusation: { accuser: peer.id } } });
    members.handlePong(
      subject.id,
      wire.encodeMemberPong({
        nonce: pings.at(-1)!.ping.nonce,
        signature: subject.sign(wire.pongSigningBytes(network, subject.id, pings.at(-1)!.ping.nonce)),
        fact: fact(subject),
      }),
    );
    expect(stateOf(subject)).toBe("alive");
  });

  test("three accusers of one member are kept and passed on, no more", async () => {
    const { clock, hear, told } = known();
    for (const accuser of [peer, ...more.slice(0, 4)]) hear(accusation(subject.id, accuser));
    hear(accusation(subject.id, peer));
    await clock.advance(1_000);
    const passedOn = told.filter(({ kind }) => kind === wire.MemberEntryKind.accusation);
    expect(passedOn).toHaveLength(3);
  });

  test("an accusation under this node's own name is its own alone to make: nobody brings it one", () => {
    const { hear, stateOf } = known();
    hear(accusation(subject.id, self));
    expect(stateOf(subject)).toBe("alive");
  });

  test("who has said farewell is not accused as well", () => {
    const { hear, stateOf } = open();
    hear(farewell(subject), accusation(subject.id, peer));
    expect(stateOf(subject)).toBe("left");
  });
});

describe("accused itself, this node", () => {
  test("rises above what is signed and of now, not above what is forged, old, its own or of the accused", () => {
    const { members, hear } = open();
    const before = members.own.incarnation;
    hear(accusation(self.id, peer, before, more[0]));
    hear(accusation(self.id, peer, before - 1), accusation(self.id, peer, before + 1));
    hear(accusation(self.id, self, before));
    expect(members.own.incarnation).toBe(before);
    hear(accusation(self.id, peer, before));
    expect(members.own.incarnation).toBe(before + 1);
  });

  test("is rid of one that accuses without end: after eight refutations it is not heard until a minute is over", async () => {
    const { clock, members, hear, metrics } = open();
    let refuted = 0;
    const accuse = () => {
      const before = members.own.incarnation;
      hear(accusation(self.id, peer, before));
      if (members.own.incarnation > before) refuted++;
    };
    for (let n = 0; n < 8; n++) accuse();
    // Its own rate is not what refuses: that has come back by now.
    await clock.advance(30_000);
    for (let n = 0; n < 8; n++) accuse();
    expect(refuted).toBe(8);
    expect(await metrics.render()).toContain('reason="credit"');
    // One a minute comes back, counted from the last.
    await clock.advance(31_000);
    for (let n = 0; n < 8; n++) accuse();
    expect(refuted).toBe(9);
  });

  test("of an accuser whose victims outran it without a restart nothing is heard any more; after restarts it is", () => {
    for (const isRestart of [false, true]) {
      const { members, hear, reach } = open();
      hear(fact(subject));
      reach(subject, true);
      for (let n = 0; n < 8; n++) {
        const incarnation = isRestart ? AT + n * 2 ** 24 : AT + n;
        hear(accusation(subject.id, peer, incarnation));
        hear(fact(subject, isRestart ? incarnation + 2 ** 24 : incarnation + 1));
      }
      const before = members.own.incarnation;
      hear(accusation(self.id, peer, before));
      expect(members.own.incarnation).toBe(isRestart ? before + 1 : before);
    }
  });
});
