import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock, seededRandom } from "../../testkit/index.ts";
import type { Clock } from "../clock.ts";
import type { Log, LogFields } from "../log.ts";
import { Daemon, type DaemonOptions, type DaemonState, LogRing } from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const realClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

function folderOf(): string {
  const folder = mkdtempSync(join(tmpdir(), "godwit-daemon-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

interface Rig {
  readonly daemon: Daemon;
  readonly folder: string;
  readonly states: DaemonState[];
  readonly logs: string[];
  stop(): Promise<void>;
}

/** Runs `script` in a shell. */
function rig(script: string, options: Partial<DaemonOptions> = {}, clock: Clock = realClock): Rig {
  const folder = options.folder ?? folderOf();
  const states: DaemonState[] = [];
  const logs: string[] = [];
  const say = (event: string, fields?: LogFields) => void logs.push(`${event} ${JSON.stringify(fields)}`);
  const log: Log = { debug: say, info: say, warn: say, error: say, child: () => log };
  const daemon = new Daemon(
    { name: "echo", command: ["/bin/sh", "-c", script], folder, ...options },
    { clock, random: seededRandom(1), log, onState: (state) => void states.push(state) },
  );
  const over = new AbortController();
  const running = daemon.run(over.signal);
  const stop = async () => {
    over.abort();
    await running;
  };
  cleanups.push(stop);
  return { daemon, folder, states, logs, stop };
}

async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const seen = look();
    if (seen !== undefined && seen !== false) return seen;
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await Bun.sleep(5);
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};
const ready = ({ states }: Rig) =>
  until("it to be ready", () => states.some(({ state }) => state === "ready"));
const reasons = ({ states }: Rig) =>
  states.flatMap((state) => (state.state === "waiting" ? state.reason : []));

test("it runs in a group, folder and environment of its own, and ends with the signal", async () => {
  process.env["GODWIT_TEST_SECRET"] = "seen";
  const one = rig("env > seen; pwd >> seen; sleep 1000 & echo $! > child; wait", { env: { WORD: "told" } });
  try {
    const child = await until(
      "its child",
      () =>
        (existsSync(join(one.folder, "child")) && Number(readFileSync(join(one.folder, "child"), "utf8"))) ||
        undefined,
    );
    const { pid } = one.daemon;
    const seen = readFileSync(join(one.folder, "seen"), "utf8").trim().split("\n");
    expect(seen).toContain("WORD=told");
    expect(seen).toContain(`HOME=${one.folder}`);
    expect(seen.at(-1)).toBe(one.folder);
    expect(seen.filter((line) => /GODWIT|BUN/.test(line))).toEqual([]);
    expect(Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[4])).toBe(pid!);
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toStartWith("/bin/sh\0-c\0");
    // What a shell would pass on to its children. A program that starts holds one file more while it loads its libraries.
    await until("no descriptor of ours but the three", () => readdirSync(`/proc/${child}/fd`).length <= 3);
    // Bun ignores SIGPIPE, and what is ignored is passed on.
    const ignored = /^SigIgn:\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1];
    expect(ignored).toBe("0000000000000000");
    const record = join(one.folder, "echo.pid");
    await until("its record", () => existsSync(record));
    expect(statSync(record).mode & 0o777).toBe(0o600);
    await one.stop();
    await until("both to be gone", () => !isAlive(pid!) && !isAlive(child));
    expect(existsSync(record)).toBe(false);
  } finally {
    delete process.env["GODWIT_TEST_SECRET"];
  }
}, 30_000);

test("it is killed when the process that runs it is killed with SIGKILL", async () => {
  const folder = folderOf();
  const script = `
    import { Daemon } from ${JSON.stringify(join(import.meta.dir, "index.ts"))};
    const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
    const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now(), after: (ms, fn) => { const t = setTimeout(fn, ms); return { cancel: () => clearTimeout(t) }; } };
    const daemon = new Daemon(
      { name: "echo", command: ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], folder: ${JSON.stringify(folder)} },
      { clock, random: { float: () => 0.5 }, log, onState: ({ state, pid }) => state === "ready" && console.log(pid) },
    );
    await daemon.run(new AbortController().signal);`;
  const parent = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  const { value } = await parent.stdout.getReader().read();
  const pid = Number(Buffer.from(value!).toString());
  // Its own words, not the launcher's: the shell is there.
  await until("the shell", () => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "sh");
  parent.kill("SIGKILL");
  await parent.exited;
  await until("the orphan to be gone", () => !isAlive(pid));
}, 30_000);

test("what a run before left is ended at the start, another process with that pid is not", async () => {
  const folder = folderOf();
  const first = rig("sleep 1000", { folder });
  await ready(first);
  const record = await until(
    "its record",
    () => existsSync(join(folder, "echo.pid")) && readFileSync(join(folder, "echo.pid"), "utf8"),
  );
  // Like a node that died where the kernel sends no signal: nobody waits for it any more, and its file is there.
  const left = Bun.spawn(["sleep", "1000"], { detached: true });
  const foreign = Bun.spawn(["sleep", "1000"], { detached: true });
  cleanups.push(
    () => left.kill("SIGKILL"),
    () => foreign.kill("SIGKILL"),
  );
  await first.stop();
  const [boot] = record.split(" ");
  const begun = (pid: number) => readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[21];
  writeFileSync(join(folder, "echo.pid"), `${boot} ${left.pid} ${begun(left.pid)}\n`);
  const second = rig("sleep 1000", { folder });
  await ready(second);
  expect(left.signalCode ?? (await left.exited, left.signalCode)).toBe("SIGTERM");
  await second.stop();
  writeFileSync(join(folder, "echo.pid"), `${boot} ${foreign.pid} ${Number(begun(foreign.pid)) - 1}\n`);
  const third = rig("sleep 1000", { folder });
  await ready(third);
  expect(isAlive(foreign.pid)).toBe(true);
}, 60_000);

test("it is started again after growing pauses, and rests when it crashes too often", async () => {
  const clock = new ManualClock();
  const one = rig("echo up; echo 'no licence' >&2; exit 3", {}, clock);
  // Only its pauses are made short: a slow start must not look like a long life.
  await until("nine ends", () => {
    if (one.states.at(-1)?.state === "waiting") clock.advance(2_000);
    return reasons(one).length >= 9;
  });
  const retries = one.states.flatMap((state) => (state.state === "waiting" ? state.retryMs : []));
  expect(reasons(one)[0]).toBe("echo ended with 3: no licence");
  for (const [i, ideal] of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000].entries())
    expect(Math.abs(retries[i]! - ideal)).toBeLessThanOrEqual(ideal / 10);
  expect(retries[8]).toBe(300_000);
}, 60_000);

test("one that is not there, cannot be prepared or executed says so and is tried again", async () => {
  const missing = rig("", { command: ["godwit-no-such-program"] });
  const folder = folderOf();
  writeFileSync(join(folder, "text"), "\u0000nonsense", { mode: 0o755 });
  const nonsense = rig("", { command: [join(folder, "text")] });
  const unprepared = rig("", { prepare: () => Promise.reject(new Error("disk full")) });
  for (const one of [missing, nonsense, unprepared]) await until("a reason", () => reasons(one).length > 0);
  expect(reasons(missing)[0]).toBe("echo is not installed: no godwit-no-such-program");
  expect(reasons(nonsense)[0]).toBe("echo ended with 126: it cannot be executed");
  expect(reasons(unprepared)[0]).toBe("echo cannot be started: disk full");
}, 30_000);

test("one that never gets ready is ended, and ready is told once it is", async () => {
  const late = rig("sleep 0.2; touch up; sleep 1000", {
    isReady: async () => existsSync(join(late.folder, "up")),
  });
  const never = rig("sleep 1000", { isReady: () => new Promise(() => {}), readyMs: 300 });
  const unsure = rig("sleep 1000", { isReady: () => Promise.reject(new Error("no")), readyMs: 300 });
  await ready(late);
  expect(late.states.map(({ state }) => state)).toEqual(["starting", "ready"]);
  await until("the end of the unready", () => reasons(unsure).length > 0);
  expect(reasons(unsure)[0]).toBe("echo was ended: it was not ready within 0 s");
  await never.stop();
}, 30_000);

test("one that will not stop is killed at its deadline", async () => {
  const one = rig("trap '' TERM; touch up; while :; do sleep 0.05; done", {
    isReady: async () => existsSync(join(one.folder, "up")),
    stopMs: 200,
  });
  await ready(one);
  const { pid } = one.daemon;
  const startedMs = performance.now();
  await one.stop();
  expect(isAlive(pid!)).toBe(false);
  expect(performance.now() - startedMs).toBeGreaterThan(150);
}, 30_000);

test("one that runs and does not work can be restarted", async () => {
  const one = rig("sleep 1000");
  await ready(one);
  const first = one.daemon.pid!;
  one.daemon.restart("it does not answer");
  await until("another", () => one.daemon.pid !== undefined && one.daemon.pid !== first);
  expect(reasons(one)).toEqual(["echo was ended: it does not answer"]);
}, 30_000);

test("of what it says the last lines stay, within a bound of bytes", async () => {
  const ring = new LogRing(1_000);
  for (let i = 0; i < 500; i++) {
    ring.push(`line ${i} of o`, "out");
    ring.push("\u00e9".repeat(3_000), "err");
    ring.push("ut\n", "out");
  }
  ring.push("\n", "err");
  expect(ring.bytes).toBeLessThanOrEqual(1_000);
  expect(ring.lines.at(-1)).toBe("\u00e9".repeat(400));
  expect(ring.lines.at(-2)).toBe("line 499 of out");
  const one = rig("yes 0123456789012345678901234567890123456789 | head -n 100000; sleep 1000");
  await until("a lot", () => one.daemon.lines.length > 1_000);
  expect(Buffer.byteLength(one.daemon.lines.join("\n"))).toBeLessThanOrEqual(64 * 1024);
}, 30_000);
