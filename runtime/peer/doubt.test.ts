/** A neighbour that is gone without a word, as all of its links together see it. */
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { type FakeSession, sessionPair } from "./testing.ts";
import { id, Node } from "./testing-peers.ts";

const HOSTS = [
  { from: "tcp://10.0.0.1:50000", to: "tcp://10.0.0.2:4860" },
  { from: "tcp://10.1.0.1:50000", to: "tcp://10.1.0.2:4860" },
] as const;

/** Two nodes with so many links, at rest for 20 s and `phaseMs` more. */
async function linked(links: 1 | 2, phaseMs: number) {
  const clock = new ManualClock();
  const nodes = [new Node(clock, 1), new Node(clock, 2)] as const;
  const pairs = HOSTS.slice(0, links).map((hosts) => {
    const pair = sessionPair(clock, id(1), id(2), hosts);
    pair.forEach((session, end) => nodes[end]!.peers.adopt(session));
    return pair;
  });
  await clock.advance(20_000 + phaseMs);
  const doubts = () => nodes.map(({ log }) => log.filter((line) => line.startsWith("in doubt")));
  return { clock, nodes, pairs, doubts };
}

const silence = (sessions: Iterable<FakeSession>): void => {
  for (const session of sessions) session.isCarrying = false;
};

test.each([[1], [2]] as const)(
  "both ends doubt a neighbour within 5 s of a cut through all %p links, at any moment",
  async (links) => {
    for (let phaseMs = 0; phaseMs < 5_000; phaseMs += 250) {
      const { clock, pairs, doubts } = await linked(links, phaseMs);
      silence(pairs.flat());
      await clock.advance(4_900);
      expect(doubts()).toEqual([["in doubt"], ["in doubt"]]);
    }
  },
);

test("while one of two links answers a neighbour is not in doubt, and its silent link is given up", async () => {
  const { clock, nodes, pairs, doubts } = await linked(2, 0);
  silence(pairs[0]!);
  await clock.advance(10_000);
  expect(doubts()).toEqual([[], []]);
  expect(nodes.map(({ peers }) => [...peers.connected].flatMap((peer) => peer.links).length)).toEqual([1, 1]);
});

test("when one link of two closes the other is asked at once: a killed neighbour whose second link hangs is down within 1.1 s", async () => {
  const { clock, nodes, pairs } = await linked(2, 0);
  silence(pairs[1]!);
  await clock.advance(350);
  pairs[0]![0].end(undefined);
  await clock.advance(1_100);
  expect(nodes[0].peers.count).toBe(0);
});

test("the same over a medium link: it is asked at once", async () => {
  const { clock, pairs } = await linked(2, 0);
  const [over] = pairs[1]!;
  over.linkClass = "medium";
  const probes = () => over.sent.length;
  const before = probes();
  await clock.advance(350);
  pairs[0]![0].end(undefined);
  await clock.advance(1);
  expect(probes() - before).toBeGreaterThanOrEqual(1);
});

test("a neighbour that is heard again is in doubt no more, and one whose links end is none", async () => {
  const { clock, nodes, pairs, doubts } = await linked(1, 0);
  silence(pairs[0]!);
  while (doubts()[0]!.length === 0) await clock.advance(10);
  for (const session of pairs[0]!) session.isCarrying = true;
  await clock.advance(500);
  expect(doubts()[0]).toEqual(["in doubt", "in doubt no more"]);
  silence(pairs[0]!);
  await clock.advance(10_000);
  expect([nodes[0].peers.count, nodes[0].log.at(-1)]).toEqual([0, "down: no answer to probes"]);
});

test.each([[0], [1]])(
  "a link that carries nothing from end %p is in doubt at both ends within 5 s, and down at both within 6.2 s",
  async (end) => {
    for (let phaseMs = 0; phaseMs < 5_000; phaseMs += 250) {
      const { clock, nodes, pairs, doubts } = await linked(1, phaseMs);
      for (const session of pairs[0]!) session.isReliable = false;
      pairs[0]![end]!.isCarrying = false;
      // News for everybody prove nothing of the other direction.
      for (let ms = 0; ms < 4_900; ms += 100) {
        if (ms % 1_500 === 0) pairs[0]![1 - end]!.send(new Uint8Array([0x40]));
        await clock.advance(100);
      }
      const both = doubts();
      // Or it has gone already, because the other end said so.
      for (const [i, { peers }] of nodes.entries())
        expect(peers.count === 0 || both[i]!.at(-1) === "in doubt").toBe(true);
      await clock.advance(1_300);
      expect(nodes.map(({ peers }) => peers.count)).toEqual([0, 0]);
      expect(doubts().flat()).not.toContain("in doubt no more");
    }
  },
);
