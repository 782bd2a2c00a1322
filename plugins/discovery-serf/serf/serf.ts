/**
 * Serf: the upper half. Intents, tags, events, queries and the calling of those who went, over memberlist's table. Owns the three clocks. Written
 * after hashicorp/serf, whose wire it speaks; what its users suffer from is better here (docs/serf.md, "What is different").
 */
import type { Log, Random } from "@godwit/sdk";
import type { At, NodeEntry } from "../wire/messages.ts";
import { wireError } from "../wire/msgpack.ts";
import {
  decodeCoordinate,
  decodeIntent,
  decodeState,
  decodeUserEvent,
  encodeConflictResponse,
  encodeCoordinate,
  encodeIntent,
  encodeState,
  encodeTags,
  encodeUserEvent,
  decodeTags,
  type Intent,
  type Query,
  type Tags,
  type UserEvent,
} from "../wire/serf-messages.ts";
import { EVENT_BYTES_MAX, SerfType } from "../wire/types.ts";
import { Broadcasts } from "../memberlist/broadcasts.ts";
import { type Delegate, Memberlist } from "../memberlist/memberlist.ts";
import { isSameAt, type Member, MEMBERS_MAX } from "../memberlist/members.ts";
import type { Net } from "../memberlist/net.ts";
import type { Timers } from "../memberlist/timers.ts";
import { retransmits, type Timing } from "../memberlist/timing.ts";
import { EventHistory, LamportClock } from "./history.ts";
import type { Keys } from "./keys.ts";
import { Queries } from "./queries.ts";
import { type Entry, Roll, STATUS_NUMBERS } from "./roll.ts";
import { Vivaldi } from "./vivaldi.ts";

/** Of a leave: until the intent was told, until the end was, and then to answer whoever asks about it. */
const LEAVE_INTENT_MS = 1_000;
const LEAVE_DEAD_MS = 1_000;
const LEAVE_PROPAGATE_MS = 500;
/** After a join: who joined at the same moment elsewhere, and whose news did not get here, is heard of then and not half a minute later. */
const JOINED_EXCHANGE_MS = 2_000;
const REAP_MS = 15_000;
const RECONNECT_MS = 30_000;
/** Of a query that says nothing else: gossip intervals for each power of ten of members. */
const QUERY_TIMEOUT_MULT = 16;
export const INTERNAL_PREFIX = "_serf_";
/** What a node of Godwit answers to anybody: who it is. */
export const IDENTITY_QUERY = "godwit";

export interface SerfEvents {
  changed(before: Entry | undefined, after: Entry | undefined): void;
  event(event: UserEvent): void;
  conflict(name: string, isSelf: boolean, other: At): void;
  blocked(member: Member | undefined): void;
  /** Whether this meta data says that the entry is this very node. */
  isOwn(entry: NodeEntry): Promise<boolean>;
  /** To a query of a name that is not Serf's own; undefined: no answer. */
  answer(query: Query): Uint8Array | undefined;
  dropped(reason: string, count?: number): void;
}

export interface SerfOptions {
  readonly name: string;
  readonly at: At;
  readonly tags: Tags;
  readonly timing: Timing;
  readonly isStreamsOnly: boolean;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly net: Net;
  readonly keys: Keys;
  readonly events: SerfEvents;
  refusal(address: string): string | undefined;
}

export class Serf {
  readonly memberlist: Memberlist;
  readonly roll: Roll;
  readonly queries: Queries;
  readonly #options: SerfOptions;
  readonly #events = new EventHistory(new LamportClock());
  readonly #vivaldi: Vivaldi;
  readonly #intents: Broadcasts;
  readonly #news: Broadcasts;
  readonly #questions: Broadcasts;
  #tags: Tags;

  constructor(options: SerfOptions) {
    const { name, random, timers, events } = options;
    this.#options = options;
    this.#tags = options.tags;
    this.#vivaldi = new Vivaldi(random);
    const full = () => events.dropped("queue");
    const added = () => this.memberlist.gossipSoon();
    this.#intents = new Broadcasts(full, added);
    this.#news = new Broadcasts(full, added);
    this.#questions = new Broadcasts(full, added);
    this.roll = new Roll(name, new LamportClock(), () => timers.nowMs(), {
      changed: (before, after) => events.changed(before, after),
      objected: () => this.#sayJoined(),
    });
    const meta = encodeTags(options.tags);
    this.memberlist = new Memberlist({
      ...options,
      meta,
      delegate: this.#delegate(),
      dropped: events.dropped,
    });
    this.roll.joined(this.memberlist.members.self);
    this.queries = new Queries({
      name,
      random,
      timers,
      at: () => this.memberlist.members.self.at,
      tags: () => this.#tags,
      send: (to, body) => this.memberlist.sendUser(to, body),
      broadcast: (body) => this.#questions.add(body),
      pick: (count, since) =>
        this.memberlist.members.pick(
          count,
          (one) => one.vsn[5]! >= since && this.roll.get(one.name)?.status === "alive",
        ),
      isMember: (at) => this.#isMember(at),
      answer: (query) => this.#answer(query),
      dropped: events.dropped,
    });
  }

  get tags(): Tags {
    return this.#tags;
  }

  get clocks(): { readonly status: number; readonly event: number; readonly query: number } {
    return {
      status: this.roll.clock.time,
      event: this.#events.clock.time,
      query: this.queries.clock.time,
    };
  }

  /** As Serf's own default. */
  get queryTimeoutMs(): number {
    const { gossipIntervalMs } = this.#options.timing;
    return gossipIntervalMs * retransmits(QUERY_TIMEOUT_MULT, this.memberlist.members.size);
  }

  start(): void {
    const { timers } = this.#options;
    this.memberlist.start();
    timers.every(REAP_MS, () => this.roll.reap());
    timers.every(RECONNECT_MS, () => this.#reconnect());
  }

  /** Rejects with GODWIT_DIAL_FAILED, or with what was wrong with the answer. */
  async join(at: At): Promise<void> {
    await this.memberlist.exchange(at, true);
    this.#sayJoined();
    const { timers, random } = this.#options;
    timers.after(JOINED_EXCHANGE_MS * (0.5 + random.float() / 2), () => this.memberlist.exchangeWithAny());
  }

  /** Throws GODWIT_DECODE for tags above 512 bytes; the old ones stay. */
  setTags(tags: Tags): void {
    const meta = encodeTags(tags);
    this.#tags = tags;
    if (Buffer.compare(meta, this.memberlist.members.self.meta) === 0) return;
    this.memberlist.members.updateSelf({ meta });
    this.roll.updated(this.memberlist.members.self);
  }

  async move(at: At, tags: Tags): Promise<void> {
    this.#tags = tags;
    this.memberlist.members.updateSelf({ meta: encodeTags(tags) });
    await this.memberlist.move(at);
    this.roll.updated(this.memberlist.members.self);
    this.#sayJoined();
  }

  /** Throws GODWIT_DECODE above 512 bytes. */
  sendEvent(name: string, payload: Uint8Array, canCoalesce: boolean): void {
    const message = encodeUserEvent({ ltime: this.#events.clock.time, name, payload, canCoalesce });
    if (message.length > EVENT_BYTES_MAX)
      throw wireError(`an event of ${message.length} bytes, at most ${EVENT_BYTES_MAX} go over the wire`);
    this.#events.clock.next();
    this.#onEvent(message);
  }

  /** Somebody who failed is taken for one who left. `isPrune`: and forgotten at once. */
  remove(node: string, isPrune: boolean): void {
    const intent: Intent = { type: SerfType.leave, ltime: this.roll.clock.next(), node, isPrune };
    this.roll.intend(intent);
    this.#intents.add(encodeIntent(intent), node);
  }

  /** Tells the cluster that this node goes of its own accord. At most 2.5 s. */
  async leave(): Promise<void> {
    const { name, timers } = this.#options;
    const { members } = this.memberlist;
    this.roll.isLeaving = true;
    if (members.liveCount > 1) {
      const told = Promise.withResolvers<void>();
      const intent: Intent = {
        type: SerfType.leave,
        ltime: this.roll.clock.next(),
        node: name,
        isPrune: false,
      };
      this.roll.intend(intent);
      this.#intents.add(encodeIntent(intent), name, told.resolve);
      await timers.within(told.promise, LEAVE_INTENT_MS);
    }
    await this.memberlist.leave(LEAVE_DEAD_MS);
    if (members.liveCount > 1) await timers.sleep(LEAVE_PROPAGATE_MS);
  }

  #delegate(): Delegate {
    const { events } = this.#options;
    return {
      joined: (member) => this.roll.joined(member),
      left: (member) => this.roll.left(member),
      updated: (member) => this.roll.updated(member),
      conflict: events.conflict,
      blocked: events.blocked,
      isOwn: events.isOwn,
      localState: () => this.#localState(),
      mergeState: (state, isJoin) => this.#merge(state, isJoin),
      user: (body) => this.#onUser(body),
      broadcasts: (room, overhead, limit) => {
        const taken: Uint8Array[] = [];
        let left = room;
        for (const queue of [this.#intents, this.#questions, this.#news]) {
          const some = queue.take(left, overhead, limit);
          left -= some.reduce((total, { length }) => total + length + overhead, 0);
          taken.push(...some);
        }
        return taken;
      },
      waiting: () => this.#intents.size + this.#news.size + this.#questions.size,
      payload: () => encodeCoordinate(this.#vivaldi.own),
      pinged: (member, roundTripMs, payload) => {
        if (payload.length === 0) return;
        try {
          this.#vivaldi.observe(member.name, decodeCoordinate(payload), roundTripMs / 1_000);
        } catch {
          events.dropped("coordinate");
        }
      },
    };
  }

  #onUser(body: Uint8Array): void {
    const inner = body.subarray(1);
    switch (body[0]) {
      case SerfType.join:
      case SerfType.leave:
        if (this.roll.intend(decodeIntent(body[0], inner)))
          this.#intents.add(body.slice(), decodeIntent(body[0], inner).node);
        return;
      case SerfType.userEvent:
        return this.#onEvent(body);
      case SerfType.query:
        return this.queries.handle(inner);
      case SerfType.queryResponse:
        return this.queries.handleResponse(inner);
      case SerfType.relay:
        return this.queries.handleRelay(inner);
      default:
        throw wireError("a message of Serf of no known type");
    }
  }

  #onEvent(message: Uint8Array): void {
    const event = decodeUserEvent(message.subarray(1));
    if (!this.#events.take(event)) return;
    this.#news.add(message.slice());
    this.#options.events.event({ ...event, payload: event.payload.slice() });
  }

  #sayJoined(): void {
    const { name } = this.#options;
    const intent: Intent = { type: SerfType.join, ltime: this.roll.clock.time, node: name, isPrune: false };
    // Its own clock hears of it too, or the intent to leave would have the same time and be old.
    this.roll.intend(intent);
    this.#intents.add(encodeIntent(intent), name);
  }

  #localState(): Uint8Array {
    const left = new Set<string>();
    const statusLTimes = new Map<string, number>();
    for (const { name, status, ltime } of this.roll) {
      statusLTimes.set(name, ltime);
      // Who is leaving as well: its time alone would say that it joins, and the intent itself would then be old.
      if (status === "left" || status === "leaving") left.add(name);
    }
    return encodeState({
      ltime: this.roll.clock.time,
      statusLTimes,
      left,
      eventLTime: this.#events.clock.time,
      events: this.#events.all,
      queryLTime: this.queries.clock.time,
    });
  }

  #merge(bytes: Uint8Array, isJoin: boolean): void {
    if (bytes[0] !== SerfType.pushPull) throw wireError("a state of Serf that is none");
    const state = decodeState(bytes.subarray(1), MEMBERS_MAX);
    // Their clocks stand at what comes next, not at what was.
    if (state.ltime > 0) this.roll.clock.witness(state.ltime - 1);
    if (state.eventLTime > 0) this.#events.clock.witness(state.eventLTime - 1);
    if (state.queryLTime > 0) this.queries.clock.witness(state.queryLTime - 1);
    for (const [node, ltime] of state.statusLTimes) {
      const type = state.left.has(node) ? SerfType.leave : SerfType.join;
      this.roll.intend({ type, ltime, node, isPrune: false });
    }
    // What happened before this node came is no news to it.
    if (isJoin && this.#events.all.length === 0) this.#events.ignoreBefore(state.eventLTime);
    for (const event of state.events) if (this.#events.take(event)) this.#options.events.event(event);
  }

  #answer(query: Query): Uint8Array | undefined {
    if (!query.name.startsWith(INTERNAL_PREFIX)) return this.#options.events.answer(query);
    const name = query.name.slice(INTERNAL_PREFIX.length);
    if (name === "conflict") {
      const of = new TextDecoder().decode(query.payload);
      if (of === this.#options.name) return undefined;
      const entry = this.roll.get(of);
      return encodeConflictResponse(
        entry === undefined
          ? undefined
          : { ...entry, tags: decodeTags(entry.meta), status: STATUS_NUMBERS[entry.status] },
      );
    }
    return this.#options.keys.answer(name, query.payload);
  }

  #isMember(at: At): boolean {
    for (const member of this.memberlist.members)
      if (isSameAt(member.at, at)) return this.memberlist.refusalOf(at) === undefined;
    return false;
  }

  /** One of those who failed, the sooner the more of all they are. */
  #reconnect(): void {
    const { random, log } = this.#options;
    const failed = [...this.roll].filter(({ status }) => status === "failed");
    if (failed.length === 0 || this.roll.isLeaving) return;
    const alive = Math.max(1, this.roll.count("alive"));
    if (random.float() > failed.length / alive) return;
    const { at, name } = failed[random.below(failed.length)]!;
    if (this.memberlist.refusalOf(at) !== undefined) return;
    this.memberlist
      .exchange(at, false)
      .catch((error: unknown) => log.debug("failed member not reached", { name, error: String(error) }));
  }
}
