/**
 * Linked nodes that run this plugin too: what they carry for this node, what it carries for them, and where their sockets are. Owns how much each of
 * them may ask for. What they bring is judged like anything from the DHT: they carry it, and vouch for nothing.
 */
import { itemSalt, type PluginContext } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { Allowance } from "./allowance.ts";
import type { Board } from "./board.ts";
import { type CarriedItem, decodeCarry, encodeFound, encodeLookUp, encodePort, encodePut } from "./carry.ts";
import type { SignedItem } from "./client.ts";
import type { Contacts } from "./contacts.ts";
import { formatId, LABEL_BYTES, type MeshKeys, PLUGIN } from "./keys.ts";
import type { Presence } from "./presence.ts";

/** Of one neighbour: items put, one for each live secret; then one a minute. */
const PUT_BURST = 8;
/** Questions, and words about its socket. */
const ASK_BURST = 4;
const PER_SECOND = 1 / 60;
/** Neighbours that are asked to carry, and asked whom they know. */
const CARRIERS = 2;
/** Items in the answer to one question, some six messages. */
const ANSWERED_MAX = 24;
/** How long after a question answers to it are taken. */
const ASKED_MS = 120_000;
const ASKED_MAX = 64;

export type Carried = "put" | "asked" | "found" | "limited" | "malformed" | "refused" | "unasked";

export interface NeighboursDeps {
  readonly ctx: PluginContext;
  readonly board: Board;
  readonly presence: () => Presence;
  readonly contacts: Contacts | undefined;
  /** Of the UDP socket; undefined: there is none now. */
  port(): number | undefined;
}

export class Neighbours {
  readonly #deps: NeighboursDeps;
  readonly #ctx: PluginContext;
  readonly #puts: Allowance;
  readonly #asks: Allowance;
  readonly #ports: Allowance;
  readonly #messages;
  /** Whom this node asked, and when. */
  readonly #asked = new BoundedMap<string, number>({ name: "neighbours asked", max: ASKED_MAX });
  #linked: ReadonlySet<string> = new Set();

  constructor(deps: NeighboursDeps) {
    this.#deps = deps;
    this.#ctx = deps.ctx;
    const { clock } = deps.ctx;
    this.#puts = new Allowance({ clock, burst: PUT_BURST, perSecond: PER_SECOND });
    this.#asks = new Allowance({ clock, burst: ASK_BURST, perSecond: PER_SECOND });
    this.#ports = new Allowance({ clock, burst: ASK_BURST, perSecond: PER_SECOND });
    this.#messages = deps.ctx.counter("carried", "Messages of linked neighbours, by what came of them", [
      "outcome",
    ]);
  }

  start(): void {
    const { peers } = this.#ctx;
    peers.onMessage((from, message) => this.#messages.add(1, { outcome: this.#judge(from, message) }));
    peers.onChange(() => this.#look());
    this.#look();
  }

  /** Hands items of this node to linked members. True: one at least took them. */
  carry(items: readonly SignedItem[]): boolean {
    return (
      this.#some().filter((id) => items.every((item) => this.#ctx.peers.send(id, encodePut(toCarried(item)))))
        .length > 0
    );
  }

  askNeighbours(): boolean {
    const asked = this.#some().filter((id) => this.#ctx.peers.send(id, encodeLookUp()));
    for (const id of asked) this.#asked.renew(id, this.#ctx.clock.monotonicMs());
    return asked.length > 0;
  }

  /** Who is linked, and now is not asked yet. */
  #look(): void {
    const linked = new Set(this.#ctx.peers.list().flatMap(({ id, isLinked }) => (isLinked ? [id] : [])));
    const fresh = [...linked].filter((id) => !this.#linked.has(id));
    this.#linked = linked;
    const { presence } = this.#deps;
    this.#tellPort(fresh);
    if (fresh.length > 0 && !presence().isConnected) presence().wake();
  }

  /** Other sockets are open than before. */
  onSockets(): void {
    this.#tellPort(this.#linked);
  }

  #tellPort(ids: Iterable<string>): void {
    const port = this.#deps.port();
    if (port !== undefined) for (const id of ids) this.#ctx.peers.send(id, encodePort(port));
  }

  #some(): string[] {
    const all = [...this.#linked];
    return Array.from({ length: Math.min(CARRIERS, all.length) }, () => {
      const [id] = all.splice(this.#ctx.random.below(all.length), 1);
      return id!;
    });
  }

  #judge(from: string, bytes: Uint8Array): Carried {
    const message = decodeCarry(bytes);
    if (message === undefined) return "malformed";
    switch (message.kind) {
      case "port":
        return this.#onPort(from, message.port);
      case "put":
        return this.#puts.spend(from) ? this.#onPut(from, message.item) : "limited";
      case "lookUp":
        return this.#asks.spend(from) ? this.#onLookUp(from) : "limited";
      case "found":
        return this.#onFound(from, message.items);
    }
  }

  #onPort(from: string, port: number): Carried {
    if (!this.#ports.spend(from)) return "limited";
    const { contacts } = this.#deps;
    const facts = contacts === undefined ? undefined : this.#ctx.peers.list().find(({ id }) => id === from);
    if (facts !== undefined) contacts?.addNeighbour(from, facts.endpoints, port);
    return "put";
  }

  /** Of its own alone: others can be carried for by those that they are linked to. */
  #onPut(from: string, carried: CarriedItem): Carried {
    const keys = this.#keysOf(carried);
    if (keys === undefined || formatId(carried.key) !== from) return "refused";
    const item = fromCarried(carried);
    const verdict = this.#deps.board.judge(item, keys);
    if (verdict !== "new" && verdict !== "known") return "refused";
    this.#ctx.spawn("carry", () => this.#deps.presence().carry(item, keys));
    return "put";
  }

  #onLookUp(from: string): Carried {
    this.#ctx.spawn("look for a neighbour", async (signal) => {
      const presence = this.#deps.presence();
      await presence.lookForNeighbour();
      if (signal.aborted) return;
      const others = this.#deps.board.items.filter(({ key }) => formatId(key) !== from);
      const some = [...presence.items, ...this.#shuffled(others)].slice(0, ANSWERED_MAX);
      for (const message of encodeFound(some.map(toCarried))) this.#ctx.peers.send(from, message);
    });
    return "asked";
  }

  #onFound(from: string, items: readonly CarriedItem[]): Carried {
    const askedAtMs = this.#asked.get(from);
    if (askedAtMs === undefined || this.#ctx.clock.monotonicMs() - askedAtMs > ASKED_MS) return "unasked";
    for (const carried of items.slice(0, ANSWERED_MAX)) {
      const keys = this.#keysOf(carried);
      if (keys !== undefined && formatId(carried.key) !== this.#ctx.self.id)
        this.#deps.board.judge(fromCarried(carried), keys);
    }
    return "found";
  }

  #keysOf({ label }: CarriedItem): MeshKeys | undefined {
    return this.#deps.presence().keys.find((keys) => Buffer.from(keys.label).equals(label));
  }

  #shuffled<T>(list: readonly T[]): T[] {
    return list
      .map((value) => ({ value, rank: this.#ctx.random.float() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ value }) => value);
  }
}

const toCarried = ({ salt, ...item }: SignedItem): CarriedItem => ({
  ...item,
  label: salt.subarray(salt.length - LABEL_BYTES),
});

const fromCarried = ({ label, ...item }: CarriedItem): SignedItem => ({
  ...item,
  salt: itemSalt(PLUGIN, label),
});
