/**
 * Streams between any two nodes of the mesh: reliable, ordered, two-way, sealed end to end through blind relays. Owns
 * the sessions, their handshakes and the services that take streams; must never touch the store (streams skip custody)
 * nor trust a packet's source before the handshake proved it. docs/protocol/streams.md is normative.
 */
import { orAborted } from "../kernel/abort.ts";
import type { Clock, Log, Random, Timer } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import { TokenBucket } from "../kernel/backoff.ts";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { DhKey } from "../identity/keys.ts";
import { HOP_LIMIT } from "../wire/constants.ts";
import { encodePacket, PacketKind, type PacketHeader } from "../wire/packet.ts";
import type { ByteStream } from "./byte-stream.ts";
import * as bound from "./constants.ts";
import { StreamMessage, StreamReset } from "./constants.ts";
import { answerHandshake, goneToken, Initiation } from "./establish.ts";
import { StreamSession } from "./session.ts";
import { unreachable, type Path, type SessionDeps, type StreamCounters } from "./session-types.ts";
import { decodeAccept, decodeGone, decodeOpen, decodeRecordHeader, encodeGone } from "./wire.ts";

export type StreamHandler = (stream: ByteStream) => void;

export interface StreamsDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly dh: DhKey;
  /** Known to nobody, the same after every restart. */
  readonly goneKey: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Aborts when the node stops: no stream is opened after. */
  readonly signal: AbortSignal;
  isBlocked(id: NodeId): boolean;
  /** For a reason of this node's own (trust/acquaintances.ts): it has places that strangers do not get. */
  isKnown(id: NodeId): boolean;
  path(remote: NodeId): Path;
  /** A whole packet. Borrowed. False: it is lost. */
  sendPacket(remote: NodeId, frame: Uint8Array): boolean;
}

interface Opening {
  readonly initiation: Initiation;
  readonly waiting: ((outcome: StreamSession | GodwitError) => void)[];
  readonly startedAtMs: number;
  delayMs: number;
  timer: Timer | undefined;
}

interface HalfOpen {
  readonly session: StreamSession;
  readonly source: NodeId;
  readonly remoteIndex: number;
  readonly noise: Uint8Array;
  readonly answer: Uint8Array;
  readonly timer: Timer;
  readonly place: Place;
}

const OPEN_RESEND_MAX_MS = 2_000;
const SERVICE_PATTERN = /^[a-z0-9][a-z0-9:._-]{0,63}$/;

export class Streams {
  readonly #deps: StreamsDeps;
  readonly #sessionDeps: SessionDeps<StreamSession>;
  /** By our index. */
  readonly #sessions = new Map<number, StreamSession>();
  readonly #openings = new Map<NodeId, Opening>();
  readonly #halfOpen = new Map<number, HalfOpen>();
  readonly #places = new Places({ max: bound.HALF_OPEN_MAX, perSourceMax: bound.HALF_OPEN_PER_SOURCE_MAX });
  readonly #services = new Map<string, StreamHandler>();
  readonly #handshakes: TokenBucket;
  readonly #goneRate: TokenBucket;
  readonly #counters: StreamCounters;
  #growth = 0;

  constructor(deps: StreamsDeps) {
    this.#deps = deps;
    const { clock, metrics } = deps;
    this.#handshakes = new TokenBucket(clock, bound.HANDSHAKES_PER_SECOND, bound.HANDSHAKES_PER_SECOND);
    this.#goneRate = new TokenBucket(clock, bound.GONE_PER_SECOND, bound.GONE_PER_SECOND);
    this.#counters = exposeCounters(metrics, this);
    this.#sessionDeps = {
      clock,
      counters: this.#counters,
      path: (remote) => deps.path(remote),
      sendPacket: (remote, frame) => deps.sendPacket(remote, frame),
      grow: (bytes) => this.#grow(bytes),
      incoming: (session, stream) => this.#incoming(session, stream),
      proven: (session) => this.#proven(session),
      over: (session) => this.#over(session),
    };
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Sessions that a message 1 made and no record proved yet. */
  get halfOpenCount(): number {
    return this.#halfOpen.size;
  }

  get streamCount(): number {
    let count = 0;
    for (const session of this.#sessions.values()) count += session.streams.size;
    return count;
  }

  /** Bytes of users held in all streams. Walks them: for metrics and tests. */
  get heldBytes(): number {
    let held = 0;
    for (const session of this.#sessions.values())
      for (const stream of session.streams.values()) held += stream.heldBytes;
    return held;
  }

  /**
   * Opens a stream to a service of another node; resolves once that has accepted it. Rejects with GODWIT_NO_ROUTE,
   * GODWIT_STREAM_SLOW_PATH, GODWIT_STREAM_UNREACHABLE, GODWIT_STREAM_REFUSED, GODWIT_STREAM_FORBIDDEN,
   * GODWIT_STREAM_LIMIT, GODWIT_PEER_BLOCKED, or the signal's reason. `metadata`: at most 512 bytes, copied.
   */
  async open(
    remote: NodeId,
    service: string,
    options: { readonly metadata?: Uint8Array; readonly signal?: AbortSignal } = {},
  ): Promise<ByteStream> {
    const metadata = options.metadata ?? new Uint8Array(0);
    this.#checkOpen(remote, service, metadata);
    options.signal?.throwIfAborted();
    const session = await orAborted(this.#session(remote), options.signal);
    if (!session.hasRoom) throw godwitError("GODWIT_STREAM_LIMIT", "too many streams to that node");
    const accepted = Promise.withResolvers<void>();
    const stream = session.openStream(service, metadata, (error) =>
      error === undefined ? accepted.resolve() : accepted.reject(error),
    );
    try {
      await orAborted(accepted.promise, options.signal);
      return stream;
    } catch (error) {
      stream.reset(StreamReset.cancelled);
      throw error;
    }
  }

  /** Streams for `service` go to `handler`, which accepts or resets them. Answers how to stop. */
  handle(service: string, handler: StreamHandler): () => void {
    if (!SERVICE_PATTERN.test(service))
      throw godwitError("GODWIT_REQUEST_INVALID", `"${service}" is no name of a service`);
    if (this.#services.has(service))
      throw godwitError("GODWIT_REQUEST_INVALID", `the service "${service}" has a handler already`);
    this.#services.set(service, handler);
    return () => void this.#services.delete(service);
  }

  /** A packet of kind `stream` for this node. Borrowed. Throws GODWIT_DECODE. */
  onPacket(header: PacketHeader, payload: Uint8Array): void {
    switch (payload[0]) {
      case StreamMessage.record:
        return this.#onRecord(header.source, payload);
      case StreamMessage.open:
        return this.#onOpen(header.source, payload);
      case StreamMessage.accept:
        return this.#onAccept(header.source, payload);
      case StreamMessage.gone:
        return this.#onGone(header.source, payload);
      default:
        this.#counters.dropped("malformed");
    }
  }

  /** A neighbour takes frames again. */
  onWritable(): void {
    for (const session of this.#sessions.values()) session.onWritable();
  }

  /** The routes to a node changed. */
  onRoute(destination: NodeId): void {
    for (const session of this.#sessions.values())
      if (session.facts.remote === destination) session.onRoute();
  }

  /** The operator blocked the node: its streams end. */
  block(id: NodeId): void {
    for (const session of [...this.#sessions.values()])
      if (session.facts.remote === id)
        session.end(godwitError("GODWIT_PEER_BLOCKED", "the operator blocked that node"), false);
    for (const { session, source } of [...this.#halfOpen.values()])
      if (source === id) session.end(undefined, false);
    this.#settle(id, godwitError("GODWIT_PEER_BLOCKED", "the operator blocked that node"));
  }

  stop(): void {
    const stopped = godwitError("GODWIT_STOPPED", "the node is stopping");
    for (const session of [...this.#sessions.values()]) session.end(stopped, true);
    for (const id of [...this.#openings.keys()]) this.#settle(id, stopped);
    this.#halfOpen.clear();
    this.#services.clear();
  }

  #checkOpen(remote: NodeId, service: string, metadata: Uint8Array): void {
    if (this.#deps.signal.aborted) throw godwitError("GODWIT_STOPPED", "the node is stopping");
    if (!SERVICE_PATTERN.test(service))
      throw godwitError("GODWIT_REQUEST_INVALID", `"${service}" is no name of a service`);
    if (metadata.length > bound.METADATA_BYTES_MAX)
      throw godwitError("GODWIT_TOO_BIG", `metadata has at most ${bound.METADATA_BYTES_MAX} bytes`);
    if (remote === this.#deps.self) throw godwitError("GODWIT_SELF_DIALED", "a stream to this node itself");
    if (this.#deps.isBlocked(remote))
      throw godwitError("GODWIT_PEER_BLOCKED", `${shortId(remote)} is blocked here`);
    const path = this.#deps.path(remote);
    if (path.kind === "none") throw godwitError("GODWIT_NO_ROUTE", `no route to ${shortId(remote)} now`);
    if (path.kind === "slow")
      throw godwitError(
        "GODWIT_STREAM_SLOW_PATH",
        `only a path too slow or too narrow for streams leads to ${shortId(remote)}; send a message instead`,
      );
  }

  /** The session to a node: one that stands, or a new one. */
  #session(remote: NodeId): Promise<StreamSession> {
    for (const session of this.#sessions.values())
      if (session.facts.remote === remote && session.isProven && session.hasRoom)
        return Promise.resolve(session);
    return new Promise((resolve, reject) => {
      const done = (outcome: StreamSession | GodwitError) =>
        outcome instanceof StreamSession ? resolve(outcome) : reject(outcome);
      const known = this.#openings.get(remote);
      if (known !== undefined) {
        known.waiting.push(done);
        return;
      }
      if (this.#sessions.size + this.#openings.size >= bound.SESSIONS_MAX)
        return done(godwitError("GODWIT_STREAM_LIMIT", "streams to too many nodes at once"));
      const opening: Opening = {
        initiation: new Initiation(this.#deps, remote, this.#freshIndex()),
        waiting: [done],
        startedAtMs: this.#deps.clock.monotonicMs(),
        delayMs: bound.OPEN_RESEND_MS,
        timer: undefined,
      };
      this.#openings.set(remote, opening);
      this.#sendOpen(remote, opening);
    });
  }

  #sendOpen(remote: NodeId, opening: Opening): void {
    const { clock } = this.#deps;
    const leftMs = opening.startedAtMs + bound.OPEN_TIMEOUT_MS - clock.monotonicMs();
    if (leftMs <= 0) return this.#settle(remote, unreachable());
    this.#send(remote, opening.initiation.message);
    opening.timer = clock.after(Math.min(opening.delayMs, leftMs), () => this.#sendOpen(remote, opening));
    opening.delayMs = Math.min(opening.delayMs * 2, OPEN_RESEND_MAX_MS);
  }

  #settle(remote: NodeId, outcome: StreamSession | GodwitError): void {
    const opening = this.#openings.get(remote);
    if (opening === undefined) return;
    opening.timer?.cancel();
    this.#openings.delete(remote);
    for (const waiting of opening.waiting) waiting(outcome);
  }

  #onRecord(source: NodeId, payload: Uint8Array): void {
    const { index } = decodeRecordHeader(payload);
    const session = this.#sessions.get(index) ?? this.#halfOpen.get(index)?.session;
    if (session !== undefined && session.facts.remote === source) return session.receive(payload);
    this.#counters.dropped("unknown");
    // So that a peer of our last life does not wait for what will never be acknowledged.
    if (this.#goneRate.take() && !this.#deps.isBlocked(source))
      this.#send(source, encodeGone({ index, token: goneToken(this.#deps.goneKey, index, source) }));
  }

  #onOpen(source: NodeId, payload: Uint8Array): void {
    const { version, index, noise } = decodeOpen(payload);
    if (version !== bound.STREAM_VERSION) return this.#counters.dropped("malformed");
    if (this.#deps.isBlocked(source)) return this.#counters.dropped("blocked");
    for (const half of this.#halfOpen.values())
      if (half.source === source && half.remoteIndex === index && Buffer.from(half.noise).equals(noise))
        return this.#send(source, half.answer);
    const isKnown = this.#deps.isKnown(source);
    const sessionsMax = bound.SESSIONS_MAX - (isKnown ? 0 : bound.SESSIONS_KEPT);
    if (!this.#handshakes.take() || (this.#sessions.size >= sessionsMax && !this.#makePlace()))
      return this.#counters.dropped("limit");
    const localIndex = this.#freshIndex();
    const answer = answerHandshake(this.#deps, source, { localIndex, remoteIndex: index, noise });
    if (answer === undefined) return this.#counters.dropped("forged");
    const session = new StreamSession({ ...answer.facts, header: this.#headerTo(source) }, this.#sessionDeps);
    // Who comes gets in; the oldest of whoever has most goes.
    const place = this.#places.enter(source, () => session.end(unreachable(), false));
    if (place === undefined) return this.#counters.dropped("limit");
    const timer = this.#deps.clock.after(bound.HALF_OPEN_MS, () => session.end(unreachable(), false));
    this.#halfOpen.set(localIndex, {
      session,
      source,
      remoteIndex: index,
      noise: noise.slice(),
      answer: answer.message,
      timer,
      place,
    });
    this.#send(source, answer.message);
  }

  /** Of strangers, the session that is oldest of those without a stream: it costs nothing to make another one. */
  #makePlace(): boolean {
    for (const session of this.#sessions.values()) {
      if (session.streams.size > 0 || this.#deps.isKnown(session.facts.remote)) continue;
      session.end(undefined, true);
      return true;
    }
    return false;
  }

  #onAccept(source: NodeId, payload: Uint8Array): void {
    const { to, index, noise } = decodeAccept(payload);
    const opening = this.#openings.get(source);
    if (opening === undefined || opening.initiation.localIndex !== to)
      return this.#counters.dropped("unknown");
    const facts = opening.initiation.finish(index, noise);
    if (facts === undefined) return this.#counters.dropped("forged");
    const session = new StreamSession({ ...facts, header: this.#headerTo(source) }, this.#sessionDeps);
    this.#sessions.set(to, session);
    session.confirm();
    this.#settle(source, session);
  }

  #onGone(source: NodeId, payload: Uint8Array): void {
    const { index, token } = decodeGone(payload);
    for (const session of this.#sessions.values()) {
      const { facts } = session;
      if (facts.remote !== source || facts.remoteIndex !== index) continue;
      if (!Buffer.from(facts.goneToken).equals(token)) return this.#counters.dropped("forged");
      return session.end(godwitError("GODWIT_STREAM_RESET", "the far node has started anew"), false);
    }
    this.#counters.dropped("unknown");
  }

  #incoming(session: StreamSession, stream: ByteStream): void {
    const handler = this.#services.get(stream.service);
    if (handler === undefined) return stream.reset(StreamReset.serviceUnknown);
    try {
      handler(stream);
    } catch (error) {
      this.#deps.log.error("stream handler failed", {
        service: stream.service,
        peer: shortId(session.facts.remote),
        error: asGodwitError(error),
      });
      stream.reset(StreamReset.refused);
    }
  }

  #proven(session: StreamSession): void {
    const { localIndex } = session.facts;
    const half = this.#halfOpen.get(localIndex);
    if (half === undefined) return;
    half.timer.cancel();
    half.place.release();
    this.#halfOpen.delete(localIndex);
    this.#sessions.set(localIndex, session);
  }

  #over(session: StreamSession): void {
    const { localIndex } = session.facts;
    this.#sessions.delete(localIndex);
    const half = this.#halfOpen.get(localIndex);
    half?.timer.cancel();
    half?.place.release();
    this.#halfOpen.delete(localIndex);
  }

  #grow(bytes: number): boolean {
    if (this.#growth + bytes > bound.NODE_GROWTH_BYTES_MAX) return false;
    this.#growth += bytes;
    return true;
  }

  #freshIndex(): number {
    for (;;) {
      const index = this.#deps.random.below(2 ** 32);
      const isTaken = [...this.#openings.values()].some(({ initiation }) => initiation.localIndex === index);
      if (!isTaken && !this.#sessions.has(index) && !this.#halfOpen.has(index)) return index;
    }
  }

  #headerTo(destination: NodeId): Uint8Array {
    return encodePacket(
      {
        priority: bound.STREAM_PRIORITY,
        plane: "bulk",
        hopsLeft: HOP_LIMIT,
        kind: PacketKind.stream,
        destination,
        source: this.#deps.self,
      },
      new Uint8Array(0),
    );
  }

  #send(remote: NodeId, message: Uint8Array): void {
    const header = this.#headerTo(remote);
    const frame = new Uint8Array(header.length + message.length);
    frame.set(header);
    frame.set(message, header.length);
    this.#deps.sendPacket(remote, frame);
  }
}

function exposeCounters(metrics: Metrics, streams: Streams): StreamCounters {
  const dropped = metrics.counter("godwit_stream_dropped_total");
  const counters: StreamCounters = {
    recordsSent: 0,
    recordsReceived: 0,
    retransmittedBytes: 0,
    bytesSent: 0,
    bytesReceived: 0,
    timeouts: 0,
    rekeys: 0,
    dropped: (reason) => dropped.add(1, { reason }),
  };
  metrics.observedCounter("godwit_stream_records_sent_total", () => counters.recordsSent);
  metrics.observedCounter("godwit_stream_records_received_total", () => counters.recordsReceived);
  metrics.observedCounter("godwit_stream_retransmitted_bytes_total", () => counters.retransmittedBytes);
  metrics.observedCounter("godwit_stream_sent_bytes_total", () => counters.bytesSent);
  metrics.observedCounter("godwit_stream_received_bytes_total", () => counters.bytesReceived);
  metrics.observedCounter("godwit_stream_timeouts_total", () => counters.timeouts);
  metrics.observedCounter("godwit_stream_rekeys_total", () => counters.rekeys);
  metrics.observedGauge("godwit_stream_sessions", () => streams.sessionCount);
  metrics.observedGauge("godwit_streams_open", () => streams.streamCount);
  metrics.observedGauge("godwit_stream_held_bytes", () => streams.heldBytes);
  return counters;
}
