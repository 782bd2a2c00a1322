/**
 * A DHCPv4 client of one interface (RFC 2131 section 4.4): finds a lease, renews it with its server, then with any, and gives
 * it up when it ends. Owns the order of messages and all waiting; the socket and the address belong to whoever made it, so
 * that a whole exchange runs in a test without either. Never gives up: a cable may be plugged in after a year.
 */
import type { Clock, Timer } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import { decodeDhcp, type DhcpReply, type DhcpRequest, encodeDhcp } from "./dhcp.ts";

/** RFC 2131 section 4.1: 4, 8, 16, 32, 64 s, each with a second either way. The first is shorter: most answer at once. */
const FIRST_WAIT_MS = 1_000;
const WAIT_MAX_MS = 64_000;
const WAIT_JITTER_MS = 1_000;
/** Requests for one offer, before there is a new search. */
const REQUESTS_MAX = 4;
/** RFC 2131 section 4.4.5: half of what is left to the next moment, and not more often than this. */
const RENEW_WAIT_MIN_MS = 60_000;
const RENEW_PART = 0.5;
const REBIND_PART = 0.875;
/** After a refusal, so that a server that refuses all does not make a storm. */
const NAK_PAUSE_MS = 10_000;
/** A server that does not say how long. */
const LEASE_DEFAULT_SECONDS = 3_600;

export interface Lease {
  /** 4 bytes. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly router: Uint8Array | undefined;
  readonly nameServers: readonly string[];
  readonly timeServers: readonly string[];
  readonly mtu: number | undefined;
  readonly server: Uint8Array | undefined;
}

export interface DhcpDeps {
  readonly clock: Clock;
  readonly random: Random;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly hostname: string;
  /** To a server's address, or to all. Must not throw. */
  send(message: Uint8Array, to: Uint8Array | "broadcast"): void;
  /** A lease that is new or changed; undefined: it is over, the address must go. */
  onLease(lease: Lease | undefined): void;
}

type State = "stopped" | "selecting" | "requesting" | "bound" | "renewing" | "rebinding";

export class DhcpClient {
  readonly #deps: DhcpDeps;
  #state: State = "stopped";
  #timer: Timer | undefined;
  #transaction = 0;
  #startedAtMs = 0;
  #tries = 0;
  #offer: DhcpReply | undefined;
  #lease: Lease | undefined;
  #rebindAtMs = 0;
  #endsAtMs = 0;

  constructor(deps: DhcpDeps) {
    this.#deps = deps;
  }

  get state(): State {
    return this.#state;
  }

  /** Whether an answer may come: only then somebody has to look at the socket. */
  get isWaiting(): boolean {
    return this.#state !== "stopped" && this.#state !== "bound";
  }

  /** Searches. With a lease still in force, after a cable was pulled, it is kept until another is found or it ends. */
  start(): void {
    this.#begin("selecting");
    this.#ask();
  }

  /** No more messages; the lease is left as it is. */
  pause(): void {
    this.#timer?.cancel();
    this.#state = "stopped";
  }

  /** Gives the address back, as an orderly end does. */
  release(): void {
    const lease = this.#lease;
    this.pause();
    this.#lease = undefined;
    if (lease?.server === undefined) return;
    this.#transaction = this.#deps.random.below(2 ** 32);
    this.#send("release", { current: lease.address, server: lease.server }, lease.server);
  }

  /** A datagram from port 67. What is malformed or not for us is no news. */
  receive(bytes: Uint8Array): void {
    if (!this.isWaiting) return;
    let reply: DhcpReply;
    try {
      reply = decodeDhcp(bytes);
    } catch {
      return;
    }
    const { mac } = this.#deps;
    if (reply.transaction !== this.#transaction || !mac.every((byte, i) => reply.hardware[i] === byte))
      return;
    if (this.#state === "selecting") return this.#onOffer(reply);
    if (reply.type === "ack") return this.#onAck(reply);
    if (reply.type === "nak") this.#onNak();
  }

  #onOffer(reply: DhcpReply): void {
    if (reply.type !== "offer" || reply.server === undefined || !isUsable(reply.address)) return;
    this.#offer = reply;
    this.#state = "requesting";
    this.#tries = 0;
    this.#ask();
  }

  #onAck(reply: DhcpReply): void {
    if (!isUsable(reply.address)) return;
    const { clock } = this.#deps;
    const nowMs = clock.monotonicMs();
    const leaseMs = (reply.leaseSeconds ?? LEASE_DEFAULT_SECONDS) * 1_000;
    const rebindMs = within(reply.rebindSeconds, leaseMs, REBIND_PART);
    const renewMs = Math.min(within(reply.renewSeconds, leaseMs, RENEW_PART), rebindMs);
    this.#endsAtMs = nowMs + leaseMs;
    this.#rebindAtMs = nowMs + rebindMs;
    this.#lease = {
      address: reply.address,
      // Without a mask, that of the class (RFC 950): nobody uses it, but an address must have one.
      prefixLength: reply.prefixLength ?? classPrefix(reply.address),
      router: reply.router,
      nameServers: reply.nameServers,
      timeServers: reply.timeServers,
      mtu: reply.mtu,
      server: reply.server ?? this.#lease?.server ?? this.#offer?.server,
    };
    this.#state = "bound";
    this.#offer = undefined;
    this.#wait(renewMs, () => {
      this.#begin("renewing");
      this.#ask();
    });
    this.#deps.onLease(this.#lease);
  }

  #onNak(): void {
    if (this.#lease !== undefined) this.#giveUp();
    this.#state = "selecting";
    this.#wait(NAK_PAUSE_MS, () => this.start());
  }

  #giveUp(): void {
    this.#lease = undefined;
    this.#deps.onLease(undefined);
  }

  #begin(state: State): void {
    this.#state = state;
    this.#tries = 0;
    this.#transaction = this.#deps.random.below(2 ** 32);
    this.#startedAtMs = this.#deps.clock.monotonicMs();
  }

  /** Sends what the state asks for, and again after a while. */
  #ask(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (this.#lease !== undefined && nowMs >= this.#endsAtMs) {
      this.#giveUp();
      return this.start();
    }
    switch (this.#state) {
      case "selecting":
        this.#send("discover", this.#lease === undefined ? {} : { requested: this.#lease.address });
        return this.#askLater(this.#backoffMs());
      case "requesting":
        if (this.#tries >= REQUESTS_MAX) return this.start();
        this.#send("request", { requested: this.#offer!.address, server: this.#offer!.server! });
        return this.#askLater(this.#backoffMs());
      case "renewing":
        if (nowMs >= this.#rebindAtMs) {
          this.#state = "rebinding";
          return this.#ask();
        }
        this.#send("request", { current: this.#lease!.address }, this.#lease!.server);
        return this.#askLater(Math.max((this.#rebindAtMs - nowMs) / 2, RENEW_WAIT_MIN_MS), this.#rebindAtMs);
      case "rebinding":
        this.#send("request", { current: this.#lease!.address });
        return this.#askLater(Math.max((this.#endsAtMs - nowMs) / 2, RENEW_WAIT_MIN_MS), this.#endsAtMs);
      case "stopped":
      case "bound":
        return;
    }
  }

  #askLater(delayMs: number, notAfterMs = Number.POSITIVE_INFINITY): void {
    const leftMs = notAfterMs - this.#deps.clock.monotonicMs();
    this.#wait(Math.min(delayMs, Math.max(leftMs, 0)), () => this.#ask());
  }

  #backoffMs(): number {
    const baseMs = Math.min(FIRST_WAIT_MS * 2 ** Math.min(this.#tries++, 10), WAIT_MAX_MS);
    return baseMs + this.#deps.random.float() * WAIT_JITTER_MS;
  }

  /** Of a lease for ever some waits have no end: they need no timer. */
  #wait(delayMs: number, fn: () => void): void {
    this.#timer?.cancel();
    this.#timer = Number.isFinite(delayMs) ? this.#deps.clock.after(delayMs, fn) : undefined;
  }

  #send(
    type: DhcpRequest["type"],
    more: Pick<DhcpRequest, "current" | "requested" | "server">,
    to?: Uint8Array,
  ): void {
    const { mac, hostname, clock } = this.#deps;
    const seconds = (clock.monotonicMs() - this.#startedAtMs) / 1_000;
    const message = encodeDhcp({ type, transaction: this.#transaction, seconds, mac, hostname, ...more });
    this.#deps.send(message, to ?? "broadcast");
  }
}

/** A server's word where it makes sense, else the usual part of the lease. */
const within = (seconds: number | undefined, leaseMs: number, part: number): number =>
  seconds !== undefined && seconds * 1_000 < leaseMs ? seconds * 1_000 : leaseMs * part;

/** Not zero, not loopback, not multicast or above. */
const isUsable = (address: Uint8Array): boolean => {
  const first = address[0]!;
  return first !== 0 && first !== 127 && first < 224;
};

const classPrefix = (address: Uint8Array): number => (address[0]! < 128 ? 8 : address[0]! < 192 ? 16 : 24);
