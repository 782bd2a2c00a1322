/**
 * transport.wireguard: links inside a WireGuard tunnel that the node makes and keeps by itself. Owns an interface, its key and its peers;
 * links are TCP between addresses that every node computes (addresses.ts). Who is a peer comes from signed records. Must never
 * say a private or preshared key to anybody but the device and its own files. README.md in this folder.
 */
import { createHash } from "node:crypto";
import { definePlugin, GodwitError, parseHostPort, type HostPort, type PluginContext } from "@godwit/sdk";
import { formatIp } from "@godwit/sdk/netlink";
import { Tcp } from "@godwit/sdk/tcp";
import { nodeAddress, networkPrefix, NETWORK_BITS, parsePool } from "./addresses.ts";
import { wireguardConfig, type WireguardConfig } from "./config.ts";
import type { WgDevice } from "./device.ts";
import { formatWgEndpoint, HOSTS_MAX, parseWgEndpoint, SCHEME } from "./endpoint.ts";
import { WgInterface } from "./interface.ts";
import type { Plan } from "./plan.ts";
import { Preshared } from "./preshared.ts";
import { keyText, publicKeyOf, type Secret } from "./secret.ts";
import { loadPairs, openKey, savePairs } from "./state.ts";
import { Tunnel } from "./tunnel.ts";

/** Of links, on every node's address inside. */
const LINK_PORT = 4_863;
/** A first handshake may need several hosts to be tried. */
const DIAL_TIMEOUT_MS = 30_000;
const NOT_YET = "the interface is not there yet";

export default definePlugin({
  id: "wireguard",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.admin", "net.tcp", "net.unix", "process.spawn", "files", "peers"],
  config: wireguardConfig,
  async start(ctx, config) {
    const folder = await ctx.folder();
    const secret = await openKey(folder, ctx.random);
    const node = new WireguardNode(ctx, config, folder, secret);
    await node.open();
  },
});

class WireguardNode {
  readonly #ctx: PluginContext;
  readonly #config: WireguardConfig;
  readonly #folder: string;
  readonly #secret: Secret;
  readonly #publicKey: string;
  readonly #tcp: Tcp;
  readonly #tunnel: Tunnel;
  readonly #address: Uint8Array;
  readonly #name: string;
  readonly #peerCount;
  readonly #freshCount;
  #interface: WgInterface | undefined;
  #ipv4: string | undefined;
  #downReason: string | undefined = NOT_YET;
  #conflicts = "";
  /** Why the last look failed. */
  #lookFailure = "";
  #published = "";

  constructor(ctx: PluginContext, config: WireguardConfig, folder: string, secret: Secret) {
    this.#ctx = ctx;
    this.#config = config;
    this.#folder = folder;
    this.#secret = secret;
    this.#publicKey = keyText(publicKeyOf(secret));
    this.#tcp = new Tcp(ctx, SCHEME);
    const { id, network } = ctx.peers.self;
    this.#address = nodeAddress(network, id);
    this.#name = config.interface ?? nameOf(id, ctx.instance);
    this.#peerCount = ctx.gauge("peers", "peers of the device");
    this.#freshCount = ctx.gauge("peers_fresh", "peers with a handshake of the last three minutes");
    this.#tunnel = new Tunnel({
      ctx,
      pool: this.#pool,
      isRouted: config.routed,
      keepalive: config.keepalive,
      ownKey: () => this.#publicKey,
      ownHosts: () => this.#hosts(),
      guests: () => [],
      planned: (plan, device) => this.#onPlanned(plan, device),
      failed: (reason) => {
        if (this.#lookFailure === reason) return;
        this.#lookFailure = reason;
        ctx.log.warn("device not changed", { reason });
        this.#publish();
      },
    });
  }

  async open(): Promise<void> {
    const ctx = this.#ctx;
    ctx.own(() => this.#tcp.close());
    if (this.#config.preshared) {
      const preshared = new Preshared({
        self: ctx.peers.self.id,
        secret: this.#secret,
        clock: ctx.clock,
        random: ctx.random,
        log: ctx.log,
        stored: await loadPairs(this.#folder, this.#secret),
        save: (pairs) => savePairs(this.#folder, this.#secret, pairs),
        send: (to, message) => ctx.peers.send(to, message),
        keyOf: (of) => this.#tunnel.candidates().find(({ id }) => id === of)?.publicKey,
        proven: (of, publicKey) => this.#tunnel.proven(of, publicKey),
        changed: () => this.#tunnel.look(),
      });
      this.#tunnel.preshared = preshared;
      ctx.peers.onMessage((from, message) => preshared.onMessage(from, message));
    }
    ctx.transport.register({
      schemes: [SCHEME],
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      dial: (endpoint, signal, expected) => this.#dial(endpoint, signal, expected),
    });
    ctx.peers.onChange(() => this.#tunnel.look());
    ctx.network.onChange(() => {
      this.#tunnel.look();
      this.#publish();
    });
    this.#interface = new WgInterface(
      {
        name: this.#name,
        owner: `${ctx.peers.self.id.slice(0, 20)} ${ctx.instance}`,
        mode: this.#config.mode,
        program: this.#config.program,
        folder: this.#folder,
        mtu: this.#config.mtu,
        port: this.#config.port,
        publicKey: () => this.#publicKey,
        secret: () => this.#secret,
        placement: () => this.#placement(),
      },
      {
        clock: ctx.clock,
        random: ctx.random,
        log: ctx.log,
        onUp: (door) => {
          this.#downReason = undefined;
          this.#tunnel.door = door;
          ctx.log.info("interface up", { interface: this.#name, address: formatIp(this.#address) });
          this.#publish();
        },
        onDown: (reason) => this.#onDown(reason),
      },
    );
    this.#health();
    ctx.spawn("interface", (signal) => this.#interface!.run(signal));
    ctx.spawn("peers", (signal) => this.#tunnel.run(signal));
  }

  get #pool() {
    return this.#config.ipv4_pool === undefined ? undefined : parsePool(this.#config.ipv4_pool);
  }

  #placement() {
    const pool = this.#pool;
    const network = { destination: networkPrefix(this.#ctx.peers.self.network), prefixLength: NETWORK_BITS };
    if (pool === undefined || this.#ipv4 === undefined)
      return { addresses: [this.#address], networks: [network] };
    const base = new Uint8Array(4);
    new DataView(base.buffer).setUint32(0, pool.base);
    return {
      addresses: [this.#address, Uint8Array.from(this.#ipv4.split(".").map(Number))],
      networks: [network, { destination: base, prefixLength: pool.prefixLength }],
    };
  }

  /** Where others may send to. */
  #hosts(): HostPort[] {
    const { advertise, port } = this.#config;
    if (advertise !== undefined) return advertise.map((text) => parseHostPort(text));
    return this.#ctx.network
      .addresses()
      .filter((found) => found.isAdvertisable && found.interface !== this.#name)
      .slice(0, HOSTS_MAX)
      .map(({ address }) => ({ host: address, port }));
  }

  async #dial(endpoint: string, signal: AbortSignal, expected: string | undefined) {
    const wanted = parseWgEndpoint(endpoint);
    const id =
      expected ?? this.#tunnel.candidates().find(({ publicKey }) => publicKey === wanted.publicKey)?.id;
    if (id === undefined)
      throw new GodwitError(
        "GODWIT_ENDPOINT_INVALID",
        `${endpoint} does not say which node it is: write its id behind it, ${SCHEME}://KEY/host:port#ID`,
        { kind: "config" },
      );
    signal.throwIfAborted();
    // At the start it takes a tenth of a second.
    if (this.#downReason !== undefined && this.#downReason !== NOT_YET)
      throw new GodwitError("GODWIT_DIAL_FAILED", `cannot dial ${endpoint}: ${this.#downReason}`, {
        kind: "transport",
        retry: "later",
      });
    const host = await this.#tunnel.dial(id, wanted, signal);
    return await this.#tcp.dial(endpoint, { host, port: LINK_PORT }, signal);
  }

  #onPlanned(plan: Plan, device: WgDevice): void {
    this.#lookFailure = "";
    this.#peerCount.set(plan.peers.length);
    this.#freshCount.set(
      plan.peers.filter(({ publicKey }) => this.#tunnel.reach(publicKey) === "fresh").length,
    );
    if (plan.ipv4 !== this.#ipv4) {
      this.#ipv4 = plan.ipv4;
      this.#ctx.log.info("IPv4 address", { address: plan.ipv4 });
      this.#interface?.replace().catch((error: unknown) => this.#onDown(String(error)));
    }
    const conflicts = plan.conflicts.join("; ");
    if (conflicts !== this.#conflicts && conflicts !== "")
      this.#ctx.log.warn("conflict in the overlay", { reason: conflicts });
    this.#conflicts = conflicts;
    void device;
    this.#publish();
  }

  #onDown(reason: string): void {
    if (this.#downReason === reason) return;
    this.#downReason = reason;
    this.#tunnel.door = undefined;
    this.#ctx.log.warn("overlay unusable", { reason });
    this.#publish();
  }

  #publish(): void {
    let failure = "";
    if (this.#downReason === undefined)
      failure = this.#tcp.listen([{ host: formatIp(this.#address), port: LINK_PORT, isIpv6Only: true }]);
    else {
      this.#tcp.listen([]);
      this.#tcp.closeVanished(new Set());
    }
    const isOpen = this.#tcp.listening.length > 0;
    const endpoints = isOpen ? [formatWgEndpoint({ publicKey: this.#publicKey, hosts: this.#hosts() })] : [];
    if (endpoints.join() !== this.#published) {
      this.#published = endpoints.join();
      this.#ctx.transport.listening(endpoints);
    }
    this.#health(failure);
  }

  #lastHealth = "";

  #health(failure = ""): void {
    const reason = [this.#downReason ?? "", failure, this.#lookFailure, this.#conflicts]
      .filter((text) => text !== "")
      .join("; ");
    if (reason === this.#lastHealth && reason !== "") return;
    this.#lastHealth = reason;
    this.#ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
  }
}

/** 13 characters: unique on the machine, since userspace sockets of all network namespaces lie in one folder. */
const nameOf = (id: string, instance: string): string =>
  `gwg${createHash("sha256").update(`${id}\0${instance}`).digest("hex").slice(0, 10)}`;
