import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { openNodeTime } from "./kept.ts";
import { type ClockView, COVERED_FROM_MS, TIME_SAVE_MS } from "./node-time.ts";
import { type TestTime, testTime } from "./testing.ts";
import { CLOCK_TOLERANCE_MS, hearVoices, type Voice } from "./voices.ts";

const WALL_MS = 1_800_000_000_000;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 3_600_000;
const YEAR_MS = 365 * DAY_MS;

/** A machine: its clocks go on while the node is off, and may be set. */
class Machine {
  readonly clock = new ManualClock(WALL_MS);
  #lived: TestTime = testTime(this.clock);
  vouches = false;

  get time() {
    return this.#lived.time;
  }

  /** What a time source says is right, whatever the clock shows. */
  get trueMs(): number {
    return WALL_MS + this.clock.monotonicMs();
  }

  setClock(byMs: number): void {
    this.clock.wallOffsetMs = WALL_MS + byMs;
  }

  async run(forMs: number): Promise<void> {
    await this.clock.advance(forMs);
    this.time.check();
  }

  async restart(offMs: number): Promise<void> {
    await this.time.save(true);
    await this.clock.advance(offMs);
    this.#lived = testTime(this.clock, this.#lived.kept, () => (this.vouches ? this.trueMs : undefined));
  }
}

describe("running time", () => {
  test("is counted over restarts, without the time off, and never by the wall clock", async () => {
    const machine = new Machine();
    await machine.run(DAY_MS);
    machine.setClock(-YEAR_MS);
    await machine.restart(30 * DAY_MS);
    expect(machine.time.runMs).toBe(DAY_MS);
    machine.setClock(40 * YEAR_MS);
    await machine.run(DAY_MS);
    expect(machine.time.runMs).toBe(2 * DAY_MS);
    expect(machine.time.coveredMs).toBe(COVERED_FROM_MS + 2 * DAY_MS);
  });

  test("a crash loses at most what was not written, and a damaged row is a first life", async () => {
    const clock = new ManualClock(WALL_MS);
    const disk = new SimDisk();
    const settle = async <T>(promise: Promise<T>): Promise<T> => {
      await clock.advance(5);
      return await promise;
    };
    const open = async () => {
      disk.crash();
      const options = { clock, random: seededRandom(1), commitDelayMs: 1 };
      const store = await openMemoryStore(disk, options);
      const time = await settle(openNodeTime({ store, clock, log: silentLog, vouched: () => undefined }));
      return { store, time };
    };
    const first = await open();
    await clock.advance(TIME_SAVE_MS);
    await settle(first.time.save());
    await clock.advance(TIME_SAVE_MS - 1_000);
    await settle(first.time.save());
    let again = await open();
    expect(again.time.runMs).toBeGreaterThanOrEqual(TIME_SAVE_MS);
    expect(again.time.runMs).toBeLessThan(TIME_SAVE_MS + 100);
    for (const meta of ["", "[]", '{"runMs":-1}', '{"runMs":"7"}', "{"]) {
      await settle(again.store.commit([{ op: "put", in: "setting", key: "running-time", meta }]));
      again = await open();
      expect(again.time.runMs).toBeLessThan(100);
    }
  });
});

test("a node that crashes every few minutes grows older all the same", async () => {
  const clock = new ManualClock(WALL_MS);
  let lived = testTime(clock);
  for (let life = 0; life < 100; life++) {
    for (let minute = 0; minute < 5; minute++) {
      await clock.advance(MINUTE_MS);
      void lived.time.save();
    }
    lived = testTime(clock, lived.kept);
  }
  expect(lived.time.runMs).toBeGreaterThanOrEqual(250 * MINUTE_MS);
});

test("what mail shows of the time that a crash lost is not lost", async () => {
  const clock = new ManualClock(WALL_MS);
  const lived = testTime(clock);
  await clock.advance(5 * MINUTE_MS);
  const { time } = testTime(clock, lived.kept);
  expect(time.runMs).toBe(0);
  time.catchUp(4 * MINUTE_MS);
  time.catchUp(3 * MINUTE_MS);
  expect(time.runMs).toBe(4 * MINUTE_MS);
  await clock.advance(MINUTE_MS);
  expect(time.runMs).toBe(5 * MINUTE_MS);
  // Nothing dates anything so late: a row that rotted must not end all that is here.
  for (const rotten of [400 * DAY_MS, Number.POSITIVE_INFINITY, Number.NaN]) time.catchUp(rotten);
  expect(time.runMs).toBe(5 * MINUTE_MS);
});

test("time that a crash lost and mail shows is no time off as well", async () => {
  const clock = new ManualClock(WALL_MS);
  const vouched = () => WALL_MS + clock.monotonicMs();
  const lived = testTime(clock, undefined, vouched);
  await clock.advance(MINUTE_MS);
  await lived.time.save(true);
  await clock.advance(4 * MINUTE_MS);
  const madeAtMs = lived.time.runMs;
  // Two minutes of nothing, a crash, and three minutes off.
  await clock.advance(5 * MINUTE_MS);
  const { time } = testTime(clock, lived.kept, vouched);
  expect(time.ageMs(0)).toBe(10 * MINUTE_MS);
  time.catchUp(madeAtMs);
  expect(time.ageMs(0)).toBe(10 * MINUTE_MS);
  expect(time.ageMs(madeAtMs)).toBe(0);
  // Nor does the next look take it for a jump of the clock.
  await clock.advance(MINUTE_MS);
  time.check();
  expect([time.view.state, time.ageMs(0)]).toEqual(["confirmed", 11 * MINUTE_MS]);
});

describe("what grants", () => {
  test("ends at the earlier of both clocks", async () => {
    const machine = new Machine();
    const end = machine.time.end(DAY_MS);
    await machine.run(DAY_MS - 1);
    expect(machine.time.isGrantOver(end)).toBe(false);
    await machine.run(1);
    expect(machine.time.isGrantOver(end)).toBe(true);
    const off = machine.time.end(DAY_MS);
    await machine.restart(DAY_MS);
    expect(machine.time.isGrantOver(off)).toBe(true);
  });

  test("a clock set back lengthens nothing", async () => {
    const machine = new Machine();
    const end = machine.time.end(DAY_MS);
    machine.setClock(-YEAR_MS);
    await machine.restart(0);
    await machine.run(DAY_MS);
    expect(machine.time.isGrantOver(end)).toBe(true);
  });

  test("a clock that stands still lengthens nothing", async () => {
    const machine = new Machine();
    const end = machine.time.end(DAY_MS);
    for (let i = 0; i < 24; i++) {
      await machine.run(DAY_MS / 24);
      machine.setClock(-machine.clock.monotonicMs());
    }
    expect(machine.time.wallMs).toBe(WALL_MS);
    expect(machine.time.isGrantOver(end)).toBe(true);
  });

  test("what a confirmed clock said goes on counting when the clock is set back", async () => {
    const machine = new Machine();
    machine.vouches = true;
    await machine.restart(0);
    const dated = { wallMs: machine.time.wallMs + DAY_MS, runMs: Number.POSITIVE_INFINITY };
    await machine.restart(0);
    machine.vouches = false;
    machine.setClock(-YEAR_MS);
    await machine.restart(0);
    expect(machine.time.isGrantOver(dated)).toBe(false);
    await machine.run(DAY_MS);
    expect(machine.time.isGrantOver(dated)).toBe(true);
  });

  test("a start with a clock decades ahead ends it for that start alone", async () => {
    const machine = new Machine();
    const end = machine.time.end(DAY_MS);
    machine.setClock(40 * YEAR_MS);
    await machine.restart(0);
    expect(machine.time.isGrantOver(end)).toBe(true);
    machine.setClock(0);
    await machine.restart(0);
    expect(machine.time.isGrantOver(end)).toBe(false);
  });
});

describe("what protects", () => {
  test("ends at the later of both clocks", async () => {
    const machine = new Machine();
    const end = machine.time.end(DAY_MS);
    machine.setClock(40 * YEAR_MS);
    await machine.restart(0);
    expect(machine.time.isPromiseOver(end)).toBe(false);
    await machine.run(DAY_MS);
    expect(machine.time.isPromiseOver(end)).toBe(true);
    machine.setClock(-10 * DAY_MS);
    expect(machine.time.isPromiseOver(end)).toBe(false);
  });

  test("a clock that is not set has no say, neither when it began nor when it ends", async () => {
    const machine = new Machine();
    machine.setClock(-WALL_MS);
    const end = machine.time.end(DAY_MS);
    machine.setClock(0);
    await machine.restart(0);
    expect(machine.time.isPromiseOver(end)).toBe(false);
    const later = machine.time.end(DAY_MS);
    machine.setClock(-WALL_MS);
    await machine.run(DAY_MS);
    expect([machine.time.isPromiseOver(end), machine.time.isPromiseOver(later)]).toEqual([true, true]);
  });
});

describe("the age of mail", () => {
  test("time off counts once the clock is confirmed, and then at once", async () => {
    const machine = new Machine();
    machine.vouches = true;
    await machine.restart(0);
    const at = machine.time.runMs;
    await machine.run(1_000);
    machine.vouches = false;
    await machine.restart(10 * DAY_MS);
    expect(machine.time.ageMs(at)).toBe(1_000);
    let passed = 0;
    machine.time.onPassed = () => passed++;
    await machine.run(5_000);
    machine.vouches = true;
    machine.time.check();
    expect([machine.time.ageMs(at), passed]).toEqual([10 * DAY_MS + 6_000, 1]);
    // Once.
    machine.time.check();
    expect([machine.time.ageMs(at), passed]).toEqual([10 * DAY_MS + 6_000, 1]);
    await machine.restart(0);
    expect(machine.time.ageMs(at)).toBe(10 * DAY_MS + 6_000);
  });

  test("a clock that is within tolerance, and wrong by that, ends no mail early", async () => {
    const known: Voice[] = [
      { standing: "trusted", wallMs: 0 },
      { standing: "trusted", wallMs: 0 },
    ];
    const machine = new Machine();
    const hear = () => {
      machine.time.voices = () => known.map((voice) => ({ ...voice, wallMs: machine.trueMs }));
      machine.time.check();
    };
    hear();
    const at = machine.time.runMs;
    await machine.run(1_000);
    machine.setClock(CLOCK_TOLERANCE_MS);
    await machine.restart(MINUTE_MS);
    hear();
    expect([machine.time.isConfirmed, machine.time.ageMs(at)]).toEqual([true, 1_000]);
    await machine.restart(DAY_MS);
    hear();
    expect(machine.time.ageMs(at)).toBe(DAY_MS + 1_000 - 2 * CLOCK_TOLERANCE_MS);
    // What a time source says is known to the moment.
    machine.vouches = true;
    await machine.restart(0);
    const later = machine.time.runMs;
    await machine.run(1_000);
    await machine.restart(DAY_MS);
    expect(machine.time.ageMs(later)).toBe(DAY_MS + 1_000);
  });

  test("one start with a clock decades ahead or in 1970 counts for nothing, whatever comes after it", async () => {
    for (const wrongMs of [40 * YEAR_MS, -WALL_MS, -YEAR_MS]) {
      const machine = new Machine();
      machine.vouches = true;
      await machine.restart(0);
      const at = machine.time.runMs;
      await machine.run(1_000);
      machine.setClock(wrongMs);
      await machine.restart(MINUTE_MS);
      expect(machine.time.view.state).toBe("doubted");
      await machine.run(MINUTE_MS);
      machine.setClock(0);
      await machine.restart(MINUTE_MS);
      expect(machine.time.view.state).toBe("confirmed");
      expect(machine.time.ageMs(at)).toBe(3 * MINUTE_MS + 1_000);
    }
  });

  test("mail that came in a life that nobody confirmed is not charged with the time off before it", async () => {
    const machine = new Machine();
    machine.vouches = true;
    await machine.restart(0);
    await machine.run(MINUTE_MS);
    machine.vouches = false;
    await machine.restart(10 * DAY_MS);
    const at = machine.time.runMs;
    await machine.run(MINUTE_MS);
    await machine.restart(MINUTE_MS);
    machine.vouches = true;
    machine.time.check();
    expect(machine.time.isConfirmed).toBe(true);
    expect([machine.time.ageMs(at), machine.time.ageMs(0)]).toEqual([MINUTE_MS, 3 * MINUTE_MS + 10 * DAY_MS]);
  });

  test("what a release without running time wrote is as young as this moment", async () => {
    const machine = new Machine();
    await machine.run(DAY_MS);
    expect([machine.time.ageMs(undefined), machine.time.ageMs(machine.time.runMs + DAY_MS)]).toEqual([0, 0]);
  });
});

describe("the clock", () => {
  test("is unconfirmed, doubted and confirmed, each told once and with what to do", async () => {
    const machine = new Machine();
    expect(machine.time.view.state).toBe("unconfirmed");
    const told: ClockView[] = [];
    machine.time.onChange = (view) => told.push(view);
    machine.setClock(3 * DAY_MS);
    await machine.run(MINUTE_MS);
    await machine.run(MINUTE_MS);
    machine.setClock(0);
    await machine.run(MINUTE_MS);
    machine.setClock(-DAY_MS);
    await machine.run(MINUTE_MS);
    expect(told.map(({ state }) => state)).toEqual(["doubted", "unconfirmed", "doubted"]);
    expect(told[0]!.reason).toContain("set it right");
    expect(told[2]!.reason).toContain("ought to stand after");
  });

  test("whose time source says otherwise is in doubt, and is told to nobody", async () => {
    const machine = new Machine();
    machine.vouches = true;
    machine.setClock(DAY_MS);
    await machine.restart(0);
    expect([machine.time.view.state, machine.time.toldMs]).toEqual(["doubted", undefined]);
    machine.setClock(0);
    await machine.run(MINUTE_MS);
    expect([machine.time.view.state, machine.time.toldMs]).toEqual(["confirmed", machine.time.wallMs]);
  });

  test("a step while it ran takes the confirmation away, and the source's word brings it back", async () => {
    const machine = new Machine();
    machine.vouches = true;
    await machine.restart(0);
    machine.vouches = false;
    await machine.run(MINUTE_MS);
    expect(machine.time.isConfirmed).toBe(true);
    machine.setClock(DAY_MS);
    expect(machine.time.canJudge()).toBe(false);
    machine.setClock(0);
    machine.vouches = true;
    expect(machine.time.canJudge()).toBe(true);
    expect(machine.time.ageMs(0)).toBe(machine.time.runMs);
  });

  test("a doubt that nobody answers ends after a month of running time", async () => {
    const machine = new Machine();
    machine.setClock(40 * YEAR_MS);
    await machine.restart(0);
    for (let day = 0; day < 29; day++) await machine.run(DAY_MS);
    expect(machine.time.view.state).toBe("doubted");
    for (let day = 0; day < 2; day++) await machine.run(DAY_MS);
    expect(machine.time.view.state).toBe("unconfirmed");
  });
});

describe("neighbours", () => {
  const voice = (standing: Voice["standing"], offMs = 0): Voice => ({ standing, wallMs: WALL_MS + offMs });

  test.each<[string, Voice[], string]>([
    ["nobody", [], "silent"],
    ["one that is known", [voice("known")], "silent"],
    ["one that is trusted", [voice("trusted")], "agree"],
    ["two that are known", [voice("known"), voice("known", CLOCK_TOLERANCE_MS)], "agree"],
    ["one of two", [voice("known"), voice("known", CLOCK_TOLERANCE_MS + 1)], "silent"],
    ["two against one", [voice("known"), voice("known", DAY_MS), voice("known", -DAY_MS)], "deny"],
    ["trusted against trusted", [voice("trusted"), voice("trusted", DAY_MS)], "deny"],
  ])("%s", (_, voices, verdict) => {
    expect(hearVoices(WALL_MS, voices)).toBe(verdict as ReturnType<typeof hearVoices>);
  });

  test("confirm a clock, and outvote a time source that is wrong", async () => {
    const machine = new Machine();
    machine.time.voices = () => [{ standing: "trusted", wallMs: machine.trueMs }];
    machine.time.check();
    expect(machine.time.isConfirmed).toBe(true);
    machine.setClock(40 * YEAR_MS);
    machine.time.check();
    expect(machine.time.view.state).toBe("doubted");
  });
});

test("what a later release wrote in the row of the running time is there when it is written again", async () => {
  const disk = new SimDisk();
  const clock = new ManualClock(WALL_MS);
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  const kept = { runMs: 5_000, absences: [], later: "kept" };
  disk.apply([{ op: "put", in: "setting", key: "running-time", meta: JSON.stringify(kept) }]);
  const time = await openNodeTime({ store, clock, log: silentLog, vouched: () => undefined });
  const saving = time.save(true);
  await clock.advance(1);
  await saving;
  const row = JSON.parse(disk.rows("setting").get("running-time")!.meta) as Record<string, unknown>;
  expect(row["later"]).toBe("kept");
});
