/**
 * What stands between the network and bittorrent-dht, as the socket that the library asks for. Inwards: bounds what each source may cost, reads
 * every datagram by rules of our own, drops answers to nothing, and hands on only what has its right form, with stand-ins for IPv6 addresses.
 * Outwards: random transactions, real addresses, `nodes6` of BEP 32, no more nodes than others tell. Never lets a datagram throw, and never tells
 * or asks an address that may not be dialled on another's word. docs/protocol/dht.md
 */
import { EventEmitter } from "node:events";
import { isIP } from "node:net";
import { type Clock, type ListenAddress, type Random, sourceGroup, TokenBucket } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { whyNotListening } from "@godwit/sdk/listening";
import type { DhtSocket } from "bittorrent-dht";
import type { udp } from "bun";
import { Allowance } from "./allowance.ts";
import { type Bencoded, decodeBencode, type Encodable, encodeBencode } from "./bencode.ts";
import {
  type Answer,
  compactOf,
  type Contact,
  contactsOf,
  DATAGRAM_BYTES_MAX,
  type Failure,
  type Family,
  familyOf,
  type Item,
  parseMessage,
  type Query,
} from "./krpc.ts";
import { isStandIn, VirtualAddresses } from "./virtual.ts";

/** Of one address, or one /64: a newcomer's first round is some 60. */
const SOURCE_BURST = 150;
const SOURCE_PER_SECOND = 20;
/** Of all whom this node has not asked. */
const ALL_BURST = 1_000;
const ALL_PER_SECOND = 500;
/** BEP 5: nodes of one family in an answer. */
const NODES_TOLD = 8;
/** Of one source in one answer: more of them would be one liar's. */
const TOLD_PER_SOURCE_MAX = 4;
/** Twice what the library has under way at once. */
const PENDING_MAX = 256;
/** The library's own patience ends before. */
const PENDING_MS = 5_000;
const TRANSACTION_BYTES = 4;
/** Of `Bun.udpSocket`: another socket has IPv4 on that port. */
const IPV6_ONLY = 8;

export type Outcome = "taken" | "malformed" | "limited" | "unasked" | "foreign" | "refused" | "fault";

export interface SocketDeps {
  readonly clock: Clock;
  readonly random: Random;
  /** Of this node: a query under it puts nobody into the library's table. */
  readonly ownId: Uint8Array;
  /** Why an address that another named is not to be sent to. */
  refusal(host: string): string | undefined;
  /** Whether the library's table has that node at that place. `host`: its stand-in. */
  isKnown(id: Uint8Array, host: string, port: number): boolean;
  /** Somebody asked who is not known, and says that it answers. */
  onStranger(host: string, port: number): void;
  /** Undefined: what is put may be kept. Else the code and words of the refusal. */
  judgePut(item: Item, source: string): readonly [number, string] | undefined;
  /** It went to the library, which has judged it. */
  wasPut(item: Item, source: string): void;
  counted(outcome: Outcome): void;
  /** Bytes of UDP payload. */
  carried(direction: "in" | "out", bytes: number): void;
}

interface Open {
  readonly socket: udp.Socket<"buffer">;
  readonly families: readonly Family[];
}

interface Pending {
  /** The library's. */
  readonly transaction: Uint8Array;
  readonly host: string;
  readonly port: number;
  readonly atMs: number;
}

type Dictionary = ReadonlyMap<string, Bencoded>;

export class GuardedSocket extends EventEmitter implements DhtSocket {
  readonly #deps: SocketDeps;
  /** By what was wanted. */
  readonly #open = new Map<string, Open>();
  readonly #addresses = new VirtualAddresses();
  readonly #pending = new BoundedMap<string, Pending>({ name: "queries under way", max: PENDING_MAX });
  /** Places that were asked, by their newest query: what comes from there is not counted with what nobody asked for. */
  readonly #lately = new BoundedMap<string, number>({ name: "places asked lately", max: 2 * PENDING_MAX });
  readonly #bySource: Allowance;
  readonly #byAll: TokenBucket;
  /** Of the query that is being answered: the library answers before `emit` returns. */
  #asked: readonly Family[] = [];
  #isClosed = false;

  constructor(deps: SocketDeps) {
    super();
    this.#deps = deps;
    const { clock } = deps;
    this.#bySource = new Allowance({ clock, burst: SOURCE_BURST, perSecond: SOURCE_PER_SECOND });
    this.#byAll = new TokenBucket(clock, ALL_PER_SECOND, ALL_BURST);
  }

  /** Opens what is missing and closes what is not wanted any more; one call at a time. Answers why something failed, or nothing. */
  async listen(wanted: readonly ListenAddress[]): Promise<string> {
    const keys = new Set(wanted.map(keyOf));
    for (const [key, { socket }] of this.#open) {
      if (keys.has(key)) continue;
      this.#open.delete(key);
      socket.close();
    }
    const reasons: string[] = [];
    for (const address of wanted) {
      if (this.#open.has(keyOf(address)) || this.#isClosed) continue;
      try {
        await this.#listenOn(address);
      } catch (error) {
        reasons.push(failureOf(address, error));
      }
    }
    return reasons.join("; ");
  }

  async #listenOn(wanted: ListenAddress): Promise<void> {
    const { host, port, isIpv6Only } = wanted;
    const socket = await Bun.udpSocket({
      hostname: host,
      port,
      binaryType: "buffer",
      ...(host === "::" && isIpv6Only ? { flags: IPV6_ONLY } : {}),
      socket: {
        data: (_socket, bytes, from, address) => this.#receive(bytes, plainHost(address), from),
        // An ICMP error of some node: its silence says the same.
        error: () => {},
      },
    });
    if (this.#isClosed) return void socket.close();
    const isBoth = host === "::" && !isIpv6Only;
    this.#open.set(keyOf(wanted), { socket, families: isBoth ? [6, 4] : [familyOf(host)] });
  }

  /** Ports that are really open, each with its families. */
  get ports(): readonly { readonly port: number; readonly families: readonly Family[] }[] {
    return this.#sockets.map(({ socket, families }) => ({ port: socket.port, families }));
  }

  get #sockets(): readonly Open[] {
    return [...this.#open.values()];
  }

  get families(): readonly Family[] {
    return ([4, 6] as const).filter((family) =>
      this.#sockets.some(({ families }) => families.includes(family)),
    );
  }

  /** Queries that wait for their answers. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** What the library is to call an address. */
  standInOf(host: string): string {
    return this.#addresses.standInOf(host);
  }

  /** Undefined: a stand-in that was given up. */
  addressOf(standIn: string): string | undefined {
    return this.#addresses.addressOf(standIn);
  }

  /** Sockets come and go without the library. */
  bind(): void {
    queueMicrotask(() => this.#isClosed || this.emit("listening"));
  }

  address(): { address: string; port: number; family: string } {
    return { address: "0.0.0.0", port: this.#sockets[0]?.socket.port ?? 0, family: "IPv4" };
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { socket } of this.#sockets) socket.close();
    this.#pending.clear();
    queueMicrotask(() => this.emit("close"));
  }

  /** As the library sends: its message becomes ours. */
  send(
    bytes: Buffer,
    offset: number,
    length: number,
    port: number,
    host: string,
    done: (error?: Error) => void,
  ): void {
    const message = decodeBencode(bytes.subarray(offset, offset + length));
    const address = this.#addresses.addressOf(host);
    const out =
      message instanceof Map && address !== undefined ? this.#outgoing(message, address, port) : undefined;
    if (out !== undefined) this.#transmit(encodeBencode(out), address!, port);
    queueMicrotask(done);
  }

  #outgoing(message: Dictionary, host: string, port: number): Encodable | undefined {
    const transaction = message.get("t") as Uint8Array;
    if (message.has("q")) {
      const own = this.#deps.random.bytes(TRANSACTION_BYTES);
      const atMs = this.#deps.clock.monotonicMs();
      this.#pending.set(Buffer.from(own).toString("hex"), { transaction, host, port, atMs });
      this.#lately.renew(`${host} ${port}`, atMs);
      const args = { ...plain(message.get("a")), want: this.families.map((family) => `n${family}`) };
      return { t: own, y: "q", q: message.get("q") as Uint8Array, a: args };
    }
    if (!message.has("r")) return { t: transaction, y: "e", e: plainList(message.get("e")) };
    const { nodes: _, ...answer } = plain(message.get("r"));
    const nodes = (message.get("r") as Dictionary).get("nodes");
    const told = nodes === undefined ? {} : this.#told(contactsOf(nodes, 4));
    return { t: transaction, y: "r", r: { ...answer, ...told } };
  }

  /** The library tells all that it knows, the nearest first. */
  #told(contacts: readonly Contact[]): { readonly [key: string]: Uint8Array } {
    const real = contacts.flatMap((contact) => {
      const host = this.#addresses.addressOf(contact.host);
      // A zone has a meaning on this machine only.
      return host === undefined || host.includes("%") ? [] : [{ ...contact, host }];
    });
    const of = (family: Family) =>
      compactOf(real.filter(({ host }) => familyOf(host) === family).slice(0, NODES_TOLD));
    return {
      ...(this.#asked.includes(4) ? { nodes: of(4) } : {}),
      ...(this.#asked.includes(6) ? { nodes6: of(6) } : {}),
    };
  }

  #transmit(bytes: Buffer, host: string, port: number): void {
    const family = familyOf(host);
    const found = this.#sockets.find(({ families }) => families.includes(family));
    if (this.#isClosed || found === undefined || bytes.length > DATAGRAM_BYTES_MAX) return;
    const mapped = family === 4 && found.families.includes(6) ? `::ffff:${host}` : host;
    try {
      if (found.socket.send(bytes, port, mapped)) this.#deps.carried("out", bytes.length);
    } catch {
      // No route, or a full buffer: as if it were lost.
    }
  }

  #receive(bytes: Buffer, host: string, port: number): void {
    if (this.#isClosed || port === 0) return;
    this.#deps.carried("in", bytes.length);
    this.#deps.counted(this.#judge(bytes, host, port));
  }

  #judge(bytes: Buffer, host: string, port: number): Outcome {
    const source = sourceGroup(host);
    if (!this.#bySource.spend(source)) return "limited";
    const askedAtMs = this.#lately.get(`${host} ${port}`) ?? -Infinity;
    const isAsked = this.#deps.clock.monotonicMs() - askedAtMs <= PENDING_MS;
    if (!isAsked && !this.#byAll.take()) return "limited";
    const message = parseMessage(bytes);
    if (message === undefined) return "malformed";
    switch (message.kind) {
      case "foreign": {
        const error =
          message.why === "method" ? [204, "Method Unknown"] : [205, "only byte strings are kept here"];
        this.#transmit(encodeBencode({ t: message.transaction, y: "e", e: error }), host, port);
        return "foreign";
      }
      case "query":
        return this.#onQuery(message, host, port, source);
      default:
        return this.#onAnswer(message, host, port);
    }
  }

  #onQuery(query: Query, host: string, port: number, source: string): Outcome {
    const { deps, standIn } = { deps: this.#deps, standIn: this.#addresses.standInOf(host) };
    const refusal = query.item === undefined ? undefined : deps.judgePut(query.item, source);
    if (refusal !== undefined) {
      this.#transmit(encodeBencode({ t: query.transaction, y: "e", e: [...refusal] }), host, port);
      return "refused";
    }
    const isKnown = deps.isKnown(query.id, standIn, port);
    this.#asked = query.want.length > 0 ? query.want : [familyOf(host)];
    const outcome = this.#hand(queryBytes(query, isKnown ? query.id : deps.ownId), standIn, port);
    this.#asked = [];
    if (query.item !== undefined) deps.wasPut(query.item, source);
    // Whoever only asks has not shown that it is where it seems to be.
    if (!isKnown && !query.isReadOnly) deps.onStranger(host, port);
    return outcome;
  }

  #onAnswer(message: Answer | Failure, host: string, port: number): Outcome {
    const name = Buffer.from(message.transaction).toString("hex");
    const pending = this.#pending.get(name);
    if (pending === undefined || pending.host !== host || pending.port !== port) return "unasked";
    this.#pending.delete(name);
    if (this.#deps.clock.monotonicMs() - pending.atMs > PENDING_MS) return "unasked";
    const bytes =
      message.kind === "failure"
        ? encodeBencode({ t: pending.transaction, y: "e", e: [message.code, "refused"] })
        : this.#answerBytes(message, pending.transaction);
    return this.#hand(bytes, this.#addresses.standInOf(host), port);
  }

  #answerBytes({ id, token, nodes, item }: Answer, transaction: Uint8Array): Buffer {
    const bySource = new Map<string, number>();
    const good = nodes.filter(({ host }) => {
      const source = sourceGroup(host);
      const count = (bySource.get(source) ?? 0) + 1;
      bySource.set(source, count);
      return count <= TOLD_PER_SOURCE_MAX && this.#mayBeAsked(host);
    });
    const compact = compactOf(good.map((node) => ({ ...node, host: this.#addresses.standInOf(node.host) })));
    const answer = { id, token, nodes: compact, ...itemFields(item) };
    return encodeBencode({ t: transaction, y: "r", r: answer });
  }

  #mayBeAsked(host: string): boolean {
    return (
      this.families.includes(familyOf(host)) && !isStandIn(host) && this.#deps.refusal(host) === undefined
    );
  }

  #hand(bytes: Buffer, address: string, port: number): Outcome {
    try {
      this.emit("message", bytes, { address, port, family: "IPv4", size: bytes.length });
      return "taken";
    } catch {
      // A bug of the library, or of ours: what one stranger sent must not end the node.
      return "fault";
    }
  }
}

const keyOf = ({ host, port, isIpv6Only }: ListenAddress): string => `${host} ${port} ${isIpv6Only}`;

function failureOf({ host, port }: ListenAddress, error: unknown): string {
  const why = whyNotListening(error, { protocol: "udp", host, port, setting: "listen" });
  return `cannot listen on UDP ${host.includes(":") ? `[${host}]` : host}:${port}: ${why}`;
}

/** `::ffff:192.0.2.1` is an IPv4 address on a socket of both families. */
const plainHost = (host: string): string => {
  const plain = host.replace(/^::ffff:(?=\d+\.)/i, "");
  return isIP(plain) === 6 && !plain.includes("%")
    ? new URL(`http://[${plain}]/`).hostname.slice(1, -1)
    : plain;
};

function itemFields(item: Item | undefined): { readonly [key: string]: Encodable | undefined } {
  if (item === undefined) return {};
  const { value: v, key: k, signature: sig, seq, salt } = item;
  return { v, k, sig, seq, salt };
}

/** As the library knows it. */
function queryBytes({ transaction, name, target, token, cas, item }: Query, id: Uint8Array): Buffer {
  const given = { id, token, cas, ...(name === "get_peers" ? { info_hash: target } : { target }) };
  return encodeBencode({ t: transaction, y: "q", q: name, a: { ...given, ...itemFields(item) } });
}

/** One level of what the library wrote. */
const plain = (value: Bencoded | undefined): { [key: string]: Encodable } =>
  value instanceof Map
    ? Object.fromEntries([...(value as Dictionary)].map(([key, one]) => [key, one as Encodable]))
    : {};
const plainList = (value: Bencoded | undefined): Encodable[] =>
  Array.isArray(value) ? (value as Encodable[]) : [201, "refused"];
