/**
 * Questions to the cluster and their answers. Owns those of this node that still wait, what this node answers to others, and the way of both, also
 * through others (relay). Sends to members alone: an answer to whoever a stranger names would make this node his messenger.
 */
import type { Random } from "@godwit/sdk";
import type { At } from "../wire/messages.ts";
import {
  decodeQuery,
  decodeQueryResponse,
  decodeRelay,
  encodeQuery,
  encodeQueryResponse,
  encodeRelay,
  type Query,
  type QueryResponse,
  type Tags,
} from "../wire/serf-messages.ts";
import { wireError } from "../wire/msgpack.ts";
import { QUERY_BYTES_MAX, SerfType, Since } from "../wire/types.ts";
import type { Timers } from "../memberlist/timers.ts";
import { LamportClock, QueryHistory } from "./history.ts";
import { findsPattern } from "./pattern.ts";

/** Questions of this node at once. */
const RUNNING_MAX = 32;
/** Answers to one question that are kept, and their bytes. */
const ANSWERS_MAX = 4_096;
const ANSWER_BYTES_MAX = 1_048_576;
const RELAY_MAX = 8;

export interface Answer {
  readonly from: string;
  readonly payload: Uint8Array;
}

export interface Asked {
  readonly acks: readonly string[];
  readonly answers: readonly Answer[];
}

export interface QueryOptions {
  /** Of those that answer: by name; empty: everybody. */
  readonly nodes?: readonly string[];
  /** Of those that answer: each tag has to be found by its expression. */
  readonly tags?: ReadonlyMap<string, string>;
  readonly wantsAck?: boolean;
  readonly relayFactor?: number;
  readonly timeoutMs: number;
  /** Ends before the time when so many have answered. */
  readonly expected?: number;
}

export interface QueriesDeps {
  readonly name: string;
  readonly random: Random;
  readonly timers: Timers;
  at(): At;
  tags(): Tags;
  send(to: At, body: Uint8Array): void;
  broadcast(body: Uint8Array): void;
  /** Alive ones among the others, at random, that understand so much of Serf. */
  pick(count: number, sinceSerf: number): readonly { readonly at: At; readonly name: string }[];
  /** Whether a member is there. */
  isMember(at: At): boolean;
  /** Undefined: no answer. Called for queries that are meant for this node. */
  answer(query: Query): Uint8Array | undefined;
  dropped(reason: string): void;
}

interface Running {
  readonly acks: Set<string>;
  readonly answers: Map<string, Uint8Array>;
  bytes: number;
  readonly expected: number;
  readonly wantsAck: boolean;
  done(): void;
}

export class Queries {
  readonly clock = new LamportClock();
  readonly #deps: QueriesDeps;
  readonly #history = new QueryHistory(this.clock);
  readonly #running = new Map<string, Running>();

  constructor(deps: QueriesDeps) {
    this.#deps = deps;
  }

  /** Rejects with GODWIT_DECODE where name and payload are too large, or too many are asked at once. */
  async ask(name: string, payload: Uint8Array, options: QueryOptions): Promise<Asked> {
    const { timers, random } = this.#deps;
    if (this.#running.size >= RUNNING_MAX) throw wireError("too many queries at once: wait for some to end");
    const id = random.below(2 ** 32);
    const query: Query = {
      ltime: this.clock.next(),
      id,
      at: this.#deps.at(),
      sourceNode: this.#deps.name,
      filters: [
        ...((options.nodes?.length ?? 0) > 0 ? [options.nodes!] : []),
        ...[...(options.tags ?? [])].map(([tag, expression]) => ({ tag, expression })),
      ],
      wantsAck: options.wantsAck ?? false,
      isBroadcast: true,
      relayFactor: Math.min(RELAY_MAX, options.relayFactor ?? 0),
      timeoutMs: options.timeoutMs,
      name,
      payload,
    };
    const message = encodeQuery(query);
    if (message.length > QUERY_BYTES_MAX)
      throw wireError(`a query of ${message.length} bytes, at most ${QUERY_BYTES_MAX} go over the wire`);
    const ended = Promise.withResolvers<void>();
    const running: Running = {
      acks: new Set(),
      answers: new Map(),
      bytes: 0,
      expected: options.expected ?? Number.POSITIVE_INFINITY,
      wantsAck: query.wantsAck,
      done: ended.resolve,
    };
    const key = keyOf(query);
    this.#running.set(key, running);
    try {
      // This node is one of those who are asked.
      this.handle(message.subarray(1));
      await timers.within(ended.promise, options.timeoutMs);
    } finally {
      this.#running.delete(key);
    }
    return {
      acks: [...running.acks],
      answers: [...running.answers].map(([from, bytes]) => ({ from, payload: bytes })),
    };
  }

  /** A query of anybody. Throws GODWIT_DECODE. */
  handle(body: Uint8Array): void {
    const query = decodeQuery(body);
    if (!this.#history.take(query.ltime, query.id)) return;
    if (query.isBroadcast) this.#deps.broadcast(Buffer.concat([Uint8Array.of(SerfType.query), body]));
    if (!this.#isMeant(query)) return;
    const isOwn = query.sourceNode === this.#deps.name;
    if (!isOwn && !this.#deps.isMember(query.at)) return this.#deps.dropped("stranger");
    if (query.wantsAck) this.#respond(query, new Uint8Array(0), true);
    const answer = this.#deps.answer(query);
    if (answer !== undefined) this.#respond(query, answer, false);
  }

  /** An answer to a query of this node. Throws GODWIT_DECODE. */
  handleResponse(body: Uint8Array): void {
    const { isAck, from, payload, ...of } = decodeQueryResponse(body);
    const running = this.#running.get(keyOf(of));
    if (running === undefined) return;
    if (isAck) {
      if (running.acks.size < ANSWERS_MAX) running.acks.add(from);
    } else if (
      !running.answers.has(from) &&
      running.answers.size < ANSWERS_MAX &&
      running.bytes + payload.length <= ANSWER_BYTES_MAX
    ) {
      running.bytes += payload.length;
      running.answers.set(from, payload.slice());
    }
    const count = running.wantsAck ? running.acks.size : running.answers.size;
    if (count >= running.expected) running.done();
  }

  /** An answer that goes on to whoever asked. Throws GODWIT_DECODE. */
  handleRelay(body: Uint8Array): void {
    const { to, body: message } = decodeRelay(body);
    if (message[0] !== SerfType.queryResponse) throw wireError("a relay of something else than an answer");
    if (!this.#deps.isMember(to)) return this.#deps.dropped("stranger");
    this.#deps.send(to, message);
  }

  #isMeant({ filters }: Query): boolean {
    return filters.every((filter) => {
      if (!("tag" in filter)) return filter.includes(this.#deps.name);
      const found = findsPattern(filter.expression, this.#deps.tags().get(filter.tag) ?? "");
      if (found === undefined) this.#deps.dropped("pattern");
      return found === true;
    });
  }

  #respond(query: Query, payload: Uint8Array, isAck: boolean): void {
    const { name, send } = this.#deps;
    const response: QueryResponse = { ltime: query.ltime, id: query.id, from: name, isAck, payload };
    const message = encodeQueryResponse(response);
    if (message.length > QUERY_BYTES_MAX) return this.#deps.dropped("answer");
    if (query.sourceNode === name) return this.handleResponse(message.subarray(1));
    send(query.at, message);
    if (query.relayFactor === 0) return;
    const relay = encodeRelay(query.at, query.sourceNode, message);
    if (relay.length > QUERY_BYTES_MAX) return;
    const helpers = this.#deps.pick(Math.min(query.relayFactor, RELAY_MAX), Since.relay);
    for (const helper of helpers) if (helper.name !== query.sourceNode) send(helper.at, relay);
  }
}

const keyOf = ({ ltime, id }: Pick<Query, "ltime" | "id">): string => `${ltime} ${id}`;
