/**
 * PID 1: Godwit as the first and only program of a machine. Reads from top to bottom as the machine boots; each step may fail
 * and the next is taken, because what is up can be mended. The node is a child by re-execution: a fault of the node ends the
 * node, while a fault here would be a kernel panic. So this never exits and never throws. docs/boot.md is its manual.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { Log } from "@godwit/sdk";
import { configSections, firstExisting, type MachineConfig, readMachineConfig } from "../config/machine.ts";
import { every, sleep, systemClock as clock } from "../kernel/clock.ts";
import { compileAfterStart } from "../kernel/start-code.ts";
import { createLog } from "../kernel/log.ts";
import { releaseStartCode } from "../kernel/memory.ts";
import { systemRandom as random } from "../kernel/random.ts";
import { type Buttons, openButtons } from "./buttons.ts";
import { parseCommandLine } from "./cmdline.ts";
import { type Console, formatScreen, openConsole } from "./console.ts";
import { consoleNames, markAt, offerFirstToken, openScreen } from "./first-token.ts";
import { type ImageFacts, kernelRelease, memoryLines, readImageFacts } from "./facts.ts";
import {
  askNode,
  countTokens,
  type Fault,
  Heartbeat,
  makeToken,
  type NodeFacts,
  revokeToken,
} from "./heartbeat.ts";
import { MachineClock } from "./machine-clock.ts";
import { loadModules } from "./modules.ts";
import { findDevice, mountAll, mountMemoryState, mountState } from "./mounts.ts";
import { Network } from "./network.ts";
import { type End, endMachine } from "./power.ts";
import { reapOrphans } from "./reap.ts";
import { runRescue } from "./rescue.ts";
import { spawnProcess } from "./spawn.ts";
import { type Program, type ProgramView, Supervisor } from "./supervise.ts";
import { openSys, type Sys } from "./sys.ts";
import { askSntp, TimeServers } from "./time-server.ts";
import { openWatchdog, Watchdog } from "./watchdog.ts";

export const STATE_TARGET = "/var/lib/godwit";
const IMAGE_CONFIG = "/etc/godwit/godwit.toml";
const STATE_CONFIG = `${STATE_TARGET}/godwit.toml`;
/** That this machine has shown its first token. */
const TOKEN_MARK = `${STATE_TARGET}/first-token`;
const CLOCK_FILE = `${STATE_TARGET}/clock`;
const CLOCK_STATE = "/run/godwit/clock";

const REAP_MS = 1_000;
const CONSOLE_MS = 150;
const SAVE_CLOCK_MS = 3_600_000;
const DEVICE_LOOK_MS = 100;
/** The screen is written anew after a change, at most this often. */
const SCREEN_PAUSE_MS = 2_000;
/** A node that has not answered for so long while nothing else limits it is ended. */
const HANG_MS = 30_000;
const SETTLED_MS = 15_000;

/** Seconds since the kernel started, for the log. */
function uptimeS(): number {
  try {
    return Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  } catch {
    return 0;
  }
}

/** Never settles. */
export async function runPid1(): Promise<never> {
  compileAfterStart(clock);
  const sys = openSys();
  const failedMounts = mountAll(sys);
  const console = openConsole(true);
  const log = createLog({
    level: "info",
    format: "text",
    clock,
    sink: { write: (line) => console.write(line) },
  });
  process.on("uncaughtException", (error) => log.error("a fault of PID 1", { error }));
  process.on("unhandledRejection", (error) => log.error("a fault of PID 1", { error: String(error) }));
  log.info("godwit is pid 1", { kernel: kernelRelease(), seconds: uptimeS() });
  for (const reason of failedMounts) log.warn("not mounted", { reason });
  await new Machine(sys, console, log).boot();
  return await new Promise<never>(() => {});
}

class Machine {
  readonly #sys: Sys;
  readonly #console: Console;
  #hasPowerSignal: (() => boolean) | undefined;
  readonly #log: Log;
  readonly #image: ImageFacts = readImageFacts();
  readonly #supervisor: Supervisor;
  readonly #clock: MachineClock;
  #config: MachineConfig;
  #env: Readonly<Record<string, string>> = {};
  #network: Network | undefined;
  #times: TimeServers | undefined;
  #watchdog: Watchdog | undefined;
  #heartbeat: Heartbeat | undefined;
  #buttons: Buttons | undefined;
  #node: Program | undefined;
  #nodeFacts: NodeFacts | undefined;
  #health = "not started yet";
  #faults: readonly Fault[] = [];
  #aliveAtMs: number | undefined;
  #stateDevice: string | undefined;
  #isEnding = false;
  #isScreenDue = false;
  #isTokenOffered = false;
  #shown = "";

  constructor(sys: Sys, console: Console, log: Log) {
    this.#sys = sys;
    this.#console = console;
    this.#log = log;
    this.#config = readMachineConfig(undefined, {});
    this.#clock = new MachineClock({
      sys,
      clock,
      log,
      builtMs: this.#image.builtMs,
      file: CLOCK_FILE,
      stateFile: CLOCK_STATE,
      isLasting: () => this.#stateDevice !== undefined,
      onSource: () => {
        this.#supervisor.release();
        this.#refresh();
      },
    });
    this.#supervisor = new Supervisor({
      clock,
      random,
      spawn: spawnProcess,
      onLine: (program, line) => console.write(`${program} | ${line}`),
      onChange: (view) => {
        const { name, state, reason } = view;
        log.info("program", { name, state, ...(reason === undefined ? {} : { reason }) });
        if (name === "node") this.#onNodeChange(view);
        this.#refresh();
      },
    });
  }

  async boot(): Promise<void> {
    this.#step("settings", () => this.#readSettings());
    this.#step("signals", () => this.#takeSignals());
    this.#step("clock", () => this.#clock.setFloor());
    this.#step("modules", () => this.#loadModules());
    this.#step("watchdog", () => this.#openWatchdog());
    this.#step("hostname", () => this.#sys.setHostname(this.#config.hostname));
    this.#step("buttons", () => (this.#buttons = openButtons()));
    every(clock, REAP_MS, () => this.#step("reap", () => this.#reap()));
    every(clock, CONSOLE_MS, () => this.#step("console", () => this.#attend()));
    this.#step("network", () => this.#startNetwork());
    await this.#mountState();
    this.#step("programs", () => this.#startPrograms());
    every(clock, SAVE_CLOCK_MS, () => this.#step("save the clock", () => this.#clock.save()));
    clock.after(SETTLED_MS, () => void releaseStartCode());
  }

  #step(doing: string, step: () => unknown): void {
    try {
      step();
    } catch (error) {
      this.#log.error("boot", { doing, error: error instanceof Error ? error : String(error) });
    }
  }

  #readSettings(): void {
    const { env, unknown } = parseCommandLine(readFileSync("/proc/cmdline", "utf8"), configSections);
    this.#env = env;
    for (const word of unknown) this.#log.warn("a word of the command line means nothing", { word });
    this.#readConfig();
    // Of the kernel's messages only errors: the console is for people.
    this.#step("kernel messages", () => writeFileSync("/proc/sys/kernel/printk", "4 4 1 7"));
  }

  #readConfig(): void {
    const path = this.#env["GODWIT_CONFIG"] ?? firstExisting([IMAGE_CONFIG, STATE_CONFIG]);
    this.#config = readMachineConfig(path !== undefined && existsSync(path) ? path : undefined, this.#env);
    for (const problem of this.#config.problems) this.#log.error("configuration", { problem });
  }

  #takeSignals(): void {
    this.#sys.disableCtrlAltDel();
    process.on("SIGINT", () => this.#end("restart")); // Ctrl-Alt-Del
    process.on("SIGTERM", () => this.#end("powerOff"));
    this.#hasPowerSignal = this.#sys.watchPowerSignal();
  }

  #loadModules(): void {
    // The watchdog in software only where hardware has none: two would be one too many to feed.
    const names = [...this.#image.modules, ...this.#config.modules];
    const folder = `/lib/modules/${kernelRelease()}`;
    const failed = loadModules(
      this.#sys,
      folder,
      names.filter((name) => name !== "softdog"),
    );
    if (!existsSync("/dev/watchdog") && names.includes("softdog"))
      failed.push(...loadModules(this.#sys, folder, ["softdog"]));
    for (const reason of failed) this.#log.warn("module", { reason });
    this.#log.info("modules loaded", { listed: names.length, seconds: uptimeS() });
  }

  #openWatchdog(): void {
    const { watchdogMs } = this.#config;
    if (watchdogMs === undefined) return;
    // Half of the time in which the node has to be healthy again, half in which nobody feeds.
    const device = openWatchdog(this.#sys, watchdogMs / 2);
    if (device === undefined) return this.#log.info("no hardware watchdog");
    this.#watchdog = new Watchdog(device, watchdogMs / 2, clock, (isStarving) => {
      if (isStarving)
        this.#log.error("the watchdog is not fed: the node is not healthy", { health: this.#health });
      else this.#log.info("the watchdog is fed again");
    });
    this.#log.info("watchdog", { seconds: device.timeoutMs / 1_000 });
  }

  #reap(): void {
    reapOrphans(this.#sys, (pid) => this.#supervisor.isOurs(pid));
    this.#watchNode();
  }

  /** Looks after the console, the power button and the signal that power is failing. */
  #attend(): void {
    if (this.#hasPowerSignal?.() === true) {
      this.#hasPowerSignal = undefined;
      this.#log.info("power is failing");
      this.#end("powerOff");
    }
    if (this.#buttons?.poll() === true) {
      this.#log.info("power button");
      this.#end("powerOff");
    }
    for (const line of this.#console.read())
      if (this.#config.rescue) void runRescue(line, this.#rescue());
      else if (line.trim() !== "")
        this.#console.write("the console is for looking only (godwit.rescue allows more)");
  }

  #rescue(): Parameters<typeof runRescue>[1] {
    return {
      supervisor: this.#supervisor,
      clock,
      screen: () => this.#screen(),
      end: (how) => this.#end(how),
      freeze: (pid) => void process.kill(pid, "SIGSTOP"),
      print: (line) => this.#console.write(line),
      makeToken: () => makeToken(this.#config.socket, "made at the console"),
      consoleName: () => consoleNames().at(-1),
      memory: () => memoryLines(this.#supervisor.programs.map(({ view }) => view)),
    };
  }

  #startNetwork(): void {
    const { hostname, network: plans, nameServers } = this.#config;
    this.#network = new Network({
      sys: this.#sys,
      clock,
      random,
      log: this.#log,
      hostname,
      plans,
      nameServers,
      onChange: () => {
        if (this.#clock.isHeld) this.#times?.askNow();
        this.#refresh();
      },
    });
    this.#network.start();
    this.#times = new TimeServers({
      clock,
      random,
      log: this.#log,
      servers: () => [...this.#config.timeServers, ...(this.#network?.timeServers ?? [])],
      ask: (server, nonce) => askSntp(server, nonce, clock),
      onTime: (wallMs, server) => this.#step("clock", () => this.#clock.setByServer(wallMs, server)),
    });
    this.#times.askNow();
  }

  /** Waits for the disk for as long as it takes: without it the node would accept what it cannot keep. */
  async #mountState(): Promise<void> {
    const { state } = this.#config;
    if (state === undefined)
      return this.#step("state in memory", () => mountMemoryState(this.#sys, STATE_TARGET));
    for (
      let said = "", forever = new AbortController();
      ;
      await sleep(clock, DEVICE_LOOK_MS, forever.signal)
    ) {
      let reason = `${state} is not there`;
      try {
        const device = findDevice(state);
        if (device !== undefined) {
          mountState(this.#sys, device, STATE_TARGET);
          this.#stateDevice = device;
          this.#log.info("state mounted", { device, seconds: uptimeS() });
          break;
        }
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
      if (reason !== said) this.#log.warn("waiting for the state's disk", { reason });
      this.#health = `waiting for the state's disk: ${reason}`;
      said = reason;
    }
    this.#step("settings", () => this.#readConfig());
    this.#step("clock", () => this.#clock.setFloor());
  }

  #startPrograms(): void {
    const base = {
      HOME: "/root",
      PATH: "/bin:/sbin:/usr/bin:/usr/sbin",
      TMPDIR: "/tmp",
      NO_COLOR: "1",
      BUN_ENABLE_CRASH_REPORTING: "0",
    };
    for (const { name, command, needsClock } of this.#config.programs)
      this.#supervisor
        .add({
          name,
          command,
          env: base,
          heldBy: () => (needsClock && this.#clock.isHeld ? "the clock is not known yet" : undefined),
        })
        .start();
    // Where a first start writes its configuration has to last.
    const config = existsSync(IMAGE_CONFIG) ? IMAGE_CONFIG : STATE_CONFIG;
    const needsConfig = existsSync(config) || this.#env["GODWIT_JOIN"] !== undefined;
    this.#node = this.#supervisor.add({
      name: "node",
      command: [process.execPath, "run"],
      env: {
        ...base,
        GODWIT_NODE__LOG_FORMAT: "text",
        ...(needsConfig ? { GODWIT_CONFIG: config } : {}),
        ...this.#env,
      },
    });
    this.#node.start();
    this.#heartbeat = new Heartbeat({
      clock,
      ask: (path, signal) => askNode(this.#config.socket, path, signal),
      onAlive: (status, faults) => this.#onAlive(status, faults),
      onFacts: (facts) => this.#onFacts(facts),
    });
    this.#heartbeat.start();
  }

  #onAlive(status: string, faults: readonly Fault[]): void {
    if (this.#aliveAtMs === undefined) this.#log.info("node answers", { health: status, seconds: uptimeS() });
    this.#aliveAtMs = clock.monotonicMs();
    this.#offerToken();
    if (!this.#isEnding) this.#watchdog?.healthy();
    const isAsBefore = status === this.#health && namesOf(faults) === namesOf(this.#faults);
    // Their words may say for how long: that alone is no reason to draw the screen anew.
    this.#faults = faults;
    if (isAsBefore) return;
    this.#health = status;
    this.#refresh();
  }

  #offerToken(): void {
    if (this.#isTokenOffered) return;
    this.#isTokenOffered = true;
    const { apiListen, socket } = this.#config;
    offerFirstToken({
      apiListen,
      ...markAt(TOKEN_MARK),
      count: () => countTokens(socket),
      create: () => makeToken(socket, "shown at the first start"),
      revoke: (id) => revokeToken(socket, id),
      screen: openScreen,
      log: this.#log,
    }).catch((error: unknown) => this.#log.warn("no first token", { error: String(error) }));
  }

  #onFacts(facts: NodeFacts): void {
    const before = this.#nodeFacts;
    this.#nodeFacts = facts;
    if (before === undefined || (before.peers === 0) !== (facts.peers === 0))
      this.#log.info("peers", { connected: facts.peers, seconds: uptimeS() });
    if (!Bun.deepEquals(before, facts)) this.#refresh();
  }

  /** What the last one answered says nothing of the next, however short the pause between them. */
  #onNodeChange({ state, reason }: ProgramView): void {
    this.#aliveAtMs = undefined;
    this.#health = reason === undefined ? state : `${state}: ${reason}`;
    this.#faults = [];
    this.#heartbeat?.expectNew();
  }

  /** A node that runs and does not answer is ended; the supervisor starts it again. */
  #watchNode(): void {
    const view = this.#node?.view;
    if (view?.state !== "running" || this.#isEnding) return;
    const hangMs = (this.#config.watchdogMs ?? 2 * HANG_MS) / 2;
    const sinceMs = this.#aliveAtMs ?? (view.startedAtMs ?? 0) + HANG_MS;
    const silentMs = clock.monotonicMs() - sinceMs;
    if (silentMs > hangMs) this.#node?.kill(`did not answer for ${Math.round(silentMs / 1_000)} s`);
  }

  #screen(): string[] {
    const addresses = Object.entries(networkInterfaces()).flatMap(([name, infos]) =>
      (infos ?? []).map(({ address, cidr }) => ({ address: cidr ?? address, interface: name })),
    );
    return formatScreen({
      hostname: this.#config.hostname,
      version: this.#nodeFacts?.version ?? this.#image.version ?? "",
      node: this.#aliveAtMs === undefined ? undefined : this.#nodeFacts,
      health: this.#health,
      faults: this.#faults,
      addresses,
      api: this.#config.apiListen,
      clock: this.#clock.source,
      state: this.#stateDevice ?? this.#config.state,
      programs: this.#supervisor.programs.map(({ view }) => view),
      watchdogSeconds: this.#watchdog === undefined ? undefined : this.#watchdog.timeoutMs / 1_000,
      allowsRescue: this.#config.rescue,
    });
  }

  /** Something that the screen shows may have changed. */
  #refresh(): void {
    if (this.#isScreenDue || this.#isEnding) return;
    this.#isScreenDue = true;
    clock.after(SCREEN_PAUSE_MS, () => {
      this.#isScreenDue = false;
      this.#step("screen", () => {
        const lines = this.#screen();
        if (lines.join("\n") === this.#shown) return;
        this.#shown = lines.join("\n");
        for (const line of lines) this.#console.write(line);
      });
    });
  }

  #end(how: End): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#log.info("ending", { how });
    this.#watchdog?.ending();
    void endMachine(how, {
      log: this.#log,
      sys: this.#sys,
      stop: async () => {
        this.#heartbeat?.stop();
        this.#times?.stop();
        await this.#supervisor.stopAll();
        this.#network?.stop();
      },
      saveClock: () => this.#clock.save(),
      stateTarget: this.#stateDevice === undefined ? undefined : STATE_TARGET,
      killAll: () => void process.kill(-1, "SIGKILL"),
      leaveWatchdog: (end) => (end === "powerOff" ? this.#watchdog?.disarm() : this.#watchdog?.leave()),
    });
  }
}

const namesOf = (faults: readonly Fault[]): string => faults.map(({ name }) => name).join();
