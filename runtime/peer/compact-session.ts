/**
 * What stands between a session of class slow and the link above it, where both ends speak version 2: bundles, acknowledgements,
 * refusals and hellos cross without what the two ends know of each other, and come out as the ordinary frames that went in, but for
 * the trace. Whoever uses it sees a session like any other. Never passes on a bundle whose id it has not compared.
 * docs/protocol/slow.md "Compact frames" is normative.
 */
import type { Clock, GodwitError, LinkClass, PipeDirection } from "@godwit/sdk";
import type { Airtime } from "../kernel/airtime.ts";
import { TokenBucket } from "../kernel/backoff.ts";
import type { Departure } from "../kernel/departure.ts";
import { type BundleId, formatHex, idBytes, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Session, SessionHandlers } from "../link/types.ts";
import {
  decodeBundleFrame,
  decodeCustodyAck,
  decodeCustodyRefuse,
  encodeBundleFrame,
  encodeCustodyAck,
  encodeCustodyRefuse,
  makeBundle,
} from "../wire/bundle.ts";
import { decodeError } from "../wire/bytes.ts";
import * as compact from "../wire/compact.ts";
import { type LinkEnds, restorePacket, shortenPacket } from "../wire/compact-packet.ts";
import { COMPACT_VERSION, FrameType } from "../wire/constants.ts";
import { decodeHello, encodeHello } from "../wire/peer-messages.ts";
import { FarReferences, type OwnReference, OwnReferences, referenceTo } from "./references.ts";
import { ReceivedBundles, SentBundles } from "./sequences.ts";

/** Questions back for what was not understood. */
const QUESTIONS = { burst: 16, perSecond: 1 };

export interface CompactDeps {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** The newest record that this node holds of a node. */
  recordOf(id: NodeId): Uint8Array | undefined;
  /** What control may take of channels that all in earshot share; none: whatever it takes. */
  readonly airtime?: Airtime | undefined;
}

/** The session as it is, or one that speaks compactly over it. Either is to be opened in place of `session`. */
export const compacted = (session: Session, deps: CompactDeps): Session =>
  session.linkClass === "slow" && session.version >= COMPACT_VERSION
    ? new CompactSession(session, deps)
    : session;

/** Every member, also those that a session may leave out: one that was forgotten here would be missing on slow links alone. */
class CompactSession implements Session, Record<keyof Session, unknown> {
  readonly over: Session;
  readonly #deps: CompactDeps;
  readonly #questions: TokenBucket;
  readonly #repairs;
  readonly #ignored;
  readonly #own = new OwnReferences();
  readonly #far = new FarReferences();
  readonly #sent = new SentBundles();
  readonly #received = new ReceivedBundles();
  readonly #outward: LinkEnds;
  readonly #inward: LinkEnds;
  /** The last one, owned, while the far end may ask for it in full. */
  #hello: Uint8Array | undefined;
  /** What whoever says hello waits by. */
  #helloDeparture: Departure | undefined;
  /** Hash of the record that it asked for, as hex. */
  #wantedRecord: string | undefined;

  constructor(session: Session, deps: CompactDeps) {
    this.over = session;
    this.#deps = deps;
    this.#outward = { sender: deps.self, receiver: session.remote };
    this.#inward = { sender: session.remote, receiver: deps.self };
    this.#questions = new TokenBucket(deps.clock, QUESTIONS.perSecond, QUESTIONS.burst);
    this.#repairs = deps.metrics.counter("godwit_compact_repairs_total");
    this.#ignored = deps.metrics.counter("godwit_compact_answers_ignored_total");
  }

  get remote(): NodeId {
    return this.over.remote;
  }
  get direction(): PipeDirection {
    return this.over.direction;
  }
  get invite(): Session["invite"] {
    return this.over.invite;
  }
  get remoteEndpoint(): string {
    return this.over.remoteEndpoint;
  }
  get localEndpoint(): string {
    return this.over.localEndpoint;
  }
  get secretEpoch(): string | undefined {
    return this.over.secretEpoch;
  }
  get version(): number {
    return this.over.version;
  }
  get linkClass(): LinkClass {
    return this.over.linkClass;
  }
  get rateBitsPerSecond(): number {
    return this.over.rateBitsPerSecond;
  }
  get medium(): Session["medium"] {
    return this.over.medium;
  }
  get isCarried(): boolean {
    return this.over.isCarried === true;
  }
  get answerMs(): number {
    return this.over.answerMs ?? 0;
  }
  get isReliable(): boolean {
    return this.over.isReliable;
  }
  get frameBytesMax(): number {
    return this.over.frameBytesMax;
  }
  get bufferedBytes(): number {
    return this.over.bufferedBytes;
  }
  get bytesSent(): number {
    return this.over.bytesSent;
  }
  get bytesReceived(): number {
    return this.over.bytesReceived;
  }

  open(handlers: SessionHandlers): void {
    this.over.open({
      frame: (bytes) => this.#receive(bytes, handlers),
      bytes: () => handlers.bytes?.(),
      drain: () => handlers.drain(),
      closed: (error?: GodwitError) => handlers.closed(error),
    });
  }

  send(frame: Uint8Array, departure?: Departure): boolean {
    switch (frame[0]) {
      case FrameType.bundle:
        return this.#sendBundle(frame, departure);
      case FrameType.custodyAck:
        return this.#sendAck(frame, departure);
      case FrameType.custodyRefuse:
        return this.#sendRefuse(frame, departure);
      case FrameType.hello:
        return this.#sendHello(frame, departure);
      case FrameType.packet:
        return this.over.send(shortenPacket(frame, this.#outward) ?? frame, departure);
      default:
        return this.over.send(frame, departure);
    }
  }

  flush(): void {
    this.over.flush();
  }

  pause(paused: boolean): void {
    this.over.pause(paused);
  }

  close(): void {
    this.over.close();
  }

  #receive(frame: Uint8Array, handlers: SessionHandlers): void {
    const type = frame[0];
    if (compact.isCompactBundle(type)) return this.#onBundle(frame, handlers);
    switch (type) {
      case FrameType.compactAck:
        return this.#onAck(frame, handlers);
      case FrameType.compactRefuse:
        return this.#onRefuse(frame, handlers);
      case FrameType.compactUnreadable:
        return this.#onUnreadable(frame);
      case FrameType.compactHello:
        return this.#onHello(frame, handlers);
      case FrameType.helloWanted:
        return this.#onHelloWanted();
      case FrameType.compactPacket:
        return handlers.frame(restorePacket(frame, this.#inward));
      default:
        return handlers.frame(frame);
    }
  }

  /** Longer than the path carries, it goes as it is. */
  #sendBundle(frame: Uint8Array, departure?: Departure): boolean {
    const { bundle, journey } = decodeBundleFrame(frame);
    const { header } = bundle;
    const uses: OwnReference[] = [];
    const refer = <T extends string>(is: T): compact.Reference<T> => {
      const own = this.#own.use(is);
      uses.push(own);
      return referenceTo<T>(own);
    };
    const theirs: NodeId[] = [];
    const place = (is: NodeId): compact.Reference<NodeId> => {
      // What the far end has told of need not be told to it.
      const index = this.#own.get(is)?.isProven === true ? undefined : this.#far.indexOf(is);
      if (index === undefined) return refer(is);
      theirs.push(is);
      return { index, isReceivers: true };
    };
    const { seal, rest } = compact.shortenSealed(header.kind, bundle.sealed, refer);
    const short = {
      ...{ kind: header.kind, priority: header.priority, lifetimeMs: header.lifetimeMs },
      ...{ remainingMs: journey.remainingMs, hops: journey.hops, sequence: this.#sent.next, seal, rest },
      source: header.source === this.#deps.self ? undefined : place(header.source),
      destination: header.destination === this.remote ? undefined : place(header.destination),
    };
    const encoded = compact.encodeCompactBundle(short, bundle.id);
    if (encoded.length > this.frameBytesMax) return this.over.send(frame, departure);
    // What comes at all comes in this order: the next one may build on it.
    if (this.isReliable) for (const use of uses) use.isProven = true;
    const mayFail = compact.needsReferences(short);
    const kept = mayFail ? frame.slice() : undefined;
    this.#sent.add({ id: bundle.id, frame: kept, isSettled: false, uses, theirs, departure });
    return this.over.send(encoded, departure);
  }

  #onBundle(frame: Uint8Array, handlers: SessionHandlers): void {
    const short = compact.decodeCompactBundle(frame);
    this.#far.noteBundle();
    const { kind, priority, lifetimeMs, remainingMs, hops, sequence, check, seal } = short;
    const source = short.source === undefined ? this.remote : this.#nodeOf(short.source);
    const destination = short.destination === undefined ? this.#deps.self : this.#nodeOf(short.destination);
    const session = seal.kind === "later" ? this.#far.session(seal.session) : undefined;
    if (source === undefined || destination === undefined) return this.#askAgain(sequence);
    if (seal.kind === "later" && session === undefined) return this.#askAgain(sequence);
    const header = { kind, priority, source, destination, lifetimeMs };
    const bundle = makeBundle(header, compact.restoreSealed(short, session));
    if (!startsWith(idBytes(bundle.id), check)) {
      if (compact.needsReferences(short)) return this.#askAgain(sequence);
      throw decodeError("a compact bundle is not the one that its check names");
    }
    this.#received.note(sequence, bundle.id);
    handlers.frame(encodeBundleFrame(bundle, { remainingMs, hops, trace: [] }));
  }

  #nodeOf(reference: compact.Reference<NodeId>): NodeId | undefined {
    return reference.isReceivers === true ? this.#own.node(reference) : this.#far.node(reference);
  }

  #askAgain(sequence: number): void {
    if (!this.#questions.take()) return;
    this.#repairs.add(1, { end: "receiver" });
    this.over.send(compact.encodeUnreadable(sequence));
  }

  /** Whatever the far end has of what that bundle referred to, it is told again, once for a bundle. */
  #onUnreadable(frame: Uint8Array): void {
    const sequence = compact.decodeUnreadable(frame);
    const sent = this.#sent.get(sequence);
    if (sent === undefined || sent.isSettled) return this.#ignored.add(1, { reason: "sequence" });
    for (const use of sent.uses) use.isProven = false;
    for (const is of sent.theirs) this.#far.forget(is);
    const full = this.#sent.settle(sent);
    // Of a frame that was not kept the source offers the bundle again; whether a later copy can be read is said of that one.
    if (full === undefined || this.#sent.hasNewer(sent.id, sequence)) return;
    this.#repairs.add(1, { end: "sender" });
    const { departure } = sent;
    // Whoever waits for an answer waits for that to this copy now.
    if (departure !== undefined) departure.leftAtMs = undefined;
    this.#sendBundle(full, departure);
  }

  #sendAck(frame: Uint8Array, departure?: Departure): boolean {
    const ids = decodeCustodyAck(frame);
    const byId = new Map(ids.map((id) => [id, this.#received.sequenceOf(id)]));
    const known = new Map<number, BundleId>();
    for (const [id, sequence] of byId) if (sequence !== undefined) known.set(sequence, id);
    if (known.size === 0) return this.over.send(frame, departure);
    const sequences = this.#received.inOrder([...known.keys()]);
    const check = compact.ackCheck(sequences.map((sequence) => known.get(sequence)!));
    const others = ids.filter((id) => byId.get(id) === undefined);
    const ack = compact.encodeCompactAck({ sequences, check });
    const hasRoom = this.over.send(ack, others.length === 0 ? departure : undefined);
    return others.length === 0 ? hasRoom : this.over.send(encodeCustodyAck(others), departure);
  }

  #onAck(frame: Uint8Array, handlers: SessionHandlers): void {
    const { sequences, check } = compact.decodeCompactAck(frame);
    const ids = this.#answered(sequences, check);
    if (ids !== undefined) handlers.frame(encodeCustodyAck(ids));
  }

  #sendRefuse(frame: Uint8Array, departure?: Departure): boolean {
    const { id, reason, retryAfterMs } = decodeCustodyRefuse(frame);
    const sequence = this.#received.sequenceOf(id);
    if (sequence === undefined) return this.over.send(frame, departure);
    const check = compact.ackCheck([id]);
    return this.over.send(compact.encodeCompactRefuse({ sequence, check, reason, retryAfterMs }), departure);
  }

  #onRefuse(frame: Uint8Array, handlers: SessionHandlers): void {
    const { sequence, check, reason, retryAfterMs } = compact.decodeCompactRefuse(frame);
    const ids = this.#answered([sequence], check);
    if (ids !== undefined) handlers.frame(encodeCustodyRefuse(ids[0]!, reason, retryAfterMs));
  }

  /** The bundles that an answer names, if they are those that its sender means; their references are known to it then. */
  #answered(sequences: readonly number[], check: Uint8Array): BundleId[] | undefined {
    const sent = sequences.map((sequence) => this.#sent.get(sequence));
    const known = sent.filter((bundle) => bundle !== undefined);
    const ids = known.map(({ id }) => id);
    if (known.length < sent.length || !startsWith(compact.ackCheck(ids), check)) {
      this.#ignored.add(1, { reason: known.length < sent.length ? "sequence" : "check" });
      return undefined;
    }
    for (const bundle of known) {
      for (const use of bundle.uses) use.isProven = true;
      this.#sent.settle(bundle);
    }
    return ids;
  }

  /** Where answers come at once, or bytes cost little, the record goes with it. */
  #sendHello(frame: Uint8Array, departure?: Departure): boolean {
    if (this.isReliable) return this.over.send(frame, departure);
    const { bootId, storeEpoch, record, wallMs } = decodeHello(frame);
    const recordHash = compact.recordHashOf(record);
    if (formatHex(recordHash) === this.#wantedRecord) return this.over.send(frame, departure);
    this.#hello = frame.slice();
    this.#helloDeparture = departure;
    return this.over.send(compact.encodeCompactHello({ bootId, storeEpoch, recordHash, wallMs }), departure);
  }

  #onHello(frame: Uint8Array, handlers: SessionHandlers): void {
    const { bootId, storeEpoch, recordHash, wallMs } = compact.decodeCompactHello(frame);
    const record = this.#deps.recordOf(this.remote);
    if (record === undefined || !startsWith(compact.recordHashOf(record), recordHash)) {
      const wanted = compact.encodeHelloWanted();
      if (this.#questions.take() && this.#mayControl(wanted.length)) this.over.send(wanted);
      return;
    }
    const versions = { versionMin: this.version, versionMax: this.version };
    handlers.frame(encodeHello({ ...versions, bootId, storeEpoch, record, wallMs }));
  }

  /** Takes the airtime of what this session says of its own accord, where its channel is shared. */
  #mayControl(bytes: number): boolean {
    const budget = this.medium === undefined ? undefined : this.#deps.airtime?.of(this.medium);
    return budget?.takeFrame(bytes, "handshakes", "mail") !== false;
  }

  #onHelloWanted(): void {
    const hello = this.#hello;
    if (hello === undefined) return;
    // Asked for again with the next short one, as long as there is no airtime.
    if (!this.#mayControl(hello.length)) return;
    this.#hello = undefined;
    this.#wantedRecord = formatHex(compact.recordHashOf(decodeHello(hello).record));
    // Until this one has left it is not said again either.
    if (this.#helloDeparture !== undefined) this.#helloDeparture.leftAtMs = undefined;
    this.over.send(hello, this.#helloDeparture);
  }
}

const startsWith = (bytes: Uint8Array, start: Uint8Array): boolean =>
  start.every((byte, i) => bytes[i] === byte);
