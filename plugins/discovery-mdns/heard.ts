/**
 * The nodes that were heard of, and the hints that follow: of each family of addresses its own table, whose places senders share, so that
 * a liar with a thousand instances has few and pushes out nobody. What one sender said no other takes back or replaces. Forgets what ran out,
 * what said goodbye, and what was heard on an interface that is gone.
 */
import { formatEndpoint, type Hint, type PluginContext } from "@godwit/sdk";
import { Places, type Place as Seat } from "@godwit/sdk/places";
import type { Place } from "./interfaces.ts";
import { protocolsOf, type Said, type Service } from "./records.ts";

/** Instances: of one family, and of one sender in it, whose further ones are not heard before one of his has gone. Times endpoints and families that is the host's bound of hints. */
export const INSTANCES_MAX = 512;
export const INSTANCES_PER_SENDER_MAX = 16;
const ENDPOINTS_MAX = 4;
/** However long somebody says that it is there, and however short. */
const LIFETIME_MAX_MS = 75 * 60_000;
const LIFETIME_MIN_MS = 1_000;
/** Whoever is heard of again is hinted at again no sooner: a dialler that gave up tries anew. */
const HINT_AGAIN_MS = 10_000;
const SWEEP_MS = 30_000;
/** Whoever is on this LAN answers by then, a segment that was lost and sent again included; liars name those who never do. */
const DIAL_MS = 2_000;
const NODE_ID = /^[a-z2-7]{51}[aq]$/;

/** What is known of one instance, all of it from one sender. */
export interface Instance {
  readonly service: Service;
  readonly instance: string;
  readonly ttlS: number;
  readonly port: number;
  readonly text: ReadonlyMap<string, string>;
  readonly addresses: readonly string[];
}

interface Entry {
  readonly seat: Seat;
  readonly place: Place;
  readonly sender: string;
  readonly said: Pick<Instance, "service" | "instance">;
  hints: readonly Hint[];
  hintedAtMs: number;
  expiresAtMs: number;
}

export type Outcome = "heard" | "self" | "protocol" | "id" | "full";

export class Heard {
  readonly #ctx: PluginContext;
  readonly #seats = {
    4: new Places({ max: INSTANCES_MAX, perSourceMax: INSTANCES_PER_SENDER_MAX }),
    6: new Places({ max: INSTANCES_MAX, perSourceMax: INSTANCES_PER_SENDER_MAX }),
  } as const;
  /** By interface, sender and instance. */
  readonly #entries = new Map<string, Entry>();
  /** How many instances a sender has, by family. */
  readonly #ofSender = new Map<string, number>();
  /** How many entries speak for an endpoint. */
  readonly #speaking = new Map<string, number>();
  readonly #nodes;

  constructor(ctx: PluginContext) {
    this.#ctx = ctx;
    this.#nodes = ctx.gauge(
      "instances",
      "instances of other nodes that are heard of now, each counted on every interface and family that it is heard on",
    );
    const sweep = () => {
      this.#sweep();
      timer = ctx.clock.after(SWEEP_MS, sweep);
    };
    let timer = ctx.clock.after(SWEEP_MS, sweep);
    ctx.own(() => timer.cancel());
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Pointers that need not be sent again on that socket: what is left of their time, seconds, is more than half. */
  known(place: Place): { readonly type: string; readonly instance: string; readonly leftS: number }[] {
    const nowMs = this.#ctx.clock.monotonicMs();
    return [...this.#entries.values()]
      .filter((entry) => isSame(entry.place, place) && entry.expiresAtMs - nowMs > LIFETIME_MAX_MS / 2)
      .map(({ said: { service, instance }, expiresAtMs }) => ({
        type: service.type,
        instance,
        leftS: Math.floor((expiresAtMs - nowMs) / 1_000),
      }));
  }

  /** `sender` without its zone. */
  hear(place: Place, sender: string, said: Instance): Outcome {
    const { self, clock } = this.#ctx;
    const id = said.text.get("id")?.toLowerCase();
    if (id === self.id) return "self";
    if (id !== undefined && !NODE_ID.test(id)) return "id";
    const theirs = protocolsOf(said.text.get("protocol"));
    if (theirs === "odd" || (theirs !== undefined && !hasCommon(self.protocols, theirs))) return "protocol";
    const key = keyOf(place, sender, said.instance);
    const nowMs = clock.monotonicMs();
    const lifetimeMs = Math.min(Math.max(said.ttlS * 1_000, LIFETIME_MIN_MS), LIFETIME_MAX_MS);
    const hints = hintsOf(place, sender, said, id);
    const known = this.#entries.get(key);
    // It is not to be reached over this family: over the other one it says the same.
    if (hints.length === 0) {
      this.#forget(key);
      return "heard";
    }
    if (known !== undefined) {
      known.expiresAtMs = nowMs + lifetimeMs;
      const isNew = !Bun.deepEquals(known.hints, hints);
      if (isNew || nowMs - known.hintedAtMs >= HINT_AGAIN_MS) this.#speak(known, hints, nowMs);
      return "heard";
    }
    const count = this.#ofSender.get(senderKey(place, sender)) ?? 0;
    if (count >= INSTANCES_PER_SENDER_MAX) return "full";
    const seat = this.#seats[place.family].enter(sender, () => this.#forget(key));
    if (seat === undefined) return "full";
    this.#ofSender.set(senderKey(place, sender), count + 1);
    const entry: Entry = {
      ...{ seat, place, sender, said, hints: [] },
      ...{ hintedAtMs: nowMs, expiresAtMs: nowMs + lifetimeMs },
    };
    this.#entries.set(key, entry);
    this.#speak(entry, hints, nowMs);
    this.#nodes.set(this.#entries.size);
    this.#ctx.log.debug("node heard of", { interface: place.interface, sender, instance: said.instance });
    return "heard";
  }

  /** Whoever said that it is there says that it goes. */
  bye(place: Place, sender: string, instance: string): void {
    this.#forget(keyOf(place, sender, instance));
  }

  /** The socket is closed: nothing is heard of them any more. */
  forgetPlace(place: Place): void {
    for (const [key, entry] of this.#entries) if (isSame(entry.place, place)) this.#forget(key);
  }

  #sweep(): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    for (const [key, { expiresAtMs }] of this.#entries) if (expiresAtMs <= nowMs) this.#forget(key);
  }

  #forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    entry.seat.release();
    const sender = senderKey(entry.place, entry.sender);
    const left = this.#ofSender.get(sender)! - 1;
    if (left > 0) this.#ofSender.set(sender, left);
    else this.#ofSender.delete(sender);
    for (const { endpoint } of entry.hints) this.#silence(endpoint);
    this.#nodes.set(this.#entries.size);
  }

  #speak(entry: Entry, hints: readonly Hint[], nowMs: number): void {
    const before = entry.hints;
    for (const hint of hints) {
      const count = this.#speaking.get(hint.endpoint) ?? 0;
      if (!before.some(({ endpoint }) => endpoint === hint.endpoint))
        this.#speaking.set(hint.endpoint, count + 1);
      this.#ctx.discovery.hint(hint);
    }
    entry.hints = hints;
    entry.hintedAtMs = nowMs;
    for (const { endpoint } of before)
      if (!hints.some((hint) => hint.endpoint === endpoint)) this.#silence(endpoint);
  }

  #silence(endpoint: string): void {
    const left = (this.#speaking.get(endpoint) ?? 1) - 1;
    if (left > 0) return void this.#speaking.set(endpoint, left);
    this.#speaking.delete(endpoint);
    if (!this.#ctx.signal.aborted) this.#ctx.discovery.withdraw(endpoint);
  }
}

const keyOf = (place: Place, sender: string, instance: string): string =>
  `${place.interface}/${place.family} ${sender} ${instance}`;

const senderKey = ({ family }: Place, sender: string): string => `${family} ${sender}`;

const isSame = (one: Place, other: Place): boolean =>
  one.interface === other.interface && one.family === other.family;

const hasCommon = (ours: { min: number; max: number }, theirs: { min: number; max: number }): boolean =>
  theirs.min <= ours.max && ours.min <= theirs.max;

/** What of the addresses is near, of the family that it was heard by, the sender's own in front; where none at all is named, the sender's. */
function hintsOf(place: Place, sender: string, said: Instance, nodeId: string | undefined): Hint[] {
  const near = said.addresses.filter(
    (address) => address.includes(":") === (place.family === 6) && place.isOnLink(address),
  );
  const isOwn = near.includes(sender) || said.addresses.length === 0;
  const hosts = new Set([...(isOwn ? [sender] : []), ...near]);
  return [...hosts].slice(0, ENDPOINTS_MAX).map((host) => ({
    endpoint:
      formatEndpoint(said.service.scheme, zoned(host, place.interface), said.port) + said.service.path,
    interface: place.interface,
    dialTimeoutMs: DIAL_MS,
    ...(nodeId === undefined ? {} : { nodeId }),
  }));
}

const zoned = (host: string, zone: string): string => (/^fe[89ab]/i.test(host) ? `${host}%${zone}` : host);

/** All parts of one packet; undefined while some are missing. */
export const wholeOf = ({ service, instance, ttlS, at, text, addresses }: Said): Instance | undefined =>
  at === undefined || text === undefined
    ? undefined
    : { service, instance, ttlS, port: at.port, text, addresses };
