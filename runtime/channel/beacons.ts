/**
 * This node's beacons on one shared channel: when they leave and when they need not, by Trickle (RFC 6206) with a suppression that costs
 * nobody his place: a beacon is left out where enough others told that they hear the same nodes, this one among them, or where traffic
 * told it to all. Owns the timers and the table of who is heard. Must never answer what it heard by sending at once.
 * docs/protocol/slow.md "Beacons"
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { type ChannelBudget, MAIL_ONLY_ABOVE } from "../kernel/airtime.ts";
import { TokenBucket } from "../kernel/backoff.ts";
import {
  CHANNEL_ASK_BYTES,
  CHANNEL_BEACON_BYTES,
  type ChannelBeacon,
  decodeChannelBeacon,
  encodeChannelBeacon,
} from "../wire/channel-beacon.ts";
import { ALARM, PRESENCE } from "../wire/urgency.ts";
import { Earshot, type Heard } from "./earshot.ts";
import { BEACON_MAX_MS, BEACON_MIN_MS } from "./presence.ts";

/** Beacons of others that hear the same nodes, within one interval, that make an own one unnecessary: Trickle's k. */
const REDUNDANCY = 2;
/** Beacons left out in a row at most: who is gone must be missed some time. */
const SUPPRESSED_MAX = 1;
/** Trickle starts over at most this often, whatever is heard or changes, ms. */
export const RESET_GAP_MS = 600_000;
/** Of that for new names so many at once, and one in this time: whoever invents them shall not have this node spend on beacons what links need, ms. */
const NAME_RESETS = 4;
const NAME_RESET_MS = 7_200_000;
/**
 * Where the channel is too busy for beacons one leaves for mail that waits: it asks for somebody, or answers whoever asked. At most one in this time, ms, and in
 * the second one where only what mail needs is said at all.
 */
export const URGENT_GAP_MS = 600_000;
export const URGENT_BUSY_GAP_MS = 3_600_000;
/** Who is asked answers within this, at random, ms. */
const ANSWER_SPREAD_MS = 30_000;
/** How often it is looked whether somebody is gone, ms. */
const LOOK_MS = 60_000;

export interface BeaconsDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly budget: ChannelBudget;
  /** Of the live network secrets, newest first; at least one. */
  keys(): readonly Uint8Array[];
  /** This node's name under that key. */
  ownName(key: Uint8Array): string;
  /** 48 bits, larger each time: also after a start, and where a transport opened its channel anew. */
  nextNumber(): number;
  /** Code of its way into the faster mesh; undefined: it is no gateway. */
  gateway(): number | undefined;
  isNeeded(who: string): boolean;
  /** Everybody who is heard has had something of this node's over a link since then, monotonic ms. */
  isKnownByTraffic(sinceMs: number): boolean;
  /** A beacon of another node of this mesh. */
  heard(heard: Heard, isNew: boolean): void;
  /** One that did not count; where it was said is known now. */
  passedOver(heard: Heard): void;
  /** Called about once a minute. */
  look(): void;
  /** Whom mail of this node waits for, by his name, and nobody leads to him; asked where it would be said at once. Undefined: nobody. */
  wanted(): string | undefined;
  /** Nodes that are there by their links, although no beacon of theirs is known. */
  linkedUnheard(): number;
  count(
    outcome:
      "sent" | "asked" | "answered" | "suppressed" | "no_airtime" | "heard" | "passed_over" | "foreign",
  ): void;
}

export class Beacons {
  readonly earshot: Earshot;
  readonly #deps: BeaconsDeps;
  #intervalMs = BEACON_MIN_MS;
  #intervalAtMs = 0;
  #consistent = 0;
  #suppressed = 0;
  #sendTimer: Timer | undefined;
  #intervalTimer: Timer | undefined;
  #lookTimer: Timer | undefined;
  readonly #nameResets: TokenBucket;
  #resetAtMs = Number.NEGATIVE_INFINITY;
  /** Trickle is to start over, and go on with this interval. */
  #resetToMs: number | undefined;
  #quietMs = 0;
  #lookedAtMs: number;
  #saidGateway: number | undefined;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #answeredAtMs = Number.NEGATIVE_INFINITY;
  #answerTimer: Timer | undefined;

  constructor(deps: BeaconsDeps) {
    this.#deps = deps;
    this.#lookedAtMs = deps.clock.monotonicMs();
    this.#nameResets = new TokenBucket(deps.clock, 1_000 / NAME_RESET_MS, NAME_RESETS);
    const { medium } = deps.budget;
    this.earshot = new Earshot({
      clock: deps.clock,
      channel: medium.name,
      quietMs: () => this.#quietMs,
      isNeeded: (who) => deps.isNeeded(who),
    });
    medium.listen((from, bytes) => this.#hear(from, bytes));
    this.#saidGateway = deps.gateway();
    this.#begin(BEACON_MIN_MS);
    this.#look();
  }

  /** Time in which beacons were to be expected, ms. */
  get quietMs(): number {
    return this.#quietMs;
  }

  /** What the beacons say may be something else now. */
  changed(): void {
    if (this.#deps.gateway() !== this.#saidGateway) this.#reset(this.#intervalMs);
  }

  stop(): void {
    for (const timer of [this.#sendTimer, this.#intervalTimer, this.#lookTimer, this.#answerTimer])
      timer?.cancel();
    this.#deps.budget.medium.listen(() => {});
  }

  #hear(from: string, bytes: Uint8Array): void {
    const { count, keys, ownName } = this.#deps;
    const known = keys();
    const beacon = decodeChannelBeacon(known, bytes);
    if (beacon === undefined) return count("foreign");
    if (known.some((key) => ownName(key) === beacon.who)) return count("passed_over");
    const outcome = this.earshot.hear(beacon, from);
    const heard = this.earshot.get(beacon.who);
    if (outcome === "passed-over") {
      count("passed_over");
      if (heard !== undefined) this.#deps.passedOver(heard);
      return;
    }
    count("heard");
    this.#countNodes();
    if (this.#isConsistent(beacon, known)) this.#consistent++;
    if (outcome === "new" && (this.#resetToMs !== undefined || this.#nameResets.take())) this.#reset();
    this.#deps.heard(heard!, outcome === "new");
    if (beacon.asks !== undefined) this.#onAsked(beacon.asks, known);
  }

  /** Where beacons leave by themselves whoever is new hears of all anyway. */
  #onAsked(asked: string, keys: readonly Uint8Array[]): void {
    const { clock, random, budget, gateway, ownName } = this.#deps;
    const isMeant = gateway() !== undefined || keys.some((key) => ownName(key) === asked);
    if (!isMeant || !budget.isQuiet || this.#answerTimer !== undefined) return;
    this.#answerTimer = clock.after(random.float() * ANSWER_SPREAD_MS, () => {
      this.#answerTimer = undefined;
      this.#sayUrgently(undefined);
    });
  }

  /** Mail waits and nobody says that he is there: the one who is wanted is asked for. */
  #ask(): void {
    const { budget, wanted } = this.#deps;
    if (!budget.isQuiet || !this.#mayBeUrgent(true)) return;
    const asked = wanted();
    if (asked !== undefined) this.#sayUrgently(asked);
  }

  /** Own mail waits behind its own questions alone: whoever asks all the time does not take its turn. */
  #mayBeUrgent(isAsking: boolean): boolean {
    const { clock, budget } = this.#deps;
    const gapMs = budget.medium.utilisation > MAIL_ONLY_ABOVE ? URGENT_BUSY_GAP_MS : URGENT_GAP_MS;
    const lastMs = isAsking ? this.#askedAtMs : Math.max(this.#askedAtMs, this.#answeredAtMs);
    return clock.monotonicMs() - lastMs >= gapMs;
  }

  #sayUrgently(asks: string | undefined): void {
    const isAsking = asks !== undefined;
    if (!this.#mayBeUrgent(isAsking) || !this.#send(asks, true)) return;
    if (isAsking) this.#askedAtMs = this.#deps.clock.monotonicMs();
    else this.#answeredAtMs = this.#deps.clock.monotonicMs();
    this.#deps.count(isAsking ? "asked" : "answered");
  }

  #countNodes(): void {
    const { budget, linkedUnheard, gateway } = this.#deps;
    // A station says one name: whoever says many shares the channel as one.
    const places = new Map<string, boolean>();
    for (const { from, gateway: code } of this.earshot.all)
      places.set(from, places.get(from) === true || code !== undefined);
    const gateways = [...places.values()].filter((isGateway) => isGateway).length;
    budget.setOthers(places.size + linkedUnheard(), gateways, gateway() !== undefined);
  }

  #isConsistent({ earshot }: ChannelBeacon, keys: readonly Uint8Array[]): boolean {
    return this.earshot.sumWith(this.#deps.ownName(keys[0]!)) === earshot;
  }

  /**
   * Trickle starts over, now or as soon as it may. `thenMs`: the interval that follows the first short one: what is said of a known name is said once,
   * since its links say it as well, and only whoever is new is told more often.
   */
  #reset(thenMs = 2 * BEACON_MIN_MS): void {
    this.#resetToMs = Math.min(thenMs, this.#resetToMs ?? thenMs);
    if (this.#deps.clock.monotonicMs() - this.#resetAtMs >= RESET_GAP_MS) this.#startOver(this.#resetToMs);
  }

  #startOver(thenMs: number): void {
    this.#resetToMs = undefined;
    this.#resetAtMs = this.#deps.clock.monotonicMs();
    this.#suppressed = 0;
    if (this.#intervalMs > BEACON_MIN_MS) this.#begin(BEACON_MIN_MS, thenMs);
  }

  #begin(intervalMs: number, thenMs = Math.min(BEACON_MAX_MS, intervalMs * 2)): void {
    const { clock, random } = this.#deps;
    this.#intervalMs = intervalMs;
    this.#intervalAtMs = clock.monotonicMs();
    this.#consistent = 0;
    this.#sendTimer?.cancel();
    this.#intervalTimer?.cancel();
    this.#sendTimer = clock.after(intervalMs * (0.5 + random.float() / 2), () => this.#due());
    this.#intervalTimer = clock.after(intervalMs, () => this.#begin(thenMs));
  }

  #due(): void {
    const { count } = this.#deps;
    // Of a change everybody hears, whatever others have told.
    const hasNews = this.#deps.gateway() !== this.#saidGateway;
    if (!hasNews && this.#deps.isKnownByTraffic(this.#intervalAtMs)) return count("suppressed");
    if (!hasNews && this.#consistent >= REDUNDANCY && this.#suppressed < SUPPRESSED_MAX) {
      this.#suppressed++;
      return count("suppressed");
    }
    if (this.#send()) count("sent");
  }

  /** False: there is no airtime. `isUrgent`: for mail, as a call for it. */
  #send(asks?: string, isUrgent = false): boolean {
    const { budget, count, keys, ownName, nextNumber, gateway } = this.#deps;
    const { medium } = budget;
    const bytes = asks === undefined ? CHANNEL_BEACON_BYTES : CHANNEL_ASK_BYTES;
    const costMs = medium.airtimeMs(bytes, "all");
    if (!budget.take(costMs, "beacons", isUrgent ? "begin" : "control")) {
      count("no_airtime");
      return false;
    }
    const key = keys()[0]!;
    const who = ownName(key);
    const said = gateway();
    const beacon = { who, number: nextNumber(), gateway: said, earshot: this.earshot.sumWith(who), asks };
    if (!medium.broadcast(encodeChannelBeacon(key, beacon), isUrgent ? ALARM : PRESENCE)) {
      budget.charge(-costMs, "beacons");
      count("no_airtime");
      return false;
    }
    this.#saidGateway = said;
    this.#suppressed = 0;
    return true;
  }

  #look(): void {
    const { clock, budget, look } = this.#deps;
    const nowMs = clock.monotonicMs();
    if (!budget.isQuiet) this.#quietMs += nowMs - this.#lookedAtMs;
    this.#lookedAtMs = nowMs;
    this.#countNodes();
    if (this.#resetToMs !== undefined && nowMs - this.#resetAtMs >= RESET_GAP_MS)
      this.#startOver(this.#resetToMs);
    look();
    this.#ask();
    this.#lookTimer = clock.after(LOOK_MS, () => this.#look());
  }
}
