/**
 * Keeps the device in step with the mesh: reads it, plans (plan.ts), changes what differs. Who is a peer comes from signed records and
 * from dials; where one is reached, from its packets, else from its hosts in turn; its preshared key from preshared.ts.
 */
import { lookup } from "node:dns/promises";
import { BoundedMap, type Clock, type HostPort, type Log, type PluginContext } from "@godwit/sdk";
import { formatIp, tryParseIp } from "@godwit/sdk/netlink";
import { pause } from "@godwit/sdk/process";
import { nodeAddress, type Pool } from "./addresses.ts";
import type { WgDevice, WgDoor, WgPeer } from "./device.ts";
import { formatHost, type WgEndpoint } from "./endpoint.ts";
import {
  type Candidate,
  candidateOf,
  type Guest,
  type Plan,
  planChanges,
  planPeers,
  type WantedPeer,
} from "./plan.ts";
import { PAIRS_MAX, type Preshared } from "./preshared.ts";
import type { Secret } from "@godwit/sdk/secret";

const LOOK_MS = 3_000;
/** Two looks in a row are at least so far apart. */
const LOOK_MIN_MS = 50;
/** WireGuard's REJECT_AFTER_TIME: without a handshake for so long no packet passes. */
const FRESH_MS = 180_000;
/** A host that does not answer for so long gives way to the next. */
const HOST_TURN_MS = 4_000;
/** Sent to without any handshake for so long: nobody is there. */
const FAILED_MS = 12_000;
/** Three initiations of 148 bytes. */
const FAILED_BYTES = 3 * 148;
/** Who was dialled stays a peer for so long without a record. */
const DIALLED_MS = 120_000;
/** A node that is just starting has a record without endpoints: it stays what it was for so long, or its tunnel could not carry the next. */
const REMEMBERED_MS = 3_600_000;
/** Reading a name of a host again. */
const NAME_LIFETIME_MS = 60_000;

interface Track {
  handshakeMs: number;
  /** When that handshake was, on the monotonic clock; undefined: there was none. */
  freshAtMs: number | undefined;
  /** Bytes sent, and when, at the last handshake or the first look. */
  sentBytes: number;
  sinceMs: number;
  host: number;
  hostAtMs: number;
  /** The preshared key that the device was given, and when by the wall clock. */
  preshared: Secret | undefined;
  presharedAtMs: number;
}

export interface TunnelOptions {
  readonly ctx: Pick<PluginContext, "clock" | "log" | "peers" | "network">;
  readonly pool: Pool | undefined;
  readonly isRouted: boolean;
  readonly keepalive: number | undefined;
  ownKey(): string;
  ownHosts(): readonly HostPort[];
  guests(): readonly Guest[];
  /** After each plan. */
  planned(plan: Plan, device: WgDevice): void;
  /** The device does not answer any more, or refuses. */
  failed(reason: string): void;
}

export class Tunnel {
  readonly #options: TunnelOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #tracks = new Map<string, Track>();
  readonly #dialled = new BoundedMap<string, WgEndpoint & { readonly untilMs: number }>({
    name: "dialled peers",
    max: PAIRS_MAX,
  });
  /** By id: as its record said last. */
  readonly #remembered = new Map<string, { readonly candidate: Candidate; readonly atMs: number }>();
  readonly #owners = new BoundedMap<string, string>({ name: "owners of keys", max: PAIRS_MAX });
  readonly #names = new Map<string, { readonly address: string | undefined; readonly untilMs: number }>();
  /** Hosts that the operator named, as they stand in endpoints. Others are judged each time before the device is told of them. */
  readonly #configured = new BoundedMap<string, true>({ name: "configured hosts", max: PAIRS_MAX });
  /** Whoever waits for the next look to be over. */
  #waiters: (() => void)[] = [];
  #door: WgDoor | undefined;
  #wake = () => {};
  #isDue = false;
  preshared: Preshared | undefined;

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#clock = options.ctx.clock;
    this.#log = options.ctx.log;
  }

  set door(door: WgDoor | undefined) {
    this.#door = door;
    this.look();
  }

  get door(): WgDoor | undefined {
    return this.#door;
  }

  /** Something changed: look soon. */
  look(): void {
    this.#isDue = true;
    this.#wake();
  }

  /** `id` has shown that the key is its own. */
  proven(id: string, publicKey: string): void {
    if (this.#owners.get(publicKey) === id) return;
    this.#owners.renew(publicKey, id);
    this.look();
  }

  candidates(): Candidate[] {
    const facts = this.#options.ctx.peers.list();
    const nowMs = this.#clock.monotonicMs();
    const found = new Map<string, Candidate>();
    for (const fact of facts) {
      const { id, via } = fact;
      const candidate = candidateOf(fact);
      const before = this.#remembered.get(id);
      if (candidate !== undefined) this.#remembered.set(id, { candidate, atMs: nowMs });
      else if (before !== undefined && nowMs - before.atMs > REMEMBERED_MS) this.#remembered.delete(id);
      const last = this.#remembered.get(id)?.candidate;
      if (last !== undefined) found.set(id, { ...last, via });
    }
    // Blocked, revoked or forgotten: at once.
    for (const id of this.#remembered.keys()) if (!found.has(id)) this.#remembered.delete(id);
    for (const [id, { untilMs, publicKey, hosts }] of this.#dialled) {
      if (untilMs < nowMs) {
        this.#dialled.delete(id);
        continue;
      }
      const known = found.get(id);
      // What it signed counts, unless nobody answers under that key and somebody was told of another.
      if (
        known !== undefined &&
        (known.publicKey === publicKey || this.reach(known.publicKey) !== "failed")
      ) {
        if (known.publicKey === publicKey && known.hosts.length === 0) found.set(id, { ...known, hosts });
        continue;
      }
      found.set(id, { id, publicKey, hosts, via: known?.via });
    }
    return [...found.values()];
  }

  /** The operator's word: these are sent to whatever they are. */
  noteConfigured(hosts: readonly HostPort[]): void {
    for (const host of hosts) this.#configured.renew(formatHost(host), true);
  }

  /** Makes it a peer now. Resolves with its address inside once the device knows it; rejects with the signal's reason. */
  async dial(id: string, endpoint: WgEndpoint, signal: AbortSignal): Promise<string> {
    const untilMs = this.#clock.monotonicMs() + DIALLED_MS;
    this.#dialled.renew(id, { ...endpoint, untilMs });
    const looked = Promise.withResolvers<void>();
    this.#waiters.push(looked.resolve);
    this.look();
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([looked.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    return formatIp(nodeAddress(this.#options.ctx.peers.self.network, id));
  }

  reach(publicKey: string): "fresh" | "unknown" | "failed" {
    const track = this.#tracks.get(publicKey);
    if (track === undefined) return "unknown";
    const nowMs = this.#clock.monotonicMs();
    if (track.freshAtMs !== undefined && nowMs - track.freshAtMs < FRESH_MS) return "fresh";
    return track.sinceMs < 0 ? "failed" : "unknown";
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#isDue = false;
      const waiters = this.#waiters;
      const door = this.#door;
      if (door !== undefined) {
        this.#waiters = [];
        try {
          await this.#align(door);
        } catch (error) {
          if (!signal.aborted && this.#door === door)
            this.#options.failed(error instanceof Error ? error.message : String(error));
        }
        for (const resolve of waiters) resolve();
      }
      await pause(this.#clock, LOOK_MIN_MS, signal);
      if (!this.#isDue) await this.#sleep(signal);
    }
    for (const resolve of this.#waiters) resolve();
  }

  async #sleep(signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    const either = AbortSignal.any([signal, woken.signal]);
    await pause(this.#clock, LOOK_MS, either);
    this.#wake = () => {};
  }

  async #align(door: WgDoor): Promise<void> {
    const { ctx, ownKey, ownHosts, guests, pool, isRouted, keepalive } = this.#options;
    const { id: self, network } = ctx.peers.self;
    const device = await door.read();
    for (const peer of device.peers) this.#track(peer);
    const plan = planPeers({
      network,
      self,
      ownKey: ownKey(),
      ownHosts: ownHosts(),
      candidates: this.candidates(),
      guests: guests(),
      pool,
      isRouted,
      keepalive,
      ownerOf: (publicKey) => this.#owners.get(publicKey),
      reach: (publicKey) => this.reach(publicKey),
    });
    this.#tend(plan.peers);
    await this.#resolveNames(plan.peers);
    const changes = planChanges(plan.peers, device.peers, {
      presharedKeyOf: (publicKey) => this.preshared?.keyFor(publicKey),
      endpointOf: (peer, actual) => this.#endpointOf(peer, actual),
    });
    if (changes.length > 0) await door.change({ peers: changes });
    for (const { publicKey, presharedKey, isRemoved } of changes) {
      if (isRemoved === true) this.#tracks.delete(publicKey);
      const track = this.#tracks.get(publicKey);
      if (track !== undefined && presharedKey !== undefined) {
        track.preshared = presharedKey ?? undefined;
        track.presharedAtMs = this.#clock.wallMs();
      }
    }
    this.#options.planned(plan, device);
  }

  #track(peer: WgPeer): void {
    const nowMs = this.#clock.monotonicMs();
    const { publicKey, handshakeMs, sentBytes } = peer;
    let track = this.#tracks.get(publicKey);
    if (track === undefined) {
      track = {
        handshakeMs: 0,
        freshAtMs: undefined,
        sentBytes,
        sinceMs: nowMs,
        host: 0,
        hostAtMs: nowMs,
        preshared: peer.presharedKey,
        presharedAtMs: 0,
      };
      this.#tracks.set(publicKey, track);
    }
    if (handshakeMs !== track.handshakeMs) {
      // One of before this life: as old as the wall clock says, if that can be.
      const ageMs = track.handshakeMs === 0 ? this.#clock.wallMs() - handshakeMs : 0;
      track.freshAtMs = nowMs - Math.max(0, ageMs);
      track.handshakeMs = handshakeMs;
      track.sinceMs = nowMs;
      track.sentBytes = sentBytes;
      const { preshared, presharedAtMs } = track;
      if (preshared !== undefined && preshared.equals(peer.presharedKey) && handshakeMs > presharedAtMs)
        this.preshared?.confirmed(publicKey, preshared);
    }
    const isFresh = track.freshAtMs !== undefined && nowMs - track.freshAtMs < FRESH_MS;
    if (isFresh) {
      track.sinceMs = nowMs;
      track.sentBytes = sentBytes;
    } else if (track.sinceMs >= 0 && nowMs - track.sinceMs >= FAILED_MS) {
      // With routes through others every peer has a keepalive, so that each was tried; a program without a way out counts no bytes.
      if (this.#options.isRouted || sentBytes - track.sentBytes >= FAILED_BYTES) track.sinceMs = -1;
    }
  }

  #tend(peers: readonly WantedPeer[]): void {
    const { preshared } = this;
    if (preshared === undefined) return;
    const linked = new Set(
      this.#options.ctx.peers.list().flatMap(({ id, isLinked }) => (isLinked ? [id] : [])),
    );
    const nowMs = this.#clock.monotonicMs();
    for (const { id, publicKey } of peers) {
      if (id === undefined) continue;
      const freshAtMs = this.#tracks.get(publicKey)?.freshAtMs ?? Number.NEGATIVE_INFINITY;
      preshared.tend(id, publicKey, linked.has(id), nowMs - freshAtMs);
    }
  }

  /** Its packets say where it is; only while none come are its hosts tried in turn. */
  #endpointOf({ publicKey, hosts }: WantedPeer, actual: WgPeer | undefined): HostPort | undefined {
    const known = hosts.flatMap((host) => this.#addressOf(host) ?? []);
    if (known.length === 0) return undefined;
    if (actual?.endpoint === undefined) return known[0];
    const track = this.#tracks.get(publicKey);
    if (track === undefined || this.reach(publicKey) === "fresh") return undefined;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - track.hostAtMs < HOST_TURN_MS) return undefined;
    track.hostAtMs = nowMs;
    return known[track.host++ % known.length];
  }

  /** Undefined for a name without an address, and for what another named and this node does not send to. */
  #addressOf(named: HostPort): HostPort | undefined {
    const { host, port } = named;
    const bytes = tryParseIp(host);
    const address = bytes === undefined ? this.#names.get(host)?.address : formatIp(bytes);
    if (address === undefined) return undefined;
    const isConfigured = this.#configured.has(formatHost(named));
    if (!isConfigured && this.#options.ctx.network.refusal(address) !== undefined) return undefined;
    return { host: address, port };
  }

  async #resolveNames(peers: readonly WantedPeer[]): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    for (const { hosts, publicKey } of peers)
      for (const { host } of hosts) {
        const held = this.#names.get(host);
        if (tryParseIp(host) !== undefined || this.reach(publicKey) === "fresh") continue;
        if (held !== undefined && held.untilMs > nowMs) continue;
        const address = await lookup(host).then(
          (found) => found.address,
          () => undefined,
        );
        if (address === undefined) this.#log.debug("name of a peer not resolved", { host });
        if (this.#names.size >= PAIRS_MAX) this.#names.clear();
        this.#names.set(host, { address: address ?? held?.address, untilMs: nowMs + NAME_LIFETIME_MS });
      }
  }
}
