/** Which packets a radio has seen, and who repeated them: as PacketHistory of the firmware. */
import { lastByte } from "./lora-frame.ts";
import type { Packet } from "./packet.ts";

/** Packets; the oldest makes room. */
const PACKETS_MAX = 256;
const RELAYERS_MAX = 6;

/** Both are 32 bits, and ids are random: what the product rounds off never makes two of one. */
const keyOf = (from: number, id: number): number => id * 2 ** 21 + (from % 2 ** 21);

interface Seen {
  nextHop: number;
  mostHops: number;
  /** It was sent from here with so many hops left; undefined: it was not. */
  ownHops: number | undefined;
  relayedBy: number[];
}

export interface Verdict {
  readonly isSeen: boolean;
  /** Seen, and now with more hops left than before. */
  readonly isUpgraded: boolean;
  /** The one who was asked to carry it did not, and its sender floods it. */
  readonly isFallback: boolean;
  readonly wasNextHop: boolean;
}

export class History {
  readonly #own: () => number;
  readonly #seen = new Map<number, Seen>();

  constructor(own: () => number) {
    this.#own = own;
  }

  note(packet: Packet): Verdict {
    const { from, id, hopLimit, nextHop, relayNode } = packet;
    const nothing = { isSeen: false, isUpgraded: false, isFallback: false, wasNextHop: false };
    if (id === 0) return nothing;
    const own = lastByte(this.#own());
    const key = keyOf(from, id);
    const old = this.#seen.get(key);
    this.#seen.delete(key);
    const isOwnTurn = relayNode === own;
    if (old === undefined) {
      if (this.#seen.size >= PACKETS_MAX) this.#seen.delete(this.#seen.keys().next().value!);
      this.#seen.set(key, {
        nextHop,
        mostHops: hopLimit,
        ownHops: isOwnTurn ? hopLimit : undefined,
        relayedBy: isOwnTurn ? [own] : [],
      });
      return nothing;
    }
    this.#seen.set(key, old);
    const verdict = {
      isSeen: true,
      isUpgraded: old.mostHops < hopLimit,
      isFallback:
        from !== this.#own() &&
        old.nextHop !== 0 &&
        old.nextHop !== own &&
        nextHop === 0 &&
        old.relayedBy.includes(relayNode) &&
        !old.relayedBy.includes(own) &&
        !old.relayedBy.includes(old.nextHop),
      wasNextHop: old.nextHop === own,
    };
    old.mostHops = Math.max(old.mostHops, hopLimit);
    if (isOwnTurn) old.ownHops = hopLimit;
    const isOfOurs = old.ownHops !== undefined && (hopLimit === old.ownHops || hopLimit === old.ownHops - 1);
    if ((isOwnTurn || isOfOurs) && relayNode !== 0)
      old.relayedBy = [relayNode, ...old.relayedBy.filter((it) => it !== relayNode)].slice(0, RELAYERS_MAX);
    return verdict;
  }

  /** Who repeated a packet that was sent from here or carried here, by last bytes. */
  relayersOf(from: number, id: number): readonly number[] {
    return this.#seen.get(keyOf(from, id))?.relayedBy ?? [];
  }
}
