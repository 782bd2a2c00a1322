/**
 * The airtime that this node's control may take of a channel which everybody in earshot shares: one bucket a channel, whatever links run over it,
 * into which goes all that is neither mail nor receipt. Owns no timer and sends nothing; who wants to send asks, and what cannot be held
 * back is charged. docs/protocol/slow.md "One channel, one budget"
 */
import type { Clock, Medium } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";

/**
 * Of the channel, what the control of all nodes that are heard on it earns together. They may have 2 %: the rest is for what each has at
 * the start, and may owe.
 */
export const CONTROL_SHARE = 0.01;
/** Of what the station may send at all, the part of control at most: a gateway's mail must not wait for what its weight earns. */
export const CONTROL_OF_OWN = 0.5;
/** Of it, what one neighbour may have this node say for it, beside what is saved beyond a link: others have their part, whatever it asks. */
const NEIGHBOUR_SHARE = 0.25;
/** Neighbours whose part is known. */
const PARTS_MAX = 256;
/** What is there at the start, in links. */
const START_LINKS = 1;
/** A gateway, whom all others call, has the part of so many. */
export const GATEWAY_WEIGHT = 8;
/** More weight of others makes nobody's part smaller: names cost nothing, and a newcomer must be able to speak. */
export const WEIGHT_MAX = 64;
/** A channel that is busier carries no presence, and above the second one only what mail needs. */
export const QUIET_ABOVE = 0.25;
export const MAIL_ONLY_ABOVE = 0.4;
/** Of what this node has, the part that answers to callers may take. */
const ANSWERS_SHARE = 0.75;
/** What may be owed at most, in links: what one takes, and what of it has to be said again. */
const OWED_LINKS = 2;
/** What a link that began may still cost is set aside for so long, ms. */
const BEGUN_MS = 60_000;
/** What saves up at most, in links made. */
const SAVED_LINKS = 1.5;
/** What a record adds to a frame on a slow link, its length among it, bytes. */
const RECORD_BYTES = 12;
/** What one end of a link says until it stands, bytes: message 1 or 2, what proves it, the acknowledgement of a hello, and a hello. */
const LINK_DATAGRAMS = [123, 76, 20] as const;
const HELLO_BYTES = 256;
/** Media that are gone, whose budgets are kept by name. */
const GONE_MAX = 64;
/** Before each piece of a record that is larger than a datagram. */
const PIECE_BYTES = 4;

export const airtimeUses = ["handshakes", "beacons", "routing", "membership", "other"] as const;
/** What control is for; a label. */
export type AirtimeUse = (typeof airtimeUses)[number];

/**
 * `mail`: it ends what was begun, or mail waits for it: it may run into debt by two links. `begin`: a call for a link that mail waits for: as long as
 * nothing is owed, so that all of it will fit. `control`: as much as there is. `link`: a call for a link that no mail waits for: only where all of the link is
 * saved.
 */
export type AirtimeNeed = "mail" | "begin" | "control" | "link";

/** What control of one kind has cost and was denied, of a channel. */
export interface AirtimeSums {
  usedMs: number;
  refused: number;
}

export class ChannelBudget {
  readonly medium: Medium;
  readonly sums: Readonly<Record<AirtimeUse, AirtimeSums>>;
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** One end of one link, ms. */
  readonly #linkMs: number;
  /** Unused airtime, ms; below 0: owed. */
  #savedMs: number;
  #answersMs: number;
  #atMs: number;
  /** When callers were answered of whom it is not known yet what they cost; each for `BEGUN_MS`. */
  readonly #answeredAtMs: number[];
  readonly #parts = new BoundedMap<string, { savedMs: number; atMs: number }>({
    name: "parts of neighbours",
    max: PARTS_MAX,
  });
  #nodes = 1;
  /** Own weight, and that of all. */
  #weights: readonly [own: number, all: number];

  /** `before`: of the medium that this one takes the place of: what that had saved or owed stands. */
  constructor(clock: Pick<Clock, "monotonicMs">, medium: Medium, before?: ChannelBudget) {
    this.#clock = clock;
    this.medium = medium;
    this.sums =
      before?.sums ??
      (Object.fromEntries(airtimeUses.map((use) => [use, { usedMs: 0, refused: 0 }])) as Record<
        AirtimeUse,
        AirtimeSums
      >);
    const sized = [...LINK_DATAGRAMS, ...pieces(HELLO_BYTES, medium.broadcastBytesMax)];
    this.#linkMs = sized.reduce((sum, bytes) => sum + medium.airtimeMs(bytes, "one"), 0);
    this.#savedMs = before?.savedMs ?? START_LINKS * this.#linkMs;
    this.#answersMs = before?.answersMs ?? this.#linkMs;
    this.#answeredAtMs = before === undefined ? [] : before.#answeredAtMs;
    this.#weights = before === undefined ? [1, 1] : before.#weights;
    this.#atMs = clock.monotonicMs();
  }

  /** Nodes that share the channel, this one among them; at least 1. */
  get nodes(): number {
    return this.#nodes;
  }

  /** Who shares the channel beside this node, how many gateways are among them, and whether this node is one. */
  setOthers(others: number, gateways: number, isGateway: boolean): void {
    this.#refill();
    const own = isGateway ? GATEWAY_WEIGHT : 1;
    this.#nodes = 1 + others;
    this.#weights = [own, own + others + gateways * (GATEWAY_WEIGHT - 1)];
  }

  /** This node's part of the channel, 0 to 1. */
  get share(): number {
    const [own, all] = this.#weights;
    const { ownShare = 1 } = this.medium;
    const most = ownShare >= 0 ? CONTROL_OF_OWN * ownShare : CONTROL_SHARE; // a plugin says it
    return Math.min(most, (CONTROL_SHARE * own) / Math.min(all, WEIGHT_MAX));
  }

  /** Unused airtime, ms; below 0: owed. */
  get savedMs(): number {
    this.#refill();
    return this.#savedMs;
  }

  /** Of that, what callers may have, ms. */
  get answersMs(): number {
    this.#refill();
    return this.#answersMs;
  }

  /** One end of one link, ms: what may be owed at most for mail. */
  get linkMs(): number {
    return this.#linkMs;
  }

  /** The channel is so busy that nobody says that he is there. */
  get isQuiet(): boolean {
    return this.medium.utilisation > QUIET_ABOVE;
  }

  /** Airtime of a frame on a link, or of a datagram before there is one, ms. */
  costMs(bytes: number, isFrame: boolean): number {
    let ms = 0;
    for (const piece of pieces(bytes + (isFrame ? RECORD_BYTES : 0), this.medium.broadcastBytesMax))
      ms += this.medium.airtimeMs(piece, "one");
    return ms;
  }

  /** Takes what a frame on a link of this channel costs. False: it must not be sent now, and that is counted. */
  takeFrame(bytes: number, use: AirtimeUse, need: AirtimeNeed = "control"): boolean {
    return this.take(this.costMs(bytes, true), use, need);
  }

  /** As `takeFrame` of control, of what the neighbour `by` wants to hear or have asked: it has a part of what is earned, and all that lies idle. */
  takeFrameFor(by: string, bytes: number, use: AirtimeUse): boolean {
    let part = this.#parts.get(by);
    if (part === undefined) part = { savedMs: this.#linkMs, atMs: this.#clock.monotonicMs() };
    this.#parts.renew(by, part);
    const nowMs = this.#clock.monotonicMs();
    const earnedMs = (nowMs - part.atMs) * this.share * NEIGHBOUR_SHARE;
    part.savedMs = Math.min(this.#linkMs, part.savedMs + earnedMs);
    part.atMs = nowMs;
    const ms = this.costMs(bytes, true);
    const isIdle = this.savedMs - ms >= this.#linkMs;
    if (!isIdle && part.savedMs <= 0) {
      this.sums[use].refused++;
      return false;
    }
    if (!this.take(ms, use)) return false;
    if (!isIdle) part.savedMs -= ms;
    return true;
  }

  /** Takes `ms`. False: there are none, and that is counted. */
  take(ms: number, use: AirtimeUse, need: AirtimeNeed = "control"): boolean {
    const isThere = this.has(ms, use, need);
    if (isThere) this.charge(ms, use);
    else this.sums[use].refused++;
    return isThere;
  }

  has(ms: number, use: AirtimeUse, need: AirtimeNeed = "control"): boolean {
    this.#refill();
    const { utilisation } = this.medium;
    if (need === "mail") return this.#savedMs - ms >= -OWED_LINKS * this.#linkMs;
    if (need === "begin") return this.#savedMs >= 0;
    if (utilisation > MAIL_ONLY_ABOVE || (use === "beacons" && utilisation > QUIET_ABOVE)) return false;
    return this.#savedMs >= (need === "link" ? Math.max(ms, this.#linkMs) : ms);
  }

  /**
   * An answer to somebody who has proved nothing. False: he is not answered. `isFirst`: a link may come of it, and all of that must be
   * there, beside those that were begun just now. What callers cost is a part of what this node has, so that a flood of them
   * leaves it the other part.
   */
  takeAnswer(bytes: number, isFirst: boolean): boolean {
    if (!this.hasAnswer(bytes, isFirst)) return false;
    const ms = this.costMs(bytes, false);
    this.#answersMs -= ms;
    this.charge(ms, "handshakes");
    if (isFirst) this.#answeredAtMs.push(this.#clock.monotonicMs());
    return true;
  }

  /** `takeAnswer` would say so of `bytes`. False: that is counted. */
  hasAnswer(bytes: number, isFirst: boolean): boolean {
    const ms = this.costMs(bytes, false);
    this.#refill();
    const sinceMs = this.#clock.monotonicMs() - BEGUN_MS;
    while (this.#answeredAtMs.length > 0 && this.#answeredAtMs[0]! < sinceMs) this.#answeredAtMs.shift();
    const begunMs = this.#answeredAtMs.length * this.#linkMs;
    const isLeft = isFirst ? this.#savedMs >= begunMs : this.has(ms, "handshakes", "mail");
    const isThere = this.#answersMs >= ms && isLeft;
    if (!isThere) this.sums.handshakes.refused++;
    return isThere;
  }

  /** A caller cost so much more: what his link says of itself. */
  noteAnswer(bytes: number): void {
    this.#answersMs -= this.costMs(bytes, true);
  }

  /** What cannot be held back, and is owed if it is not there. */
  charge(ms: number, use: AirtimeUse): void {
    this.#refill();
    this.#savedMs -= ms;
    this.sums[use].usedMs += ms;
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    const earnedMs = (nowMs - this.#atMs) * this.share;
    this.#atMs = nowMs;
    this.#savedMs = Math.min(SAVED_LINKS * this.#linkMs, this.#savedMs + earnedMs);
    this.#answersMs = Math.min(this.#linkMs, this.#answersMs + earnedMs * ANSWERS_SHARE);
  }
}

/** Datagrams of what is so large: each but a whole one says which piece it is. */
function* pieces(bytes: number, widest: number): Generator<number> {
  if (bytes <= widest) return void (yield bytes);
  const room = Math.max(1, widest - PIECE_BYTES);
  for (let left = bytes; left > 0; left -= room) yield Math.min(left, room) + PIECE_BYTES;
}

function reaches(medium: Medium, endpoint: string): boolean {
  try {
    return medium.reaches?.(endpoint) ?? true;
  } catch {
    return false;
  }
}

/** The channels of this node. A transport gives one object for each. */
export class Airtime {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #budgets = new WeakMap<Medium, ChannelBudget>();
  readonly #schemes = new Map<ChannelBudget, readonly string[]>();
  /** By name, of transports that are gone: one that starts again, or registers anew, has no other budget for that. */
  readonly #gone = new BoundedMap<string, ChannelBudget>({ name: "channels gone", max: GONE_MAX });
  /** Whether mail waits for a link to that endpoint. Set by whoever knows. */
  isForMail: (endpoint: string) => boolean = () => false;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Those of transports that run, in the order in which they came. */
  get channels(): Iterable<ChannelBudget> {
    return this.#schemes.keys();
  }

  /** A transport shares this channel among all endpoints of these schemes that the medium reaches. */
  open(medium: Medium, schemes: readonly string[]): ChannelBudget {
    const budget = this.of(medium);
    this.#schemes.set(budget, schemes);
    return budget;
  }

  /** The transport is gone. What it had saved or owed stands should it come again with a medium of the same name. */
  close(medium: Medium): void {
    const budget = this.of(medium);
    this.#schemes.delete(budget);
    this.#gone.renew(medium.name, budget);
  }

  of(medium: Medium): ChannelBudget {
    let budget = this.#budgets.get(medium);
    if (budget === undefined) {
      budget = new ChannelBudget(this.#clock, medium, this.#gone.get(medium.name));
      this.#gone.delete(medium.name);
      this.#budgets.set(medium, budget);
    }
    return budget;
  }

  /** Of the channel that leads to an endpoint; undefined: it is shared with nobody. */
  at(endpoint: string): ChannelBudget | undefined {
    const scheme = endpoint.slice(0, Math.max(0, endpoint.indexOf("://")));
    for (const [budget, schemes] of this.#schemes)
      if (schemes.includes(scheme) && reaches(budget.medium, endpoint)) return budget;
    return undefined;
  }
}
