import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { type BundleId, formatNodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { newDeparture } from "../kernel/departure.ts";
import { encodeCustodyAck } from "../wire/bundle.ts";
import { encodeProbeReply, type Hello } from "../wire/peer-messages.ts";
import { encodeBeacon } from "../wire/route-messages.ts";
import { Link } from "./link.ts";
import { Peer } from "./peer.ts";
import { sessionPair, type FakeSession } from "./testing.ts";

const self = formatNodeId(new Uint8Array(32).fill(1));
const other = formatNodeId(new Uint8Array(32).fill(2));

function setup(count = 1) {
  const clock = new ManualClock();
  const dropped: true[] = [];
  const superseded: true[] = [];
  const life = { bootId: "b", storeEpoch: "e", upAtMs: 0 };
  const peer = new Peer(other, life, {
    tooWide: () => void dropped.push(true),
    superseded: () => void superseded.push(true),
  });
  const sessions: FakeSession[] = [];
  const links: Link[] = [];
  for (let i = 0; i < count; i++) {
    const [session] = sessionPair(clock, self, other);
    session.linkClass = "slow"; // no probes among the frames
    session.rateBitsPerSecond = 1_000_000 / (i + 1);
    const link = new Link(session, {} as Hello, {
      clock,
      random: seededRandom(i),
      events: { dead() {}, measured() {} },
    });
    sessions.push(session);
    links.push(link);
    peer.addLink(link);
  }
  const sentOn = (i: number) => sessions[i]!.sent.map((frame) => frame[0]);
  return { peer, sessions, links, sentOn, dropped, superseded };
}
const frame = (first: number, length = 1) => new Uint8Array(length).fill(first, 0, 1);

describe("lanes", () => {
  test("control passes data, data goes by priority, first come first served within one", () => {
    const { peer, sessions, links, sentOn } = setup();
    sessions[0]!.hasRoom = false;
    expect(peer.send(2, frame(1))).toBe(true); // fills the session
    expect(peer.hasRoom).toBe(false);
    for (const [lane, first] of [
      [3, 30],
      [2, 20],
      [0, 10],
      [2, 21],
    ] as const)
      expect(peer.send(lane, frame(first))).toBe(true);
    expect(peer.send("control", frame(99))).toBe(true);
    expect(sentOn(0)).toEqual([1, 99]);
    expect(peer.queuedFrames).toBe(4);
    sessions[0]!.hasRoom = true;
    links[0]!.noteDrain();
    peer.pump();
    expect(sentOn(0)).toEqual([1, 99, 10, 20, 21, 30]);
    expect([peer.queuedFrames, peer.hasRoom]).toEqual([0, true]);
  });

  test("own copies of what waits; the caller's buffer is free again", () => {
    const { peer, sessions, links, sentOn } = setup();
    sessions[0]!.hasRoom = false;
    peer.send(2, frame(1));
    const buffer = frame(7);
    peer.send(2, buffer);
    buffer[0] = 0;
    links[0]!.noteDrain();
    peer.pump();
    expect(sentOn(0)).toEqual([1, 7]);
  });

  test("refuse when full by frames or by bytes, each lane for itself; control as well in the end", () => {
    const { peer, sessions } = setup();
    sessions[0]!.hasRoom = false;
    peer.send(1, frame(0));
    let taken = 0;
    while (peer.send(1, frame(1))) taken++;
    expect(taken).toBe(8_192);
    expect(peer.send(0, frame(1))).toBe(true);
    taken = 0;
    while (peer.send(3, new Uint8Array(60_000))) taken++;
    expect(taken).toBe(Math.floor((4 * 1024 * 1024) / 60_000));
    sessions[0]!.bufferedBytes = 64 * 1024 * 1024;
    taken = 0;
    while (peer.send("control", frame(1))) taken++;
    expect(taken).toBe(8_192);
    expect(peer.queueDelayMs).toBeGreaterThan(500_000);
    expect(peer.drop()).toBe(8_192 + 1 + 69 + 8_192);
    expect(peer.queuedFrames).toBe(0);
  });

  test("what was taken while a link was wide, and is too wide for the one that is left, is dropped and counted", () => {
    const { peer, sessions, links, sentOn, dropped } = setup();
    sessions[0]!.hasRoom = false;
    peer.send(2, frame(1));
    peer.send(2, frame(2, sessions[0]!.frameBytesMax));
    peer.send(2, frame(3));
    (sessions[0] as { frameBytesMax: number }).frameBytesMax = 10;
    sessions[0]!.hasRoom = true;
    links[0]!.noteDrain();
    peer.pump();
    expect(sentOn(0)).toEqual([1, 3]);
    expect([dropped.length, peer.queuedFrames]).toEqual([1, 0]);
  });

  test("no link or too large a frame is refused at once", () => {
    const { peer, sessions } = setup();
    expect(peer.send(2, new Uint8Array(sessions[0]!.frameBytesMax + 1))).toBe(false);
    const none = new Peer(other, { bootId: "b", storeEpoch: "e", upAtMs: 0 });
    expect([none.send("control", frame(1)), none.isUp, none.queueDelayMs, none.frameBytesMax]).toEqual([
      false,
      false,
      0,
      0,
    ]);
  });
});

describe("several links", () => {
  test("the best carries; what waited goes on over the next when it dies", () => {
    const { peer, sessions, links, sentOn } = setup(2);
    expect(peer.best).toBe(links[0]);
    sessions[0]!.hasRoom = false;
    peer.send(2, frame(1));
    peer.send(2, frame(2));
    peer.removeLink(links[0]!);
    expect([peer.best, sentOn(1)]).toEqual([links[1], [2]]);
  });

  test("a retiring link is used only when there is no other", () => {
    const { peer, links, sentOn } = setup(2);
    links[0]!.isRetiring = true;
    peer.reconsider();
    peer.send(2, frame(5));
    expect(sentOn(1)).toEqual([5]);
    peer.removeLink(links[1]!);
    expect(peer.best).toBe(links[0]);
  });

  test("what waits for a link that is no longer the best does not wait on", () => {
    const { peer, sessions, links, sentOn } = setup(2);
    sessions[0]!.hasRoom = false;
    peer.send(2, frame(1));
    peer.send(2, frame(2));
    links[0]!.isRetiring = true;
    peer.reconsider();
    expect(sentOn(1)).toEqual([2]);
  });

  test("a frame that waited and is too large for the next link is dropped, and nothing breaks", () => {
    const { peer, sessions, links, sentOn } = setup(2);
    sessions[1]!.frameBytesMax = 100;
    sessions[0]!.hasRoom = false;
    peer.send(2, frame(1));
    peer.send(2, frame(2, 5_000));
    peer.send(2, frame(3));
    peer.removeLink(links[0]!);
    expect(sentOn(1)).toEqual([3]);
    expect(peer.queuedFrames).toBe(0);
  });
});

describe("a link where frames wait for long", () => {
  const paced = () => {
    const made = setup();
    const session = made.sessions[0]!;
    session.answerMs = 60_000;
    session.hasRoom = false;
    made.peer.send(2, frame(1)); // fills the session
    const drain = () => {
      session.hasRoom = true;
      made.links[0]!.noteDrain();
      made.peer.pump();
    };
    return { ...made, session, drain };
  };
  const beacon = (seqno: number, gatewayMetric?: number) =>
    encodeBeacon({ seqno, hasProof: true, gatewayMetric });

  test("keeps control here, where the last beacon, answer and the same acknowledgement take the place of the ones before", () => {
    const { peer, session, drain, superseded } = paced();
    const ack = encodeCustodyAck([testId(1)]);
    const second = encodeCustodyAck([testId(2)]);
    for (const sent of [
      beacon(1),
      ack,
      encodeProbeReply(7),
      beacon(2, 9),
      second,
      ack,
      encodeProbeReply(0),
      beacon(3),
    ])
      expect(peer.send("control", sent)).toBe(true);
    expect([session.sent.length, peer.queuedFrames, superseded.length]).toEqual([1, 4, 4]);
    drain();
    expect(session.sent.slice(1)).toEqual([beacon(3), ack, encodeProbeReply(0), second]);
    expect(peer.queuedFrames).toBe(0);
  });

  test("takes 128 of them, and no word of another kind is lost for one that is said again", () => {
    const { peer } = paced();
    let taken = 0;
    while (taken < 1_000 && peer.send("control", encodeCustodyAck([testId(taken)]))) taken++;
    expect(taken).toBe(128);
    expect(peer.send("control", encodeCustodyAck([testId(5)]))).toBe(true);
    expect(peer.send("control", beacon(1))).toBe(false);
  });

  test("tells of what waited when it leaves, and of what is dropped that it was", () => {
    const { peer, session, drain } = paced();
    const [sent, wide, lost] = [newDeparture(), newDeparture(), newDeparture()];
    peer.send(2, frame(2), sent);
    peer.send(2, frame(3, 100), wide);
    session.frameBytesMax = 50;
    drain();
    expect(session.departures).toEqual([sent]);
    expect(wide.leftAtMs).toBe(Number.NEGATIVE_INFINITY);
    session.hasRoom = false;
    peer.send(2, frame(4));
    peer.send(2, frame(5), lost);
    expect(peer.drop()).toBe(1);
    expect([sent.leftAtMs, lost.leftAtMs]).toEqual([undefined, Number.NEGATIVE_INFINITY]);
  });
});

const testId = (n: number) => n.toString(16).padStart(32, "0") as BundleId;
