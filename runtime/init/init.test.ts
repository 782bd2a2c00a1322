/** The small pieces of PID 1, each with a fake of what it touches. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { silentLog } from "../kernel/log.ts";
import { hasPowerPress } from "./buttons.ts";
import { formatScreen, printable } from "./console.ts";
import { parseImageFacts, readKilobytes } from "./facts.ts";
import { type Fault, Heartbeat, parseFacts } from "./heartbeat.ts";
import { MachineClock } from "./machine-clock.ts";
import { loadModules, parseModulesDep, planModules } from "./modules.ts";
import { extLabel } from "./mounts.ts";
import { planFor } from "./network.ts";
import { endMachine } from "./power.ts";
import { reapOrphans } from "./reap.ts";
import { runRescue } from "./rescue.ts";
import { Supervisor } from "./supervise.ts";
import { type Sys, SysError } from "./sys.ts";
import { TimeServers } from "./time-server.ts";
import { Watchdog } from "./watchdog.ts";

const refuse = (call: string) => () => {
  throw new Error(`not expected: ${call}`);
};
const fakeSys = (parts: Partial<Sys>): Sys => ({
  mount: refuse("mount"),
  unmount: refuse("unmount"),
  setHostname: refuse("setHostname"),
  loadModule: refuse("loadModule"),
  setClock: refuse("setClock"),
  sync: refuse("sync"),
  reboot: refuse("reboot"),
  disableCtrlAltDel: refuse("disableCtrlAltDel"),
  watchPowerSignal: refuse("watchPowerSignal"),
  peekEnded: refuse("peekEnded"),
  reap: refuse("reap"),
  setWatchdogTimeout: refuse("setWatchdogTimeout"),
  openDeviceSocket: refuse("openDeviceSocket"),
  ...parts,
});

describe("reaping", () => {
  test("takes orphans and leaves our own to the runtime", () => {
    const ended = [7, 8, 50, 9];
    const reaped: number[] = [];
    const sys = {
      peekEnded: () => ended[0],
      reap: (pid: number) => void reaped.push(pid, ...ended.splice(0, 1).slice(1)),
    };
    expect(reapOrphans(sys, (pid) => pid === 50)).toBe(2);
    expect(reaped).toEqual([7, 8]);
    ended.shift(); // the runtime has taken 50
    expect(reapOrphans(sys, (pid) => pid === 50)).toBe(1);
    expect(ended).toEqual([]);
  });

  test("a crowd of orphans is taken a bounded number at a time", () => {
    const reaped: number[] = [];
    const sys = { peekEnded: () => 1_000 + reaped.length, reap: (pid: number) => void reaped.push(pid) };
    expect(reapOrphans(sys, () => false)).toBe(256);
    expect(reaped.length).toBe(256);
  });

  test("a child that cannot be taken does not hold the loop", () => {
    const sys = {
      peekEnded: () => 5,
      reap: () => {
        throw new SysError("wait for 5", 10);
      },
    };
    expect(reapOrphans(sys, () => false)).toBe(0);
  });
});

describe("modules", () => {
  const dep = parseModulesDep(
    "k/virtio_net.ko: k/net_failover.ko k/failover.ko k/virtio.ko\nk/net_failover.ko: k/failover.ko\nk/failover.ko:\nk/virtio.ko:\nk/hv-net.ko: k/hv_bus.ko\nk/hv_bus.ko:\nnonsense\n",
  );

  test("each comes after what it needs, and once", () => {
    expect(planModules(dep, ["net_failover", "virtio_net", "virtio-net", "gone"])).toEqual({
      paths: ["k/failover.ko", "k/net_failover.ko", "k/virtio.ko", "k/virtio_net.ko"],
      unknown: ["gone"],
    });
  });

  test("the nearest stands first in the file, and comes last", () => {
    expect(planModules(dep, ["virtio_net"]).paths).toEqual([
      "k/virtio.ko",
      "k/failover.ko",
      "k/net_failover.ko",
      "k/virtio_net.ko",
    ]);
  });

  test("hardware that is not there is no fault, nor what needs it; a real one is told and the rest loaded", () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-modules-"));
    try {
      writeFileSync(
        join(folder, "modules.dep"),
        "hv_net.ko: hv_bus.ko\nhv_bus.ko:\nbroken.ko:\nfine.ko:\nloaded.ko:\n",
      );
      const errnos: Record<string, number> = { hv_bus: 19, broken: 8, loaded: 17 };
      const tried: string[] = [];
      const failed = loadModules(
        {
          loadModule(path) {
            const name = path.split("/").at(-1)!.replace(".ko", "");
            tried.push(name);
            if (errnos[name] !== undefined) throw new SysError(`load ${name}`, errnos[name]);
          },
        },
        folder,
        ["hv_net", "broken", "loaded", "fine", "gone"],
      );
      expect(tried).toEqual(["hv_bus", "broken", "loaded", "fine"]);
      expect(failed).toEqual(["load broken: ENOEXEC", "no module gone"]);
      expect(loadModules({ loadModule: refuse("loadModule") }, "/nowhere", ["x"])).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the watchdog", () => {
  function lab() {
    const clock = new ManualClock();
    const fedAt: number[] = [];
    const starving: boolean[] = [];
    let isDisarmed = false;
    const device = {
      timeoutMs: 30_000,
      feed: () => void fedAt.push(clock.monotonicMs()),
      disarm: () => void (isDisarmed = true),
    };
    const watchdog = new Watchdog(device, 30_000, clock, (is) => starving.push(is));
    return { clock, fedAt, starving, watchdog, isDisarmed: () => isDisarmed };
  }

  test("is fed while the machine starts, and not for ever", async () => {
    const { clock, fedAt, starving } = lab();
    await clock.advance(600_000);
    expect(fedAt.at(-1)).toBe(180_000);
    expect(starving).toEqual([true]);
  });

  test("is fed while the node is healthy, starves when it is not, and is fed again", async () => {
    const { clock, fedAt, starving, watchdog } = lab();
    for (let i = 0; i < 100; i++) {
      watchdog.healthy();
      await clock.advance(2_000);
    }
    const gaps = fedAt.slice(1).map((at, i) => at - fedAt[i]!);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(7_500);
    await clock.advance(60_000);
    // The last sign of health was at 198 s: with 30 s of patience and 30 s of the device it ends before 258 s.
    expect(fedAt.at(-1)).toBeLessThanOrEqual(228_000);
    expect(starving).toEqual([true]);
    watchdog.healthy();
    await clock.advance(7_500);
    expect(starving).toEqual([true, false]);
  });

  test("an orderly end is fed, within a bound; then it is left or disarmed", async () => {
    const { clock, fedAt, watchdog, isDisarmed } = lab();
    await clock.advance(400_000);
    watchdog.ending();
    await clock.advance(300_000);
    expect(fedAt.at(-1)).toBeGreaterThanOrEqual(480_000);
    expect(fedAt.at(-1)).toBeLessThanOrEqual(490_000);
    watchdog.leave();
    expect(fedAt.at(-1)).toBe(700_000);
    await clock.advance(300_000);
    expect(fedAt.at(-1)).toBe(700_000);
    watchdog.disarm();
    expect(isDisarmed()).toBe(true);
  });
});

test("once it was left nobody feeds the watchdog: a machine that hangs in its end is reset", async () => {
  const clock = new ManualClock();
  const fedAt: number[] = [];
  const device = { timeoutMs: 30_000, feed: () => void fedAt.push(clock.monotonicMs()), disarm() {} };
  const watchdog = new Watchdog(device, 30_000, clock, () => {});
  await clock.advance(10_000);
  watchdog.ending();
  watchdog.leave();
  await clock.advance(60_000);
  expect(fedAt.at(-1)).toBe(10_000);
});

describe("the end of the machine", () => {
  const record = (parts: Partial<Sys> = {}) => {
    const done: string[] = [];
    const sys = fakeSys({
      sync: () => void done.push("sync"),
      unmount: (target) => void done.push(`unmount ${target}`),
      reboot: (how) => void done.push(how),
      ...parts,
    });
    return { done, sys };
  };
  const steps = (sys: Sys, done: string[], stateTarget: string | undefined, fails = false) => ({
    log: silentLog,
    sys,
    stop: async () => {
      done.push("stop");
      if (fails) throw new Error("stop failed");
    },
    saveClock: () => void done.push("clock"),
    killAll: () => void done.push("kill"),
    leaveWatchdog: (end: string) => void done.push(`watchdog ${end}`),
    stateTarget,
  });

  test("programs, clock, the rest, disk, watchdog, power: in this order", async () => {
    const { done, sys } = record();
    await endMachine("powerOff", steps(sys, done, "/state"));
    expect(done).toEqual([
      "stop",
      "clock",
      "kill",
      "sync",
      "unmount /state",
      "sync",
      "watchdog powerOff",
      "powerOff",
    ]);
  });

  test("a step that fails does not keep the next from being taken", async () => {
    const mounted: number[] = [];
    const { done, sys } = record({
      unmount: () => {
        throw new SysError("unmount", 16);
      },
      mount: ({ flags }) => void mounted.push(flags ?? 0),
    });
    await endMachine("restart", steps(sys, done, "/state", true));
    expect(done).toEqual(["stop", "clock", "kill", "sync", "sync", "watchdog restart", "restart"]);
    expect(mounted).toEqual([33]); // remounted, read-only
  });

  test("a machine that cannot be switched off is restarted", async () => {
    const { done, sys } = record({
      reboot: (how) => {
        done.push(how);
        if (how === "powerOff") throw new SysError("reboot", 1);
      },
    });
    await endMachine("powerOff", steps(sys, done, undefined));
    expect(done.slice(-2)).toEqual(["powerOff", "restart"]);
  });
});

describe("the console", () => {
  const node = {
    id: "abc",
    callsign: "DUN-A",
    version: "1",
    network: "telex",
    address: "fd00::1",
    peers: 2,
    endpoints: [],
  };
  const facts = {
    hostname: "dun-a",
    version: "1",
    node,
    health: "ok",
    faults: [],
    addresses: [
      { address: "127.0.0.1/8", interface: "lo" },
      { address: "10.0.2.15/24", interface: "eth0" },
      { address: "2001:db8::5/64", interface: "eth0" },
      { address: "fe80::1/64", interface: "eth0" },
    ],
    api: ["0.0.0.0:8000"],
    clock: "hardware" as const,
    state: "/dev/vda",
    programs: [],
    watchdogSeconds: 30,
    allowsRescue: false,
  };

  test("says who this is and how to reach it", () => {
    const text = formatScreen(facts).join("\n");
    expect(text).toContain("DUN-A abc, ok");
    expect(text).toContain("10.0.2.15/24 eth0, 2001:db8::5/64 eth0");
    expect(text).not.toContain("fe80");
    expect(text).toContain("api        http://10.0.2.15:8000\n");
  });

  test.each([
    [["[::]:80"], "http://10.0.2.15:80, http://[2001:db8::5]:80"],
    [["127.0.0.1:8000"], "only on this machine"],
    [["192.0.2.9:1"], "http://192.0.2.9:1"],
    [[], "only on this machine"],
    [["nonsense"], "only on this machine"],
  ])("api %p", (api, wanted) => {
    expect(formatScreen({ ...facts, api }).join("\n")).toContain(wanted);
  });

  test("says in words what is not well, whatever they hold, and not more than there is room for", () => {
    const fault = { name: "links", reason: "no neighbour\u001b[2J" };
    const lines = formatScreen({ ...facts, health: "degraded", faults: [fault] });
    expect(lines.slice(1, 3)).toEqual([
      "  node       DUN-A abc, degraded",
      "             links: no neighbour?[2J",
    ]);
    const many = formatScreen({ ...facts, faults: Array.from({ length: 99 }, () => fault) });
    expect(many.filter((line) => line.includes("links:"))).toHaveLength(5);
  });

  test("what programs write cannot drive the terminal", () => {
    expect(printable("a\u001b[2Jb\u0007\u202ec\td")).toBe("a?[2Jb??c d");
  });

  test("rescue: commands, wrong ones, and one that fails", async () => {
    const printed: string[] = [];
    const ends: string[] = [];
    const supervisor = new Supervisor({
      clock: new ManualClock(),
      random: seededRandom(1),
      spawn: () => ({ pid: 5, signalGroup() {} }),
      onLine() {},
      onChange() {},
    });
    supervisor.add({ name: "node", command: ["x"], env: {} }).start();
    const deps = {
      supervisor,
      clock: new ManualClock(),
      screen: () => ["== screen"],
      end: (how: string) => void ends.push(how),
      freeze: refuse("freeze"),
      print: (line: string) => void printed.push(line),
      memory: () => ["  machine 5"],
      makeToken: async () => ({ id: "0a1b", secret: "gwt_secret" }),
      consoleName: () => consoleName,
    };
    let consoleName = "ttyS0";
    for (const line of [
      "help",
      "status",
      "memory",
      "programs",
      "log node",
      "log tor",
      "rm -rf /",
      "constructor",
      "",
      "freeze node",
      "token",
      "reboot",
    ])
      await runRescue(line, deps);
    const text = printed.join("\n");
    expect(text).toContain("poweroff");
    expect(text).toContain("== screen");
    expect(text).toContain("node         running   pid 5, 1 starts");
    expect(text).toContain('no program "tor"; there are node');
    expect(text).toContain('"rm" is no command');
    expect(text).toContain('"constructor" is no command');
    expect(text).toContain("freeze: not expected: freeze");
    // Whoever keeps a serial line keeps what is on it.
    expect(text).toContain("this console is ttyS0: who keeps what it says keeps the token");
    expect(text).not.toContain("gwt_secret");
    await runRescue("token anyway", deps);
    consoleName = "tty0";
    await runRescue("token", deps);
    expect(printed.filter((line) => line.includes("gwt_secret"))).toHaveLength(2);
    expect(ends).toEqual(["restart"]);
  });
});

describe("the heartbeat", () => {
  const status = {
    node: { id: "abc", callsign: null, version: "1" },
    network: "n",
    address: "fd00::1",
    peers: { connected: 0 },
    transports: [{ listen: ["tcp://[::]:4860"] }],
  };

  test("looks closely until the first answer and the first peer, then now and then", async () => {
    const clock = new ManualClock();
    let isUp = false;
    let peers = 0;
    const asked: [number, string][] = [];
    const alive: number[] = [];
    const checks = [
      { name: "clock", status: "ok", reason: "confirmed" },
      { name: "links", status: "degraded", reason: "nobody" },
    ];
    let told: readonly Fault[] = [];
    const heartbeat = new Heartbeat({
      clock,
      ask: (path) => {
        asked.push([clock.monotonicMs(), path]);
        if (!isUp) return Promise.reject(new Error("no socket"));
        return Promise.resolve(
          path === "/health" ? { status: "ok", checks } : { ...status, peers: { connected: peers } },
        );
      },
      onAlive: (_, faults) => {
        alive.push(clock.monotonicMs());
        told = faults;
      },
      onFacts() {},
    });
    heartbeat.start();
    await clock.advance(3_000);
    expect(asked.length).toBeGreaterThanOrEqual(20);
    expect(alive).toEqual([]);
    isUp = true;
    await clock.advance(200);
    expect(alive).toHaveLength(1);
    expect(told).toEqual([{ name: "links", reason: "nobody" }]);
    peers = 1;
    await clock.advance(1_000);
    asked.length = 0;
    await clock.advance(20_000);
    expect(asked.filter(([, path]) => path === "/health")).toHaveLength(10);
    expect(asked.filter(([, path]) => path === "/mesh/status")).toHaveLength(2);
    heartbeat.stop();
  });

  test("an answer that never comes is given up, and is no sign of life", async () => {
    const clock = new ManualClock();
    let open = 0;
    let asked = 0;
    const heartbeat = new Heartbeat({
      clock,
      ask: (_path, signal) => {
        open++;
        asked++;
        const { promise, reject } = Promise.withResolvers<unknown>();
        signal.addEventListener("abort", () => (open--, reject(new Error("late"))));
        return promise;
      },
      onAlive: refuse("onAlive"),
      onFacts: refuse("onFacts"),
    });
    heartbeat.start();
    await clock.advance(60_000);
    expect(open).toBeLessThanOrEqual(1);
    expect(asked).toBeGreaterThan(8);
    heartbeat.stop();
    await clock.advance(1);
    expect(open).toBe(0);
  });

  test("status of something else is no status", () => {
    expect(parseFacts(status)).toMatchObject({
      id: "abc",
      callsign: undefined,
      endpoints: ["tcp://[::]:4860"],
    });
    for (const value of [null, 1, "x", [], {}, { node: null }, { node: { id: 5 } }])
      expect(parseFacts(value)).toBeUndefined();
  });
});

describe("the machine's clock", () => {
  const BUILT = Date.UTC(2026, 10, 1);

  function lab(startMs: number, isLasting = true) {
    const folder = mkdtempSync(join(tmpdir(), "godwit-clock-"));
    const clock = new ManualClock(startMs);
    const sources: string[] = [];
    const machine = new MachineClock({
      sys: { setClock: (wallMs) => void (clock.wallOffsetMs = wallMs - clock.monotonicMs()) },
      clock,
      log: silentLog,
      builtMs: BUILT,
      file: join(folder, "clock"),
      stateFile: join(folder, "run/clock"),
      isLasting: () => isLasting,
      onSource: (source) => sources.push(source),
    });
    return { clock, sources, machine, folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
  }

  test("of a board: floor, saved floor, server; held until the last", () => {
    using board = lab(5_000);
    board.machine.setFloor();
    expect(board.clock.wallMs()).toBe(BUILT);
    writeFileSync(join(board.folder, "clock"), `${BUILT + 60_000}\n`);
    board.machine.setFloor();
    expect(board.clock.wallMs()).toBe(BUILT + 60_000);
    board.machine.setFloor();
    expect(board.machine.isHeld).toBe(true);
    board.machine.setByServer(5_000, "192.0.2.1");
    board.machine.setByServer(Date.UTC(2090, 0, 1), "192.0.2.1");
    expect(board.machine.isHeld).toBe(true);
    board.machine.setByServer(BUILT + 90_000, "192.0.2.1");
    expect(board.machine.source).toBe("server");
    expect(board.clock.wallMs()).toBe(BUILT + 90_000);
    expect(readFileSync(join(board.folder, "clock"), "utf8")).toBe(`${BUILT + 90_000}\n`);
    expect(readFileSync(join(board.folder, "run/clock"), "utf8")).toBe("server\n");
    expect(board.sources).toEqual(["floor", "floor", "floor", "server"]);
  });

  test("of a PC is its own and is not held; without a disk nothing is saved", () => {
    using machine = lab(BUILT + 1_000, false);
    machine.machine.setFloor();
    expect(machine.machine.isHeld).toBe(false);
    machine.machine.save();
    expect(existsSync(join(machine.folder, "clock"))).toBe(false);
  });
});

describe("time servers", () => {
  test("are asked in turn, again after pauses that grow, and every hour once the time is known", async () => {
    const clock = new ManualClock();
    const asked: [number, string][] = [];
    let isUp = false;
    const times: string[] = [];
    const servers = new TimeServers({
      clock,
      random: seededRandom(1),
      log: silentLog,
      servers: () => ["192.0.2.1", "192.0.2.2", "192.0.2.1"],
      ask: (server) => {
        asked.push([clock.monotonicMs(), server]);
        return isUp && server === "192.0.2.2" ? Promise.resolve(5) : Promise.reject(new Error("no answer"));
      },
      onTime: (_wallMs, server) => times.push(server),
    });
    servers.askNow();
    servers.askNow();
    await clock.advance(60_000);
    expect(asked.map(([, server]) => server).slice(0, 2)).toEqual(["192.0.2.1", "192.0.2.2"]);
    expect(asked.filter(([, server]) => server === "192.0.2.1").map(([at]) => at)).toEqual([
      0, 16_000, 48_000,
    ]);
    isUp = true;
    await clock.advance(64_000);
    expect(times).toEqual(["192.0.2.2"]);
    await clock.advance(2 * 3_600_000);
    expect(times).toHaveLength(3);
    servers.stop();
    await clock.advance(2 * 3_600_000);
    expect(times).toHaveLength(3);
  });
});

test("plans of interfaces: the first that fits, DHCP where none does", () => {
  const plans = [
    { name: "eth0", mode: "off", addresses: [], gateway: undefined },
    { name: "en*", mode: "dhcp", addresses: [], gateway: undefined },
    { name: "eth*", mode: "off", addresses: [], gateway: undefined },
  ] as const;
  expect(planFor("eth0", plans)).toBe(plans[0]);
  expect(planFor("enp3s0", plans)).toBe(plans[1]);
  expect(planFor("eth1", plans)).toBe(plans[2]);
  expect(planFor("wlan0", plans).mode).toBe("dhcp");
});

test("the label of an ext4 file system", () => {
  const start = new Uint8Array(1_280);
  start.set([0x53, 0xef], 1_024 + 56);
  start.set(new TextEncoder().encode("perm"), 1_024 + 120);
  expect(extLabel(start)).toBe("perm");
  start.set(new TextEncoder().encode("sixteen-bytes-it"), 1_024 + 120);
  expect(extLabel(start)).toBe("sixteen-bytes-it");
  start[1_024 + 56] = 0;
  expect(extLabel(start)).toBeUndefined();
  expect(extLabel(start.subarray(0, 1_000))).toBeUndefined();
});

test("the power button among other events", () => {
  const event = (type: number, code: number, value: number) => {
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setUint16(16, type, true);
    new DataView(bytes.buffer).setUint16(18, code, true);
    new DataView(bytes.buffer).setInt32(20, value, true);
    return [...bytes];
  };
  const of = (...events: number[][]) => Uint8Array.from(events.flat());
  expect(hasPowerPress(of(event(0, 0, 0), event(1, 116, 1)))).toBe(true);
  expect(hasPowerPress(of(event(1, 116, 0), event(1, 30, 1), event(2, 116, 1)))).toBe(false);
  expect(hasPowerPress(of(event(1, 116, 1)).subarray(0, 23))).toBe(false);
});

test("the image's facts", () => {
  const built = Date.UTC(2026, 10, 1);
  expect(
    parseImageFacts(
      JSON.stringify({ built_at: built / 1_000, version: "1", modules: ["tun", "../x", 5] }),
      0,
    ),
  ).toEqual({
    builtMs: built,
    version: "1",
    modules: ["tun"],
  });
  // Without one the program's own age, and nothing before the project's first year.
  expect(parseImageFacts(undefined, built).builtMs).toBe(built);
  for (const text of ["", "null", "[1]", "{", '{"built_at":"x"}'])
    expect(parseImageFacts(text, 0)).toEqual({
      builtMs: Date.UTC(2026, 0, 1),
      version: undefined,
      modules: [],
    });
});

test("numbers of /proc", () => {
  expect(readKilobytes("MemTotal:  100 kB\nMemAvailable:   42 kB\n", "MemAvailable")).toBe(42);
  expect(readKilobytes("", "MemTotal")).toBeUndefined();
});
