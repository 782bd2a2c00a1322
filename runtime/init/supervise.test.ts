import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import {
  type Exit,
  LineRing,
  LOG_LINES_MAX,
  type SpawnRequest,
  STOP_MAX_MS,
  Supervisor,
} from "./supervise.ts";
import { spawnProcess } from "./spawn.ts";

/** Processes that live until they are told otherwise. */
function lab(options: { ignoresTerm?: boolean; failsToStart?: () => boolean } = {}) {
  const clock = new ManualClock();
  const living = new Map<number, (exit: Exit) => void>();
  const signals: [number, string][] = [];
  const requests: SpawnRequest[] = [];
  const states: string[] = [];
  let pid = 100;
  const supervisor = new Supervisor({
    clock,
    random: seededRandom(1),
    spawn(request) {
      if (options.failsToStart?.() === true) throw new Error("ENOENT: no such program");
      requests.push(request);
      const own = ++pid;
      living.set(own, request.onExit);
      return {
        pid: own,
        signalGroup(signal) {
          signals.push([own, signal]);
          if (signal === "SIGKILL" || options.ignoresTerm !== true) die(own, { code: undefined, signal });
        },
      };
    },
    onLine() {},
    onChange: ({ name, state }) => states.push(`${name} ${state}`),
  });
  function die(own: number, exit: Exit) {
    const onExit = living.get(own);
    living.delete(own);
    onExit?.(exit);
  }
  return { clock, supervisor, living, signals, requests, states, die, lastPid: () => pid };
}

const spec = { name: "node", command: ["/godwit", "run"], env: {} };

describe("a program", () => {
  test("that ends is started again, after pauses that grow", async () => {
    const { clock, supervisor, die, lastPid } = lab();
    const program = supervisor.add(spec);
    program.start();
    const pauses: number[] = [];
    for (let i = 0; i < 5; i++) {
      die(lastPid(), { code: 1, signal: undefined });
      expect(program.view).toMatchObject({ state: "waiting", reason: "ended with code 1", pid: undefined });
      const fromMs = clock.monotonicMs();
      const dueMs = clock.nextAtMs()!;
      await clock.advance(dueMs - fromMs);
      pauses.push(dueMs - fromMs);
      expect(program.view.state).toBe("running");
    }
    for (let i = 0; i < pauses.length; i++) {
      expect(pauses[i]).toBeGreaterThanOrEqual(750 * 2 ** i);
      expect(pauses[i]).toBeLessThanOrEqual(1_250 * 2 ** i);
    }
    expect(program.view.starts).toBe(6);
  });

  test("that was up for a minute begins with the shortest pause again", async () => {
    const { clock, supervisor, die, lastPid } = lab();
    const program = supervisor.add(spec);
    program.start();
    for (let i = 0; i < 4; i++) {
      die(lastPid(), { code: 1, signal: undefined });
      await clock.advance(20_000);
    }
    await clock.advance(61_000);
    die(lastPid(), { code: 1, signal: undefined });
    expect(clock.nextAtMs()! - clock.monotonicMs()).toBeLessThanOrEqual(1_250);
  });

  test("that crashes beyond its budget rests, and then has a fresh one", async () => {
    const { clock, supervisor, die, lastPid, requests } = lab();
    const program = supervisor.add(spec);
    program.start();
    let crashes = 0;
    while (program.view.state !== "exhausted" && crashes < 50) {
      die(lastPid(), { code: 1, signal: undefined });
      crashes++;
      if (program.view.state === "waiting") await clock.advance(clock.nextAtMs()! - clock.monotonicMs());
    }
    expect(crashes).toBe(9);
    await clock.advance(9 * 60_000);
    expect(requests).toHaveLength(9);
    await clock.advance(60_000);
    expect(program.view.state).toBe("running");
    die(lastPid(), { code: 1, signal: undefined });
    expect(program.view.state).toBe("waiting");
  });

  test("that is not there counts as crashed, and says why", () => {
    const { supervisor } = lab({ failsToStart: () => true });
    const program = supervisor.add(spec);
    program.start();
    expect(program.view).toMatchObject({ state: "waiting", reason: "cannot start: ENOENT: no such program" });
    expect(program.lines.last(1)).toEqual(["cannot start: ENOENT: no such program"]);
  });

  test("is asked to end, then made to; and stays down", async () => {
    const { clock, supervisor, signals } = lab({ ignoresTerm: true });
    const program = supervisor.add(spec);
    program.start();
    let isDown = false;
    void program.stop().then(() => (isDown = true));
    await clock.advance(STOP_MAX_MS - 1);
    expect(isDown).toBe(false);
    expect(program.view.state).toBe("stopping");
    await clock.advance(1);
    expect(isDown).toBe(true);
    expect(signals.map(([, signal]) => signal).slice(0, 2)).toEqual(["SIGTERM", "SIGKILL"]);
    await clock.advance(60 * 60_000);
    expect(program.view).toMatchObject({ state: "stopped", starts: 1 });
    program.start();
    expect(program.view).toMatchObject({ state: "running", starts: 2 });
  });

  test("that is stopped while it waits for its next start stays down", async () => {
    const { clock, supervisor, die, lastPid } = lab();
    const program = supervisor.add(spec);
    program.start();
    die(lastPid(), { code: 1, signal: undefined });
    await program.stop();
    await clock.advance(60 * 60_000);
    expect(program.view).toMatchObject({ state: "stopped", starts: 1 });
  });

  test("that hangs is ended at once, with the reason told", async () => {
    const { clock, supervisor } = lab({ ignoresTerm: true });
    const program = supervisor.add(spec);
    program.start();
    program.kill("did not answer for 30 s");
    expect(program.view).toMatchObject({
      state: "waiting",
      reason: "did not answer for 30 s; ended by SIGKILL",
    });
    await clock.advance(1_250);
    expect(program.view).toMatchObject({ state: "running", reason: undefined });
  });

  test("that ends leaves nobody of its group behind", () => {
    const { supervisor, signals, die, lastPid } = lab();
    supervisor.add(spec).start();
    die(lastPid(), { code: 0, signal: undefined });
    expect(signals).toEqual([[101, "SIGKILL"]]);
  });

  test("is held until what it needs is there", () => {
    const { supervisor, requests } = lab();
    let why: string | undefined = "the clock is not known yet";
    const program = supervisor.add({ ...spec, name: "tor", heldBy: () => why });
    program.start();
    expect(program.view).toMatchObject({ state: "held", reason: why, starts: 0 });
    supervisor.release();
    expect(requests).toHaveLength(0);
    why = undefined;
    supervisor.release();
    supervisor.release();
    expect(requests).toHaveLength(1);
    expect(program.view.state).toBe("running");
  });

  test("that was stopped while it was held is not started by what it needed", async () => {
    const { supervisor, requests } = lab();
    let why: string | undefined = "x";
    const program = supervisor.add({ ...spec, heldBy: () => why });
    program.start();
    await program.stop();
    why = undefined;
    supervisor.release();
    expect(requests).toHaveLength(0);
  });

  test("whose end is told twice is started once", async () => {
    const { clock, supervisor, requests } = lab();
    supervisor.add(spec).start();
    requests[0]!.onExit({ code: 1, signal: undefined });
    requests[0]!.onExit({ code: 1, signal: undefined });
    await clock.advance(5_000);
    expect(requests).toHaveLength(2);
  });
});

test("children of ours are known while they live", () => {
  const { supervisor, die, lastPid } = lab();
  supervisor.add(spec).start();
  expect(supervisor.isOurs(101)).toBe(true);
  die(lastPid(), { code: 0, signal: undefined });
  expect(supervisor.isOurs(101)).toBe(false);
});

test("everything is stopped at once", async () => {
  const { supervisor, signals } = lab();
  for (const name of ["node", "tor", "yggdrasil"]) supervisor.add({ ...spec, name }).start();
  await supervisor.stopAll();
  expect(signals.filter(([, signal]) => signal === "SIGTERM")).toHaveLength(3);
  expect(supervisor.programs.map(({ view }) => view.state)).toEqual(["stopped", "stopped", "stopped"]);
});

test("the ring keeps the last lines, each with a bound", () => {
  const ring = new LineRing();
  for (let i = 0; i < LOG_LINES_MAX + 50; i++) ring.push(`line ${i}`);
  ring.push("x".repeat(1_000_000));
  expect(ring.last(10_000)).toHaveLength(LOG_LINES_MAX);
  expect(ring.last(10_000)[0]).toBe("line 51");
  expect(ring.last(1)[0]!.length).toBeLessThan(10_000);
  expect(ring.last(0)).toEqual([]);
});

test("an end that is told twice counts once", async () => {
  const { clock, supervisor, requests, states } = lab();
  supervisor.add(spec).start();
  const [first] = requests;
  first!.onExit({ code: 1, signal: undefined });
  await clock.advance(60_000);
  expect(requests.length).toBe(2);
  // Of the run that is over: the one that runs now is not.
  first!.onExit({ code: 1, signal: undefined });
  expect([supervisor.find("node")!.view.state, states.at(-1)]).toEqual(["running", "node running"]);
});

test("a line without an end is told in pieces, and not kept", async () => {
  const lines: string[] = [];
  const ended = Promise.withResolvers<Exit>();
  const { promise: whole, resolve } = Promise.withResolvers<void>();
  let told = 0;
  spawnProcess({
    command: ["/bin/sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; sleep 0.01"],
    env: { PATH: process.env["PATH"] ?? "" },
    onLine(line) {
      lines.push(line);
      told += line.length;
      if (told === 100_000) resolve();
    },
    onExit: (exit) => ended.resolve(exit),
  });
  await whole;
  expect((await ended.promise).code).toBe(0);
  // At most so much, and the piece that made it too much.
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(2 * 16_384);
});
