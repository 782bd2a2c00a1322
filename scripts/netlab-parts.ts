/**
 * What a network of namespaces is made of: hosts, their ports, cables with faults, segments. Each does to the kernel what it says
 * and remembers nothing that the kernel knows; `netlab.ts` makes them and takes them away.
 */
import type { Subprocess } from "bun";
import type { LabNodeOptions } from "./lab.ts";
import type { Impairment } from "./netlab-shim.ts";

const COMMAND_TIMEOUT_MS = 20_000;
/** The kernel's limit, without the NUL. */
const DEVICE_NAME_CHARS_MAX = 15;
const CARRIER_POLL_MS = 20;
const CARRIER_POLLS_MAX = 150;
/** Where nodes of a namespace listen: nobody else is there. */
export const NODE_PORT = 4860;

/** Runs a program to its end; answers its output, throws with what it complained of. */
export function command(words: readonly string[], input?: string): string {
  const result = Bun.spawnSync([...words], {
    ...(input === undefined ? {} : { stdin: Buffer.from(input) }),
    stdout: "pipe",
    stderr: "pipe",
    timeout: COMMAND_TIMEOUT_MS,
  });
  if (result.exitCode !== 0)
    throw new Error(`${words.join(" ")}: ${result.stderr.toString().trim() || `exit ${result.exitCode}`}`);
  return result.stdout.toString();
}

export interface Addresses {
  readonly v4?: string;
  readonly v6?: string;
}

export interface LinkOptions {
  /** Of both ends; default 1,500. */
  readonly mtu?: number;
  /** Default both. */
  readonly families?: "both" | "v4" | "v6";
  /**
   * What the kernel may hand over at once. `packets`: one packet of the MTU each, as on a wire, which loss is counted by;
   * `offload` (default): up to 64 KiB, which is fast.
   */
  readonly units?: "packets" | "offload";
}

/** One host: a namespace with loopback up. */
export class NetHost {
  readonly name: string;
  readonly namespace: string;
  readonly devices: string[] = [];

  constructor(name: string, namespace: string) {
    this.name = name;
    this.namespace = namespace;
  }

  /** `ip` inside, e.g. `host.ip("route", "add", "default", "via", "10.64.1.1")`. */
  ip(...words: string[]): string {
    return command(["ip", "-n", this.namespace, ...words]);
  }

  /** Runs a program inside to its end. */
  exec(...words: string[]): string {
    return command([...this.prefix, ...words]);
  }

  /** Words before a command that is to run inside; the process keeps the pid, so that it can be killed by it. */
  get prefix(): readonly string[] {
    return ["ip", "netns", "exec", this.namespace];
  }

  /** Replaces this host's nft rules of that name; the body is what stands in `table FAMILY NAME { }`, "" removes it. */
  nft(family: string, name: string, body: string): void {
    const table = `table ${family} ${name}`;
    const fresh = body === "" ? "" : `${table} {\n${body}\n}\n`;
    command([...this.prefix, "nft", "-f", "-"], `${table}\ndelete ${table}\n${fresh}`);
  }

  sysctl(key: string, value: string | number): void {
    command([
      ...this.prefix,
      "sh",
      "-c",
      'printf %s "$2" >"/proc/sys/$1"',
      "sh",
      key.replaceAll(".", "/"),
      `${value}`,
    ]);
  }

  /** Sends one ping; true when it was answered within a second. */
  canReach(address: string, bytes = 56): boolean {
    try {
      this.exec("ping", "-n", "-c", "1", "-W", "1", "-s", String(bytes), "-M", "do", address);
      return true;
    } catch {
      return false;
    }
  }

  /** The part of 1 of 100 pings, 5 ms apart, that had no answer. */
  lossTo(address: string): number {
    const ping = "ping -n -q -c 100 -i 0.005 -W 1".split(" ");
    const output = this.exec("sh", "-c", '"$@" || true', "sh", ...ping, address);
    return Number(/([\d.]+)% packet loss/.exec(output)?.[1]) / 100;
  }

  /** For `Lab.add`: a node that lives here, listens on every address and is told of no other. */
  get nodeOptions(): Pick<LabNodeOptions, "namespace" | "listen"> {
    return { namespace: this.namespace, listen: [`0.0.0.0:${NODE_PORT}`] };
  }

  /** A name that is free here and says where it leads. */
  deviceName(to: string): string {
    const stem = to.toLowerCase().replaceAll(/[^a-z0-9-]/g, "");
    for (let n = 0; ; n++) {
      const suffix = n === 0 ? "" : String(n);
      const name = stem.slice(0, DEVICE_NAME_CHARS_MAX - suffix.length) + suffix;
      if (!this.devices.includes(name) && name !== "lo") return name;
    }
  }
}

/** What happens to packets on their way into one device. */
export interface Fault {
  /** Parts of 1 that vanish; 1 is all, ARP and neighbour discovery too. */
  readonly loss?: number;
  /** ICMP errors vanish: a path MTU black hole. */
  readonly dropsIcmpErrors?: boolean;
  /** Fragments of IPv4 vanish, as at firewalls that do not put them together. */
  readonly dropsFragments?: boolean;
}

/** One end of a link: a device of a host. */
export class NetPort {
  readonly host: NetHost;
  readonly device: string;
  addresses: Addresses;

  constructor(host: NetHost, device: string, addresses: Addresses) {
    this.host = host;
    this.device = device;
    this.addresses = addresses;
    host.devices.push(device);
  }

  /** `tcp://…` of a node that listens here. */
  endpoint(family: "v4" | "v6" = this.addresses.v4 === undefined ? "v6" : "v4"): string {
    const address = this.addresses[family];
    if (address === undefined) throw new Error(`${this.host.name} ${this.device} has no ${family} address`);
    return `tcp://${family === "v6" ? `[${address}]` : address}:${NODE_PORT}`;
  }

  up(isUp: boolean): void {
    this.host.ip("link", "set", "dev", this.device, isUp ? "up" : "down");
    // Taking a device down takes its global IPv6 addresses.
    if (isUp && this.addresses.v6 !== undefined) this.#address("replace", this.addresses.v6);
  }

  setMtu(bytes: number): void {
    this.host.ip("link", "set", "dev", this.device, "mtu", String(bytes));
  }

  /** Removes the old addresses and adds these, as a new lease does. */
  readdress(next: Addresses): void {
    for (const old of Object.values(this.addresses) as string[]) this.#address("del", old);
    this.addresses = next;
    for (const fresh of Object.values(next) as string[]) this.#address("add", fresh);
  }

  /** Replaces the faults of what comes in here; `{}` heals. */
  receive({ loss = 0, dropsIcmpErrors = false, dropsFragments = false }: Fault): void {
    const rules = [
      ...(loss >= 1 ? ["drop"] : []),
      ...(loss > 0 && loss < 1 ? [`numgen random mod 1000 < ${Math.round(loss * 1000)} drop`] : []),
      ...(dropsIcmpErrors
        ? [
            "icmp type { destination-unreachable, time-exceeded } drop",
            "icmpv6 type { packet-too-big, destination-unreachable, time-exceeded } drop",
          ]
        : []),
      ...(dropsFragments ? ["ip frag-off & 0x3fff != 0 drop"] : []),
    ];
    this.host.nft(
      "netdev",
      this.#table,
      rules.length === 0
        ? ""
        : `chain in { type filter hook ingress device "${this.device}" priority 0; policy accept;\n${rules.join("\n")}\n}`,
    );
  }

  /** Limits what leaves here, with a queue of so many milliseconds; undefined takes the limit away. */
  limit(kilobitsPerSecond: number | undefined, queueMs = 200): void {
    const device = ["dev", this.device, "root"];
    const tc = (...words: string[]) => command(["tc", "-n", this.host.namespace, "qdisc", ...words]);
    if (kilobitsPerSecond === undefined) return void tc("del", ...device);
    // A burst below the packet that is to leave would let nothing pass.
    const burstBytes = Math.max(3_000, Math.round(kilobitsPerSecond / 8));
    const rate = `${kilobitsPerSecond}kbit`;
    tc("replace", ...device, "tbf", "rate", rate, "burst", String(burstBytes), "latency", `${queueMs}ms`);
  }

  get #table(): string {
    return `fault_${this.device.replaceAll(/[^a-z0-9]/g, "_")}`;
  }

  #address(verb: "add" | "del" | "replace", address: string): void {
    const isV6 = address.includes(":");
    const words = ["addr", verb, `${address}/${isV6 ? 64 : 24}`, "dev", this.device];
    this.host.ip(...words, ...(isV6 && verb !== "del" ? ["nodad"] : []));
  }

  configure({ mtu = 1_500, units = "offload" }: LinkOptions): void {
    const segments = units === "packets" ? ["gso_max_segs", "1"] : [];
    this.host.ip("link", "set", "dev", this.device, "mtu", String(mtu), ...segments, "up");
    for (const address of Object.values(this.addresses) as string[]) this.#address("add", address);
  }
}

/** A veth pair, or two TAP devices with the shim between them. */
export class NetLink {
  readonly a: NetPort;
  readonly b: NetPort;
  readonly #shim: Subprocess<"pipe", "pipe", "inherit"> | undefined;

  constructor(a: NetPort, b: NetPort, shim?: Subprocess<"pipe", "pipe", "inherit">) {
    this.a = a;
    this.b = b;
    this.#shim = shim;
  }

  /** The carrier goes: both ends see it at once. */
  down(): void {
    this.a.up(false);
    this.b.up(false);
  }

  up(): void {
    this.a.up(true);
    this.b.up(true);
  }

  /** Nothing passes, and nobody is told. */
  silence(direction: "both" | "a to b" | "b to a" = "both"): void {
    this.lose({ ab: direction === "b to a" ? 0 : 1, ba: direction === "a to b" ? 0 : 1 });
  }

  /** Parts of 1 lost, each way. */
  lose({ ab, ba }: { readonly ab: number; readonly ba: number }): void {
    this.b.receive({ loss: ab });
    this.a.receive({ loss: ba });
  }

  /** Takes back `silence` and `lose`. */
  heal(): void {
    this.lose({ ab: 0, ba: 0 });
  }

  limit(kilobitsPerSecond: number | undefined, queueMs?: number): void {
    this.a.limit(kilobitsPerSecond, queueMs);
    this.b.limit(kilobitsPerSecond, queueMs);
  }

  /** Only of a shim link: replaces what it does to packets. */
  impair(impairment: Impairment): void {
    if (this.#shim === undefined)
      throw new Error("only a link made with `shim` duplicates, reorders and delays");
    void this.#shim.stdin.write(`${JSON.stringify(impairment)}\n`);
    void this.#shim.stdin.flush();
  }
}

/** One Ethernet segment: a bridge in a namespace of its own. */
export class NetLan {
  readonly #switch: NetHost;
  readonly #number: number;
  #stations = 0;

  constructor(host: NetHost, number: number) {
    this.#switch = host;
    this.#number = number;
    host.ip("link", "add", "name", "br", "type", "bridge", "forward_delay", "0", "stp_state", "0");
    host.ip("link", "set", "dev", "br", "up");
  }

  /** The addresses of station `n`, 1 to 250. */
  addresses(n: number): Required<Addresses> {
    return {
      v4: `10.128.${this.#number}.${n}`,
      v6: `fd00:128:${this.#number.toString(16)}::${n.toString(16)}`,
    };
  }

  /** Plugs a host in; it gets the next address of the segment. */
  join(host: NetHost, options: LinkOptions = {}): NetPort {
    const number = ++this.#stations;
    const { v4, v6 } = this.addresses(number);
    const device = host.deviceName(this.#switch.name);
    const far = `p${number}`;
    const pair = ["type", "veth", "peer", "name", far, "netns", this.#switch.namespace];
    command(["ip", "link", "add", "name", device, "netns", host.namespace, ...pair]);
    const port = new NetPort(host, device, pick({ v4, v6 }, options));
    port.configure(options);
    const mtu = String(options.mtu ?? 1_500);
    this.#switch.ip("link", "set", "dev", far, "mtu", mtu, "master", "br", "up");
    // The bridge forwards for a port only once the kernel has noticed its carrier, up to a second later.
    for (let tries = 0; !this.#switch.ip("-o", "link", "show", "dev", far).includes("state UP"); tries++) {
      if (tries > CARRIER_POLLS_MAX) throw new Error(`${this.#switch.name} ${far} has no carrier`);
      Bun.sleepSync(CARRIER_POLL_MS);
    }
    return port;
  }
}

export function pick({ v4, v6 }: Required<Addresses>, { families = "both" }: LinkOptions): Addresses {
  return { ...(families === "v6" ? {} : { v4 }), ...(families === "v4" ? {} : { v6 }) };
}
