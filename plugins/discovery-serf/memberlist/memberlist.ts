/**
 * Memberlist: the lower half of Serf. Joins the table, the prober and the gossip, and exchanges whole states over streams. Owns what is sent when;
 * what members mean is the upper half's, which comes in by `Delegate`. Written after hashicorp/memberlist, whose wire it speaks.
 */
import { type Log, type Random, BoundedMap } from "@godwit/sdk";
import {
  type At,
  decodeAccusation,
  decodeAlive,
  decodePing,
  decodePushPull,
  decodeUserStream,
  encodeError,
  encodePushPull,
  encodeUserStream,
  type NodeEntry,
  type PushPull,
  decodeError,
} from "../wire/messages.ts";
import { wireError } from "../wire/msgpack.ts";
import { MessageType, NodeState, Since } from "../wire/types.ts";
import { Broadcasts } from "./broadcasts.ts";
import {
  entryOf,
  isGone,
  isSameAt,
  type Member,
  type MemberEvents,
  Members,
  MEMBERS_MAX,
} from "./members.ts";
import type { Net, NetHandlers } from "./net.ts";
import { Prober } from "./prober.ts";
import type { Timers } from "./timers.ts";
import { Awareness, pushPullScale, retransmits, type Timing } from "./timing.ts";

/** Of the parts of a compound. */
const PART_OVERHEAD = 2;
/** Members that are told directly that this node moved; the others hear of it, or forget the old address by themselves. */
const RECLAIM_MEMBERS_MAX = 64;
/** Without datagrams: between two rounds of gossip over streams; each tells what would fit in a datagram. */
const STREAM_GOSSIP_MS = 1_000;
/** Between two exchanges of states then: others gossip in datagrams. */
const STREAM_EXCHANGE_MS = 5_000;
/** So long a state of more members than these is good enough. */
const STATE_FRESH_MS = 500;
const STATE_SMALL_MAX = 256;
/** Addresses that were judged. */
const JUDGED_MAX = 4_096;

/** The upper half. Called synchronously; must not throw. */
export interface Delegate extends Omit<MemberEvents, "dropped" | "conflict"> {
  /** Its part of a whole state. */
  localState(): Uint8Array;
  /** Borrowed. Throws GODWIT_DECODE. */
  mergeState(state: Uint8Array, isJoin: boolean): void;
  /** A message of the upper half. Borrowed. Throws GODWIT_DECODE. */
  user(body: Uint8Array, from: At): void;
  /** What it wants told: bodies with their type in front. */
  broadcasts(room: number, overhead: number, limit: number): Uint8Array[];
  /** How many of them wait. */
  waiting(): number;
  payload(): Uint8Array;
  pinged(member: Member, roundTripMs: number, payload: Uint8Array): void;
  /** Somebody else claims a name; `isSelf`: this node's. */
  conflict(name: string, isSelf: boolean, other: At): void;
  /** Whether this meta data says that the entry is this very node. */
  isOwn(entry: NodeEntry): Promise<boolean>;
  blocked(member: Member | undefined): void;
}

export interface MemberlistOptions {
  readonly name: string;
  readonly at: At;
  readonly meta: Uint8Array;
  readonly timing: Timing;
  readonly isStreamsOnly: boolean;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly net: Net;
  readonly delegate: Delegate;
  /** Why nothing is sent to this address on another's word; undefined: it may be. */
  refusal(address: string): string | undefined;
  dropped(reason: string, count?: number): void;
}

export class Memberlist implements NetHandlers {
  readonly members: Members;
  readonly #options: MemberlistOptions;
  readonly #awareness = new Awareness();
  readonly #broadcasts: Broadcasts;
  readonly #prober: Prober;
  /** By address: what `refusal` said. */
  readonly #judged: BoundedMap<string, { readonly why: string | undefined }>;

  #isGossiping = false;
  #lastState: { readonly bytes: Uint8Array; readonly isJoin: boolean; readonly atMs: number } | undefined;

  constructor(options: MemberlistOptions) {
    const { timers, random, timing, delegate, net, isStreamsOnly, dropped } = options;
    this.#options = options;
    this.#judged = new BoundedMap({ name: "serf addresses", max: JUDGED_MAX });
    this.#broadcasts = new Broadcasts(
      () => dropped("queue"),
      () => this.gossipSoon(),
    );
    this.members = new Members(
      {
        timers,
        random,
        timing,
        awareness: this.#awareness,
        broadcasts: this.#broadcasts,
        events: {
          joined: (member) => delegate.joined(member),
          left: (member) => delegate.left(member),
          updated: (member) => delegate.updated(member),
          conflict: (member, other) => delegate.conflict(member.name, member.name === options.name, other),
          dropped,
        },
      },
      options,
    );
    this.#prober = new Prober(
      {
        timers,
        timing,
        awareness: this.#awareness,
        members: this.members,
        net,
        isStreamsOnly,
        mayReach: (at) => this.refusalOf(at) === undefined,
        payload: () => delegate.payload(),
        pinged: (member, ms, payload) => delegate.pinged(member, ms, payload),
        // What does not arrive is not told: it waits for a stream.
        piggyback: (room) => (this.#prober.isBlocked ? [] : this.#take(room)),
        blocked: (member) => delegate.blocked(member),
        dropped,
      },
      random.below(2 ** 31),
    );
  }

  /** Lifeguard's score of this node, 0 is healthy. */
  get health(): number {
    return this.#awareness.score;
  }

  start(): void {
    const { timers, timing } = this.#options;
    void this.#prober.run();
    timers.every(timing.pushPullIntervalMs, () => {
      this.exchangeWithAny();
      return timing.pushPullIntervalMs * pushPullScale(this.members.liveCount);
    });
    timers.every(STREAM_EXCHANGE_MS, () => {
      if (this.#isDeaf) this.exchangeWithAny();
    });
    this.members.announce();
  }

  /** There is news. While there is, it is told again and again; while there is none nothing wakes up for it. */
  gossipSoon(): void {
    if (this.#isGossiping) return;
    this.#isGossiping = true;
    const { timers, timing, delegate, random } = this.#options;
    const again = (delayMs: number) =>
      timers.after(delayMs, () => {
        if (this.#broadcasts.size + delegate.waiting() === 0) this.#isGossiping = false;
        else {
          this.#gossip();
          again(this.#isDeaf ? STREAM_GOSSIP_MS : timing.gossipIntervalMs);
        }
      });
    again(random.float() * timing.gossipIntervalMs);
  }

  /** Why nothing is sent there; undefined: it may be. */
  refusalOf({ address }: At): string | undefined {
    let judged = this.#judged.get(address);
    if (judged === undefined) {
      judged = { why: this.#options.refusal(address) };
      this.#judged.set(address, judged);
    }
    return judged.why;
  }

  /** The machine's addresses changed, on which judgements rest. */
  judgeAnew(): void {
    this.#judged.clear();
  }

  /**
   * Learns all that the member at an address knows, and tells it the same. `isJoin`: for the first time. Rejects with GODWIT_DIAL_FAILED, or
   * with GODWIT_DECODE for an answer that is none.
   */
  async exchange(at: At, isJoin: boolean): Promise<void> {
    const { net, timing } = this.#options;
    const reply = await net.ask(at, this.#localState(isJoin), timing.streamTimeoutMs);
    if (reply[0] === MessageType.error) throw wireError(`it answers: ${decodeError(reply.subarray(1))}`);
    if (reply[0] !== MessageType.pushPull) throw wireError("an answer that is no state");
    const state = decodePushPull(reply, MEMBERS_MAX);
    await this.#reclaim(state, at);
    this.#merge(state, isJoin);
  }

  /** This node is reached at another address from now on. */
  async move(at: At): Promise<void> {
    const { self } = this.members;
    if (isSameAt(self.at, at)) return;
    await this.#tellMoved(self.at, at, self.incarnation, []);
  }

  /** Resolves when the others were told as often as they are told anything, or after that time. */
  async leave(timeoutMs: number): Promise<void> {
    const { timers, delegate, net, timing } = this.#options;
    const told = Promise.withResolvers<void>();
    this.members.leave(told.resolve);
    if (this.members.liveCount < 2) return;
    if (this.#options.isStreamsOnly) {
      const entry: NodeEntry = { ...entryOf(this.members.self), state: NodeState.left };
      const state = encodePushPull([entry], delegate.localState(), false);
      const others = this.members.pick(3, (one) => !isGone(one) && this.#mayReach(one));
      await timers.within(
        Promise.allSettled(others.map((one) => net.tell(one.at, state, timing.streamTimeoutMs))),
        timeoutMs,
      );
      return;
    }
    await timers.within(told.promise, timeoutMs);
  }

  packet(message: Uint8Array, from: At): void {
    const body = message.subarray(1);
    switch (message[0]) {
      case MessageType.alive:
        return this.members.alive(decodeAlive(body));
      case MessageType.suspect:
        return this.members.suspect(decodeAccusation(body));
      case MessageType.dead:
        return this.members.dead(decodeAccusation(body));
      case MessageType.user:
        return this.#options.delegate.user(body, from);
      default:
        if (!this.#prober.handle(message[0]!, body, from)) throw wireError("a message of no known type");
    }
  }

  stream(message: Uint8Array, from: At): Uint8Array | undefined {
    switch (message[0]) {
      case MessageType.ping:
        return this.#prober.answerStream(decodePing(message.subarray(1)));
      case MessageType.user:
        this.#options.delegate.user(decodeUserStream(message), from);
        return undefined;
      case MessageType.pushPull: {
        const state = decodePushPull(message, MEMBERS_MAX);
        const fault = this.members.protocolFault(state.nodes);
        if (fault !== undefined) {
          this.#options.dropped("protocol");
          return encodeError(fault);
        }
        // What was known before this call: the caller has the rest.
        const answer = this.#localState(state.isJoin);
        this.#merge(state, state.isJoin);
        return answer;
      }
      default:
        throw wireError("a stream that begins with no known type");
    }
  }

  /** Datagrams are not to be used, or do not pass. */
  get #isDeaf(): boolean {
    return this.#options.isStreamsOnly || this.#prober.isBlocked;
  }

  #mayReach(member: Member): boolean {
    return this.refusalOf(member.at) === undefined;
  }

  /** Of a large cluster it is made at most twice a second, however often it is asked for. */
  #localState(isJoin: boolean): Uint8Array {
    const nowMs = this.#options.timers.nowMs();
    const last = this.#lastState;
    if (last !== undefined && last.isJoin === isJoin && nowMs - last.atMs < STATE_FRESH_MS) return last.bytes;
    const bytes = encodePushPull(this.members.entries(), this.#options.delegate.localState(), isJoin);
    if (this.members.size > STATE_SMALL_MAX) {
      const made = { bytes, isJoin, atMs: nowMs };
      this.#lastState = made;
      // It is megabytes: not to be held for nothing.
      this.#options.timers.after(STATE_FRESH_MS, () => {
        if (this.#lastState === made) this.#lastState = undefined;
      });
    }
    return bytes;
  }

  #merge(state: PushPull, isJoin: boolean): void {
    const { dropped, delegate } = this.#options;
    if (state.skipped > 0) dropped("members", state.skipped);
    const fault = this.members.protocolFault(state.nodes);
    if (fault !== undefined) {
      dropped("protocol");
      throw wireError(fault);
    }
    this.members.merge(state.nodes);
    if (state.userState.length > 0) delegate.mergeState(state.userState, isJoin);
  }

  /** Tells one of the living all that is known, and learns what it knows. */
  exchangeWithAny(): void {
    const [member] = this.members.pick(1, (one) => one.state === NodeState.alive && this.#mayReach(one));
    if (member !== undefined) void this.#exchangeQuietly(member.at);
  }

  async #exchangeQuietly(at: At): Promise<void> {
    try {
      await this.exchange(at, false);
    } catch (error) {
      this.#options.log.debug("exchange failed", { address: at.address, error: String(error) });
    }
  }

  /**
   * A cluster that knows this node's name at another address, from before, would hold it to that: names are kept by those who are alive or were
   * lately. If that was this very node, or nobody answers there any more, all are told that it left from there, and then where it is.
   */
  async #reclaim(state: PushPull, told: At): Promise<void> {
    const { name, at } = this.members.self;
    const entry = state.nodes.find((one) => one.node === name);
    if (entry === undefined || isSameAt(entry.at, at) || entry.state === NodeState.left) return;
    const isDead = entry.state === NodeState.dead;
    if (!isDead && !(await this.#options.delegate.isOwn(entry))) return;
    this.#options.log.info("name reclaimed from an earlier address", { name, address: entry.at.address });
    const others = state.nodes.filter((one) => one.state === NodeState.alive && one.node !== name);
    await this.#tellMoved(entry.at, at, entry.incarnation, [told, ...others.map((one) => one.at)]);
  }

  /** Three states of one node, in the order in which a member takes them: it was there, it left, it is here. */
  async #tellMoved(from: At, to: At, incarnation: number, known: readonly At[]): Promise<void> {
    const { net, timing, delegate } = this.#options;
    const old = Math.max(incarnation, this.members.self.incarnation) + 1;
    this.members.updateSelf({ at: to, incarnation: old + 1 });
    const now = entryOf(this.members.self);
    const before = { ...now, at: from, incarnation: old };
    const message = encodePushPull(
      [before, { ...before, state: NodeState.left }, now],
      delegate.localState(),
      false,
    );
    const mine = this.members
      .pick(RECLAIM_MEMBERS_MAX, (one) => one.state === NodeState.alive)
      .map((one) => one.at);
    const all = new Map([...known, ...mine].map((one) => [`${one.address} ${one.port}`, one]));
    const targets = [...all.values()]
      .filter((one, index) => (index === 0 && known.length > 0) || this.refusalOf(one) === undefined)
      .slice(0, RECLAIM_MEMBERS_MAX);
    // Its answer says nothing new; that it came says that the message was read.
    await Promise.allSettled(targets.map((one) => net.ask(one, message, timing.streamTimeoutMs)));
  }

  #take(room: number): Uint8Array[] {
    const { delegate, timing } = this.#options;
    const limit = retransmits(timing.retransmitMult, this.members.size);
    const own = this.#broadcasts.take(room, PART_OVERHEAD, limit);
    const used = own.reduce((total, { length }) => total + length + PART_OVERHEAD, 0);
    // One more byte for the type of each.
    const others = delegate.broadcasts(room - used, PART_OVERHEAD + 1, limit);
    return [...own, ...others.map((body) => Buffer.concat([Uint8Array.of(MessageType.user), body]))];
  }

  #gossip(): void {
    const { timing, timers, net } = this.#options;
    if (this.#isDeaf) return this.#gossipOverStreams();
    const nowMs = timers.nowMs();
    const targets = this.members.nextToTell(timing.gossipNodes, (one) => !isGone(one) && this.#mayReach(one));
    let last: readonly Uint8Array[] = [];
    for (const target of targets) {
      const messages = this.#take(net.room);
      if (messages.length === 0) break;
      last = messages;
      net.packet(target.at, messages, target.vsn[1]! >= Since.checksum);
    }
    // Who failed lately may be there after all, and object. What goes there counts for nothing: news that only the dead were sent would be lost.
    const [dead] = this.members.pick(
      1,
      (one) =>
        one.state === NodeState.dead &&
        this.#mayReach(one) &&
        nowMs - one.changedMs <= timing.gossipToTheDeadMs,
    );
    if (dead === undefined) return;
    if (targets.length === 0) last = this.#take(net.room);
    if (last.length > 0) net.packet(dead.at, last, dead.vsn[1]! >= Since.checksum);
  }

  /** Where datagrams do not pass, news would wait for the next exchange of states: they go over streams, fewer at a time. */
  #gossipOverStreams(): void {
    const { net, timing, delegate } = this.#options;
    const targets = this.members.nextToTell(timing.gossipNodes, (one) => !isGone(one) && this.#mayReach(one));
    const limit = retransmits(timing.retransmitMult, this.members.size);
    const [first] = targets;
    if (first !== undefined && this.#broadcasts.size > 0) {
      // A state holds all of them.
      for (let i = 0; i < limit; i++) this.#broadcasts.take(net.room, PART_OVERHEAD, limit);
      for (const target of targets) void this.#exchangeQuietly(target.at);
    }
    for (const target of targets)
      for (const body of delegate.broadcasts(net.room, 1, limit))
        void net.tell(target.at, encodeUserStream(body), timing.streamTimeoutMs).catch(() => {});
  }

  /** A message of the upper half to one address, now. `body` with its type. */
  sendUser(to: At, body: Uint8Array): void {
    const { net, timing } = this.#options;
    if (this.#isDeaf) void net.tell(to, encodeUserStream(body), timing.streamTimeoutMs).catch(() => {});
    else net.packet(to, [Buffer.concat([Uint8Array.of(MessageType.user), body])], false);
  }
}
