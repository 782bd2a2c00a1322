import { describe, expect, test } from "bun:test";
import type { Urgency } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { FrameType } from "../wire/constants.ts";
import {
  encodeGoodbye,
  encodeHello,
  encodeProbe,
  encodeProbeReply,
  GoodbyeReason,
} from "../wire/peer-messages.ts";
import { LINKS_OPEN_MAX, PEERS_KEPT, PEERS_MAX } from "./peers.ts";
import { type FakeSession, sessionPair } from "./testing.ts";
import { id, Node } from "./testing-peers.ts";

const helloFrame = (boot: number, more: { min?: number; max?: number; epoch?: number } = {}) =>
  encodeHello({
    versionMin: more.min ?? 1,
    versionMax: more.max ?? 1,
    bootId: new Uint8Array(8).fill(boot),
    storeEpoch: new Uint8Array(8).fill(more.epoch ?? 1),
    record: new Uint8Array(3),
  });

function dial(clock: ManualClock, from: Node, to: Node, hosts?: { from?: string; to?: string }) {
  const pair = sessionPair(clock, from.id, to.id, hosts);
  from.peers.adopt(pair[0]);
  to.peers.adopt(pair[1]);
  return pair;
}
const linksOf = (node: Node, other: Node) => node.peers.get(other.id)?.links ?? [];
const liveOf = (node: Node, other: Node) => linksOf(node, other).filter((link) => !link.isRetiring);

describe("hello", () => {
  test("a path that turns out to carry less than a hello ends its link and says why; nothing throws", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const pair = sessionPair(clock, a.id, b.id);
    for (const session of pair) Object.assign(session, { isReliable: false, isCarrying: false });
    a.peers.adopt(pair[0]);
    b.peers.adopt(pair[1]);
    expect(pair[0].sent.length).toBe(1);
    pair[0].frameBytesMax = 10;
    await clock.advance(1_000);
    expect([pair[0].isClosed, pair[0].sent.length, a.peers.count]).toEqual([true, 1, 0]);
    expect(a.warnings).toEqual(["link refused: its path carries less than a hello"]);
  });

  test("is the first frame each way, and makes a peer with its record before anything of it is delivered", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [near, far] = dial(clock, a, b);
    await clock.advance(10);
    expect([near.sent[0]![0], far.sent[0]![0]]).toEqual([FrameType.hello, FrameType.hello]);
    expect(a.log).toEqual(["record", "up 02", "link up"]);
    expect(b.peers.count).toBe(1);
    far.send(new Uint8Array([0x30]));
    far.send(new Uint8Array([0x66]));
    await clock.advance(5);
    expect(a.log.slice(3)).toEqual(["frame 48", "frame 102"]);
  });

  test("anything else first closes the link; silence does after 10 s", async () => {
    const clock = new ManualClock();
    const a = new Node(clock, 1);
    const [probed] = sessionPair(clock, a.id, id(2));
    const [silent] = sessionPair(clock, a.id, id(3));
    a.peers.adopt(probed);
    a.peers.adopt(silent);
    probed.receive(encodeProbe(1));
    expect(probed.closedWith?.code).toBe("GODWIT_DECODE");
    await clock.advance(9_990);
    expect(silent.isClosed).toBe(false);
    await clock.advance(20);
    expect(silent.isClosed).toBe(true);
    expect([a.peers.count, a.log]).toEqual([0, []]);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("without a version in common hears goodbye 4; a later range that overlaps is fine", async () => {
    const clock = new ManualClock();
    const a = new Node(clock, 1);
    const [old] = sessionPair(clock, a.id, id(2));
    a.peers.adopt(old);
    old.receive(helloFrame(1, { min: 3, max: 9 }));
    expect(old.sent.at(-1)).toEqual(encodeGoodbye(GoodbyeReason.version));
    expect(old.closedWith?.message).toContain("update the older one");
    const [wide] = sessionPair(clock, a.id, id(3));
    a.peers.adopt(wide);
    wide.receive(helloFrame(1, { min: 1, max: 9 }));
    expect(a.peers.count).toBe(1);
    await a.scope.close();
  });

  test("names its record on a slow link of datagrams, and comes whole to who does not know that", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    // What each says of itself, as in testing-peers.ts.
    b.known.set(a.id, new Uint8Array(3));
    const pair = sessionPair(clock, a.id, b.id);
    for (const session of pair) Object.assign(session, { isReliable: false, linkClass: "slow" });
    a.peers.adopt(pair[0]);
    b.peers.adopt(pair[1]);
    await clock.advance(60_000);
    const { hello, compactHello, helloWanted, probeReply } = FrameType;
    const typesOf = ({ sent }: FakeSession) => sent.map(([type]) => type!);
    expect(typesOf(pair[0]).filter((type) => type !== probeReply)).toEqual([compactHello, helloWanted]);
    expect(typesOf(pair[1]).filter((type) => type !== probeReply)).toEqual([compactHello, hello]);
    for (const node of [a, b]) expect(node.log).toEqual(["record", expect.stringContaining("up"), "link up"]);
    expect(clock.nextAtMs()).toBeUndefined();
    await a.scope.close();
    await b.scope.close();
  });

  test("a second one on a living link only brings a record", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [, far] = dial(clock, a, b);
    await clock.advance(10);
    far.send(helloFrame(77));
    await clock.advance(5);
    expect(a.log.slice(3)).toEqual(["record"]);
    expect(a.peers.get(b.id)!.bootId).toBe("02".repeat(8));
  });
});

describe("refusals", () => {
  test("tells the time where it is known, and later ones tell it once more, over one link each", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    b.toldMs = 1_800_000_000_000.5;
    dial(clock, a, b);
    await clock.advance(10);
    expect(a.log).toEqual(["record", "clock of 2: 1800000000000", "up 02", "link up"]);
    expect(b.log).toEqual(["record", "up 01", "link up"]);
    a.toldMs = 1_800_000_000_007;
    a.peers.sayHelloAgain();
    await clock.advance(10);
    expect(b.log.slice(3)).toEqual(["record", "clock of 1: 1800000000007"]);
  });

  test("blocked: goodbye 3, no link, also when it was blocked between dial and hello", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    a.blocked.add(b.id);
    const [near] = dial(clock, a, b);
    expect(near.sent).toEqual([encodeGoodbye(GoodbyeReason.blocked)]);
    a.blocked.delete(b.id);
    const [second] = dial(clock, a, b);
    a.blocked.add(b.id);
    await clock.advance(10);
    expect(second.isClosed).toBe(true);
    expect([a.peers.count, b.peers.count]).toEqual([0, 0]);
  });

  test("a full table takes no new node, and one node takes no more than its share of links", async () => {
    const clock = new ManualClock();
    const a = new Node(clock, 1);
    const open: FakeSession[] = [];
    const adopt = (node: number, host: string, end: 0 | 1 = 1) => {
      const pair =
        end === 1
          ? sessionPair(clock, id(node), a.id, { from: host })
          : sessionPair(clock, a.id, id(node), { to: host });
      a.peers.adopt(pair[end]);
      open.push(pair[end]);
      return !pair[end].isClosed;
    };
    let taken = 0;
    for (let i = 0; i < 40; i++) if (adopt(2, `tcp://10.0.1.${i}:1`)) taken++;
    expect(taken).toBe(LINKS_OPEN_MAX);
    for (let i = 3; i < PEERS_MAX + 100; i++) if (adopt(i, "tcp://10.0.2.1:1")) taken++;
    // Strangers may not have them all: who is known, and whom the node calls itself, finds a place.
    expect(taken).toBe(PEERS_MAX - PEERS_KEPT);
    for (let i = 2_000; i < 2_000 + PEERS_KEPT; i++) {
      if (i % 2 === 0) a.welcome.add(id(i));
      if (adopt(i, "tcp://10.0.3.1:1", i % 2 === 0 ? 1 : 0)) taken++;
    }
    expect(taken).toBe(PEERS_MAX);
    // Whom the node calls takes the place of a stranger whose address has most of them.
    expect(adopt(3_000, "tcp://10.0.3.1:1", 0)).toBe(true);
    expect(open.filter((session) => !session.isClosed).length).toBe(PEERS_MAX);
    await a.scope.close();
    expect(open.every((session) => session.isClosed)).toBe(true);
  });
});

test("where descriptors are few, links of strangers leave some to who comes, and known ones are not counted out", async () => {
  const clock = new ManualClock();
  const a = new Node(clock, 1);
  a.room = 256;
  const adopt = (node: number, host: string) => {
    const [, end] = sessionPair(clock, id(node), a.id, { from: host });
    a.peers.adopt(end);
    return !end.isClosed;
  };
  let taken = 0;
  for (let i = 2; i < 600; i++) if (adopt(i, "tcp://192.0.2.1:1")) taken++;
  expect(taken).toBe((256 * (PEERS_MAX - PEERS_KEPT)) / PEERS_MAX);
  expect(adopt(2_000, "tcp://10.0.0.1:1")).toBe(true);
  for (let i = 3_000; i < 3_100; i++) {
    a.welcome.add(id(i));
    expect(adopt(i, "tcp://192.0.2.1:1")).toBe(true);
  }
  await a.scope.close();
});

describe("duplicate links", () => {
  test("of simultaneous dials both ends keep the same one, and nobody goes down", async () => {
    for (const [one, two] of [
      [1, 2],
      [2, 1],
    ] as const) {
      const clock = new ManualClock();
      const [a, b] = [new Node(clock, one), new Node(clock, two)];
      const mine = dial(clock, a, b, { from: "tcp://10.0.0.1:50000", to: "tcp://10.0.0.2:4860" });
      const theirs = dial(clock, b, a, { from: "tcp://10.0.0.2:50000", to: "tcp://10.0.0.1:4860" });
      await clock.advance(100);
      const [kept, gone] = a.id < b.id ? [mine, theirs] : [theirs, mine];
      expect(liveOf(a, b).map(({ session }) => kept.includes(session as FakeSession))).toEqual([true]);
      expect(liveOf(b, a).map(({ session }) => kept.includes(session as FakeSession))).toEqual([true]);
      await clock.advance(2_100);
      expect([gone[0].isClosed, kept[0].isClosed]).toEqual([true, false]);
      expect([...a.log, ...b.log].filter((line) => line.startsWith("down"))).toEqual([]);
    }
  });

  test("of one initiator the newer is kept; over different paths both stay", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    dial(clock, a, b);
    await clock.advance(10);
    const [newer] = dial(clock, a, b, { from: "tcp://10.0.0.1:50001" });
    await clock.advance(3_000);
    expect(linksOf(a, b).map(({ session }) => session)).toEqual([newer]);
    dial(clock, a, b, { from: "tcp://192.168.0.1:50002", to: "tcp://192.168.0.2:4860" });
    dial(clock, a, b, { from: "tor://x:1", to: "tor://y:1" });
    await clock.advance(3_000);
    expect([linksOf(a, b).length, linksOf(b, a).length]).toEqual([3, 3]);
  });
});

test("two nodes that dial each other's onion addresses keep one link", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
  dial(clock, a, b, { from: "tor://anonymous", to: "tor://b.onion:4860" });
  dial(clock, b, a, { from: "tor://anonymous", to: "tor://a.onion:4860" });
  await clock.advance(3_000);
  expect([linksOf(a, b).length, linksOf(b, a).length]).toEqual([1, 1]);
});

describe("the end", () => {
  test("another boot id ends the earlier life before the new link counts", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [old] = dial(clock, a, b);
    await clock.advance(10);
    a.log.length = 0;
    b.restart(9);
    dial(clock, a, b, { from: "tcp://10.0.0.1:50001" });
    await clock.advance(10);
    expect(a.log).toEqual([
      "link down: neighbour restarted",
      "down: neighbour restarted",
      "record",
      "up 09",
      "link up",
    ]);
    expect(old.isClosed).toBe(true);
    await clock.advance(100);
    expect(a.peers.count).toBe(1);
  });

  test("one of two links dying is a link down, the last one a peer down", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [first] = dial(clock, a, b);
    const [second] = dial(clock, a, b, { to: "tcp://192.168.0.2:1" });
    await clock.advance(10);
    a.log.length = 0;
    first.close();
    await clock.advance(5);
    expect(a.log).toEqual(["link down: closed"]);
    second.close();
    await clock.advance(5);
    expect(a.log.slice(1)).toEqual(["link down: closed", "down: closed"]);
    expect([a.peers.count, b.peers.count]).toEqual([0, 0]);
  });

  test("silence takes the link down at once although its pipe never closes", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [near, far] = dial(clock, a, b);
    await clock.advance(10);
    near.isCarrying = far.isCarrying = false;
    await clock.advance(8_000);
    expect(a.log.slice(-2)).toEqual(["link down: no answer to probes", "down: no answer to probes"]);
  });

  test("goodbye closes; an unknown reason is one as well", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [, far] = dial(clock, a, b);
    await clock.advance(10);
    far.send(new Uint8Array([FrameType.goodbye, 200]));
    await clock.advance(10);
    expect(a.peers.count).toBe(0);
  });

  test("a later hello with another store epoch says that a store was lost, not more often than every 5 s", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [, far] = dial(clock, a, b);
    await clock.advance(10);
    far.send(helloFrame(2, { epoch: 7 }));
    far.send(helloFrame(2, { epoch: 7 }));
    for (let epoch = 10; epoch < 20; epoch++) far.send(helloFrame(2, { epoch }));
    await clock.advance(10);
    const lost = () => a.log.filter((line) => line.startsWith("store lost"));
    expect([lost(), a.peers.get(b.id)?.storeEpoch]).toEqual([["store lost"], "07".repeat(8)]);
    await clock.advance(5_000);
    far.send(helloFrame(2, { epoch: 8 }));
    await clock.advance(10);
    expect(lost().length).toBe(2);
  });

  test("hellos on and on bring records that are checked and kept at a pace, not one for each", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [, far] = dial(clock, a, b);
    await clock.advance(10);
    const records = () => a.log.filter((line) => line === "record").length;
    const before = records();
    for (let n = 0; n < 1_000; n++) far.send(helloFrame(2));
    await clock.advance(10);
    expect(records() - before).toBe(16);
    await clock.advance(2_000);
    far.send(helloFrame(2));
    await clock.advance(10);
    expect(records() - before).toBe(17);
  });

  test("goodbye 5 is the node's own word that it runs twice", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    dial(clock, a, b);
    await clock.advance(10);
    b.peers.disconnectAll(GoodbyeReason.double);
    await clock.advance(10);
    expect([a.peers.count, a.peers.doubles.now]).toEqual([0, [b.id]]);
    expect(a.log.filter((line) => line === "double")).toEqual(["double"]);
  });

  test("a node that stands down has no link, and says why, until it comes back", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    a.isStandingDown = true;
    const [near] = dial(clock, a, b);
    await clock.advance(10);
    expect([near.sent, a.peers.count]).toEqual([[encodeGoodbye(GoodbyeReason.double)], 0]);
    a.isStandingDown = false;
    dial(clock, a, b);
    await clock.advance(10);
    expect([a.peers.count, b.peers.count]).toEqual([1, 1]);
  });

  test("two processes with one key are found by the one that both are linked to", async () => {
    const clock = new ManualClock();
    const hub = new Node(clock, 1);
    const [first, second] = [new Node(clock, 2, 20), new Node(clock, 2, 21)];
    for (const node of [first, second]) {
      dial(clock, node, hub);
      await clock.advance(50);
    }
    expect(hub.peers.doubles.now).toEqual([]); // a restart looks the same so far
    dial(clock, first, hub);
    await clock.advance(50);
    expect(hub.peers.doubles.now).toEqual([first.id]);
  });

  test("a bad frame costs its link and is counted; a bug in a listener leaves no ghost of a peer", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [near, far] = dial(clock, a, b);
    await clock.advance(10);
    far.send(new Uint8Array([FrameType.probe, 1]));
    await clock.advance(10);
    expect([near.closedWith?.code, a.peers.count]).toEqual(["GODWIT_DECODE", 0]);
    a.throwsOnUp = true;
    const [second] = dial(clock, a, b);
    await clock.advance(10);
    expect([second.isClosed, a.peers.count]).toEqual([true, 0]);
  });

  test("stop says goodbye to all and leaves no timer", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [near] = dial(clock, a, b);
    dial(clock, a, b);
    await clock.advance(10);
    await Promise.all([a.scope.close(), b.scope.close()]);
    await clock.advance(10);
    expect(near.sent.some((frame) => frame[0] === FrameType.goodbye)).toBe(true);
    expect(clock.nextAtMs()).toBeUndefined();
    const [late] = sessionPair(clock, a.id, b.id);
    a.peers.adopt(late);
    expect(late.sent).toEqual([encodeGoodbye(GoodbyeReason.stopping)]);
  });
});

test("a digest that its busy channel does not admit keeps out no text: it is not said, and is counted", async () => {
  const clock = new ManualClock();
  const node = new Node(clock, 1);
  const [session] = sessionPair(clock, node.id, id(2));
  const medium: { admits?: Urgency } = { admits: 2 };
  Object.assign(session, { medium });
  node.peers.adopt(session);
  session.receive(helloFrame(2));
  const tell = (type: number) => node.peers.tell(id(2), "control", Uint8Array.of(type), "revocations");
  const digests = [FrameType.revocationDigest, FrameType.routeDigest, FrameType.memberDigest];
  expect(digests.map(tell)).toEqual([false, false, false]);
  expect(tell(FrameType.revocation)).toBe(true);
  expect(session.sent.at(-1)![0]).toBe(FrameType.revocation);
  medium.admits = 4;
  expect(digests.map(tell)).toEqual([true, true, true]);
  delete medium.admits;
  expect(digests.map(tell)).toEqual([true, true, true]);
  expect(await node.metrics.render()).toContain('frames_refused_total{part="revocations",reason="busy"} 3');
});

test("a frame that is told and refused is counted by who told it and why", async () => {
  const clock = new ManualClock();
  const node = new Node(clock, 1);
  const [session] = sessionPair(clock, node.id, id(2));
  session.isCarrying = false;
  expect(node.peers.tell(id(2), "control", new Uint8Array(1), "custody")).toBe(false);
  node.peers.adopt(session);
  session.receive(helloFrame(2));
  expect(node.peers.tell(id(2), "control", new Uint8Array(1), "custody")).toBe(true);
  expect(node.peers.tell(id(2), "control", new Uint8Array(70_000), "routing")).toBe(false);
  session.hasRoom = false;
  session.bufferedBytes = 8 * 1024 * 1024;
  const big = new Uint8Array(61_000);
  let refused = 0;
  for (let i = 0; i < 200; i++) if (!node.peers.tell(id(2), "control", big, "membership")) refused++;
  expect(refused).toBeGreaterThan(0);
  const text = await node.metrics.render();
  expect(text).toContain('frames_refused_total{part="custody",reason="no_link"} 1');
  expect(text).toContain('frames_refused_total{part="routing",reason="too_wide"} 1');
  expect(text).toContain(`frames_refused_total{part="membership",reason="full"} ${refused}`);
});

describe("over datagrams", () => {
  function pair(isLost: (frame: Uint8Array, from: "a" | "b") => boolean) {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    const [near, far] = sessionPair(clock, a.id, b.id);
    for (const [session, from] of [
      [near, "a"],
      [far, "b"],
    ] as const) {
      session.isReliable = false;
      const send = session.send.bind(session);
      session.send = (frame) => {
        session.isCarrying = !isLost(frame, from);
        const answer = send(frame);
        session.isCarrying = true;
        return answer;
      };
    }
    a.peers.adopt(near);
    b.peers.adopt(far);
    return { clock, a, b, near, far };
  }

  test("a hello that is lost comes again within a second", async () => {
    const lost = { a: 2, b: 1 };
    const { clock, a, b } = pair((frame, from) => frame[0] === FrameType.hello && lost[from]-- > 0);
    await clock.advance(100);
    expect([a.log, b.log]).toEqual([[], []]);
    await clock.advance(1_500);
    expect([a.peers.count, b.peers.count]).toEqual([1, 1]);
    expect([a.log, b.log].flat().filter((line) => line.includes("down"))).toEqual([]);
  });

  test("what comes before the hello is dropped and counted, but for the answer to one's own", async () => {
    const { clock, b, near } = pair((frame, from) => from === "a" && frame[0] === FrameType.hello);
    near.send(encodeProbe(7));
    near.send(encodeProbe(8));
    near.send(encodeProbeReply(0));
    await clock.advance(50);
    // These two, and the first probe of the link that is up at the far end.
    expect(await b.metrics.render()).toContain("godwit_peer_frames_before_hello_total 3");
  });

  test("where a hello may be lost for minutes, what is said before it waits for it, eight frames at most", async () => {
    let isLost = true;
    const { clock, b, near, far } = pair(
      (frame, from) => from === "a" && frame[0] === FrameType.hello && isLost,
    );
    far.answerMs = 100;
    for (let nonce = 1; nonce <= 10; nonce++) near.send(encodeProbe(nonce));
    await clock.advance(50);
    isLost = false;
    await clock.advance(5_000);
    const answered = far.sent
      .filter((frame) => frame[0] === FrameType.probeReply)
      .map((frame) => frame.at(-1));
    expect(answered.slice(0, 9)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await b.metrics.render()).toMatch(/godwit_peer_frames_before_hello_total [23]/);
  });

  test("hellos end when they are heard, and go on while the answers are lost", async () => {
    const { clock, near, far } = pair(() => false);
    await clock.advance(4_000);
    const hellos = (sent: readonly Uint8Array[]) =>
      sent.filter((frame) => frame[0] === FrameType.hello).length;
    expect([hellos(near.sent), hellos(far.sent)]).toEqual([1, 1]);
    const deaf = pair((frame, from) => from === "b" && frame[0] !== FrameType.hello);
    await deaf.clock.advance(1_400);
    expect(hellos(deaf.near.sent)).toBeGreaterThan(2);
    expect(hellos(deaf.far.sent)).toBe(1);
  });
});

test("a hello that waits in a radio for five minutes is said once, and again when its answer could have come", async () => {
  const clock = new ManualClock();
  const a = new Node(clock, 1);
  const [near] = sessionPair(clock, a.id, id(2));
  Object.assign(near, { isReliable: false, linkClass: "slow", answerMs: 60_000, isCarrying: false });
  a.peers.adopt(near);
  await clock.advance(300_000);
  expect(near.sent).toHaveLength(1);
  near.departures[0]!.leftAtMs = clock.monotonicMs();
  await clock.advance(59_000);
  expect(near.sent).toHaveLength(1);
  await clock.advance(1_000);
  expect(near.sent).toHaveLength(2);
  await clock.advance(30 * 60_000);
  expect([near.isClosed, near.sent.length]).toEqual([true, 2]);
  await a.scope.close();
});

describe("two addresses of one machine", () => {
  const V4 = { from: "tcp://192.0.2.1:50000", to: "tcp://192.0.2.2:4860" };
  const V6 = { from: "tcp://[2001:db8::1]:50001", to: "tcp://[2001:db8::2]:4860" };

  async function dialled(own: readonly (readonly [string, string])[], second = V6, dialler: 0 | 1 = 0) {
    const clock = new ManualClock();
    const nodes = [new Node(clock, 1), new Node(clock, 2)] as const;
    for (const [address, device] of own) nodes[0].interfaces.set(address, device);
    const first = dial(clock, nodes[0], nodes[1], V4);
    await clock.advance(20_000);
    const [a, b] = dialler === 0 ? nodes : [nodes[1], nodes[0]];
    dial(clock, a, b, second);
    await clock.advance(10_000);
    return { nodes, first };
  }
  const eth0 = [
    ["192.0.2.1", "eth0"],
    ["2001:db8::1", "eth0"],
  ] as const;

  test("over one interface are one link, the older one, at both ends", async () => {
    const { nodes, first } = await dialled(eth0);
    const [a, b] = nodes;
    expect([linksOf(a, b).length, linksOf(b, a).length]).toEqual([1, 1]);
    expect(linksOf(a, b)[0]!.session).toBe(first[0]);
  });

  test("over two interfaces are two ways", async () => {
    const {
      nodes: [a, b],
    } = await dialled([eth0[0], ["2001:db8::1", "eth1"]]);
    expect([linksOf(a, b).length, linksOf(b, a).length]).toEqual([2, 2]);
  });

  test("of whose interfaces nothing is known are two ways", async () => {
    const {
      nodes: [a, b],
    } = await dialled([]);
    expect(linksOf(a, b).length).toBe(2);
  });

  test("over two transports are two ways", async () => {
    const udp = { from: V6.from.replace("tcp", "udp"), to: V6.to.replace("tcp", "udp") };
    const {
      nodes: [a, b],
    } = await dialled(eth0, udp);
    expect(linksOf(a, b).length).toBe(2);
  });

  test("of this machine itself are one link, whichever interface they are of", async () => {
    const {
      nodes: [a, b],
    } = await dialled([
      ["192.0.2.1", "lo"],
      ["192.0.2.2", "lo"],
      ["2001:db8::1", "eth0"],
      ["2001:db8::2", "eth0"],
    ]);
    expect([linksOf(a, b).length, linksOf(b, a).length]).toEqual([1, 1]);
  });

  test("the second stays when the first gives no answers any more", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Node(clock, 1), new Node(clock, 2)];
    for (const [address, device] of eth0) a.interfaces.set(address, device);
    const first = dial(clock, a, b, V4);
    await clock.advance(20_000);
    for (const session of first) session.isCarrying = false;
    while (!linksOf(a, b)[0]!.isDoubted) await clock.advance(10);
    const second = dial(clock, a, b, V6);
    await clock.advance(10_000);
    expect(liveOf(a, b).map(({ session }) => session)).toEqual([second[0]]);
  });
});
