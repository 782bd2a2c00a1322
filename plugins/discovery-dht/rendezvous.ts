/**
 * Where members meet who do not know each other: slots, items under keys that every member can make, each with a list of node ids. Every member
 * may write every slot, so nothing in one is believed: an id leads to the item that its node signed itself. Who writes keeps what others wrote, and
 * looks again whether it stayed. docs/protocol/dht.md, "Rendezvous"
 */
import { createHash } from "node:crypto";
import { type Clock, itemMessage, type Random } from "@godwit/sdk";
import type { DhtClient, SignedItem } from "./client.ts";
import { targetOf } from "./kept.ts";
import type { Item } from "./krpc.ts";
import { isPlausible, type MeshKeys, type Period } from "./keys.ts";
import { decodeSlot, encodeSlot, SLOT_IDS_MAX } from "./record.ts";

export const SLOTS = 8;
/**
 * Who writes a slot adds 1 to its sequence, so that it stays far below the seconds since 1970. What is further than this above them, or for a node
 * without a clock above what it saw before, is poison: nobody could write the slot any more. The bound grows by 1 a second, so it can be written again.
 */
const SEQ_LEAP_MAX = 100_000;
/** Slots of the periods of all live secrets, which a member judges when others put them. */
const JUDGED_MAX = 512;

/** `count`: nodes that took it. `wasThere`: all ids stood in it before. */
export interface Written {
  readonly count: number;
  readonly wasThere: boolean;
}

export interface Slot {
  readonly seq: number;
  readonly ids: readonly Uint8Array[];
  /** The copy that this node keeps and the one that others keep do not have the same ids: whoever reads one misses some. */
  readonly isSplit: boolean;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const saltOf = (slot: number): Uint8Array => Buffer.from(`slot ${slot}`);

/** Its first choice, and where that is taken from it the next. */
export const slotOf = (id: Uint8Array, attempt: number): number =>
  (createHash("sha256").update(id).digest()[0]! + attempt) % SLOTS;

interface Judged {
  readonly keys: MeshKeys;
  /** As its seal has it. */
  readonly place: Uint8Array;
  readonly slot: number;
  /** The highest that was right. */
  seq: number;
  /** After the last round of this node. */
  visitedSeq: number;
}

export interface RendezvousDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly client: DhtClient;
  /** Another wrote a slot, which this node keeps for the mesh. */
  onWritten(slot: number, ids: readonly Uint8Array[]): void;
  /** Of these it is known that an item is there: they stay when a slot is full. */
  isGood(id: Uint8Array): boolean;
}

export class Rendezvous {
  readonly #deps: RendezvousDeps;
  /** By target: of which keys, and the sequence it was seen with. */
  readonly #judged = new Map<string, Judged>();

  constructor(deps: RendezvousDeps) {
    this.#deps = deps;
  }

  /** The slots of one period. Never rejects: a slot that is not there, or holds what no member wrote, is empty. */
  read(keys: MeshKeys, period: Period): Promise<Slot[]> {
    return Promise.all(Array.from({ length: SLOTS }, (_, slot) => this.readSlot(keys, period, slot)));
  }

  async readSlot(keys: MeshKeys, period: Period, slot: number): Promise<Slot> {
    const { publicKey } = keys.meeting(period);
    const salt = saltOf(slot);
    const judged = this.#judge(keys, period, slot);
    const { client } = this.#deps;
    const seqMax = this.#seqMax(judged.seq);
    const found = await client.get(publicKey, salt, seqMax);
    // A search asks others alone: of two who wrote at once, each in the other's store, neither would ever see the other.
    const held = client.kept(targetOf({ key: publicKey, salt, value: publicKey }));
    const kept = held !== undefined && held.seq <= seqMax ? held : undefined;
    const seq = Math.max(found?.seq ?? 0, kept?.seq ?? 0);
    judged.seq = Math.max(judged.seq, seq);
    const copies = [found, kept].map((copy) => this.#idsOf(judged, copy));
    const ids = new Map(copies.flat().map((id) => [hex(id), id]));
    const isSplit =
      found !== undefined && kept !== undefined && copies.some(({ length }) => length < ids.size);
    return { seq, ids: [...ids.values()], isSplit };
  }

  #idsOf({ keys, place }: Judged, copy: Pick<SignedItem, "value"> | undefined): readonly Uint8Array[] {
    const plain = copy === undefined ? undefined : keys.open(place, copy.value);
    return (plain === undefined ? undefined : decodeSlot(plain)) ?? [];
  }

  /**
   * Puts ids into a slot beside those that others put there. Resolves with how many nodes took it; 0: nobody is there, or all have something newer.
   * What stands there already and was put by another since this node's last round is not put again: 1 then.
   */
  async write(keys: MeshKeys, period: Period, slot: number, own: readonly Uint8Array[]): Promise<Written> {
    const { random, client } = this.#deps;
    const there = await this.readSlot(keys, period, slot);
    const judged = this.#judge(keys, period, slot);
    const present = new Set(there.ids.map(hex));
    const wasThere = own.every((id) => present.has(hex(id)));
    const isFresh = there.seq > judged.visitedSeq && wasThere;
    judged.visitedSeq = isFresh ? there.seq : there.seq + 1;
    if (isFresh) return { count: 1, wasThere };
    const seq = there.seq + 1;
    const ids = this.#merge(own, there.ids);
    const key = keys.meeting(period);
    const salt = saltOf(slot);
    const value = keys.seal(judged.place, encodeSlot(ids), random);
    const signature = key.sign(itemMessage(salt, seq, value));
    const count = await client.put({ key: key.publicKey, salt, seq, value, signature });
    return { count, wasThere };
  }

  /** Of a put by somebody else: why it is not taken; undefined where it may, or is none of ours. */
  judge(target: string, { seq = 0, value }: Item): string | undefined {
    const judged = this.#judged.get(target);
    if (judged === undefined) return undefined;
    if (seq > this.#seqMax(judged.seq)) return "a sequence from the future";
    const plain = judged.keys.open(judged.place, value);
    const ids = plain === undefined ? undefined : decodeSlot(plain);
    if (ids === undefined) return "no slot of this mesh";
    this.#deps.onWritten(judged.slot, ids);
    return undefined;
  }

  /** Forgets the slots of secrets that are none any more. */
  keepOnly(live: readonly MeshKeys[]): void {
    for (const [target, { keys }] of this.#judged) if (!live.includes(keys)) this.#judged.delete(target);
  }

  #judge(keys: MeshKeys, period: Period, slot: number): Judged {
    const { publicKey } = keys.meeting(period);
    const salt = saltOf(slot);
    const target = targetOf({ key: publicKey, salt, value: publicKey });
    const known = this.#judged.get(target);
    if (known !== undefined) return known;
    const made = { keys, place: Buffer.concat([publicKey, salt]), slot, seq: 0, visitedSeq: 0 };
    const [oldest] = this.#judged.keys();
    if (this.#judged.size >= JUDGED_MAX && oldest !== undefined) this.#judged.delete(oldest);
    this.#judged.set(target, made);
    return made;
  }

  #seqMax(seen: number): number {
    const wallMs = this.#deps.clock.wallMs();
    // Whose clock is not set takes the first one that it sees for right.
    if (!isPlausible(wallMs)) return seen === 0 ? Number.MAX_SAFE_INTEGER : seen + SEQ_LEAP_MAX;
    return Math.floor(wallMs / 1_000) + SEQ_LEAP_MAX;
  }

  /** Own ones first, then those that lead somewhere, then the others, in no order that anybody could use. */
  #merge(own: readonly Uint8Array[], there: readonly Uint8Array[]): Uint8Array[] {
    const { random, isGood } = this.#deps;
    const others = there
      .map((id) => ({ id, rank: (isGood(id) ? 0 : 1) + random.float() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ id }) => id);
    const merged = new Map([...own, ...others].map((id) => [hex(id), id]));
    return [...merged.values()].slice(0, SLOT_IDS_MAX);
  }
}
