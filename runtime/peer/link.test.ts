import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodeProbe, decodeProbeReply, type Hello } from "../wire/peer-messages.ts";
import { FrameType } from "../wire/constants.ts";
import { Link } from "./link.ts";
import { FRAME_COST_BYTES, sessionPair, TCP_ACK_BYTES, type FakeSession } from "./testing.ts";

const id = (fill: number) => formatNodeId(new Uint8Array(32).fill(fill));
const hello = {} as Hello;

/** Both ends of one link, each answering probes as Peers does. */
function twoEnds(linkClass: "fast" | "medium" | "slow" = "fast", delayMs = 1) {
  const clock = new ManualClock();
  const sessions = sessionPair(clock, id(1), id(2));
  const deadAtMs: (number | undefined)[] = [undefined, undefined];
  const quietAtMs: number[] = [];
  /** When each end began to doubt the other; undefined while it does not. */
  const doubtedAtMs: (number | undefined)[] = [undefined, undefined];
  let measurements = 0;
  const links = sessions.map((session, i) => {
    session.linkClass = linkClass;
    session.delayMs = delayMs;
    const link = new Link(session, hello, {
      clock,
      random: seededRandom(i + 1),
      events: {
        dead: (dead) => {
          deadAtMs[i] = clock.monotonicMs();
          dead.stop();
        },
        quiet: () => quietAtMs.push(clock.monotonicMs()),
        doubt: ({ isDoubted }) => (doubtedAtMs[i] = isDoubted ? clock.monotonicMs() : undefined),
        measured: () => measurements++,
      },
    });
    session.open({
      frame(bytes) {
        if (bytes[0] === FrameType.probe) return link.answerProbe(decodeProbe(bytes));
        link.noteHeard();
        if (bytes[0] === FrameType.probeReply) link.noteProbeReply(decodeProbeReply(bytes));
      },
      drain: () => link.noteDrain(),
      closed() {},
    });
    return link;
  }) as [Link, Link];
  const frames = () => sessions.reduce((total, { sent }) => total + sent.length, 0);
  return {
    clock,
    sessions,
    links,
    deadAtMs,
    quietAtMs,
    doubtedAtMs,
    frames,
    measurements: () => measurements,
  };
}

const silence = (sessions: readonly FakeSession[]) => {
  for (const session of sessions) session.isCarrying = false;
};

test("whoever asks on and on who is there and reads no answer does not have them held for it", async () => {
  const { sessions, links } = twoEnds();
  const session = sessions[0];
  const before = session.sent.length;
  links[0].answerProbe(1);
  expect(session.sent.length).toBe(before + 1);
  session.bufferedBytes = 2 ** 20;
  for (let nonce = 2; nonce < 100; nonce++) links[0].answerProbe(nonce);
  expect(session.sent.length).toBe(before + 1);
  for (const link of links) link.stop();
});

describe("an idle link", () => {
  test("costs one exchange of probes in 4.5 to 5 s for both ends, at most 45 bytes a second of IP", async () => {
    const { clock, sessions, frames } = twoEnds();
    await clock.advance(10_000);
    const before = frames();
    const bytesBefore = sessions.reduce((total, { bytesSent }) => total + bytesSent, 0);
    await clock.advance(1_000_000);
    const exchanged = frames() - before;
    expect(exchanged).toBeLessThanOrEqual(440);
    expect(exchanged).toBeGreaterThanOrEqual(410);
    const bytes = sessions.reduce((total, { bytesSent }) => total + bytesSent, 0) - bytesBefore;
    // Each exchange: probe, answer that acknowledges it, and an acknowledgement of the answer.
    const ip = bytes + exchanged * FRAME_COST_BYTES + (exchanged / 2) * TCP_ACK_BYTES;
    expect(ip / 1_000).toBeLessThanOrEqual(45);
  });

  test("is probed at times of its own, whatever else is heard on it: news for all do not put off all probes at once", async () => {
    const { clock, sessions } = twoEnds();
    const probes = () => sessions[0].sent.filter(([type]) => type === FrameType.probe).length;
    await clock.advance(10_000);
    const before = probes();
    for (let i = 0; i < 50; i++) {
      sessions[1].send(new Uint8Array(10));
      await clock.advance(1_000);
    }
    expect(probes() - before).toBeGreaterThanOrEqual(9);
  });

  test("is found dead within 7 s by the initiator, by the other end not much later", async () => {
    const { clock, sessions, deadAtMs } = twoEnds();
    await clock.advance(20_000);
    silence(sessions);
    await clock.advance(10_000);
    expect(deadAtMs[0]! - 20_000).toBeLessThanOrEqual(6_300);
    expect(deadAtMs[1]! - 20_000).toBeLessThanOrEqual(7_000);
  });

  test("of a slow transport is never probed", async () => {
    const { clock, frames, deadAtMs } = twoEnds("slow");
    await clock.advance(100_000);
    expect([frames(), deadAtMs]).toEqual([0, [undefined, undefined]]);
    expect(clock.nextAtMs()).toBeUndefined();
  });
});

test("whoever asks again and again who is there hears of a silent link within 3 s; of a living one nothing comes of it", async () => {
  const { clock, sessions, links, deadAtMs } = twoEnds();
  await clock.advance(20_000);
  for (let asked = 0; asked < 20; asked++) {
    links[0].askedFor();
    await clock.advance(500);
  }
  expect(deadAtMs).toEqual([undefined, undefined]);
  silence(sessions);
  const fromMs = clock.monotonicMs();
  while (deadAtMs[0] === undefined && clock.monotonicMs() < fromMs + 10_000) {
    links[0].askedFor();
    await clock.advance(500);
  }
  expect(deadAtMs[0]! - fromMs).toBeLessThan(3_000);
});

describe("a far end that is gone without a word is in doubt within 5 s at both ends", () => {
  const startMs = 20_000;
  /** Cut at each tenth of a second of a period, after `before` was done 50 ms earlier. */
  async function cuts(
    before: (links: readonly [Link, Link]) => void,
    delayMs = 1,
    direction: readonly number[] = [0, 1],
  ): Promise<number> {
    let worstMs = 0;
    for (let phaseMs = 0; phaseMs < 5_000; phaseMs += 100) {
      const { clock, sessions, links, doubtedAtMs } = twoEnds("fast", delayMs);
      await clock.advance(startMs + phaseMs);
      before(links);
      await clock.advance(50);
      const cutMs = clock.monotonicMs();
      silence(direction.map((end) => sessions[end]!));
      await clock.advance(5_000);
      for (const end of direction.length === 2 ? [0, 1] : [1 - direction[0]!]) {
        expect(doubtedAtMs[end]).toBeDefined();
        worstMs = Math.max(worstMs, doubtedAtMs[end]! - cutMs);
      }
      for (const link of links) link.stop();
    }
    return worstMs;
  }

  test.each<[string, (links: readonly [Link, Link]) => void]>([
    ["when it was idle", () => {}],
    ["when somebody had just asked who is there", (links) => links.forEach((link) => link.askedFor())],
    ["when one end had just sent", ([link]) => link.send(new Uint8Array(10), true)],
    ["when the other end had just sent", ([, link]) => link.send(new Uint8Array(10), true)],
  ])("%s", async (_, before) => {
    expect(await cuts(before)).toBeLessThan(4_850);
  });

  test("over a round trip of 300 ms, whose answers are waited for longer", async () => {
    expect(await cuts(() => {}, 150)).toBeLessThan(4_850);
  });

  test.each([[0], [1]])("when only what end %p says is lost, at the end that hears nothing", async (end) => {
    expect(await cuts(() => {}, 1, [end])).toBeLessThan(4_850);
  });

  test("sooner where this node's own timers are late, so that it is in time when they are late again", async () => {
    const { clock, sessions, doubtedAtMs } = twoEnds();
    await clock.advance(startMs);
    // Late by 200 ms, once.
    clock.jumpTo(clock.nextAtMs()! + 200);
    await clock.advance(startMs);
    silence(sessions);
    const cutMs = clock.monotonicMs();
    await clock.advance(4_900 - 300);
    for (const atMs of doubtedAtMs) expect(atMs! - cutMs).toBeLessThan(4_900 - 300);
  });

  test("and is in doubt no more as soon as it is heard", async () => {
    const { clock, sessions, links, doubtedAtMs, deadAtMs } = twoEnds();
    await clock.advance(startMs);
    silence(sessions);
    while (doubtedAtMs[0] === undefined) await clock.advance(10);
    expect(links[0].isDoubted).toBe(true);
    for (const session of sessions) session.isCarrying = true;
    await clock.advance(400);
    expect([doubtedAtMs, links[0].isDoubted, deadAtMs]).toEqual([
      [undefined, undefined],
      false,
      [undefined, undefined],
    ]);
  });
});

describe("the first round trips", () => {
  test("of a busy start are not believed: asked again until one is short, at most four times", async () => {
    const { clock, sessions, links } = twoEnds("fast", 40);
    await clock.advance(100);
    expect([links[0].rttMs !== undefined, links[0].isMeasured]).toEqual([true, false]);
    for (const session of sessions) session.delayMs = 0.4;
    await clock.advance(400);
    expect([links[0].isMeasured, links[0].rttMinMs! < 1]).toEqual([true, true]);
  });

  test("that agree are the link's own, however long", async () => {
    const { clock, sessions, links } = twoEnds("fast", 50);
    await clock.advance(110);
    expect(links[0].isMeasured).toBe(false);
    await clock.advance(400);
    expect([links[0].isMeasured, links[0].rttMinMs]).toEqual([true, 100]);
    const probes = sessions[0].sent.length;
    await clock.advance(300);
    expect(sessions[0].sent.length).toBe(probes);
  });

  test("that never agree are believed in the end", async () => {
    const { clock, sessions, links } = twoEnds("fast", 400);
    let delayMs = 400;
    while (clock.monotonicMs() < 29_000) {
      for (const session of sessions) session.delayMs = delayMs *= 0.95;
      await clock.advance(500);
    }
    expect(links[0].isMeasured).toBe(false);
    await clock.advance(8_000);
    expect(links[0].isMeasured).toBe(true);
  });
});

describe("a link that is slow and full", () => {
  test("lives on while bytes arrive: the receiver says so, although the sender's probes wait behind the bulk", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds();
    // A frame of 60 KiB takes 2 s to arrive; the probes behind it come no sooner.
    sessions[0].isCarrying = false;
    for (let ms = 0; ms < 10_000; ms += 50) {
      links[0].send(new Uint8Array(10), true);
      sessions[1].bytesReceived += 1_500;
      links[1].noteBytes();
      await clock.advance(50);
    }
    expect(deadAtMs[0]).toBeUndefined();
    expect(sessions[1].sent.length).toBeLessThan(60);
  });

  test.each([[0], [1]])(
    "lives on at end %p while it takes in bulk, although its probes are not answered",
    async (end) => {
      const { clock, sessions, links, deadAtMs } = twoEnds();
      await clock.advance(10_000);
      // A record of 60 KiB takes 2 s to arrive, and the answers come behind many of them.
      sessions[1 - end]!.isCarrying = false;
      for (let ms = 0; ms < 30_000; ms += 50) {
        sessions[end]!.bytesReceived += 1_500;
        if (ms % 2_000 === 0) links[end]!.noteHeard();
        links[end]!.noteBytes();
        await clock.advance(50);
      }
      expect(deadAtMs[end]).toBeUndefined();
    },
  );

  test("is not kept alive by a trickle that never becomes a frame, nor by datagrams that are none", async () => {
    for (const [isReliable, bytes] of [
      [true, 40],
      [false, 1_500],
    ] as const) {
      const { clock, sessions, links, deadAtMs } = twoEnds();
      await clock.advance(10_000);
      sessions[1].isCarrying = false;
      sessions[0].isReliable = isReliable;
      for (let ms = 0; ms < 10_000; ms += 50) {
        sessions[0].bytesReceived += bytes;
        links[0].noteBytes();
        await clock.advance(50);
      }
      expect(deadAtMs[0]).toBeDefined();
    }
  });

  test("is dead when nothing arrives any more", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds();
    sessions[0].isCarrying = false;
    for (let ms = 0; ms < 3_000; ms += 50) {
      links[0].send(new Uint8Array(10), true);
      links[1].noteBytes();
      await clock.advance(50);
    }
    expect(deadAtMs[0]).toBeDefined();
  });

  test("answers to nobody's question are not answered", async () => {
    const { clock, sessions, links } = twoEnds();
    await clock.advance(20_000);
    const before = sessions[0].sent.length + sessions[1].sent.length;
    sessions[0].bytesReceived += 3_000;
    links[0].noteBytes();
    await clock.advance(400);
    links[1].noteBytes();
    // The sign itself, and one exchange of probes that is due anyway.
    expect(sessions[0].sent.length + sessions[1].sent.length - before).toBeLessThanOrEqual(3);
  });
});

describe("a link in use", () => {
  test("is found dead within 1.7 s of the last sign of life", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds();
    for (let i = 0; i < 200; i++) {
      links[0].send(new Uint8Array(10), true);
      links[1].send(new Uint8Array(10), true);
      await clock.advance(10);
    }
    silence(sessions);
    const atMs = clock.monotonicMs();
    for (let i = 0; i < 300 && deadAtMs[0] === undefined; i++) {
      links[0].send(new Uint8Array(10), true);
      await clock.advance(10);
    }
    expect(deadAtMs[0]! - atMs).toBeLessThanOrEqual(1_700);
    expect(deadAtMs[0]! - atMs).toBeGreaterThan(1_500);
  });

  test("that falls silent right after it was idle is noticed as soon", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds();
    await clock.advance(7_000);
    silence(sessions);
    links[0].send(new Uint8Array(10), true);
    await clock.advance(2_300);
    expect(deadAtMs[0]).toBeDefined();
  });

  test("that came up just now is noticed as soon, although its round trip is still measured", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds("fast", 40);
    await clock.advance(100);
    links[0].send(new Uint8Array(10), true);
    await clock.advance(200);
    silence(sessions);
    await clock.advance(2_000);
    expect(deadAtMs[0]).toBeLessThan(2_100);
  });

  test("over half a second of round trip stays alive", async () => {
    const { clock, sessions, links, deadAtMs } = twoEnds();
    for (const session of sessions) session.delayMs = 350;
    for (let i = 0; i < 100; i++) {
      links[0].send(new Uint8Array(10), true);
      await clock.advance(200);
    }
    expect(deadAtMs).toEqual([undefined, undefined]);
    expect(links[0].rttMs).toBeGreaterThan(600);
  });

  test("that loses every second frame stays alive", async () => {
    const { clock, sessions, deadAtMs } = twoEnds();
    for (let i = 0; i < 300; i++) {
      for (const session of sessions) session.isCarrying = i % 2 === 0;
      await clock.advance(350);
    }
    expect(deadAtMs).toEqual([undefined, undefined]);
  });
});

test("a node that stood still itself does not call its neighbours dead", async () => {
  const { clock, sessions, deadAtMs } = twoEnds();
  await clock.advance(5_000);
  silence(sessions);
  for (let i = 0; i < 6; i++) {
    // Our own timers come 2 s late, again and again; the wire carries in between.
    clock.jumpTo(clock.monotonicMs() + 7_500);
    clock.runNext(Number.POSITIVE_INFINITY);
    clock.runNext(Number.POSITIVE_INFINITY);
  }
  expect(deadAtMs).toEqual([undefined, undefined]);
  await clock.advance(20_000);
  expect(deadAtMs[0]).toBeDefined();
});

test("an answer to another question is a sign of life and no measurement", async () => {
  const { clock, links, measurements } = twoEnds();
  await clock.advance(100);
  const before = measurements();
  links[0].noteProbeReply(12_345);
  expect(measurements()).toBe(before);
  expect(links[0].rttMs).toBe(2);
  expect(links[0].rttMinMs).toBe(2);
});

test("goodput is learned from how fast a full session drains", async () => {
  const { clock, sessions, links } = twoEnds();
  const before = links[0].rateBitsPerSecond;
  for (let i = 0; i < 40; i++) {
    sessions[0].hasRoom = false;
    links[0].send(new Uint8Array(50_000), true);
    links[0].send(new Uint8Array(50_000), true);
    expect(links[0].isWritable).toBe(false);
    await clock.advance(400);
    sessions[0].drain();
    expect(links[0].isWritable).toBe(true);
  }
  // 50,000 bytes after the one that filled it, in 0.4 s.
  expect(links[0].rateBitsPerSecond).toBeLessThan(before / 100);
  expect(links[0].rateBitsPerSecond).toBeGreaterThan(900_000);
});

test("stop leaves no timer", async () => {
  const { clock, links } = twoEnds();
  await clock.advance(50);
  for (const link of links) link.stop();
  expect(clock.nextAtMs()).toBeUndefined();
});

describe("a doubted link", () => {
  test("that is dead is found so within 1 s of the doubt, and says at its first miss that it is quiet", async () => {
    const { clock, sessions, links, deadAtMs, quietAtMs, frames } = twoEnds();
    await clock.advance(20_000);
    for (const before = frames(); frames() < before + 2;) await clock.advance(10);
    silence(sessions);
    await clock.advance(400);
    const doubtedMs = clock.monotonicMs();
    links[0].check();
    await clock.advance(1_000);
    expect(deadAtMs[0]! - doubtedMs).toBeLessThanOrEqual(1_000);
    await clock.advance(10_000);
    expect(quietAtMs.length).toBe(1);
    expect(deadAtMs[1]! - quietAtMs[0]!).toBeLessThanOrEqual(900);
  });

  test("that lives answers; one that was just heard is left alone", async () => {
    const { clock, links, frames, deadAtMs } = twoEnds();
    await clock.advance(20_400);
    const before = frames();
    links[0].check();
    await clock.advance(200);
    expect(frames() - before).toBe(2);
    links[0].check();
    await clock.advance(100);
    expect(frames() - before).toBe(2);
    await clock.advance(20_000);
    expect(deadAtMs).toEqual([undefined, undefined]);
  });
});
