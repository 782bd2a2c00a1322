/**
 * One socket of multicast DNS: a family of an interface (RFC 6762). Announces, asks, answers, and hands on what it heard; the library decodes and
 * sends, behind a gate of ours. Bound to the group, not to every address: what others of this machine are answered by unicast stays theirs.
 */
import { createSocket, type Socket } from "node:dgram";
import type { Answer, DecodedPacket, Question } from "dns-packet";
import { BoundedMap, type PluginContext, type Timer } from "@godwit/sdk";
import multicastDns from "multicast-dns";
import { Gate, type Refusal } from "./gate.ts";
import { type Instance, wholeOf } from "./heard.ts";
import type { Place } from "./interfaces.ts";
import {
  type Announcement,
  goodbyesOf,
  isAsked,
  readPacket,
  recordsOf,
  type Said,
  SERVICES,
} from "./records.ts";

export const MDNS_PORT = 5_353;
const GROUP = { 4: "224.0.0.251", 6: "ff02::fb" } as const;
/** RFC 6762 section 11. */
const TTL = 255;
/** RFC 6762 section 5.2: the second question a second after the first, then ever more seldom. */
const ASK_FIRST_MS = 1_000;
const ASK_CAP_MS = 15 * 60_000;
/** RFC 6762 section 8.3: when an announcement is said again. */
const ANNOUNCE_AT_MS = [0, 1_000, 3_000];
/** RFC 6762 section 6: of records that others may have too the answer waits, and no record is sent twice in a second. */
const ANSWER_MIN_MS = 20;
const ANSWER_MAX_MS = 120;
const REPEAT_MIN_MS = 1_000;
/** Known answers of a question: as many as one packet holds. */
const KNOWN_MAX = 12;
/** Instances of which only a part was heard, and questions about them in a second. */
const PARTS_MAX = 64;
const ASKED_AGAIN_MAX = 8;

export interface PortDeps {
  readonly ctx: PluginContext;
  readonly port: number;
  /** As it is now: addresses of the interface come and go, its name and family stay. */
  place(): Place;
  known(): readonly { readonly type: string; readonly instance: string; readonly leftS: number }[];
  /** `sender` without its zone. */
  heard(sender: string, instance: Instance): void;
  gone(sender: string, instance: string): void;
  dropped(reason: Refusal): void;
  /** It does not work: once. */
  failed(error: Error): void;
}

export class Port {
  readonly #deps: PortDeps;
  readonly #mdns: multicastDns.MulticastDNS;
  readonly #timers = new Set<Timer>();
  readonly #parts: BoundedMap<string, Said> = new BoundedMap({ name: "parts of services", max: PARTS_MAX });
  readonly #missing = new Map<string, Question[]>();
  #announcement: Announcement | undefined;
  #saidAtMs = Number.NEGATIVE_INFINITY;
  #answer: Timer | undefined;
  #isClosed = false;

  constructor(deps: PortDeps) {
    this.#deps = deps;
    const { port, failed } = deps;
    const { interface: name, family, membership } = deps.place();
    const socket = createSocket({ type: family === 4 ? "udp4" : "udp6", reuseAddr: true });
    this.#mdns = multicastDns({
      socket,
      type: family === 4 ? "udp4" : "udp6",
      ip: GROUP[family],
      interface: membership,
      // It would join by a timer of its own, and throw where the interface has just gone.
      multicast: false,
      // A group of IPv6 is one of an interface.
      bind: family === 4 ? GROUP[4] : `${GROUP[6]}%${name}`,
      port,
    });
    socket.on("listening", () => this.#join(socket, GROUP[family], membership));
    const gate = new Gate({
      clock: deps.ctx.clock,
      port,
      isOnLink: (address) => deps.place().isOnLink(address),
    });
    // The library decodes whatever comes: what is not to be decoded must not come to it.
    const decoders = socket.listeners("message");
    socket.removeAllListeners("message");
    socket.on("message", (datagram, from) => {
      const refusal = gate.refusalOf(datagram, plainOf(from.address), from.port);
      if (refusal !== undefined) return deps.dropped(refusal);
      for (const decode of decoders) decode.call(socket, datagram, from);
    });
    this.#mdns.on("warning", (error: Error) => this.#onWarning(error));
    this.#mdns.on("error", (error: Error) => this.#isClosed || failed(error));
    this.#mdns.on("packet", (packet: DecodedPacket, from: { readonly address: string }) => {
      if (!this.#isClosed) this.#onPacket(packet, plainOf(from.address));
    });
    this.#mdns.on("ready", () => this.#isClosed || this.#ask(ASK_FIRST_MS));
  }

  #join(socket: Socket, group: string, membership: string): void {
    if (this.#isClosed) return;
    try {
      socket.addMembership(group, membership);
      socket.setMulticastInterface(membership);
      socket.setMulticastTTL(TTL);
      // Others on this machine are neighbours, too.
      socket.setMulticastLoopback(true);
    } catch (error) {
      this.#deps.failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Says this from now on, and takes back what of the last is not true any more. Undefined: nothing. */
  announce(next: Announcement | undefined): void {
    const before = this.#announcement;
    this.#announcement = next;
    if (before !== undefined) this.#send(goodbyesOf(before, next));
    if (next === undefined) return;
    for (const delayMs of ANNOUNCE_AT_MS)
      this.#after(delayMs, () => {
        if (this.#announcement === next) this.#say();
      });
  }

  /** Says goodbye, then closes. Resolves when that has left. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const timer of this.#timers) timer.cancel();
    const last = this.#announcement;
    if (last !== undefined)
      await new Promise<void>((resolve) => {
        this.#mdns.respond({ answers: goodbyesOf(last, undefined) }, () => resolve());
      });
    await new Promise<void>((resolve) => this.#mdns.destroy(resolve));
  }

  #after(delayMs: number, fn: () => void): Timer {
    const timer = this.#deps.ctx.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      fn();
    });
    this.#timers.add(timer);
    return timer;
  }

  #say(): void {
    if (this.#announcement === undefined) return;
    this.#saidAtMs = this.#deps.ctx.clock.monotonicMs();
    this.#send(recordsOf(this.#announcement));
  }

  /** What cannot be sent now, because the cable was just pulled, is said again when it comes back. */
  #send(answers: Answer[]): void {
    if (answers.length > 0) this.#mdns.respond({ answers });
  }

  #ask(nextMs: number): void {
    const answers = this.#deps
      .known()
      .slice(0, KNOWN_MAX)
      .map(({ type, instance, leftS }): Answer => ({ type: "PTR", name: type, ttl: leftS, data: instance }));
    const questions = SERVICES.map(({ type }): Question => ({ type: "PTR", name: type }));
    this.#mdns.query({ questions, answers });
    const { random } = this.#deps.ctx;
    this.#after(nextMs * (1 + random.float() / 10), () => this.#ask(Math.min(2 * nextMs, ASK_CAP_MS)));
  }

  #onPacket(packet: DecodedPacket, sender: string): void {
    if (packet.type === "query") this.#onQuery(packet);
    else for (const said of readPacket(packet)) this.#onSaid(said, sender);
  }

  #onQuery(packet: DecodedPacket): void {
    if (this.#announcement === undefined || this.#answer !== undefined) return;
    if (!isAsked(packet, this.#announcement)) return;
    const { clock, random } = this.#deps.ctx;
    const waitMs = ANSWER_MIN_MS + random.float() * (ANSWER_MAX_MS - ANSWER_MIN_MS);
    const restMs = this.#saidAtMs + REPEAT_MIN_MS - clock.monotonicMs();
    this.#answer = this.#after(Math.max(waitMs, restMs), () => {
      this.#answer = undefined;
      this.#say();
    });
  }

  #onSaid(said: Said, sender: string): void {
    const key = `${sender} ${said.instance}`;
    if (said.ttlS === 0) {
      this.#parts.delete(key);
      return this.#deps.gone(sender, said.instance);
    }
    const part = this.#parts.get(key);
    const both = {
      ...said,
      at: said.at ?? part?.at,
      text: said.text ?? part?.text,
      addresses: said.addresses.length > 0 ? said.addresses : (part?.addresses ?? []),
    };
    const whole = wholeOf(both);
    if (whole !== undefined) {
      this.#parts.delete(key);
      return this.#deps.heard(sender, whole);
    }
    this.#parts.renew(key, both);
    this.#askFor(said.instance);
  }

  /** Some say their pointers alone: the rest is asked for, a few at once. */
  #askFor(instance: string): void {
    if (this.#missing.size >= ASKED_AGAIN_MAX) return;
    const isFirst = this.#missing.size === 0;
    this.#missing.set(instance, [
      { type: "SRV", name: instance },
      { type: "TXT", name: instance },
    ]);
    if (!isFirst) return;
    this.#mdns.query({ questions: this.#missing.get(instance)! });
    this.#after(REPEAT_MIN_MS, () => {
      const [, ...rest] = this.#missing.values();
      this.#missing.clear();
      if (rest.length > 0) this.#mdns.query({ questions: rest.flat() });
    });
  }

  #onWarning(error: Error): void {
    if (this.#isClosed) return;
    // What has a code is of the system, all else a datagram that is none.
    if ("code" in error) this.#deps.failed(error);
    else this.#deps.dropped("malformed");
  }
}

const plainOf = (address: string): string => address.replace(/%.*$/, "");
