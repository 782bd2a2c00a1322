/**
 * Follows one daemon for as long as the plugin runs: asks it every few seconds and as soon as an address of the machine
 * comes or goes, listens on its address alone, tends its peers, and tells what it sees. Owns the status; never a pipe.
 */
import { join } from "node:path";
import type { HostPort, Overlay as OverlayReport, PluginContext, PluginHealth } from "@godwit/sdk";
import { pause } from "@godwit/sdk/process";
import type { Tcp } from "@godwit/sdk/tcp";
import { type AdminAddress, ask } from "./admin.ts";
import type { YggdrasilConfig } from "./config.ts";
import { formatTarget, isLinkLocal } from "./endpoint.ts";
import {
  type DaemonPeer,
  type DaemonSelf,
  type Dialect,
  parseDialect,
  parsePeers,
  parseSelf,
  parseSessionCount,
  parseTun,
} from "./facts.ts";
import { Peerings, type Request } from "./peerings.ts";

const POLL_MS = 3_000;
/** A daemon that starts, or an address that is not there yet. */
const SOON_MS = 500;
/** Neighbours of multicast that are taken for nodes at once. */
const NEIGHBOURS_MAX = 256;
/** Of a hint: some looks. A neighbour that went is forgotten soon. */
const HINT_MS = 30_000;

/** How long a dial waits for the daemon before it gives its place to others, and how many do. */
const READY_WAIT_MS = 5_000;
const READY_WAITERS_MAX = 8;

interface Seen {
  readonly self: DaemonSelf;
  readonly mtu: number | undefined;
  readonly peers: readonly DaemonPeer[];
  readonly sessions: number;
}

export class OverlayFollower {
  readonly #ctx: PluginContext;
  readonly #tcp: Tcp;
  readonly #admin: AdminAddress;
  readonly #config: YggdrasilConfig;
  readonly #neighbours;
  readonly peerings: Peerings;
  #dialect: Dialect | undefined;
  #address: string | undefined;
  /** Of a daemon of our own: why it does not run. */
  #childTrouble: string | undefined;
  #health: PluginHealth | undefined;
  #published = "";
  readonly #waiting = new Set<() => void>();
  /** Ends the pause between two looks. */
  #wake = () => {};
  #isWoken = false;

  /** `folder`: of the instance alone. */
  constructor(ctx: PluginContext, tcp: Tcp, admin: AdminAddress, config: YggdrasilConfig, folder: string) {
    this.#ctx = ctx;
    this.#tcp = tcp;
    this.#admin = admin;
    this.#config = config;
    this.#neighbours = ctx.gauge("neighbours", "nodes that the daemon is connected to");
    const { clock, log } = ctx;
    this.peerings = new Peerings({ clock, log, configured: config.peers, file: join(folder, "added-peers") });
  }

  /** The daemon's address; undefined while there is none on this machine. */
  get address(): string | undefined {
    const isHere = this.#ctx.network.addresses().some(({ address }) => address === this.#address);
    return isHere ? this.#address : undefined;
  }

  /** Of a daemon of our own: why it does not run; undefined: it does. */
  setChildTrouble(reason: string | undefined): void {
    this.#childTrouble = reason;
    if (reason !== undefined) this.#lose(reason);
    this.look();
  }

  /** Resolves when a dial has a chance. Rejects with the signal's reason, or with an Error that says why there is none. */
  async ready(signal: AbortSignal): Promise<void> {
    const { clock } = this.#ctx;
    const deadline = clock.monotonicMs() + READY_WAIT_MS;
    while (this.address === undefined) {
      const leftMs = deadline - clock.monotonicMs();
      if (leftMs <= 0 || this.#waiting.size >= READY_WAITERS_MAX)
        throw new Error(this.#health?.reason ?? "the overlay is not there yet");
      const told = new AbortController();
      const onTold = () => told.abort();
      this.#waiting.add(onTold);
      await pause(clock, leftMs, AbortSignal.any([signal, told.signal]));
      this.#waiting.delete(onTold);
      signal.throwIfAborted();
    }
  }

  /** Now, not at the next turn. */
  look(): void {
    this.#isWoken = true;
    this.#wake();
  }

  async follow(signal: AbortSignal): Promise<void> {
    const { network, clock } = this.#ctx;
    network.onChange(() => {
      // Links over an address that is gone will never say so.
      this.#tcp.closeVanished(new Set(network.addresses().map(({ address }) => address)));
      this.look();
    });
    try {
      while (!signal.aborted) {
        this.#isWoken = false;
        await this.#turn(signal);
        if (this.#isWoken) continue;
        const woken = new AbortController();
        this.#wake = () => woken.abort();
        const isSettled = this.#health?.state === "running";
        await pause(clock, isSettled ? POLL_MS : SOON_MS, AbortSignal.any([signal, woken.signal]));
        this.#wake = () => {};
      }
    } finally {
      this.#tcp.listen([]);
      await this.peerings.removeAll(this.#request(new AbortController().signal));
    }
  }

  readonly #request =
    (signal: AbortSignal): Request =>
    (name, args = {}) =>
      ask(this.#admin, name, args, { clock: this.#ctx.clock, signal });

  /** One look, and what follows from it. */
  async #turn(signal: AbortSignal): Promise<void> {
    try {
      const request = this.#request(signal);
      const seen = await this.#ask(request);
      await this.peerings.tend(request, seen.peers);
      if (!signal.aborted) this.#follow(seen);
    } catch (error) {
      if (signal.aborted) return;
      this.#lose(this.#childTrouble ?? (error instanceof Error ? error.message : String(error)));
    }
  }

  async #ask(request: Request): Promise<Seen> {
    const { log } = this.#ctx;
    const isNew = this.#dialect === undefined;
    if (isNew) this.peerings.forgetCalls();
    this.#dialect ??= parseDialect(await request("list"));
    const self = parseSelf(await request("getself"));
    if (isNew) log.info("overlay daemon", { api: this.#dialect, version: self.version });
    const { isEnabled, mtu } = parseTun(await request("gettun"));
    if (!isEnabled) throw new Error("yggdrasil: the daemon has no interface: set IfName");
    const peers = parsePeers(await request("getpeers"));
    return { self, mtu, peers, sessions: parseSessionCount(await request("getsessions")) };
  }

  #follow({ self, mtu, peers, sessions }: Seen): void {
    const { log, network, transport } = this.#ctx;
    const { address } = self;
    if (address !== this.#address) {
      this.#address = address;
      log.info("overlay address", { address });
      this.#tcp.closeVanished(new Set([address]));
    }
    const failure = this.#listen(
      address,
      network.addresses().some((own) => own.address === address),
    );
    const up = peers.filter(({ isUp }) => isUp);
    this.#neighbours.set(up.length);
    transport.overlay(reportOf({ self, mtu, peers, sessions }));
    this.#hint(up);
    if (failure !== "") this.#tell({ state: "degraded", reason: failure });
    else if (up.length === 0)
      this.#tell({ state: "degraded", reason: "the daemon is connected to nobody in the overlay" });
    else this.#tell({ state: "running" });
  }

  /** Answers why it does not listen, or nothing. */
  #listen(address: string, isHere: boolean): string {
    const wanted: HostPort = { host: address, port: this.#config.port };
    const failure = isHere
      ? this.#tcp.listen([{ ...wanted, isIpv6Only: true }])
      : `the daemon's address ${address} is not on this machine`;
    if (!isHere) this.#tcp.listen([]);
    this.#publish();
    return failure;
  }

  #publish(): void {
    const peers = this.#config.announce;
    const endpoints = this.#tcp.listening.map(({ host, port }) => formatTarget({ host, port, peers }));
    if (endpoints.join() !== this.#published) this.#ctx.transport.listening(endpoints);
    this.#published = endpoints.join();
  }

  /** Multicast found a machine on this wire; whether a node runs there only a dial can tell. */
  #hint(up: readonly DaemonPeer[]): void {
    const { discovery } = this.#ctx;
    const port = this.#config.port;
    if (!this.#config.multicast_hints || port === 0) return;
    const found = new Set(
      up.flatMap(({ address, remote }) =>
        address !== undefined && isLinkLocal(remote) && address !== this.#address ? address : [],
      ),
    );
    for (const address of [...found].slice(0, NEIGHBOURS_MAX))
      discovery.hint({ endpoint: formatTarget({ host: address, port, peers: [] }), lifetimeMs: HINT_MS });
  }

  #lose(reason: string): void {
    this.#dialect = undefined;
    this.#neighbours.set(0);
    this.#tcp.listen([]);
    this.#publish();
    this.#ctx.transport.overlay(undefined);
    this.#tell({ state: "degraded", reason });
  }

  /** Says what changed, once. */
  #tell(health: PluginHealth): void {
    for (const onTold of [...this.#waiting]) onTold();
    if (health.state === this.#health?.state && health.reason === this.#health.reason) return;
    this.#health = health;
    this.#ctx.health(health);
    if (health.state === "running") this.#ctx.log.info("overlay usable");
    else this.#ctx.log.warn("overlay unusable", { reason: health.reason });
  }
}

const reportOf = ({ self, mtu, peers, sessions }: Seen): OverlayReport => ({
  address: self.address,
  subnet: self.subnet,
  ...(mtu === undefined ? {} : { mtu }),
  sessions,
  peers: peers.map(({ address, remote, isUp, isInbound, upMs, latencyMs, receivedBytes, sentBytes }) => ({
    address,
    remote,
    isUp,
    ...(isInbound === undefined ? {} : { direction: isInbound ? "inbound" : "outbound" }),
    ...(upMs === undefined ? {} : { upMs }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
    ...(receivedBytes === undefined ? {} : { receivedBytes }),
    ...(sentBytes === undefined ? {} : { sentBytes }),
  })),
});
