/**
 * The node of the DHT: bittorrent-dht behind our socket. Owns the library's life, who gets into its table of nodes, and what of items is a promise.
 * Never hands out an item whose signature is not its key's. docs/protocol/dht.md
 */
import { createHash, createPublicKey, verify } from "node:crypto";
import {
  type Clock,
  itemMessage,
  type ListenAddress,
  type Log,
  type Random,
  sourceGroup,
  type Timer,
  TokenBucket,
} from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import DHT, { type DhtValue, type Verify } from "bittorrent-dht";
import { Allowance } from "./allowance.ts";
import { ITEMS_MAX, KeptItems, targetOf } from "./kept.ts";
import type { Family, Item } from "./krpc.ts";
import { GuardedSocket, type Outcome } from "./socket.ts";

/** Nodes of a search and of a bucket. More than BEP 5's 8, so that the four of one liar are a third at most. */
const K = 12;
const CONCURRENCY = 16;
/** Of one query; the library looks four times in it. */
const QUERY_TIMEOUT_MS = 1_500;
/** Of a get or a put as a whole. */
const OPERATION_TIMEOUT_MS = 10_000;
/** After the first right value others may have a newer one. */
const GRACE_MS = 150;
/** Of a put: where fewer took it, those that an earlier search found may have begun anew since, or be gone, and it searches once more. */
const TAKEN_ENOUGH = 4;
/** In the table of nodes: of one address or /64, and of all. */
export const NODES_PER_SOURCE_MAX = 4;
const NODES_MAX = 512;
/** Strangers that ask are asked back, to see whether they are there: of one source, and of all. */
const STRANGERS_PER_SOURCE = { burst: NODES_PER_SOURCE_MAX, perSecond: 0.1 } as const;
const STRANGERS_OF_ALL = { burst: 60, perSecond: 20 } as const;
const STRANGER_AGAIN_MS = 30_000;
/** A datagram may be lost, and the stranger may have nothing more to ask: once more after this, where it did not get in. */
const ASK_AGAIN_MS = QUERY_TIMEOUT_MS + 500;
const STRANGERS_MAX = 512;
/** Searches whose ends are remembered for the put that follows. */
const TABLES_MAX = 64;

/** A mutable item whose signature is right. */
export interface SignedItem {
  readonly key: Uint8Array;
  readonly salt: Uint8Array;
  readonly seq: number;
  readonly value: Uint8Array;
  readonly signature: Uint8Array;
}

export interface ClientDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** 20 bytes. */
  readonly id: Uint8Array;
  refusal(host: string): string | undefined;
  /** Whether the address is on a wire of this machine: each is counted for itself there, and not its /64. */
  isOnLink(host: string): boolean;
  /** Of a put by a stranger that is right otherwise: why it is not taken. */
  judge(target: string, item: Item): string | undefined;
  /** The table of nodes is no longer empty. */
  onConnected(): void;
  counted(outcome: Outcome): void;
  carried(direction: "in" | "out", bytes: number): void;
}

const SPKI = Buffer.from("302a300506032b6570032100", "hex");

/** Ed25519 (RFC 8032). Never throws. */
export function isSigned(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (key.length !== 32 || signature.length !== 64) return false;
  try {
    const publicKey = createPublicKey({ key: Buffer.concat([SPKI, key]), format: "der", type: "spki" });
    return verify(null, message, publicKey, signature);
  } catch {
    return false;
  }
}

const verifyItem: Verify = (signature, message, key) => isSigned(key, message, signature);

export class DhtClient {
  readonly #deps: ClientDeps;
  readonly #socket: GuardedSocket;
  readonly #kept: KeptItems;
  readonly #strangers: Allowance;
  readonly #strangersOfAll: TokenBucket;
  readonly #asked = new BoundedMap<string, number>({ name: "strangers asked back", max: STRANGERS_MAX });
  /** Ends what is under way: the library forgets whom it has to answer when it is closed. */
  readonly #ends = new Set<() => void>();
  /** Of strangers that are asked once more; no more than may be asked in that time. */
  readonly #again = new Set<Timer>();
  #dht: DHT | undefined;
  #closing: Promise<void> | undefined;

  constructor(deps: ClientDeps) {
    this.#deps = deps;
    const { clock, random, id } = deps;
    this.#kept = new KeptItems(clock, (target) => void this.#dht?._values.remove(target));
    this.#strangers = new Allowance({ clock, ...STRANGERS_PER_SOURCE });
    this.#strangersOfAll = new TokenBucket(clock, STRANGERS_OF_ALL.perSecond, STRANGERS_OF_ALL.burst);
    this.#socket = new GuardedSocket({
      clock,
      random,
      ownId: id,
      refusal: (host) => deps.refusal(host),
      isKnown: (nodeId, host, port) => {
        const node = this.#dht?.nodes.get(nodeId);
        return node?.host === host && node.port === port;
      },
      onStranger: (host, port) => this.#meet(host, port),
      judgePut: (item, source) => this.#judgePut(item, source),
      wasPut: (item, source) => this.#wasPut(item, source),
      counted: (outcome) => deps.counted(outcome),
      carried: (direction, bytes) => deps.carried(direction, bytes),
    });
  }

  /** Sockets for what is wanted now, and for nothing else; one call at a time. Answers why something failed, or nothing. */
  listen(wanted: readonly ListenAddress[]): Promise<string> {
    return this.#socket.listen(wanted);
  }

  open(): void {
    if (this.#closing !== undefined) return;
    const dht = new DHT({
      nodeId: Buffer.from(this.#deps.id),
      bootstrap: false,
      socket: this.#socket,
      isIP: () => 4,
      timeout: QUERY_TIMEOUT_MS,
      k: K,
      concurrency: CONCURRENCY,
      maxTables: TABLES_MAX,
      maxValues: ITEMS_MAX + 1,
      maxPeers: 1,
      verify: verifyItem,
    });
    this.#dht = dht;
    const note = (error: Error) => this.#deps.log.debug("dht", { error: error.message });
    dht.on("error", note);
    dht.on("warning", note);
    dht.on("node", (node: { readonly id: Buffer; readonly host: string; readonly port: number }) =>
      this.#admit(node.id, node.host),
    );
    // In the turn in which it was made: it asks the socket before that ends.
    dht.listen();
  }

  get ports(): readonly { readonly port: number; readonly families: readonly Family[] }[] {
    return this.#socket.ports;
  }

  get families(): readonly Family[] {
    return this.#socket.families;
  }

  /** Nodes in the table: each has answered. */
  get nodes(): readonly { readonly host: string; readonly port: number }[] {
    return (this.#dht?.nodes.toArray() ?? []).flatMap(({ host, port }) => {
      const address = this.#socket.addressOf(host);
      return address === undefined ? [] : [{ host: address, port }];
    });
  }

  get nodeCount(): number {
    return this.#dht?.nodes.count() ?? 0;
  }

  /** What this node keeps there for others, whose signature and sequence were right when it was put. */
  kept(target: string): Pick<SignedItem, "seq" | "value"> | undefined {
    const held = this.#dht?._values.peek(target);
    return held?.seq === undefined ? undefined : { seq: held.seq, value: held.v };
  }

  /** Items kept for others. */
  get keptCount(): number {
    return this.#kept.size;
  }

  /** Asks a place that is said to be a node; whoever answers gets into the table. */
  meet(host: string, port: number): void {
    this.#dht?.addNode({ host: this.#socket.standInOf(host), port });
  }

  /** Fills the table with the nodes next to this one. Resolves within 10 s. */
  populate(): Promise<void> {
    const dht = this.#dht;
    if (dht === undefined || this.nodeCount === 0) return Promise.resolve();
    return this.#operation<void>(
      (end) => void dht.lookup(Buffer.from(this.#deps.id), () => end()),
      () => {},
    );
  }

  sweep(): void {
    this.#kept.sweep();
  }

  /**
   * The newest that is found with a sequence of at most `seqMax`; undefined: none. Resolves within 10 s, soon after the first right one. Never
   * rejects.
   */
  get(key: Uint8Array, salt: Uint8Array, seqMax = Number.MAX_SAFE_INTEGER): Promise<SignedItem | undefined> {
    const dht = this.#dht;
    if (dht === undefined || this.#closing !== undefined) return Promise.resolve(undefined);
    const target = Buffer.from(targetOf({ key, salt, value: key }), "hex");
    let best: SignedItem | undefined;
    let grace: Timer | undefined;
    const found = () => {
      grace?.cancel();
      return best;
    };
    return this.#operation<SignedItem | undefined>((end) => {
      const take = (item: SignedItem | undefined) => {
        if (item === undefined || item.seq > seqMax || item.seq <= (best?.seq ?? -1)) return;
        best = item;
        grace ??= this.#deps.clock.after(GRACE_MS, end);
      };
      const isRight: Verify = (signature, message, by) => {
        if (!by.equals(key) || !verifyItem(signature, message, by)) return false;
        take(readMessage(message, key, salt, signature));
        return true;
      };
      const options = { salt: Buffer.from(salt), cache: false, verify: isRight } as const;
      dht.get(target, options, (error, value) => {
        if (error === null && value) take(itemOf(value, key, salt));
        end();
      });
    }, found);
  }

  /** How many nodes took it: 0, none, or newer ones are there. Never rejects. */
  put({ key, salt, seq, value, signature }: SignedItem): Promise<number> {
    const dht = this.#dht;
    if (dht === undefined || this.#closing !== undefined || this.nodeCount === 0) return Promise.resolve(0);
    let taken = 0;
    return this.#operation<number>(
      (end) => {
        const item = {
          ...{ k: Buffer.from(key), salt: Buffer.from(salt), seq },
          ...{ v: Buffer.from(value), sig: Buffer.from(signature) },
        };
        // The library puts to others alone: an older copy that this node keeps would stay, and what it says with it.
        const target = targetOf({ key, salt, value });
        const held = dht._values.peek(target);
        if (held?.seq !== undefined && held.seq < seq)
          dht._values.set(target, { ...item, id: Buffer.from(this.#deps.id) });
        const mayBeOld = dht._tables.peek(target) !== undefined;
        const put = (then: () => void) =>
          dht.put(item, (error, _key, count) => {
            taken = Math.max(taken, error === null ? (count ?? 0) : 0);
            then();
          });
        put(() => {
          if (!mayBeOld || taken >= TAKEN_ENOUGH || !this.#ends.has(end)) return end();
          dht._tables.remove(target);
          put(end);
        });
      },
      () => taken,
    );
  }

  /** Idempotent. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      for (const end of [...this.#ends]) end();
      for (const timer of this.#again) timer.cancel();
      this.#again.clear();
      if (this.#dht !== undefined) return this.#dht.destroy(resolve);
      this.#socket.once("close", resolve);
      this.#socket.close();
    });
    return this.#closing;
  }

  /** What the library ends once, late or never: `result` then, after 10 s, or when this closes. */
  #operation<T>(start: (end: () => void) => void, result: () => T): Promise<T> {
    return new Promise((resolve) => {
      const end = () => {
        if (!this.#ends.delete(end)) return;
        deadline.cancel();
        resolve(result());
      };
      const deadline = this.#deps.clock.after(OPERATION_TIMEOUT_MS, end);
      this.#ends.add(end);
      start(end);
    });
  }

  /** A node that answered is in the library's table now: it stays unless others of its source have its places. */
  #admit(id: Buffer, standIn: string): void {
    const dht = this.#dht!;
    // Whoever is told to begin with itself.
    if (id.equals(this.#deps.id)) return dht.removeNode(id);
    const host = this.#socket.addressOf(standIn);
    const all = dht.nodes.toArray();
    const source = host === undefined ? undefined : this.#sourceOf(host);
    const ofSource = all.filter((node) => {
      const address = this.#socket.addressOf(node.host);
      return address !== undefined && this.#sourceOf(address) === source;
    });
    if (source === undefined || ofSource.length > NODES_PER_SOURCE_MAX || all.length > NODES_MAX)
      return dht.removeNode(id);
    if (all.length === 1) this.#deps.onConnected();
  }

  #sourceOf(host: string): string {
    return this.#deps.isOnLink(host) ? host : sourceGroup(host);
  }

  #meet(host: string, port: number): void {
    const place = `${host} ${port}`;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - (this.#asked.get(place) ?? -Infinity) < STRANGER_AGAIN_MS) return;
    if (this.#deps.refusal(host) !== undefined || !this.#strangers.spend(this.#sourceOf(host))) return;
    if (!this.#strangersOfAll.take()) return;
    this.#asked.renew(place, nowMs);
    this.meet(host, port);
    const timer = this.#deps.clock.after(ASK_AGAIN_MS, () => {
      this.#again.delete(timer);
      if (!this.nodes.some((node) => node.host === host && node.port === port)) this.meet(host, port);
    });
    this.#again.add(timer);
  }

  #judgePut(item: Item, source: string): readonly [number, string] | undefined {
    const target = targetOf(item);
    if (!this.#kept.hasRoom(target, source)) return [202, "too many items of this address"];
    const reason = this.#deps.judge(target, item);
    return reason === undefined ? undefined : [203, reason];
  }

  /** The library has judged token, signature and sequence. */
  #wasPut(item: Item, source: string): void {
    const target = targetOf(item);
    const held = this.#dht?._values.peek(target);
    if (held !== undefined && held.v.equals(item.value)) this.#kept.keep(target, source);
  }
}

const itemOf = ({ v, seq, sig }: DhtValue, key: Uint8Array, salt: Uint8Array): SignedItem | undefined =>
  sig === undefined || seq === undefined ? undefined : { key, salt, seq, value: v, signature: sig };

/** What was signed, back to its parts; undefined where it is another salt's. */
function readMessage(
  message: Uint8Array,
  key: Uint8Array,
  salt: Uint8Array,
  signature: Uint8Array,
): SignedItem | undefined {
  const head = Buffer.concat([Buffer.from(`4:salt${salt.length}:`), salt]);
  const rest = Buffer.from(message.subarray(head.length)).toString("latin1");
  const match = /^3:seqi(\d{1,16})e1:v(\d{1,3}):/.exec(rest);
  if (match === null) return undefined;
  const seq = Number(match[1]);
  const value = Buffer.from(rest.slice(match[0].length), "latin1");
  const isWhole = Buffer.from(itemMessage(salt, seq, value)).equals(message);
  return isWhole ? { key, salt, seq, value, signature: new Uint8Array(signature) } : undefined;
}

/** 20 bytes of 32. */
export const dhtIdOf = (seed: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha1").update(seed).digest());
