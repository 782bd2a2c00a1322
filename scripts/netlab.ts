/**
 * Networks on this machine: named network namespaces joined by veth pairs, bridges, routers and NAT boxes, with faults that
 * the kernel makes (`ip`, `nft`, `tc`) or, for what it cannot (there may be no netem), a process between two TAP devices.
 * Owns every namespace and process that it made and gives them back at the end, after failures and on exit too. Must
 * never touch the machine's own interfaces, routes or rules. Needs root, iproute2 and nftables.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import {
  type Addresses,
  command,
  type LinkOptions,
  NetHost,
  NetLan,
  NetLink,
  NetPort,
  pick,
} from "./netlab-parts.ts";
import type { Impairment } from "./netlab-shim.ts";

/** Names are `gwlab-<pid>-<number>-<host>`: whose process is gone was left by a crash. */
const PREFIX = "gwlab-";
/** More in one lab is a mistake of the caller. */
const HOSTS_MAX = 300;

let labs = 0;

/** Why namespaces cannot be made here; undefined where they can. */
export function whyNoNetLab(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root for network namespaces";
  for (const program of ["ip", "nft", "tc"])
    if (Bun.which(program) === null) return `${program} is not installed (iproute2, nftables)`;
  const name = `${PREFIX}${process.pid}-probe`;
  try {
    command(["ip", "netns", "add", name]);
  } catch (error) {
    return `the kernel makes no network namespace: ${error instanceof Error ? error.message : String(error)}`;
  }
  command(["ip", "netns", "del", name]);
  return undefined;
}

export class NetLab {
  readonly #name: string;
  readonly #hosts = new Map<string, NetHost>();
  readonly #children: Subprocess[] = [];
  #links = 0;
  #lans = 0;
  #isClosed = false;
  readonly #onExit = () => this.#abandon();

  private constructor(name: string) {
    this.#name = name;
    process.once("exit", this.#onExit);
  }

  /** Also removes what runs of processes that are gone left behind. */
  static create(): NetLab {
    const why = whyNoNetLab();
    if (why !== undefined) throw new Error(why);
    sweep();
    return new NetLab(`${PREFIX}${process.pid}-${++labs}-`);
  }

  get hosts(): NetHost[] {
    return [...this.#hosts.values()];
  }

  /** A host; a router when it `forwards`. */
  host(name: string, { forwards = false }: { readonly forwards?: boolean } = {}): NetHost {
    if (this.#isClosed) throw new Error("the lab is closed");
    if (this.#hosts.has(name)) throw new Error(`there is a host ${name} already`);
    if (this.#hosts.size >= HOSTS_MAX) throw new Error(`a lab has at most ${HOSTS_MAX} hosts`);
    const host = new NetHost(name, this.#name + name);
    command(["ip", "netns", "add", host.namespace]);
    this.#hosts.set(name, host);
    // Addresses are ours alone: waiting a second for a duplicate of each would make every lab slow.
    const settings = ["all", "default"].map((which) => `net/ipv6/conf/${which}/accept_dad 0`);
    if (forwards) settings.push("net/ipv4/ip_forward 1", "net/ipv6/conf/all/forwarding 1");
    const script = settings
      .map((setting) => setting.split(" "))
      .map(([key, to]) => `echo ${to} >/proc/sys/${key}`);
    host.exec("sh", "-c", script.join(";"));
    host.ip("link", "set", "lo", "up");
    return host;
  }

  /** Joins two hosts by a cable. Its addresses are 10.64.N.1 and .2, fd00:64:N::1 and ::2. */
  link(a: NetHost, b: NetHost, options: LinkOptions = {}): NetLink {
    const [portA, portB] = this.#ports(a, b, options);
    const pair = ["type", "veth", "peer", "name", portB.device, "netns", b.namespace];
    command(["ip", "link", "add", "name", portA.device, "netns", a.namespace, ...pair]);
    portA.configure(options);
    portB.configure(options);
    return new NetLink(portA, portB);
  }

  /** The same through a process that duplicates, reorders and delays real packets. */
  async shim(a: NetHost, b: NetHost, impairment: Impairment, options: LinkOptions = {}): Promise<NetLink> {
    const [portA, portB] = this.#ports(a, b, options);
    const ends = [a.namespace, portA.device, b.namespace, portB.device];
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "netlab-shim.ts"), ...ends], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#children.push(child);
    // One word on its output says that both devices are there.
    const { done } = await child.stdout.getReader().read();
    if (done) throw new Error(`the shim between ${a.name} and ${b.name} ended with ${await child.exited}`);
    portA.configure(options);
    portB.configure(options);
    const link = new NetLink(portA, portB, child);
    link.impair(impairment);
    return link;
  }

  lan(name: string): NetLan {
    if (this.#lans >= 250) throw new Error("a lab has at most 250 segments");
    return new NetLan(this.host(name), ++this.#lans);
  }

  /**
   * A NAT box (IPv4) whose outside is `wan`. `cone` keeps a host's port while it is free, whoever is talked to, and lets
   * in only who was talked to; `symmetric` takes a random port for each connection.
   */
  nat(box: NetHost, wan: NetPort, kind: "cone" | "symmetric" = "cone"): void {
    if (wan.host !== box) throw new Error(`${wan.device} is not of ${box.name}`);
    const masquerade = kind === "cone" ? "masquerade" : "masquerade fully-random";
    box.nft(
      "ip",
      "nat",
      `chain out { type nat hook postrouting priority srcnat; oifname "${wan.device}" ${masquerade}; }`,
    );
    // Nobody outside opens a connection inwards, even with a route.
    box.nft(
      "inet",
      "wall",
      `chain pass { type filter hook forward priority filter; policy accept;
        iifname "${wan.device}" ct state new,invalid drop; }`,
    );
  }

  /** The NAT box forgets every connection, as when it is switched off and on. Needs the package conntrack. */
  forget(box: NetHost): void {
    box.exec("conntrack", "-F");
  }

  /** Kills what runs in the namespaces and removes them. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    process.off("exit", this.#onExit);
    for (const child of this.#children) child.kill("SIGKILL");
    await Promise.all(this.#children.map((child) => child.exited));
    const failures: unknown[] = [];
    for (const { namespace } of this.hosts)
      try {
        removeNamespace(namespace);
      } catch (error) {
        failures.push(error);
      }
    if (failures.length > 0) throw new AggregateError(failures, "namespaces could not be removed");
  }

  #ports(a: NetHost, b: NetHost, options: LinkOptions): readonly [NetPort, NetPort] {
    const number = ++this.#links;
    const at = (end: number): Required<Addresses> => ({
      v4: `10.${64 + (number >> 8)}.${number & 255}.${end}`,
      v6: `fd00:64:${number.toString(16)}::${end}`,
    });
    return [
      new NetPort(a, a.deviceName(b.name), pick(at(1), options)),
      new NetPort(b, b.deviceName(a.name), pick(at(2), options)),
    ];
  }

  /** The caller exits without having closed the lab. */
  #abandon(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    for (const { namespace } of this.hosts)
      try {
        removeNamespace(namespace);
      } catch {
        // The next lab sweeps it up.
      }
  }
}

/** Whatever still runs inside was started for this namespace: it goes too. */
function removeNamespace(namespace: string): void {
  for (const pid of command(["ip", "netns", "pids", namespace]).split("\n").filter(Boolean))
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // Gone already.
    }
  command(["ip", "netns", "del", namespace]);
}

function sweep(): void {
  if (!existsSync("/run/netns")) return;
  for (const name of readdirSync("/run/netns")) {
    const pid = name.startsWith(PREFIX) ? name.slice(PREFIX.length).split("-")[0] : undefined;
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    try {
      removeNamespace(name);
    } catch {
      // Another run sweeps at the same time.
    }
  }
}
