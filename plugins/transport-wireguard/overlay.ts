/** One instance at work: joins interface, peers, preshared keys and links, publishes where it is reached, and says how it is. */
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import {
  type DialTerms,
  GodwitError,
  parseHostPort,
  type HostPort,
  type Pipe,
  type PluginContext,
} from "@godwit/sdk";
import { formatIp } from "@godwit/sdk/netlink";
import { pause } from "@godwit/sdk/process";
import { Tcp } from "@godwit/sdk/tcp";
import { nodeAddress, networkPrefix, NETWORK_BITS, parsePool, type Pool } from "./addresses.ts";
import type { WireguardConfig } from "./config.ts";
import type { WgDevice } from "./device.ts";
import { formatHost, formatWgEndpoint, HOSTS_MAX, parseWgEndpoint, SCHEME } from "./endpoint.ts";
import type { Guests } from "./guests.ts";
import { WgInterface } from "./interface.ts";
import type { Plan } from "./plan.ts";
import { Preshared } from "./preshared.ts";
import type { Secret } from "@godwit/sdk/secret";
import { clamped, KEY_BYTES, keyText, publicKeyOf } from "./keys.ts";
import { adoptNextKey, loadPairs, saveNextKey, savePairs } from "./state.ts";
import { Tunnel } from "./tunnel.ts";

/** Of links, on every node's address inside. */
const LINK_PORT = 4_863;
/** A first handshake may need several hosts to be tried. */
const DIAL_TIMEOUT_MS = 30_000;
/** Then a dial says why it came to nothing. */
const ANSWER_MS = 18_000;
/** From the announcement of a new key to its use: the record has been everywhere by then, through the tunnel of the old one. */
const ROTATION_MS = 3_000;
const FORWARDING = "/proc/sys/net/ipv6/conf/all/forwarding";
const NOT_YET = "the interface is not there yet";

export interface OverlayDeps {
  readonly ctx: PluginContext;
  readonly config: WireguardConfig;
  readonly folder: string;
  readonly guests: Guests;
}

export class Overlay {
  readonly #ctx: PluginContext;
  readonly #config: WireguardConfig;
  readonly #folder: string;
  readonly #guests: Guests;
  readonly #tcp: Tcp;
  readonly #tunnel: Tunnel;
  readonly #address: Uint8Array;
  readonly #pool: Pool | undefined;
  readonly #name: string;
  readonly #peerCount;
  readonly #freshCount;
  #secret: Secret;
  #publicKey: string;
  /** Announced, and not in force yet. */
  #nextPublicKey: string | undefined;
  #interface: WgInterface | undefined;
  #ipv4: string | undefined;
  #plan: Plan | undefined;
  #device: WgDevice | undefined;
  #downReason: string | undefined = NOT_YET;
  /** Why the last look failed. */
  #lookFailure = "";
  #listenFailure = "";
  #conflicts = "";
  #published = "";
  #health: string | undefined;

  constructor({ ctx, config, folder, guests }: OverlayDeps, secret: Secret) {
    this.#ctx = ctx;
    this.#config = config;
    this.#folder = folder;
    this.#guests = guests;
    this.#secret = secret;
    this.#publicKey = keyText(publicKeyOf(secret));
    this.#tcp = new Tcp(ctx, SCHEME, { setting: false });
    const { id, network } = ctx.peers.self;
    this.#address = nodeAddress(network, id);
    this.#pool = config.ipv4_pool === undefined ? undefined : parsePool(config.ipv4_pool);
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
      guests: () => guests.list,
      planned: (plan, device) => this.#onPlanned(plan, device),
      failed: (reason) => this.#onLookFailure(reason),
    });
  }

  async open(): Promise<void> {
    const ctx = this.#ctx;
    ctx.own(() => this.#tcp.close());
    await this.#openPreshared();
    ctx.peers.onMessage((from, message) => this.#tunnel.preshared?.onMessage(from, message));
    ctx.transport.register({
      schemes: [SCHEME],
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      dial: (endpoint, signal, expected, terms) => this.#dial(endpoint, signal, expected, terms),
    });
    ctx.onRequest((request, input) => this.#answer(request, input));
    ctx.peers.onChange(() => this.#tunnel.look());
    ctx.network.onChange(() => {
      this.#tunnel.look();
      this.#publish();
    });
    const { mode, program, mtu, port, forward } = this.#config;
    if (forward) await this.#forward();
    this.#interface = new WgInterface(
      {
        name: this.#name,
        owner: `${ctx.peers.self.id.slice(0, 20)} ${ctx.instance}`,
        mode,
        program,
        folder: this.#folder,
        mtu,
        port,
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
    this.#tell();
    ctx.spawn("interface", (signal) => this.#interface!.run(signal));
    ctx.spawn("peers", (signal) => this.#tunnel.run(signal));
  }

  async #openPreshared(): Promise<void> {
    if (!this.#config.preshared) return;
    const { peers, clock, random, log } = this.#ctx;
    const secret = this.#secret;
    this.#tunnel.preshared = new Preshared({
      self: peers.self.id,
      secret,
      clock,
      random,
      log,
      stored: await loadPairs(this.#folder, secret),
      save: (pairs) => savePairs(this.#folder, secret, pairs),
      send: (to, message) => peers.send(to, message),
      keyOf: (of) => this.#tunnel.candidates().find(({ id }) => id === of)?.publicKey,
      proven: (of, publicKey) => this.#tunnel.proven(of, publicKey),
      changed: () => this.#tunnel.look(),
    });
  }

  #placement() {
    const network = { destination: networkPrefix(this.#ctx.peers.self.network), prefixLength: NETWORK_BITS };
    if (this.#pool === undefined || this.#ipv4 === undefined)
      return { addresses: [this.#address], networks: [network] };
    const { base, prefixLength } = this.#pool;
    const destination = new Uint8Array(4);
    new DataView(destination.buffer).setUint32(0, base);
    return {
      addresses: [this.#address, Uint8Array.from(this.#ipv4.split(".").map(Number))],
      networks: [network, { destination, prefixLength }],
    };
  }

  /** Where others may send to. */
  #hosts(): HostPort[] {
    const { advertise } = this.#config;
    if (advertise !== undefined) return advertise.map((text) => parseHostPort(text));
    const port = this.#config.port === 0 ? this.#device?.listenPort : this.#config.port;
    if (port === undefined || port === 0) return [];
    return this.#ctx.network
      .addresses()
      .filter((found) => found.isAdvertisable && found.interface !== this.#name)
      .slice(0, HOSTS_MAX)
      .map(({ address }) => ({ host: address, port }));
  }

  async #dial(
    endpoint: string,
    signal: AbortSignal,
    expected: string | undefined,
    terms: DialTerms | undefined,
  ): Promise<Pipe> {
    const wanted = parseWgEndpoint(endpoint);
    if (terms === undefined) this.#tunnel.noteConfigured(wanted.hosts);
    signal.throwIfAborted();
    const known = this.#tunnel.candidates().find(({ publicKey }) => publicKey === wanted.publicKey);
    const id = expected ?? known?.id;
    if (id === undefined)
      throw new GodwitError(
        "GODWIT_ENDPOINT_INVALID",
        `${endpoint} does not say which node it is: write its id behind it, ${SCHEME}://KEY/host:port#ID`,
        { kind: "config" },
      );
    // At the start it takes a tenth of a second.
    if (this.#downReason !== undefined && this.#downReason !== NOT_YET)
      throw new GodwitError("GODWIT_DIAL_FAILED", `cannot dial ${endpoint}: ${this.#downReason}`, {
        kind: "transport",
        retry: "later",
      });
    const late = new AbortController();
    const timer = this.#ctx.clock.after(ANSWER_MS, () => late.abort());
    const either = AbortSignal.any([signal, this.#ctx.signal, late.signal]);
    try {
      const host = await this.#tunnel.dial(id, wanted, either);
      return await this.#tcp.dial(endpoint, { host, port: LINK_PORT }, either);
    } catch (error) {
      signal.throwIfAborted();
      if (!late.signal.aborted) throw error;
      const why =
        this.#tunnel.reach(wanted.publicKey) === "fresh"
          ? "WireGuard reaches it, and nobody answers at its address inside"
          : "no handshake: it does not know this node's key, or nothing gets there";
      throw new GodwitError("GODWIT_DIAL_FAILED", `cannot dial ${endpoint}: ${why}`, {
        kind: "transport",
        retry: "later",
      });
    } finally {
      timer.cancel();
    }
  }

  async #answer(request: string, input: unknown): Promise<unknown> {
    const { name, public_key: publicKey } = (input ?? {}) as { name?: unknown; public_key?: unknown };
    switch (request) {
      case "show":
        return this.#show();
      case "add-device": {
        const taken = new Set([
          this.#publicKey,
          ...this.#tunnel.candidates().map((candidate) => candidate.publicKey),
        ]);
        const { address } = await this.#guests.add(name, publicKey, taken);
        this.#tunnel.look();
        const { ipv4_pool: pool, mtu } = this.#config;
        return {
          address,
          public_key: this.#publicKey,
          networks: [
            `${formatIp(networkPrefix(this.#ctx.peers.self.network))}/${NETWORK_BITS}`,
            ...(pool === undefined ? [] : [pool]),
          ],
          hosts: this.#hosts().map(formatHost),
          mtu,
        };
      }
      case "remove-device":
        await this.#guests.remove(name);
        this.#tunnel.look();
        return {};
      case "rotate":
        return { public_key: await this.#rotate() };
      default:
        throw new GodwitError("GODWIT_REQUEST_INVALID", `wireguard knows no request ${request}`, {
          kind: "config",
        });
    }
  }

  #show() {
    const { network, id: self } = this.#ctx.peers.self;
    const callsigns = new Map(this.#ctx.peers.list().map(({ id, callsign }) => [id, callsign]));
    const guests = new Map(this.#guests.list.map((guest) => [guest.publicKey, guest]));
    const ids = new Map(this.#plan?.peers.map(({ publicKey, id }) => [publicKey, id]));
    const wallMs = this.#ctx.clock.wallMs();
    return {
      interface: this.#name,
      address: formatIp(nodeAddress(network, self)),
      ipv4: this.#ipv4 ?? null,
      public_key: this.#publicKey,
      peers: (this.#device?.peers ?? []).map((peer) => {
        const id = ids.get(peer.publicKey);
        const guest = guests.get(peer.publicKey);
        return {
          name: guest?.name ?? (id === undefined ? "?" : (callsigns.get(id) ?? id.slice(0, 10))),
          address: guest?.address ?? (id === undefined ? null : formatIp(nodeAddress(network, id))),
          endpoint: peer.endpoint === undefined ? null : formatHost(peer.endpoint),
          handshake_seconds:
            peer.handshakeMs === 0 ? null : Math.max(0, Math.round((wallMs - peer.handshakeMs) / 1_000)),
          preshared: peer.presharedKey !== undefined,
          received_bytes: peer.receivedBytes,
          sent_bytes: peer.sentBytes,
        };
      }),
    };
  }

  /** Announces a new key, lets that spread through the tunnel of the old one, then puts it in force. Answers the public one. */
  async #rotate(): Promise<string> {
    if (this.#nextPublicKey !== undefined)
      throw new GodwitError("GODWIT_REQUEST_INVALID", "a new key is on its way already", { kind: "config" });
    const next = clamped(this.#ctx.random.bytes(KEY_BYTES));
    const publicKey = keyText(publicKeyOf(next));
    this.#nextPublicKey = publicKey;
    try {
      // A node that dies from here on comes back under the key that it has announced.
      await saveNextKey(this.#folder, next);
    } catch (error) {
      this.#nextPublicKey = undefined;
      throw error;
    }
    this.#publish();
    this.#ctx.spawn("key", async (signal) => {
      await pause(this.#ctx.clock, ROTATION_MS, signal);
      if (signal.aborted) return;
      await adoptNextKey(this.#folder);
      this.#secret = next;
      this.#publicKey = publicKey;
      this.#nextPublicKey = undefined;
      await this.#openPreshared();
      await this.#interface?.replace().catch((error: unknown) => this.#onDown(reasonOf(error)));
      this.#ctx.log.info("key changed", { public_key: publicKey });
      this.#tunnel.look();
      this.#publish();
    });
    return publicKey;
  }

  /** Asked for by name, because it makes the whole machine a router. */
  async #forward(): Promise<void> {
    try {
      if ((await readFile(FORWARDING, "utf8")).trim() === "1") return;
      await writeFile(FORWARDING, "1");
      this.#ctx.log.info("IPv6 forwarding turned on", { setting: "net.ipv6.conf.all.forwarding" });
    } catch (error) {
      this.#ctx.log.warn("IPv6 forwarding cannot be turned on", { reason: reasonOf(error) });
    }
  }

  #onPlanned(plan: Plan, device: WgDevice): void {
    this.#plan = plan;
    this.#device = device;
    this.#lookFailure = "";
    this.#peerCount.set(plan.peers.length);
    const fresh = plan.peers.filter(({ publicKey }) => this.#tunnel.reach(publicKey) === "fresh");
    this.#freshCount.set(fresh.length);
    if (plan.ipv4 !== this.#ipv4) {
      this.#ipv4 = plan.ipv4;
      this.#ctx.log.info("IPv4 address", { address: plan.ipv4 ?? "none" });
      this.#interface?.replace().catch((error: unknown) => this.#onLookFailure(reasonOf(error)));
    }
    const conflicts = plan.conflicts.join("; ");
    if (conflicts !== this.#conflicts && conflicts !== "")
      this.#ctx.log.warn("conflict in the overlay", { reason: conflicts });
    this.#conflicts = conflicts;
    this.#publish();
  }

  #onLookFailure(reason: string): void {
    if (this.#lookFailure !== reason) this.#ctx.log.warn("device not in step", { reason });
    this.#lookFailure = reason;
    this.#tell();
  }

  #onDown(reason: string): void {
    if (this.#downReason === reason) return;
    this.#downReason = reason;
    this.#tunnel.door = undefined;
    this.#device = undefined;
    this.#ctx.log.warn("overlay unusable", { reason });
    this.#publish();
  }

  #publish(): void {
    if (this.#ctx.signal.aborted) return;
    if (this.#downReason === undefined)
      this.#listenFailure = this.#tcp.listen([
        { host: formatIp(this.#address), port: LINK_PORT, isIpv6Only: true },
      ]);
    else {
      this.#listenFailure = "";
      this.#tcp.listen([]);
      this.#tcp.closeVanished(new Set());
    }
    const publicKey = this.#nextPublicKey ?? this.#publicKey;
    const endpoints =
      this.#tcp.listening.length > 0 ? [formatWgEndpoint({ publicKey, hosts: this.#hosts() })] : [];
    if (endpoints.join() !== this.#published) {
      this.#published = endpoints.join();
      this.#ctx.transport.listening(endpoints);
    }
    this.#tell();
  }

  #tell(): void {
    const reason = [this.#downReason ?? "", this.#listenFailure, this.#lookFailure, this.#conflicts]
      .filter((text) => text !== "")
      .join("; ");
    if (reason === this.#health) return;
    this.#health = reason;
    this.#ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
  }
}

/** 13 characters: unique on the machine, since userspace sockets of all network namespaces lie in one folder. */
const nameOf = (id: string, instance: string): string =>
  `gwg${createHash("sha256").update(`${id}\0${instance}`).digest("hex").slice(0, 10)}`;

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
