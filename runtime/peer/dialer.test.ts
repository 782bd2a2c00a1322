import { describe, expect, test } from "bun:test";
import type { Pipe } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import type { Session } from "../link/types.ts";
import { Dialer, DIALS_AT_ONCE_MAX, TARGETS_MAX } from "./dialer.ts";
import { node, setup } from "./testing-dialer.ts";

const permanent = { endpoint: "tcp://b:1", isPermanent: true };
const hinted = { endpoint: "tcp://h:1", isPermanent: false };

describe("a dialer at rest", () => {
  test("dials nothing and forgets nothing, and goes on with all of it at once", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add(permanent);
    dialer.add(hinted);
    await clock.advance(10);
    const before = dials.length;
    dialer.rest(true);
    dialer.add({ endpoint: "tcp://c:1", isPermanent: true });
    await clock.advance(3_600_000);
    expect(dials.length).toBe(before);
    expect(dialer.targets.length).toBe(3);
    dialer.rest(false);
    await clock.advance(10);
    expect(new Set(dials.slice(before).map(({ endpoint }) => endpoint)).size).toBe(3);
  });
});

describe("a permanent target", () => {
  test("that fails is the last failure until it is linked or dropped; a mere hint never is", async () => {
    const { clock, far, dialer } = setup();
    dialer.add(hinted);
    await clock.advance(100);
    expect(dialer.lastFailure).toBeUndefined();
    dialer.add(permanent);
    await clock.advance(100);
    expect(dialer.lastFailure).toMatchObject({
      endpoint: permanent.endpoint,
      error: { message: "nobody at tcp://b:1" },
    });
    far.id = node;
    await clock.advance(60_000);
    expect(dialer.lastFailure).toBeUndefined();
    far.id = undefined;
    dialer.remove(permanent.endpoint);
    expect(dialer.lastFailure).toBeUndefined();
  });

  test("that leads back to this node is no failure of others", async () => {
    const { clock, far, dialer } = setup();
    far.code = "GODWIT_SELF_DIALED";
    dialer.add(permanent);
    await clock.advance(100);
    expect(dialer.lastFailure).toBeUndefined();
  });

  test("is dialled for ever, in jittered pauses up to 25 s", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add(permanent);
    await clock.advance(600_000);
    expect(dials.length).toBeGreaterThan(30);
    const gaps = dials.slice(1).map(({ atMs }, i) => atMs - dials[i]!.atMs);
    expect(gaps[0]).toBeLessThan(70);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(25_001);
    expect(new Set(gaps.slice(-10)).size).toBeGreaterThan(5);
    expect(dialer.targets[0]).toMatchObject({
      state: "waiting",
      error: { message: "nobody at tcp://b:1" },
    });
  });

  test("whose node restarts is met at once, not at the next step of a long pause", async () => {
    const { clock, far, dials, open, dialer, lose } = setup();
    far.id = node;
    dialer.add(permanent);
    await clock.advance(60_000);
    expect([dials.length, open.length]).toEqual([1, 1]);
    const atMs = clock.monotonicMs();
    lose(60_000);
    await clock.advance(100);
    expect(dials.length).toBe(2);
    expect(dials[1]!.atMs - atMs).toBeLessThanOrEqual(40);
    expect(open.length).toBe(1);
  });

  test("whose link was a duplicate of somebody else's rests until its node goes", async () => {
    const { clock, far, dials, open, connected, dialer, lose } = setup();
    far.id = node;
    dialer.add(permanent);
    connected.add(node);
    await clock.advance(2_000);
    open.splice(0)[0]!.close();
    await clock.advance(60_000);
    expect(dials.length).toBe(1);
    lose(60_000);
    await clock.advance(100);
    expect(dials.length).toBe(2);
  });

  test("whose own path broke while another one lives is dialled again: several links are several ways", async () => {
    const { clock, far, dials, open, connected, dialer } = setup();
    far.id = node;
    dialer.add(permanent);
    await clock.advance(60_000);
    expect(dials.length).toBe(1);
    connected.add(node);
    open.splice(0)[0]!.close();
    await clock.advance(1_000);
    expect([dials.length, open.length]).toEqual([2, 1]);
  });

  test("that hangs up on us at once is not dialled forty times a second", async () => {
    const { clock, far, dials, open, dialer, lose } = setup();
    far.id = node;
    dialer.add(permanent);
    for (let i = 0; i < 6_000; i++) {
      await clock.advance(10);
      if (open.length > 0) lose(3);
    }
    expect(dials.length).toBeGreaterThan(5);
    expect(dials.length).toBeLessThan(30);
  });

  test("learns who is there, and another one there next time is fine unless it was pinned", async () => {
    const { clock, far, dials, dialer, lose } = setup();
    const stranger = formatNodeId(new Uint8Array(32).fill(3));
    far.id = node;
    dialer.add(permanent);
    await clock.advance(10_000);
    far.id = stranger;
    lose(10_000);
    await clock.advance(100);
    expect(dials.map(({ expected }) => expected)).toEqual([undefined, undefined]);
    expect(dialer.targets[0]!.nodeId).toBe(stranger);
  });
});

describe("a hint", () => {
  test("is dropped after a dozen failures", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add(hinted);
    await clock.advance(3_600_000);
    expect([dials.length, dialer.targets.length]).toEqual([13, 0]);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("heard again cuts the wait short, but a chatty source makes no flood of dials", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add({ ...hinted, isPermanent: true });
    await clock.advance(300_000);
    const before = dials.length;
    dialer.add(hinted);
    await clock.advance(1);
    expect(dials.length).toBe(before + 1);
    for (let i = 0; i < 1_000; i++) {
      dialer.add(hinted);
      await clock.advance(10);
    }
    expect(dials.length - before).toBeLessThan(20);
  });

  test("does not weaken what was configured", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add(permanent);
    dialer.add({ ...permanent, isPermanent: false, nodeId: node });
    await clock.advance(3_600_000);
    expect(dialer.targets.length).toBe(1);
    expect(dials.length).toBeGreaterThan(100);
  });

  test("that nobody wants for ever any more is given up as others are", async () => {
    const { clock, dials, dialer } = setup();
    dialer.add(permanent);
    await clock.advance(600_000);
    dialer.weaken(permanent.endpoint);
    expect(dialer.targets.length).toBe(1);
    await clock.advance(3_600_000);
    expect(dialer.targets.length).toBe(0);
    const before = dials.length;
    await clock.advance(3_600_000);
    expect(dials.length).toBe(before);
  });

  test("that leads to ourselves is tried once", async () => {
    const { clock, far, dials, dialer } = setup();
    far.code = "GODWIT_SELF_DIALED";
    dialer.add({ ...hinted, isPermanent: true });
    await clock.advance(600_000);
    expect(dials.length).toBe(1);
  });
});

test("a session is known again where another one speaks over it, as on slow links", async () => {
  const { clock, scope, far, dialer, sessions } = setup();
  far.id = node;
  dialer.add({ endpoint: "lora://a", isPermanent: true });
  await clock.advance(1_000);
  const renewed = { remote: node, close() {} } as Session;
  const over = (session: Session) => ({ remote: node, over: session }) as Session;
  const renew = async (session: Session) => {
    const done = dialer.renew(session, async () => renewed);
    await clock.advance(1_000);
    return done;
  };
  expect(await renew(over({ remote: node } as Session))).toBe(false);
  expect(await renew(over(sessions[0]!))).toBe(true);
  expect(sessions.at(-1)).toBe(renewed);
  expect(await renew(renewed)).toBe(true);
  await scope.close();
});

describe("bounds", () => {
  test("32 dials at once; what an operator wrote down does not wait behind thousands of dead hints", async () => {
    const { clock, far, dials, dialer, most } = setup();
    far.takesMs = 15_000;
    for (let i = 0; i < 2_000; i++) dialer.add({ endpoint: `tcp://h:${i}`, isPermanent: false });
    await clock.advance(100);
    dialer.add(permanent);
    await clock.advance(20_000);
    expect(most()).toBe(DIALS_AT_ONCE_MAX);
    expect(dials.some(({ endpoint }) => endpoint === permanent.endpoint)).toBe(true);
  });

  test("hints that fail at once keep to their pace, and what is new comes first", async () => {
    const { clock, dials, dialer } = setup();
    for (let i = 0; i < 1_000; i++)
      dialer.add({ endpoint: `tcp://192.0.2.${i % 100}:${i}`, isPermanent: false });
    await clock.advance(10_000);
    expect(dials.length).toBeLessThanOrEqual(64 + 10 * 64);
    const addedAtMs = clock.monotonicMs();
    dialer.add(hinted);
    await clock.advance(2_000);
    const dial = dials.find(({ endpoint }) => endpoint === hinted.endpoint);
    expect(dial!.atMs - addedAtMs).toBeLessThanOrEqual(200);
  });

  test("in a full table the oldest hint that waits gives way, and what is permanent never", () => {
    const { dialer } = setup();
    for (let i = 0; i < TARGETS_MAX; i++)
      expect(dialer.add({ endpoint: `tcp://many:${i}`, isPermanent: false })).toBe(true);
    expect([dialer.add(hinted), dialer.add(permanent)]).toEqual([true, true]);
    expect(dialer.targets.length).toBe(TARGETS_MAX);
    const ends = dialer.targets.map(({ endpoint }) => endpoint);
    expect([ends.includes("tcp://many:0"), ends.includes(hinted.endpoint)]).toEqual([false, true]);
    for (let i = 0; i < TARGETS_MAX; i++) dialer.add({ endpoint: `tcp://own:${i}`, isPermanent: true });
    expect(dialer.add({ endpoint: "tcp://late:1", isPermanent: false })).toBe(false);
    expect(dialer.targets.map(({ endpoint }) => endpoint)).toContain(permanent.endpoint);
  });

  test("a hint says how long it is waited for, and what is permanent is not judged by it", async () => {
    const { clock, far, dialer } = setup();
    far.takesMs = 1e9;
    dialer.add({ ...hinted, timeoutMs: 3_000 });
    dialer.add({ ...permanent, timeoutMs: 3_000 });
    await clock.advance(3_100);
    expect(dialer.targets.map(({ error }) => error?.message)).toEqual([
      "the dial timed out: no answer",
      undefined,
    ]);
  });

  test("a dial that takes for ever ends after 20 s", async () => {
    const { clock, far, dialer } = setup();
    far.takesMs = 1e9;
    dialer.add(permanent);
    await clock.advance(20_100);
    expect(dialer.targets[0]!.error?.message).toContain("timed out");
  });
});

test("remove in the middle of a dial aborts it; the end of the scope leaves no timer; nothing is dialled after", async () => {
  const { clock, scope, far, dials, open, dialer } = setup();
  far.takesMs = 1_000;
  far.id = node;
  dialer.add(permanent);
  dialer.add(hinted);
  await clock.advance(500);
  dialer.remove(permanent.endpoint);
  const closing = scope.close();
  await clock.advance(60_000);
  await closing;
  expect([dials.length, open.length]).toEqual([2, 0]);
  expect(clock.nextAtMs()).toBeUndefined();
  dialer.add(permanent);
  await clock.advance(60_000);
  expect(dials.length).toBe(2);
});

describe("the end", () => {
  /** A dialer whose transport answers when `open` says so, whatever its signal says. */
  function deaf(stage: "dial" | "handshake") {
    const clock = new ManualClock();
    const scope = new Scope("test");
    const opening = Promise.withResolvers<void>();
    const closed: string[] = [];
    const dialer = new Dialer({
      ...{
        scope,
        clock: scope.clock(clock),
        random: seededRandom(1),
        log: silentLog,
        metrics: new Metrics(),
      },
      self: formatNodeId(new Uint8Array(32).fill(1)),
      async dial() {
        if (stage === "dial") await opening.promise;
        return { close: () => void closed.push("pipe") } as unknown as Pipe;
      },
      async handshake() {
        if (stage === "handshake") await opening.promise;
        return { remote: node, close: () => void closed.push("session") } as unknown as Session;
      },
      adopt: () => void closed.push("adopted"),
      isConnected: () => false,
    });
    return { clock, scope, opening, closed, dialer };
  }

  test.each(["dial", "handshake"] as const)(
    "does not wait for a %s that ignores its signal; what it opens too late is closed",
    async (stage) => {
      const { clock, scope, opening, closed, dialer } = deaf(stage);
      dialer.add(permanent);
      await clock.advance(10);
      expect(dialer.targets[0]?.state).toBe("dialing");
      let isOver = false;
      const ended = scope.close().then(() => (isOver = true));
      await clock.advance(10);
      expect([isOver, closed]).toEqual([true, []]);
      await ended;
      opening.resolve();
      await clock.advance(10);
      expect(closed).toEqual([stage === "dial" ? "pipe" : "session"]);
    },
  );
});
