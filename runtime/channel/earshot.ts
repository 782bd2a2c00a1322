/**
 * Who is heard on one shared channel, by the names of his beacons: where he could be dialled, and how long he counts as there. Hints, each
 * of them: nothing here makes a route, raises a number or becomes a gateway. Owns no timer; bounded, and a flood of invented names
 * pushes out invented names. docs/protocol/slow.md "Beacons"
 */
import type { Clock } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import { Room } from "../kernel/room.ts";
import { type ChannelBeacon, earshotOf } from "../wire/channel-beacon.ts";
import { BeaconNumbers } from "./numbers.ts";
import { HEARD_FOR_MS } from "./presence.ts";

export const HEARD_MAX = 256;
/** Of one name. */
const PLACES_MAX = 4;
/** Names that were not known are taken at this pace, and so many at once: each may make this node speak. */
const NEW_NAMES = { burst: 16, perSecond: 1 / 60 };

/** Where somebody says a name. Its owner is one of them, and only a handshake shows which. */
export interface Place {
  readonly from: string;
  /** As was said there last. */
  gateway: number | undefined;
  /** When, and when first; monotonic ms. */
  spokeAtMs: number;
  readonly sinceMs: number;
}

export interface Heard {
  readonly who: string;
  /** Where its last beacon that counted came from. */
  from: string;
  gateway: number | undefined;
  /** By `quietMs` of the channel. */
  heardAtMs: number;
  /** Also those whose beacons did not count: what is said in a name hides nobody. The last that spoke is the last. */
  readonly places: ReadonlyMap<string, Place>;
}

interface Held extends Heard {
  readonly places: Map<string, Place>;
  /** When one of its beacons counted for nothing last, by `quietMs`. */
  passedOverAtMs: number;
  readonly numbers: BeaconNumbers;
}

/** `changed`: it says something else of itself. `passed-over`: replayed, or too many new names. */
export type Hearing = "new" | "changed" | "same" | "passed-over";

export interface EarshotDeps {
  readonly clock: Clock;
  /** Of the channel; names whose share strangers have. */
  readonly channel: string;
  /** Time in which beacons were to be expected, ms: it stands still while the channel is too busy for them. */
  quietMs(): number;
  /** A link or mail of this node has to do with that name: it gives way to nobody. */
  isNeeded(who: string): boolean;
}

export class Earshot {
  readonly #deps: EarshotDeps;
  readonly #heard = new Map<string, Held>();
  readonly #names: TokenBucket;
  readonly #room: Room<string>;

  constructor(deps: EarshotDeps) {
    this.#deps = deps;
    this.#names = new TokenBucket(deps.clock, NEW_NAMES.perSecond, NEW_NAMES.burst);
    this.#room = new Room<string>({
      name: "nodes heard on a channel",
      max: HEARD_MAX,
      strangersMax: HEARD_MAX,
      worthOf: (who) => (deps.isNeeded(who) ? "kept" : "none"),
      evict: (who) => void this.#heard.delete(who),
    });
  }

  get(who: string): Heard | undefined {
    const heard = this.#heard.get(who);
    return heard === undefined || !this.isThere(heard) ? undefined : heard;
  }

  /** Those that are there. */
  get all(): Heard[] {
    return [...this.#heard.values()].filter((heard) => this.isThere(heard));
  }

  isThere({ heardAtMs }: Heard): boolean {
    return this.#deps.quietMs() - heardAtMs < HEARD_FOR_MS;
  }

  /** Beacons of that name came of late and did not count: old ones, or its own behind what others said in it. */
  isShutOut(who: string): boolean {
    const held = this.#heard.get(who);
    return held !== undefined && this.#deps.quietMs() - held.passedOverAtMs < HEARD_FOR_MS;
  }

  /** What a beacon says of this node's own earshot if both hear the same. */
  sumWith(own: string): number {
    let sum = earshotOf(own);
    for (const { who } of this.all) sum += earshotOf(who);
    return sum & 0xffff;
  }

  hear({ who, number, gateway }: ChannelBeacon, from: string): Hearing {
    const heardAtMs = this.#deps.quietMs();
    const nowMs = this.#deps.clock.monotonicMs();
    const held = this.#heard.get(who);
    if (held !== undefined) {
      if (!held.numbers.knows(number)) notePlace(held, from, gateway, nowMs);
      // Who repeats an old one keeps nobody alive and moves nobody.
      if (!held.numbers.take(number, nowMs)) {
        held.passedOverAtMs = heardAtMs;
        return "passed-over";
      }
      const outcome = !this.isThere(held) ? "new" : held.gateway === gateway ? "same" : "changed";
      Object.assign(held, { from, gateway, heardAtMs });
      this.#room.renew(who);
      return outcome;
    }
    const isKnown = this.#deps.isNeeded(who);
    if (!isKnown && !this.#names.take()) return "passed-over";
    const share = { by: this.#deps.channel, isKnown };
    this.#forgetGone();
    if (!this.#room.admit(who, share)) return "passed-over";
    const numbers = new BeaconNumbers();
    numbers.take(number, nowMs);
    const places = new Map([[from, { from, gateway, spokeAtMs: nowMs, sinceMs: nowMs }]]);
    const passedOverAtMs = Number.NEGATIVE_INFINITY;
    this.#heard.set(who, { who, from, gateway, heardAtMs, places, numbers, passedOverAtMs });
    return "new";
  }

  /** A session with the node that is known here by that name was made: whatever was said in its name before counts against none of its beacons. */
  noteSession(who: string): void {
    this.#heard.get(who)?.numbers.forget();
  }

  /** Something that its session proved came of a node that is known here by that name. */
  noteProof(who: string): void {
    const held = this.#heard.get(who);
    if (held !== undefined) held.heardAtMs = this.#deps.quietMs();
  }

  #forgetGone(): void {
    if (this.#heard.size < HEARD_MAX) return;
    for (const [who, heard] of this.#heard) {
      if (this.isThere(heard) || this.#deps.isNeeded(who)) continue;
      this.#heard.delete(who);
      this.#room.leave(who);
    }
  }
}

/** The one that was silent for longest gives way. */
function notePlace({ places }: Held, from: string, gateway: number | undefined, nowMs: number): void {
  const sinceMs = places.get(from)?.sinceMs ?? nowMs;
  places.delete(from);
  places.set(from, { from, gateway, spokeAtMs: nowMs, sinceMs });
  if (places.size <= PLACES_MAX) return;
  for (const oldest of places.keys()) return void places.delete(oldest);
}
