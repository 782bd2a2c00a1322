/**
 * The machine's interfaces: all are switched on as they appear, and get their addresses by plan: written ones, or DHCP. IPv6
 * configures itself in the kernel from router advertisements. Waits for carriers by the kernel's own news, never by time.
 * Owns what it put there (addresses, default routes, /run/resolv.conf) and takes nothing else away.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { Log } from "@godwit/sdk";
import {
  formatIp,
  type LinkFacts,
  LinkFlag,
  parseAll,
  parseIp,
  parseLink,
  parseMessages,
  RouteGroup,
  RouteNews,
  RouteType,
  Rtnetlink,
} from "@godwit/sdk/netlink";
import type { InterfacePlan } from "../config/machine.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import { asGodwitError } from "../kernel/errors.ts";
import type { Random } from "../kernel/random.ts";
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "./dhcp.ts";
import { DhcpClient, type Lease } from "./dhcp-client.ts";
import type { DeviceSocket, Sys } from "./sys.ts";

/** Bun cannot wait for a descriptor that is not its own: sockets are looked at this often after a question was asked. */
const LOOK_MS = 25;
/** And at other times, for late answers and news of interfaces. */
const QUIET_LOOK_MS = 250;
/** Servers answer within this, and drivers find their hardware. */
const LIVELY_MS = 5_000;
const ETHERNET = "1";
const BROADCAST = [255, 255, 255, 255] as const;
/** Default routes of several interfaces: the first wins, the others are there should it go. */
const METRIC_FIRST = 1_000;
export const RESOLV_CONF = "/run/resolv.conf";

/** What an interface is to do; the first plan that fits. */
export function planFor(name: string, plans: readonly InterfacePlan[]): InterfacePlan {
  const found = plans.find((plan) =>
    plan.name.endsWith("*") ? name.startsWith(plan.name.slice(0, -1)) : plan.name === name,
  );
  return found ?? { name, mode: "dhcp", addresses: [], gateway: undefined };
}

export interface NetworkDeps {
  readonly sys: Pick<Sys, "openDeviceSocket">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly hostname: string;
  readonly plans: readonly InterfacePlan[];
  readonly nameServers: readonly string[];
  /** Addresses, name servers or time servers changed. */
  onChange(): void;
}

interface Port {
  readonly index: number;
  readonly name: string;
  readonly plan: InterfacePlan;
  hasCarrier: boolean;
  isConfigured: boolean;
  dhcp: { readonly client: DhcpClient; readonly socket: DeviceSocket } | undefined;
  lease: Lease | undefined;
}

export class Network {
  readonly #deps: NetworkDeps;
  readonly #rtnetlink: Rtnetlink;
  readonly #news: RouteNews;
  readonly #ports = new Map<number, Port>();
  #timer: Timer | undefined;
  /** Monotonic ms until which sockets are looked at often. */
  #livelyUntilMs = 0;
  /** Changes go one after the other. */
  #work: Promise<void> = Promise.resolve();

  /** Throws where there is no netlink. */
  constructor(deps: NetworkDeps) {
    this.#deps = deps;
    this.#rtnetlink = new Rtnetlink(deps.clock);
    this.#news = new RouteNews(RouteGroup.link | RouteGroup.ipv4Address | RouteGroup.ipv6Address);
  }

  /** Time servers that DHCP told, in the order of interfaces. */
  get timeServers(): readonly string[] {
    return [...this.#ports.values()].flatMap(({ lease }) => lease?.timeServers ?? []);
  }

  start(): void {
    this.#writeResolvers();
    this.#enqueue("list", () => this.#listAll());
    this.#enliven();
    this.#look();
  }

  /** Leases are given back. */
  stop(): void {
    this.#timer?.cancel();
    for (const port of this.#ports.values()) {
      port.dhcp?.client.release();
      port.dhcp?.socket.close();
      port.dhcp = undefined;
    }
    this.#news.close();
    this.#rtnetlink.close();
  }

  #enqueue(what: string, work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => {
      this.#deps.log.warn("network", { doing: what, error: asGodwitError(error) });
    });
  }

  #look(): void {
    const { clock } = this.#deps;
    this.#receive();
    const isLively = clock.monotonicMs() < this.#livelyUntilMs;
    this.#timer = clock.after(isLively ? LOOK_MS : QUIET_LOOK_MS, () => this.#look());
    let news: ReturnType<RouteNews["poll"]>;
    try {
      news = this.#news.poll();
    } catch (error) {
      return this.#deps.log.warn("network news", { error: asGodwitError(error) });
    }
    if (!news.isWhole) this.#enqueue("list", () => this.#listAll());
    for (const datagram of news.datagrams)
      try {
        this.#onNews(datagram);
      } catch (error) {
        this.#deps.log.warn("network news", { error: asGodwitError(error) });
      }
    if (news.datagrams.length === 0) return;
    this.#enliven();
    this.#deps.onChange();
  }

  #enliven(): void {
    this.#livelyUntilMs = this.#deps.clock.monotonicMs() + LIVELY_MS;
  }

  #receive(): void {
    for (const { dhcp, name } of this.#ports.values()) {
      if (dhcp?.client.isWaiting !== true) continue;
      try {
        for (let i = 0; i < 16; i++) {
          const datagram = dhcp.socket.receive();
          if (datagram === undefined) break;
          dhcp.client.receive(datagram);
        }
      } catch (error) {
        this.#deps.log.debug("dhcp socket", { interface: name, error: asGodwitError(error) });
      }
    }
  }

  #onNews(datagram: Uint8Array): void {
    const messages = parseMessages(datagram);
    for (const link of parseAll(messages, RouteType.newLink, parseLink))
      this.#enqueue(link.name, () => this.#onLink(link));
    for (const { index } of parseAll(messages, RouteType.delLink, parseLink)) this.#forget(index);
  }

  async #listAll(): Promise<void> {
    for (const link of await this.#rtnetlink.links()) await this.#onLink(link);
  }

  async #onLink(link: LinkFacts): Promise<void> {
    const { index, name, flags } = link;
    const port = this.#ports.get(index) ?? this.#adopt(link);
    if (port === undefined) {
      if ((flags & LinkFlag.loopback) !== 0 && (flags & LinkFlag.up) === 0)
        await this.#rtnetlink.changeLink(index, { isUp: true });
      return;
    }
    if (port.plan.mode === "off") return;
    if ((flags & LinkFlag.up) === 0) await this.#rtnetlink.changeLink(index, { isUp: true });
    if (port.plan.mode === "static" && !port.isConfigured) await this.#configure(port);
    const hasCarrier = (flags & LinkFlag.up) !== 0 && (flags & LinkFlag.running) !== 0;
    if (hasCarrier === port.hasCarrier) return;
    port.hasCarrier = hasCarrier;
    this.#deps.log.info(hasCarrier ? "link up" : "link down", { interface: name });
    if (port.plan.mode !== "dhcp") return;
    if (hasCarrier) this.#startDhcp(port);
    else port.dhcp?.client.pause();
  }

  /** Ethernet and what looks like it. Undefined for others: tunnels belong to those who made them. */
  #adopt({ index, name, kind, flags }: LinkFacts): Port | undefined {
    if ((flags & LinkFlag.loopback) !== 0 || kind !== undefined) return undefined;
    if (readLine(`/sys/class/net/${name}/type`) !== ETHERNET) return undefined;
    const plan = planFor(name, this.#deps.plans);
    const port: Port = {
      index,
      name,
      plan,
      hasCarrier: false,
      isConfigured: false,
      dhcp: undefined,
      lease: undefined,
    };
    this.#ports.set(index, port);
    return port;
  }

  #forget(index: number): void {
    const port = this.#ports.get(index);
    if (port === undefined) return;
    port.dhcp?.client.pause();
    port.dhcp?.socket.close();
    this.#ports.delete(index);
    this.#deps.log.info("interface gone", { interface: port.name });
  }

  async #configure(port: Port): Promise<void> {
    const { addresses, gateway } = port.plan;
    for (const { address, prefixLength } of addresses)
      await this.#rtnetlink.addAddress({ index: port.index, address: parseIp(address), prefixLength });
    // The kernel takes a route only by an interface that is up: until then the next news of it tries again.
    if (gateway !== undefined) await this.#setRoute(port, parseIp(gateway));
    port.isConfigured = true;
    this.#deps.onChange();
  }

  #setRoute(port: Port, gateway: Uint8Array): Promise<boolean> {
    const destination = new Uint8Array(gateway.length);
    const metric = METRIC_FIRST + port.index;
    return this.#rtnetlink.addRoute(
      { destination, prefixLength: 0, index: port.index, gateway, metric },
      true,
    );
  }

  #startDhcp(port: Port): void {
    const { sys, clock, random, hostname, log } = this.#deps;
    const mac = Uint8Array.from(
      (readLine(`/sys/class/net/${port.name}/address`) ?? "")
        .split(":")
        .map((part) => Number.parseInt(part, 16)),
    );
    if (mac.length !== 6) return log.warn("no DHCP without an Ethernet address", { interface: port.name });
    if (port.dhcp === undefined) {
      const socket = sys.openDeviceSocket(port.name, DHCP_CLIENT_PORT);
      const client = new DhcpClient({
        clock,
        random,
        mac,
        hostname,
        send: (message, to) => {
          this.#enliven();
          try {
            socket.send(message, to === "broadcast" ? BROADCAST : [...to], DHCP_SERVER_PORT);
          } catch (error) {
            log.debug("dhcp not sent", { interface: port.name, error: asGodwitError(error) });
          }
        },
        onLease: (lease) => this.#enqueue(port.name, () => this.#onLease(port, lease)),
      });
      port.dhcp = { client, socket };
    }
    port.dhcp.client.start();
  }

  async #onLease(port: Port, lease: Lease | undefined): Promise<void> {
    const before = port.lease;
    port.lease = lease;
    const isSameAddress =
      before !== undefined &&
      lease !== undefined &&
      before.prefixLength === lease.prefixLength &&
      formatIp(before.address) === formatIp(lease.address);
    if (before !== undefined && !isSameAddress)
      await this.#rtnetlink.deleteAddress({ index: port.index, ...before });
    if (lease !== undefined) {
      await this.#rtnetlink.addAddress({ index: port.index, ...lease });
      if (lease.mtu !== undefined) await this.#rtnetlink.changeLink(port.index, { mtu: lease.mtu });
      if (lease.router !== undefined) await this.#setRoute(port, lease.router);
    }
    if (!isSameAddress)
      this.#deps.log.info(lease === undefined ? "lease over" : "lease", {
        interface: port.name,
        ...(lease === undefined ? {} : { address: `${formatIp(lease.address)}/${lease.prefixLength}` }),
      });
    this.#writeResolvers();
    this.#deps.onChange();
  }

  #writeResolvers(): void {
    const told = [...this.#ports.values()].flatMap(({ lease }) => lease?.nameServers ?? []);
    // resolv.conf(5): more than three are not looked at.
    const servers = [...new Set([...this.#deps.nameServers, ...told])].slice(0, 3);
    try {
      writeFileSync(RESOLV_CONF, servers.map((server) => `nameserver ${server}\n`).join(""));
    } catch (error) {
      this.#deps.log.warn("name servers not written", { error: asGodwitError(error) });
    }
  }
}

function readLine(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}
