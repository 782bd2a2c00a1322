/**
 * What this node does in the DHT of its mesh: says where it is, looks for others, and does both for linked neighbours that cannot. Owns when, and
 * what is carried for whom. What is believed of an item is the board's, what a slot holds the rendezvous's.
 */
import { itemSalt, type PluginContext } from "@godwit/sdk";
import { BoundedMap, BoundedSet } from "@godwit/sdk/bounded";
import { Alarm } from "./alarm.ts";
import { type Board, placeOf } from "./board.ts";
import type { DhtClient, SignedItem } from "./client.ts";
import { formatId, idBytes, MeshKeys, type Period, PLUGIN, publishedPeriods, SEED_PURPOSE } from "./keys.ts";
import { encodeRecord } from "./record.ts";
import { type Rendezvous, slotOf } from "./rendezvous.ts";

/** BEP 44 asks for an hour; two of them are less than the two hours after which items may be forgotten. */
const REFRESH_MS = 2_700_000;
const REFRESH_JITTER_MS = 600_000;
/** Nothing was stored: the first pause, each next one twice as long. */
const RETRY_MS = 5_000;
const RETRY_MAX_MS = 600_000;
/** Without any link. */
const LONELY_MS = 4_000;
const LONELY_MAX_MS = 300_000;
/**
 * With links the mesh itself tells of others, but for a part of it that has lost the way here, or that came up beside this one and has links of its own: a minute
 * after the first link, then a quarter of an hour after that, and each three hours.
 */
const LOOK_FIRST_MS = 60_000;
const LOOK_MS = 3 * 3_600_000;
/** For neighbours, whoever asks. */
const LOOK_FOR_MS = 60_000;
/** Somebody who wrote a slot at the same time has done so by then. */
const CHECK_MS = 3_000;
const CHECK_JITTER_MS = 5_000;
/** A slot that was lost so often is given up for the next one. */
const CHECKS_MAX = 3;
const HEAL_MS = 60_000;
/** Secrets, endpoints and growth are looked at so often at least. */
const TICK_MS = 30_000;
/** In a DHT that small each new node may be where an item belongs. */
const SMALL_DHT = 32;
/** Nodes of slots that are asked for in one round, and at once. */
const LOOKED_UP_MAX = 64;
/** Ids of slots of which no item was found: they are asked for when there is nobody else. */
const MISSED_MAX = 2_048;
const AT_ONCE_MAX = 8;
/** Neighbours that are carried for, and how long after their last word. */
export const CARRIED_MAX = 64;
const CARRIED_MS = 7_200_000;
const SEQ_KEY = "seq";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export interface PresenceDeps {
  readonly ctx: PluginContext;
  readonly board: Board;
  /** Undefined: no socket, by the operator's will. */
  readonly client: DhtClient | undefined;
  readonly rendezvous: Rendezvous | undefined;
  /** Hands an item of this node to linked members that may reach others. True: one at least has it. */
  carry(items: readonly SignedItem[]): boolean;
  /** Asks linked members whom they know. */
  askNeighbours(): boolean;
}

export class Presence {
  readonly #deps: PresenceDeps;
  readonly #ctx: PluginContext;
  readonly #alarm: Alarm;
  readonly #own: Uint8Array;
  readonly #carried = new BoundedMap<string, number>({ name: "neighbours carried for", max: CARRIED_MAX });
  readonly #missed = new BoundedSet<string>({ name: "ids without an item", max: MISSED_MAX });
  #keys: readonly MeshKeys[] = [];
  #seedText = "";
  #seq: number | undefined;
  #items: readonly SignedItem[] = [];
  #attempt = 0;
  #checks = 0;
  #retryMs = RETRY_MS;
  #lonelyMs = LONELY_MS;
  #lookMs = LOOK_FIRST_MS;
  #nodesThen = 0;
  #publishAtMs = 0;
  #checkAtMs = Infinity;
  #healedAtMs = -Infinity;
  #lookAtMs = 0;
  #lookedForAtMs = -Infinity;
  #looks = 0;

  constructor(deps: PresenceDeps) {
    this.#deps = deps;
    this.#ctx = deps.ctx;
    this.#alarm = new Alarm(deps.ctx.clock);
    this.#own = idBytes(deps.ctx.self.id)!;
  }

  get keys(): readonly MeshKeys[] {
    return this.#keys;
  }

  /** As last published. */
  get items(): readonly SignedItem[] {
    return this.#items;
  }

  get isConnected(): boolean {
    return (this.#deps.client?.nodeCount ?? 0) > 0;
  }

  /** The first node of the DHT answered. */
  onConnected(): void {
    this.wake();
  }

  /** Another wrote a slot that this node keeps: where its own id was lost by that, it looks after it soon, once a minute at most. */
  onWritten(slot: number, ids: readonly Uint8Array[]): void {
    const isOurs = this.#items.length > 0 && slot === slotOf(this.#own, this.#attempt);
    if (!isOurs || ids.some((id) => hex(id) === hex(this.#own))) return;
    if (this.#nowMs - this.#healedAtMs < HEAL_MS) return;
    this.#healedAtMs = this.#nowMs;
    this.#checkSoon();
    this.#alarm.ring();
  }

  /** Something changed that makes both worth while now. */
  wake(): void {
    this.#publishAtMs = this.#lookAtMs = 0;
    this.#retryMs = RETRY_MS;
    this.#lonelyMs = LONELY_MS;
    this.#lookMs = LOOK_FIRST_MS;
    this.#alarm.ring();
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#readKeys();
      if (signal.aborted) return;
      if (this.#nowMs >= this.#publishAtMs || this.#hasGrown) await this.#publish(signal);
      if (!signal.aborted && this.#nowMs >= this.#checkAtMs) await this.#check(signal);
      if (!signal.aborted && this.#nowMs >= this.#lookAtMs) await this.#lookInTime(signal);
      const nextMs = Math.min(this.#publishAtMs, this.#checkAtMs, this.#lookAtMs) - this.#nowMs;
      await this.#alarm.wait(Math.min(nextMs, TICK_MS), signal);
    }
  }

  /** Puts the item of a linked neighbour, which is right, and keeps its id in the slots. */
  async carry(item: SignedItem, keys: MeshKeys): Promise<void> {
    this.#carried.renew(hex(item.key), this.#nowMs);
    const { client } = this.#deps;
    if (client === undefined) return;
    await client.put(item);
    await this.#announce(keys, [item.key]);
  }

  /** A round of looking for everybody, whom this node knows a way to as well, at most one a minute; resolves when it is done. */
  async lookForNeighbour(): Promise<void> {
    if (!this.isConnected || this.#nowMs - this.#lookedForAtMs < LOOK_FOR_MS) return;
    this.#lookedForAtMs = this.#nowMs;
    await this.#look(this.#ctx.signal, []);
  }

  get #nowMs(): number {
    return this.#ctx.clock.monotonicMs();
  }

  get #hasGrown(): boolean {
    const count = this.#deps.client?.nodeCount ?? 0;
    return count <= SMALL_DHT && count >= 1.5 * Math.max(1, this.#nodesThen) && this.#nodesThen > 0;
  }

  async #readKeys(): Promise<void> {
    const seeds = await this.#ctx.self.meshSeeds(SEED_PURPOSE);
    const text = seeds.map(hex).join();
    if (text === this.#seedText) return;
    this.#seedText = text;
    this.#keys = seeds.map((seed) => new MeshKeys(seed));
    this.#deps.rendezvous?.keepOnly(this.#keys);
    this.#publishAtMs = this.#lookAtMs = 0;
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const { client } = this.#deps;
    const endpoints = this.#ctx.self.endpoints();
    const isConnected = this.isConnected;
    this.#publishAtMs = this.#nowMs + REFRESH_MS + this.#ctx.random.float() * REFRESH_JITTER_MS;
    // Nobody can dial it: that it is there helps nobody.
    if (endpoints.length === 0) return;
    const seq = await this.#nextSeq();
    if (signal.aborted) return;
    const record = encodeRecord({ callsign: this.#ctx.self.callsign, endpoints });
    this.#items = await Promise.all(this.#keys.map((keys) => this.#sign(keys, record, seq)));
    if (signal.aborted) return;
    let isStored: boolean;
    if (client !== undefined && isConnected) {
      this.#nodesThen = client.nodeCount;
      const counts = await Promise.all(this.#items.map((item) => client.put(item)));
      isStored = counts.every((count) => count > 0);
      for (const keys of this.#keys)
        if (!signal.aborted)
          isStored = (await this.#announce(keys, [this.#own, ...this.#living])) && isStored;
    } else isStored = this.#deps.carry(this.#items);
    if (isStored) this.#retryMs = RETRY_MS;
    else {
      this.#publishAtMs = this.#nowMs + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
    }
  }

  async #sign(keys: MeshKeys, record: Uint8Array, seq: number): Promise<SignedItem> {
    const salt = itemSalt(PLUGIN, keys.label);
    const value = keys.seal(placeOf(this.#own, salt), record, this.#ctx.random);
    const signature = await this.#ctx.self.signItem({ label: keys.label, seq, value });
    return { key: this.#own, salt, seq, value, signature };
  }

  /** Never falls back, over restarts neither, nor where the state is an older copy while the DHT still has what came after it. */
  async #nextSeq(): Promise<number> {
    const { client } = this.#deps;
    if (this.#seq === undefined) {
      const kept = await this.#ctx.storage.get(SEQ_KEY).catch(() => undefined);
      this.#seq = Number(kept === undefined ? 0 : new TextDecoder().decode(kept)) || 0;
    }
    if (client !== undefined)
      for (const keys of this.#keys) {
        const found = await client.get(this.#own, itemSalt(PLUGIN, keys.label));
        this.#seq = Math.max(this.#seq, found?.seq ?? 0);
      }
    this.#seq++;
    await this.#ctx.storage
      .set(SEQ_KEY, new TextEncoder().encode(String(this.#seq)))
      .catch((error: Error) => {
        this.#ctx.log.debug("sequence not kept", { error: error.message });
      });
    return this.#seq;
  }

  /** Neighbours whose items were brought lately. */
  get #living(): Uint8Array[] {
    const sinceMs = this.#nowMs - CARRIED_MS;
    return [...this.#carried]
      .filter(([, atMs]) => atMs > sinceMs)
      .map(([id]) => new Uint8Array(Buffer.from(id, "hex")));
  }

  /** Into the slots of every period. True: each was taken by somebody. */
  async #announce(keys: MeshKeys, ids: readonly Uint8Array[]): Promise<boolean> {
    const { rendezvous } = this.#deps;
    if (rendezvous === undefined) return false;
    const bySlot = Map.groupBy(ids, (id) => slotOf(id, id === this.#own ? this.#attempt : 0));
    let isDone = true;
    for (const period of publishedPeriods(this.#ctx.clock.wallMs()))
      for (const [slot, own] of bySlot) {
        if (this.#ctx.signal.aborted) return false;
        const { count, wasThere } = await rendezvous.write(keys, period, slot, own);
        isDone &&= count > 0;
        if (!wasThere && own.includes(this.#own)) this.#checkSoon();
      }
    return isDone;
  }

  #checkSoon(): void {
    const jitterMs = this.#ctx.random.float() * CHECK_JITTER_MS;
    this.#checkAtMs = Math.min(this.#checkAtMs, this.#nowMs + CHECK_MS + jitterMs);
  }

  /** Two who write one slot at once lose one of both; and who poisons it takes it away. */
  async #check(signal: AbortSignal): Promise<void> {
    const { rendezvous } = this.#deps;
    this.#checkAtMs = Infinity;
    if (rendezvous === undefined) return;
    let isLost = false;
    for (const keys of this.#keys)
      for (const period of publishedPeriods(this.#ctx.clock.wallMs())) {
        if (signal.aborted) return;
        const slot = slotOf(this.#own, this.#attempt);
        const { ids, isSplit } = await rendezvous.readSlot(keys, period, slot);
        const isThere = ids.some((id) => hex(id) === hex(this.#own));
        if ((isThere && !isSplit) || signal.aborted) continue;
        isLost = true;
        await rendezvous.write(keys, period, slot, [this.#own]);
      }
    this.#checks = isLost ? this.#checks + 1 : 0;
    if (this.#checks >= CHECKS_MAX) {
      this.#checks = 0;
      this.#attempt++;
      this.#publishAtMs = this.#nowMs;
    } else if (isLost) this.#checkSoon();
  }

  async #lookInTime(signal: AbortSignal): Promise<void> {
    if (this.isConnected) await this.#look(signal, this.#reached);
    else this.#deps.askNeighbours();
    const isLonely = this.#ctx.peers.list().every(({ isLinked }) => !isLinked);
    this.#lookAtMs = this.#nowMs + (isLonely ? this.#lonelyMs : this.#lookMs);
    this.#lonelyMs = isLonely ? Math.min(2 * this.#lonelyMs, LONELY_MAX_MS) : LONELY_MS;
    this.#lookMs = isLonely ? LOOK_FIRST_MS : Math.min(16 * this.#lookMs, LOOK_MS);
  }

  /** Looks in all slots for nodes other than `known`. Answers how many have a right item. */
  async #look(signal: AbortSignal, known: readonly string[]): Promise<number> {
    let found = 0;
    const periods = publishedPeriods(this.#ctx.clock.wallMs());
    // Nobody is missed then, and a week with somebody is like the next: one period will do, in turns.
    const turn = this.#looks++ % 2 === 0 ? periods.slice(0, 1) : periods.slice(-1);
    for (const keys of this.#keys) {
      let isMet = false;
      const asked = new Set([hex(this.#own), ...known]);
      for (const period of known.length > 0 ? turn : periods) {
        if (signal.aborted) return found;
        // One week that has somebody will do; who has no clock stands without a date alone.
        if (isMet && period !== "always") continue;
        const count = await this.#lookAt(keys, period, asked, signal);
        found += count;
        isMet ||= count > 0;
      }
    }
    return found;
  }

  /** Nodes that there is a way to: their items would tell nothing new. */
  get #reached(): string[] {
    return this.#ctx.peers.list().flatMap(({ id, isLinked, via }) => {
      const bytes = isLinked || via !== undefined ? idBytes(id) : undefined;
      return bytes === undefined ? [] : [hex(bytes)];
    });
  }

  /** `asked`: whose items were asked for in this round. */
  async #lookAt(keys: MeshKeys, period: Period, asked: Set<string>, signal: AbortSignal): Promise<number> {
    const { rendezvous, client, board } = this.#deps;
    if (rendezvous === undefined || client === undefined) return 0;
    const slots = await rendezvous.read(keys, period);
    const wanted = this.#sample(
      slots.map(({ ids }) => ids),
      asked,
    );
    let found = 0;
    const worker = async () => {
      for (let id = wanted.pop(); id !== undefined && !signal.aborted; id = wanted.pop()) {
        const item = await client.get(id, itemSalt(PLUGIN, keys.label));
        if (signal.aborted) return;
        if (item === undefined) {
          this.#missed.add(hex(id));
          continue;
        }
        this.#missed.delete(hex(id));
        const verdict = board.judge(item, keys);
        if (verdict === "new" || verdict === "known") found++;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE_MAX }, worker));
    return found;
  }

  /**
   * Those that are not known first, those of which nothing was found last; else as they stand in their slots, because who writes one puts itself in
   * front. The last quarter in no order that a writer could choose. The answer is taken from its end.
   */
  #sample(slots: readonly (readonly Uint8Array[])[], asked: Set<string>): Uint8Array[] {
    const { board } = this.#deps;
    const ranks = new Map<string, { readonly id: Uint8Array; readonly rank: number }>();
    for (const ids of slots)
      for (const [position, id] of ids.entries()) {
        const name = hex(id);
        const isLate = board.isGood(formatId(id)) ? 1_000 : this.#missed.has(name) ? 2_000 : 0;
        const rank = isLate + position;
        if (!asked.has(name) && rank < (ranks.get(name)?.rank ?? Infinity)) ranks.set(name, { id, rank });
      }
    const ranked = [...ranks.values()].sort((a, b) => a.rank - b.rank).map(({ id }) => id);
    const first = ranked.splice(0, (LOOKED_UP_MAX * 3) / 4);
    while (first.length < LOOKED_UP_MAX && ranked.length > 0)
      first.push(...ranked.splice(this.#ctx.random.below(ranked.length), 1));
    for (const id of first) asked.add(hex(id));
    return first.reverse();
  }
}
