import { describe, expect, test } from "bun:test";
import type { Pipe } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import {
  alice,
  bob,
  bytesOf,
  carol,
  Collector,
  settled,
  startLink,
  type LinkTestOptions,
} from "./fixture.ts";
import { PATIENCE_MAX_MS, patienceOf } from "./constants.ts";
import { HandshakeGuard } from "./guard.ts";
import { openSession } from "./handshake.ts";
import { encodeMessage1, networkKeys, retryCookie } from "./hello.ts";
import { screenFirst } from "./responder.ts";
import { memoryPipePair } from "./testing.ts";

const secret = bytesOf(32, 7);
const otherSecret = bytesOf(32, 8);
const xx = { a: { hideIdentity: true } };

/** Runs to the end of every timeout; the two outcomes as ids or error codes. */
async function outcome(options: LinkTestOptions) {
  const link = startLink(options);
  await link.clock.advance(200_000);
  const [a, b] = await Promise.all([link.a, link.b]);
  return { ...link, a, b, codes: [a.error?.code ?? a.session!.remote, b.error?.code ?? b.session!.remote] };
}

describe.each(["stream", "datagram"] as const)("over a %s", (kind) => {
  test.each([
    ["IK", {}],
    ["XX with a known remote", xx],
    ["IKpsk2", { a: { secrets: [secret] }, b: { secrets: [secret] } }],
    ["XXpsk3", { a: { ...xx.a, secrets: [secret] }, b: { secrets: [secret] } }],
  ] as [string, LinkTestOptions][])("%s: both learn who is there and talk", async (_, options) => {
    const link = startLink({ ...options, kind });
    await link.clock.advance(100);
    const [a, b] = await Promise.all([link.a, link.b]);
    expect([a.session?.remote, b.session?.remote]).toEqual([bob.id, alice.id]);
    const [left, right] = [new Collector(a.session!), new Collector(b.session!)];
    a.session!.send(bytesOf(5, 1));
    b.session!.send(bytesOf(6, 2));
    await link.clock.advance(100);
    expect(left.frames).toEqual([bytesOf(6, 2)]);
    expect(right.frames).toEqual([bytesOf(5, 1)]);
    expect([a.session!.direction, b.session!.direction]).toEqual(["outbound", "inbound"]);
    expect(link.guardB.halfOpen).toBe(0);
    expect(link.clock.nextAtMs()).toBeUndefined();
  });

  test("XX with nobody in particular", async () => {
    const link = startLink({ kind });
    const clock = new ManualClock();
    const random = seededRandom(2);
    const wire = memoryPipePair({ kind, clock, random });
    const guard = new HandshakeGuard(clock, random);
    const common = { network: "n", secrets: [], clock, random, guard };
    const signal = new AbortController().signal;
    const a = openSession(wire.a, { ...common, role: "initiator", identity: alice }, signal);
    const b = openSession(wire.b, { ...common, role: "responder", identity: bob }, signal);
    await clock.advance(50);
    expect([(await a).remote, (await b).remote]).toEqual([bob.id, alice.id]);
    await link.clock.advance(50);
  });

  test("bytes on the wire: IK at most 170, XX at most 220, our own included", async () => {
    for (const [options, expected, most] of [
      [{}, 157, 170],
      [{ a: { secrets: [secret] }, b: { secrets: [secret] } }, 157, 170],
      [xx, 202, 220],
      [{ a: { ...xx.a, secrets: [secret] }, b: { secrets: [secret] } }, 218, 220],
    ] as [LinkTestOptions, number, number][]) {
      const link = startLink({ ...options, kind, wire: { isRecording: true } });
      await link.clock.advance(100);
      const messages = [...link.wire.a.sent, ...link.wire.b.sent].filter(
        (bytes) => bytes[0]! >> 4 === 1 && bytes.length >= 39,
      );
      const total = messages.reduce((sum, bytes) => sum + bytes.length, 0);
      expect(messages.length).toBe(expected === 157 ? 2 : 3);
      expect(total).toBe(expected);
      expect(total).toBeLessThanOrEqual(most);
    }
  });

  test("another network, another secret, a secret on one side only: no session on either end", async () => {
    const silent = kind === "stream" ? "GODWIT_HANDSHAKE_FAILED" : "GODWIT_HANDSHAKE_TIMEOUT";
    for (const options of [
      { b: { network: "other" } },
      { ...xx, b: { network: "other" } },
      { a: { secrets: [secret] }, b: { secrets: [otherSecret] } },
      { a: { ...xx.a, secrets: [secret] }, b: { secrets: [otherSecret] } },
      { a: { secrets: [secret] } },
      { b: { secrets: [secret] } },
      { ...xx, b: { secrets: [secret] } },
    ] as LinkTestOptions[]) {
      const { codes, guardB, wire } = await outcome({ ...options, kind });
      expect(codes).toEqual([silent, silent]);
      expect(guardB.counters.tagMismatches).toBeGreaterThan(0);
      expect(guardB.halfOpen).toBe(0);
      expect([wire.a.isClosed, wire.b.isClosed]).toEqual([true, true]);
      // No word to a stranger, and no Diffie-Hellman for one.
      expect(wire.b.sentBytes).toBe(0);
    }
  });

  test.each([{}, { hideIdentity: true }])(
    "another node than the one meant: the error names who was met",
    async (a) => {
      const { a: left, codes } = await outcome({ kind, a: { ...a, remote: carol.id } });
      expect(codes[0]).toBe("GODWIT_HANDSHAKE_FAILED");
      expect(left.error!.message).toContain(bob.id);
      expect(left.error!.message).toContain(carol.id.slice(0, 10));
      expect(codes[1]).not.toBe(alice.id);
    },
  );

  test("dialling oneself is its own failure, known or found out", async () => {
    const known = await outcome({ kind, a: { remote: alice.id }, b: { identity: alice } });
    expect(known.codes[0]).toBe("GODWIT_SELF_DIALED");
    expect(known.wire.a.sentBytes).toBe(0);
    const found = await outcome({
      kind,
      a: { hideIdentity: true, remote: bob.id },
      b: { identity: alice },
    });
    expect(found.codes[0]).toBe("GODWIT_SELF_DIALED");
  });

  test("a blocked node gets no session, whoever dialled", async () => {
    const inbound = await outcome({ kind, b: { isBlocked: (id) => id === alice.id } });
    expect(inbound.codes[1]).toBe("GODWIT_PEER_BLOCKED");
    const inboundXx = await outcome({ ...xx, kind, b: { isBlocked: (id) => id === alice.id } });
    expect(inboundXx.codes[1]).toBe("GODWIT_PEER_BLOCKED");
    const outbound = await outcome({ kind, a: { isBlocked: (id) => id === bob.id } });
    expect(outbound.codes[0]).toBe("GODWIT_PEER_BLOCKED");
    expect(outbound.codes[1]).not.toBe(alice.id);
  });

  test("no common version: refused with both ranges", async () => {
    const { a, codes } = await outcome({ kind, a: { versions: { min: 3, max: 4 } } });
    expect(codes).toEqual(["GODWIT_HANDSHAKE_FAILED", "GODWIT_HANDSHAKE_FAILED"]);
    expect(a.error!.message).toContain("versions 1 to 2");
    const mixed = await outcome({
      kind,
      a: { versions: { min: 1, max: 9 } },
      b: { versions: { min: 1, max: 4 } },
    });
    expect((mixed.a.session as unknown as { version: number }).version).toBe(4);
    expect((mixed.b.session as unknown as { version: number }).version).toBe(4);
  });

  test("a far end that says nothing: a timeout on the clock, not before, and nothing is left", async () => {
    const clock = new ManualClock();
    const random = seededRandom(3);
    for (const role of ["initiator", "responder"] as const) {
      const wire = memoryPipePair({ kind, clock, random });
      const guard = new HandshakeGuard(clock, random);
      let isDone = false;
      const opening = settled(
        openSession(
          wire.a,
          { role, identity: alice, network: "n", secrets: [], clock, random, guard, timeoutMs: 700 },
          new AbortController().signal,
        ),
      );
      void opening.then(() => (isDone = true));
      await clock.advance(699);
      expect(isDone).toBe(false);
      await clock.advance(2);
      expect((await opening).error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
      expect([guard.halfOpen, guard.counters.handshakesTimedOut, wire.a.isClosed]).toEqual([0, 1, true]);
      await clock.advance(1_000);
      expect(clock.nextAtMs()).toBeUndefined();
    }
  });

  test("abort before and during: the signal's reason, the pipe closed, no timer left", async () => {
    for (const afterMs of [undefined, 0, 1.5]) {
      const clock = new ManualClock();
      const random = seededRandom(4);
      const wire = memoryPipePair({ kind, clock, random });
      const guard = new HandshakeGuard(clock, random);
      const controller = new AbortController();
      const reason = new Error("enough");
      if (afterMs === undefined) controller.abort(reason);
      const opening = settled(
        openSession(
          wire.b,
          { role: "responder", identity: bob, network: "n", secrets: [], clock, random, guard },
          controller.signal,
        ),
      );
      await clock.advance(afterMs ?? 0);
      controller.abort(reason);
      expect((await opening).error as unknown).toBe(reason);
      await clock.advance(100);
      expect([wire.b.isClosed, guard.halfOpen, guard.counters.handshakesAborted]).toEqual([true, 0, 1]);
      expect(clock.nextAtMs()).toBeUndefined();
    }
  });

  test("both secrets live: the old and the new one are taken, the newest is dialled first", async () => {
    for (const a of [[secret], [otherSecret], [secret, otherSecret]])
      expect(
        (await startAndSettle({ kind, a: { secrets: a }, b: { secrets: [otherSecret, secret] } })).codes,
      ).toEqual([bob.id, alice.id]);
  });

  test("rotation: the dial after a failed one uses the other secret, and stays with it", async () => {
    const clock = new ManualClock();
    const random = seededRandom(5);
    const guardA = new HandshakeGuard(clock, random);
    const results: (string | undefined)[] = [];
    for (let i = 0; i < 3; i++) {
      const { codes } = await startAndSettle({
        kind,
        clock,
        a: { secrets: [secret, otherSecret], guard: guardA },
        b: { secrets: [otherSecret] },
      });
      results.push(codes[0]);
    }
    expect(results[0]).toMatch(/^GODWIT_HANDSHAKE_/);
    expect(results.slice(1)).toEqual([bob.id, bob.id]);
  });

  test("under load a first message without a cookie gets one and no state, with one goes through", async () => {
    for (const options of [{}, xx]) {
      // A stream has its place by then, a datagram has not.
      const loadHalfOpen = kind === "stream" ? 0 : -1;
      const link = startLink({ ...options, kind, guard: { loadHalfOpen } });
      await link.clock.advance(100);
      const [a, b] = await Promise.all([link.a, link.b]);
      expect([a.session?.remote, b.session?.remote]).toEqual([bob.id, alice.id]);
      expect(link.guardB.counters.retriesSent).toBe(1);
    }
  });

  test("many first messages a second are load as well", async () => {
    const clock = new ManualClock();
    const guard = new HandshakeGuard(clock, seededRandom(6), { loadPerSecond: 3 });
    for (let i = 0; i < 3; i++) guard.spend();
    expect(guard.isUnderLoad).toBe(true);
    await clock.advance(1_000);
    expect(guard.isUnderLoad).toBe(false);
  });
});

async function startAndSettle(options: LinkTestOptions) {
  const link = startLink(options);
  await link.clock.advance(10_000);
  const [a, b] = await Promise.all([link.a, link.b]);
  return { codes: [a.error?.code ?? a.session!.remote, b.error?.code ?? b.session!.remote] };
}

describe("replay and forgery", () => {
  test("a replayed IK message 1 yields no session, on streams and datagrams", async () => {
    for (const kind of ["stream", "datagram"] as const) {
      const recorded = startLink({ kind, wire: { isRecording: true } });
      await recorded.clock.advance(50);
      const message1 = recorded.wire.a.sent[0]!;
      expect(message1.length).toBe(107);

      const clock = new ManualClock();
      const random = seededRandom(8);
      const wire = memoryPipePair({ kind, clock, random });
      const guard = new HandshakeGuard(clock, random);
      const b = settled(
        openSession(
          wire.b,
          { role: "responder", identity: bob, network: "telex", secrets: [], clock, random, guard },
          new AbortController().signal,
        ),
      );
      wire.a.inject(message1);
      // The attacker's best continuation is what it recorded.
      await clock.advance(10);
      expect(wire.b.sentBytes).toBe(50);
      if (kind === "datagram") for (const bytes of recorded.wire.a.sent.slice(1)) wire.a.inject(bytes);
      await clock.advance(60_000);
      expect((await b).error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
      expect(guard.halfOpen).toBe(0);
    }
  });

  test("a replayed handshake with its confirm fails on a stream at that record", async () => {
    const recorded = startLink({ wire: { isRecording: true } });
    await recorded.clock.advance(50);
    const clock = new ManualClock();
    const random = seededRandom(9);
    const wire = memoryPipePair({ kind: "stream", clock, random });
    const guard = new HandshakeGuard(clock, random);
    const options = { identity: bob, network: "telex", secrets: [], clock, random, guard };
    const b = settled(openSession(wire.b, { role: "responder", ...options }, new AbortController().signal));
    for (const bytes of recorded.wire.a.sent) wire.a.inject(bytes);
    await clock.advance(100);
    const { error } = await b;
    expect(error?.code).toBe("GODWIT_HANDSHAKE_FAILED");
    expect(error?.message).toContain("first record");
  });

  test("a replay in between does not undo a datagram handshake under way", async () => {
    const recorded = startLink({ kind: "datagram", seed: 50, wire: { isRecording: true } });
    await recorded.clock.advance(50);
    const old = recorded.wire.a.sent[0]!;
    const link = startLink({ kind: "datagram", seed: 51 });
    await link.clock.advance(1.2);
    link.wire.a.inject(old);
    await link.clock.advance(4_000);
    expect((await link.b).session?.remote).toBe(alice.id);
    expect((await link.a).session?.remote).toBe(bob.id);
  });

  test("any flipped bit in any stream handshake message fails both ends", async () => {
    for (const options of [{}, xx]) {
      for (let step = 0; step < 60; step++) {
        let count = 0;
        const { codes } = await outcome({
          ...options,
          seed: step,
          wire: {
            tamper(bytes) {
              if (count++ !== step % 3) return bytes;
              const bit = (step * 7919) % (bytes.length * 8);
              bytes[bit >> 3]! ^= 1 << (bit & 7);
              return bytes;
            },
          },
        });
        // Message 3 and the confirm fail the responder only after the initiator has its session.
        expect(codes[1]).not.toBe(alice.id);
        if (step % 3 < 2 && !(options !== xx && step % 3 === 2)) expect(codes[0]).not.toBe(bob.id);
      }
    }
  });

  test("forged datagrams of every type do not end a datagram handshake", async () => {
    const link = startLink({ kind: "datagram", ...xx });
    const random = seededRandom(10);
    for (const [type, length] of [
      [0x12, 50],
      [0x14, 98],
      [0x15, 65],
      [0x16, 21],
      [0x17, 8],
      [0x13, 39],
      [0x10, 55],
      [0x80, 40],
      [0x11, 107],
      [0x00, 9],
    ] as const) {
      const forged = random.bytes(length);
      forged[0] = type;
      link.wire.a.inject(forged);
      link.wire.b.inject(forged);
    }
    link.wire.a.inject(new Uint8Array());
    await link.clock.advance(1.5);
    const forged2 = random.bytes(98);
    forged2[0] = 0x14;
    link.wire.b.inject(forged2);
    await link.clock.advance(3_000);
    expect((await link.a).session?.remote).toBe(bob.id);
    expect((await link.b).session?.remote).toBe(alice.id);
    expect(link.guardA.counters.handshakeDatagramsDropped).toBeGreaterThan(5);
  });

  test("random bytes at either end never crash it", async () => {
    const random = seededRandom(11);
    for (let i = 0; i < 80; i++) {
      const link = startLink({ kind: i % 2 === 0 ? "stream" : "datagram", seed: i });
      const junk = random.bytes(1 + random.below(200));
      if (i % 4 < 2) junk[0] = 0x11 + random.below(8);
      link.wire.a.inject(junk);
      link.wire.b.inject(junk);
      await link.clock.advance(200_000);
      await Promise.all([link.a, link.b]);
      expect(link.guardB.halfOpen).toBe(0);
    }
  });
});

describe("half-open handshakes", () => {
  const enterMany = (guard: HandshakeGuard, count: number, source?: string) => {
    const tickets = [];
    for (let i = 0; i < count; i++) tickets.push(guard.enter(source, () => {}));
    return tickets;
  };

  test("the cap of one source costs that source its oldest and leaves others alone", () => {
    const guard = new HandshakeGuard(new ManualClock(), seededRandom(1), { halfOpenPerSourceMax: 3 });
    const evicted: string[] = [];
    const tickets = ["a", "b", "c"].map((name) => guard.enter("192.0.2.1", () => evicted.push(name)));
    enterMany(guard, 3, "192.0.2.2");
    guard.enter("192.0.2.1", () => evicted.push("d"));
    expect(evicted).toEqual(["a"]);
    tickets[0]!.release();
    tickets[1]!.release();
    tickets[1]!.release();
    expect([guard.halfOpen, guard.counters.halfOpenEvicted]).toEqual([5, 1]);
  });

  test("nine silent sources do not hold the places: each tenth gets one, and is not the one that goes", () => {
    const guard = new HandshakeGuard(new ManualClock(), seededRandom(1));
    for (let source = 0; source < 9; source++) enterMany(guard, 128, `192.0.2.${source}`);
    let isGone = false;
    guard.enter("198.51.100.1", () => (isGone = true));
    for (let source = 0; source < 9; source++) enterMany(guard, 128, `192.0.2.${source}`);
    expect([isGone, guard.halfOpen]).toEqual([false, 512]);
  });

  test("at the global cap the oldest silent pipe makes room, then the oldest that was answered", () => {
    const guard = new HandshakeGuard(new ManualClock(), seededRandom(1), { halfOpenMax: 3 });
    const evicted: number[] = [];
    const enter = (i: number) => guard.enter("192.0.2.1", () => evicted.push(i));
    const tickets = [0, 1, 2].map(enter);
    tickets[0]!.answered();
    tickets.push(enter(3));
    expect(evicted).toEqual([1]);
    tickets[2]!.answered();
    tickets[3]!.answered();
    enter(4);
    expect(evicted).toEqual([1, 0]);
    expect([guard.halfOpen, guard.counters.halfOpenEvicted]).toEqual([3, 2]);
  });

  test("over Tor, where all have one address, a handshake of five seconds lives while a hundred a second come", async () => {
    const clock = new ManualClock();
    const guard = new HandshakeGuard(clock, seededRandom(2));
    let isGone = false;
    guard.enter(undefined, () => (isGone = true)).answered();
    for (let second = 0; second < 5; second++) {
      // They send a valid message 1, as anybody can in an open mesh.
      for (const ticket of enterMany(guard, 100)) ticket.answered();
      await clock.advance(1_000);
    }
    expect(isGone).toBe(false);
  });

  test("over Tor, where more come than there are places for, one that is in gets to its end, and who is not comes again", async () => {
    const clock = new ManualClock();
    const guard = new HandshakeGuard(clock, seededRandom(2));
    const tryIn = (onEvict: () => void) => {
      try {
        return guard.enter(undefined, onEvict);
      } catch {
        return undefined;
      }
    };
    const crowd = (count: number) => {
      for (let i = 0; i < count; i++) tryIn(() => {})?.answered();
    };
    let isGone = false;
    // Five times as many as pass in the time of a handshake, in no order.
    const random = seededRandom(3);
    let tries = 0;
    for (;;) {
      const before = random.below(6);
      crowd(before);
      const honest = tryIn(() => (isGone = true));
      crowd(5 - before);
      tries++;
      if (honest === undefined) {
        await clock.advance(10);
        continue;
      }
      // Its first message, then its third, after four seconds each: a slow circuit.
      for (const step of [1, 2]) {
        for (let i = 0; i < 400; i++) {
          crowd(5);
          await clock.advance(10);
        }
        expect([step, isGone]).toEqual([step, false]);
        honest.answered();
      }
      break;
    }
    expect(tries).toBeLessThan(1_000);
  });

  test("wrong tags in datagrams take no place, whatever number of them comes", async () => {
    const clock = new ManualClock();
    const random = seededRandom(3);
    const guard = new HandshakeGuard(clock, random);
    const keys = [networkKeys("n", new Uint8Array(32).fill(1))];
    const contact = {
      identity: bob,
      network: "n",
      keys,
      versions: { min: 1, max: 1 },
      guard,
      source: "s",
      invites: undefined,
    };
    for (let i = 0; i < 2_000; i++) {
      const bytes = random.bytes(55);
      bytes[0] = 0x10;
      expect(screenFirst(bytes, contact)).toBeUndefined();
    }
    for (const length of [0, 1, 38, 52, 54, 56, 1_200])
      expect(screenFirst(random.bytes(length), contact)).toBeUndefined();
    expect([guard.halfOpen, guard.isUnderLoad, guard.counters.tagMismatches]).toEqual([0, false, 2_000]);
  });

  test("a first datagram is screened: a genuine one opens, under load only with a cookie for its source", () => {
    const random = seededRandom(4);
    const guard = new HandshakeGuard(new ManualClock(), random, { loadPerSecond: 1 });
    const [own] = [networkKeys("n", new Uint8Array(32).fill(1))];
    const contact = {
      identity: bob,
      network: "n",
      keys: [own],
      versions: { min: 1, max: 1 },
      guard,
      source: "s",
      invites: undefined,
    };
    const noise = random.bytes(32);
    const message = (cookie?: Uint8Array) =>
      encodeMessage1(own, undefined, { min: 1, max: 1 }, noise, cookie);
    expect(screenFirst(message(), contact)).toBe("open");
    guard.spend();
    const retry = screenFirst(message(), contact) as Uint8Array;
    expect(retry).toHaveLength(21);
    const cookie = retryCookie(retry);
    expect(screenFirst(message(cookie), contact)).toBe("open");
    expect(screenFirst(message(cookie), { ...contact, source: "t" })).toBeInstanceOf(Uint8Array);
    expect(guard.halfOpen).toBe(0);
  });

  test("silent pipes beyond the cap are closed, and an honest node still gets in", async () => {
    const clock = new ManualClock();
    const random = seededRandom(12);
    const guard = new HandshakeGuard(clock, random, { halfOpenMax: 4, loadHalfOpen: 2 });
    const signal = new AbortController().signal;
    const common = { network: "n", secrets: [], clock, random, sourceKey: "192.0.2.1" };
    const silent = [];
    for (let i = 0; i < 20; i++) {
      const { b } = memoryPipePair({ kind: "stream", clock, random });
      silent.push({
        b,
        done: settled(openSession(b, { ...common, role: "responder", identity: bob, guard }, signal)),
      });
      expect(guard.halfOpen).toBeLessThanOrEqual(4);
    }
    expect(silent.filter(({ b }) => b.isClosed).length).toBe(16);
    const wire = memoryPipePair({ kind: "stream", clock, random });
    const guardA = new HandshakeGuard(clock, random);
    const a = openSession(wire.a, { ...common, role: "initiator", identity: alice, guard: guardA }, signal);
    const b = openSession(wire.b, { ...common, role: "responder", identity: bob, guard }, signal);
    await clock.advance(50);
    expect([(await a).remote, (await b).remote]).toEqual([bob.id, alice.id]);
    expect(guard.counters.retriesSent).toBe(1);
    expect((await silent[0]!.done).error?.code).toBe("GODWIT_HANDSHAKE_BUSY");
  });

  test("a cookie is good for its source, its ephemeral and two minutes at most", async () => {
    const clock = new ManualClock();
    const guard = new HandshakeGuard(clock, seededRandom(13));
    const [ephemeral, other] = [bytesOf(32, 1), bytesOf(32, 2)];
    const cookie = guard.cookie("s", ephemeral);
    expect(cookie.length).toBe(16);
    expect(guard.isCookieValid("s", ephemeral, cookie)).toBe(true);
    expect(guard.isCookieValid("t", ephemeral, cookie)).toBe(false);
    expect(guard.isCookieValid("s", other, cookie)).toBe(false);
    await clock.advance(61_000);
    expect(guard.isCookieValid("s", ephemeral, cookie)).toBe(true);
    await clock.advance(60_000);
    expect(guard.isCookieValid("s", ephemeral, cookie)).toBe(false);
    const unused = guard.cookie("s", ephemeral);
    await clock.advance(125_000);
    expect(guard.isCookieValid("s", ephemeral, unused)).toBe(false);
  });

  test("a responder that keeps asking for cookies is given up", async () => {
    const { codes } = await outcome({
      kind: "stream",
      guard: { loadHalfOpen: 0 },
      b: { guard: fickleGuard() },
    });
    expect(codes[0]).toBe("GODWIT_HANDSHAKE_BUSY");
  });
});

/** Forgets its cookie secret at once. */
function fickleGuard(): HandshakeGuard {
  const guard = new HandshakeGuard(new ManualClock(), seededRandom(14), { loadHalfOpen: 0 });
  guard.isCookieValid = () => false;
  return guard;
}

describe("datagrams that get lost", () => {
  test.each([{}, xx, { linkClass: "slow" as const }])(
    "half of everything lost: the handshake still ends well",
    async (options) => {
      for (let seed = 0; seed < 12; seed++) {
        const link = startLink({
          ...options,
          kind: "datagram",
          seed,
          wire: { loss: 0.5, duplication: 0.2, jitterMs: 40 },
          a: { ...("a" in options ? options.a : {}), timeoutMs: 600_000 },
          b: { timeoutMs: 600_000 },
        });
        await link.clock.advance(1_000_000);
        expect((await link.a).session?.remote).toBe(bob.id);
        expect((await link.b).session?.remote).toBe(alice.id);
      }
    },
  );

  test("the initiator's session ends when its confirm is never answered", async () => {
    let isCut = false;
    const link = startLink({
      kind: "datagram",
      wire: { tamper: (bytes, from) => (isCut && from === "b" ? undefined : bytes) },
    });
    await link.clock.advance(2.5);
    isCut = true;
    const { session } = await link.a;
    const left = new Collector(session!);
    await link.clock.advance(60_000);
    expect(left.closed?.error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
    expect(link.guardA.counters.sessionsUnconfirmed).toBe(1);
  });

  test("a medium too small for a link is a clear error", async () => {
    const { a } = await outcome({ kind: "datagram", wire: { mtu: 100 } });
    expect(a.error?.code).toBe("GODWIT_ENDPOINT_INVALID");
  });
});

describe("a medium that is carried", () => {
  const HOUR_MS = 3_600_000;
  const carried = {
    linkClass: "slow",
    wire: { latencyMs: 12 * HOUR_MS, patienceMs: 168 * HOUR_MS },
  } as const;

  test("a handshake takes as many days as it must, and the session lives on", async () => {
    const link = startLink(carried);
    await link.clock.advance(30 * HOUR_MS);
    const left = new Collector((await link.a).session!);
    left.session.send(bytesOf(100, 1));
    await link.clock.advance(40 * HOUR_MS);
    const right = new Collector((await link.b).session!);
    await link.clock.advance(1);
    expect(right.frames).toHaveLength(1);
    // A rekey is answered a day later, and costs nobody the session.
    for (let day = 0; day < 20; day++) {
      left.session.send(bytesOf(10, day));
      right.session.send(bytesOf(10, day));
      await link.clock.advance(24 * HOUR_MS);
    }
    await link.clock.advance(24 * HOUR_MS);
    expect([right.frames.length, left.frames.length]).toEqual([21, 20]);
    expect([left.closed, right.closed]).toEqual([undefined, undefined]);
    expect(link.guardA.counters.rekeys).toBeGreaterThan(0);
  });

  test("without that word it is given up after two minutes, and with it after the time it names", async () => {
    const hasty = startLink({ ...carried, wire: { latencyMs: 12 * HOUR_MS } });
    await hasty.clock.advance(121_000);
    expect((await hasty.a).error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
    const link = startLink(carried);
    link.wire.vanish();
    await link.clock.advance(167 * HOUR_MS);
    expect(Bun.peek.status(link.a)).toBe("pending");
    await link.clock.advance(2 * HOUR_MS);
    expect((await link.a).error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
  });

  test("only a slow stream may ask for patience, and for no more than 30 days", () => {
    const pipe = { kind: "stream", linkClass: "slow", patienceMs: 1e15 } as Pipe;
    expect(patienceOf(pipe)).toBe(PATIENCE_MAX_MS);
    expect(patienceOf({ ...pipe, patienceMs: 5 })).toBe(5);
    for (const change of [
      { kind: "datagram" },
      { linkClass: "fast" },
      { patienceMs: -1 },
      { patienceMs: Number.NaN },
    ])
      expect(patienceOf({ ...pipe, ...change } as Pipe)).toBe(0);
  });
});
