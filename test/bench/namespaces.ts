/**
 * Hosts that are network namespaces (scripts/netlab.ts), for measuring beside daemons that need interfaces of their own.
 * The measuring process steps into a namespace to start a program or to open a socket, which then stays there; so one
 * process holds both ends of a probe and one clock. Needs root, iproute2 and nftables. Leaves no namespace and no file.
 */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { NetLab } from "../../scripts/netlab.ts";
import type { NetHost, NetPort } from "../../scripts/netlab-parts.ts";

/** How long a program has to end after SIGTERM. */
const STOP_MS = 3_000;

/** Linux moves the calling thread; what it makes there stays there. */
const setns = () =>
  dlopen("libc.so.6", { setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols.setns;
let enterNamespace: ReturnType<typeof setns> | undefined;
let homeFd: number | undefined;

/** One end of a veth pair. */
export interface Port {
  readonly host: Host;
  readonly net: NetPort;
  readonly address: string;
  readonly farAddress: string;
}

export interface Counters {
  readonly packets: number;
  readonly bytes: number;
}

export class Host {
  readonly net: NetHost;
  readonly index: number;
  readonly ports: Port[] = [];
  readonly #fd: number;
  readonly #running = new Set<Subprocess>();

  constructor(net: NetHost, index: number) {
    this.net = net;
    this.index = index;
    this.#fd = openSync(`/run/netns/${net.namespace}`, "r");
  }

  /** Runs `make` inside; it must do what it does before it returns. */
  enter<T>(make: () => T): T {
    enterNamespace ??= setns();
    homeFd ??= openSync("/proc/self/ns/net", "r");
    if (enterNamespace(this.#fd, 0) !== 0)
      throw new Error(`cannot enter ${this.net.namespace}: root is needed`);
    try {
      return make();
    } finally {
      // In the wrong network nothing that follows could be trusted.
      if (enterNamespace(homeFd, 0) !== 0) process.abort();
    }
  }

  /** Starts a program inside; its standard error goes to `logPath`. */
  spawn(argv: readonly string[], logPath: string, env: Readonly<Record<string, string>> = {}): Subprocess {
    const child = this.enter(() =>
      Bun.spawn([...argv], {
        env: { PATH: process.env["PATH"] ?? "", ...env },
        stdin: "ignore",
        stdout: "ignore",
        stderr: Bun.file(logPath),
      }),
    );
    this.#running.add(child);
    void child.exited.then(() => this.#running.delete(child));
    return child;
  }

  /** Runs a program inside to its end; its output, or throws with what it said. */
  async run(argv: readonly string[]): Promise<string> {
    const child = this.enter(() => Bun.spawn([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" }));
    this.#running.add(child);
    const [out, error] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    const code = await child.exited;
    this.#running.delete(child);
    if (code !== 0) throw new Error(`${argv.join(" ")}: ${code} ${error.trim() || out.trim()}`);
    return out;
  }

  /** Whether its kernel passes on what is for others. */
  forwards(isOn: boolean): void {
    this.net.sysctl("net.ipv4.ip_forward", isOn ? 1 : 0);
  }

  /** What has passed through an interface so far, both directions. */
  counters(port: string): Counters {
    const text = this.enter(() => readFileSync("/proc/thread-self/net/dev", "utf8"));
    const line = text.split("\n").find((row) => row.trimStart().startsWith(`${port}:`));
    if (line === undefined) throw new Error(`${this.net.name} has no interface ${port}`);
    const fields = line
      .slice(line.indexOf(":") + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    return { bytes: fields[0]! + fields[8]!, packets: fields[1]! + fields[9]! };
  }

  killAll(): Promise<unknown> {
    for (const child of this.#running) child.kill("SIGKILL");
    return Promise.all([...this.#running].map((child) => child.exited));
  }

  abandon(): void {
    for (const child of this.#running) child.kill("SIGKILL");
    closeSync(this.#fd);
  }
}

export class Hosts {
  readonly dir = mkdtempSync(join(tmpdir(), "godwit-bench-"));
  readonly all: Host[] = [];
  readonly #lab = NetLab.create();
  #isClosed = false;
  readonly #onExit = () => this.#abandon();

  constructor() {
    process.once("exit", this.#onExit);
  }

  add(): Host {
    const host = new Host(this.#lab.host(`h${this.all.length}`, { forwards: true }), this.all.length);
    this.all.push(host);
    return host;
  }

  /** Joins two hosts; each end has an IPv4 address of a network of its own. */
  join(a: Host, b: Host): void {
    const link = this.#lab.link(a.net, b.net, { families: "v4" });
    const portOf = (host: Host, near: NetPort, far: NetPort): Port => ({
      host,
      net: near,
      address: near.addresses.v4!,
      farAddress: far.addresses.v4!,
    });
    a.ports.push(portOf(a, link.a, link.b));
    b.ports.push(portOf(b, link.b, link.a));
  }

  static line(count: number): Hosts {
    const hosts = new Hosts();
    for (let i = 0; i < count; i++) hosts.add();
    for (let i = 1; i < count; i++) hosts.join(hosts.all[i - 1]!, hosts.all[i]!);
    return hosts;
  }

  /** The link behind host `i` leads to host `i + 1`; the last one back to the first. */
  static ring(count: number): Hosts {
    const hosts = Hosts.line(count);
    hosts.join(hosts.all[count - 1]!, hosts.all[0]!);
    return hosts;
  }

  /** The end at `a` of the link to `b`. */
  port(a: Host, b: Host): Port {
    const port = a.ports.find(({ farAddress }) => b.ports.some(({ address }) => address === farAddress));
    if (port === undefined) throw new Error(`${a.net.name} has no link to ${b.net.name}`);
    return port;
  }

  /** Linux reports the carrier of a new link up to a second late; a daemon that starts before sees it down. */
  async settle(): Promise<void> {
    const isUp = (host: Host) =>
      host.ports.every(({ net }) => host.net.ip("link", "show", net.device).includes("state UP"));
    while (!this.all.every(isUp)) await Bun.sleep(50);
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((host) => host.killAll()));
    process.off("exit", this.#onExit);
    this.#abandon();
    await this.#lab.close();
  }

  #abandon(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const host of this.all) host.abandon();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A program in a namespace that can be killed and started again under the same configuration. */
export class Daemon {
  readonly host: Host;
  readonly logPath: string;
  readonly #argv: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: Subprocess | undefined;

  constructor(
    host: Host,
    argv: readonly string[],
    logPath: string,
    env: Readonly<Record<string, string>> = {},
  ) {
    this.host = host;
    this.logPath = logPath;
    this.#argv = argv;
    this.#env = env;
  }

  get pid(): number {
    if (this.#child === undefined) throw new Error(`${this.#argv[0]} is not running`);
    return this.#child.pid;
  }

  start(): void {
    this.#child = this.host.spawn(this.#argv, this.logPath, this.#env);
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
  }

  async stop(): Promise<void> {
    this.#child?.kill("SIGTERM");
    const late = setTimeout(() => this.#child?.kill("SIGKILL"), STOP_MS);
    await this.#child?.exited;
    clearTimeout(late);
  }

  /** Tries `check` until it answers something; its errors count as not yet. */
  async until<T>(
    what: string,
    check: () => Promise<T | undefined>,
    timeoutMs: number,
    everyMs = 5,
  ): Promise<T> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const answer = await check().catch(() => undefined);
      if (answer !== undefined) return answer;
      const ended = this.#child?.exitCode ?? this.#child?.signalCode ?? null;
      if (ended !== null || performance.now() > endMs)
        throw new Error(
          `${this.#argv[0]} was waited for: ${what}${ended === null ? "" : ` (ended: ${ended})`}\n${readFileSync(this.logPath, "utf8").slice(-2_000)}`,
        );
      await Bun.sleep(everyMs);
    }
  }
}
