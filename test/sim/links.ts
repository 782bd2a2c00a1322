/**
 * Simulated media and the sessions over them. An edge joins two machines and stands for one medium; a session on it
 * passes as the Noise one does: a stream keeps order and loses nothing until it is cut, a datagram session may lose and
 * reorder but never repeats. What happens here is the machine's network stack; only `handlers` run node code.
 */
import type { LinkClass, PipeDirection, Random } from "@godwit/sdk";
import { godwitError } from "../../runtime/kernel/errors.ts";
import type { NodeId } from "../../runtime/kernel/ids.ts";
import type { Session, SessionHandlers } from "../../runtime/link/types.ts";
import { FRAME_BYTES_MAX, PROTOCOL_VERSION_MAX } from "../../runtime/wire/constants.ts";
import type { SimTime } from "./time.ts";

export const HIGH_WATER_BYTES = 256 * 1024;
const LOW_WATER_BYTES = 64 * 1024;
/** Bytes under way or unread at the far end before a stream's sender must wait: a TCP window. */
const WINDOW_BYTES = 256 * 1024;
/** A datagram medium drops what would wait behind more than this. */
const DATAGRAM_BACKLOG_BYTES = 512 * 1024;
const DATAGRAM_UNREAD_MAX = 512;
const FRAME_OVERHEAD_BYTES = 22;
/** A stream that cannot flush within this time of its close is reset. */
const CLOSE_FLUSH_MS = 1_000;
/** A radio has little room in front of it, so that what is urgent does not wait behind minutes of mail. */
const SLOW_HIGH_WATER_BYTES = 2 * 1024;
const SLOW_LOW_WATER_BYTES = 512;
/** Nobody probes a slow link (peer/link.ts): its medium says that the far end has been silent for this long, ms. */
const SLOW_SILENCE_MS = 20_000;

export interface EdgeParams {
  readonly kind: "stream" | "datagram";
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  /** One way, ms. */
  readonly delayMs: number;
  /** Datagrams: uniform extra delay, ms, which reorders. */
  readonly jitterMs: number;
  /** Datagrams: share that is lost, 0 to 1. */
  readonly loss: number;
  /** What the ends agree on; by default the newest. */
  readonly version?: number;
}

/** What a session needs of the life of a node at one of its ends. */
export interface EndHost {
  readonly index: number;
  readonly id: NodeId;
  /** False once this life is over. */
  readonly isAlive: boolean;
  /** The machine answers for dead processes (with resets); false while the power is off. */
  readonly isPowered: boolean;
  readonly isFrozen: boolean;
  /** Runs node code as part of the present event; later when frozen; never when this life is over. */
  dispatch(kind: string, fn: () => void): void;
}

/** One medium between two machines. `blocked[0]`: nothing gets from `a` to `b`. */
export class Edge {
  readonly name: string;
  readonly a: number;
  readonly b: number;
  readonly params: EdgeParams;
  readonly time: SimTime;
  readonly random: Random;
  readonly sessions = new Set<SimSession>();
  readonly #blocks: [number, number] = [0, 0];
  #cutAtMs = 0;
  /** Extra loss of datagrams while a fault lasts. */
  extraLoss = 0;

  constructor(options: {
    name: string;
    a: number;
    b: number;
    params: EdgeParams;
    time: SimTime;
    random: Random;
  }) {
    this.name = options.name;
    this.a = options.a;
    this.b = options.b;
    this.params = options.params;
    this.time = options.time;
    this.random = options.random;
  }

  isBlocked(from: number): boolean {
    return this.#blocks[from === this.a ? 0 : 1] > 0;
  }

  get isCut(): boolean {
    return this.#blocks[0] > 0 || this.#blocks[1] > 0;
  }

  /** Blocks nest: a direction is open again when each has been lifted. */
  block(direction: "both" | "ab" | "ba"): void {
    if (this.isSlow && !this.isCut) this.#watchSilence();
    if (direction !== "ba") this.#blocks[0]++;
    if (direction !== "ab") this.#blocks[1]++;
  }

  unblock(direction: "both" | "ab" | "ba"): void {
    if (direction !== "ba") this.#blocks[0]--;
    if (direction !== "ab") this.#blocks[1]--;
    for (const session of [...this.sessions]) session.onUnblocked();
  }

  get isSlow(): boolean {
    return this.params.linkClass === "slow";
  }

  #watchSilence(): void {
    const { time } = this;
    this.#cutAtMs = time.nowMs;
    time.after(SLOW_SILENCE_MS, () => {
      if (this.isCut && time.nowMs - this.#cutAtMs >= SLOW_SILENCE_MS) this.reset();
    });
  }

  /** Both ends see their sessions break at once. */
  reset(): void {
    for (const session of [...this.sessions]) session.break("the medium was cut");
  }

  other(index: number): number {
    return index === this.a ? this.b : this.a;
  }
}

type Item = Uint8Array | "end";
const bytesOf = (item: Item): number => (item === "end" ? 0 : item.length + FRAME_OVERHEAD_BYTES);

export interface SessionEnds {
  readonly edge: Edge;
  readonly initiator: EndHost;
  readonly responder: EndHost;
}

/** Both ends of a fresh session. */
export function createSessions(ends: SessionEnds): { initiator: SimSession; responder: SimSession } {
  const initiator = new SimSession(ends.edge, ends.initiator, ends.responder, "outbound");
  const responder = new SimSession(ends.edge, ends.responder, ends.initiator, "inbound");
  initiator.join(responder);
  responder.join(initiator);
  return { initiator, responder };
}

export class SimSession implements Session {
  readonly remote: NodeId;
  readonly direction: PipeDirection;
  readonly remoteEndpoint: string;
  readonly localEndpoint: string;
  readonly version: number;
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  readonly isReliable: boolean;
  readonly frameBytesMax: number;
  bytesSent = 0;
  bytesReceived = 0;
  readonly edge: Edge;
  readonly host: EndHost;
  readonly remoteHost: EndHost;
  #far!: SimSession;
  #handlers: SessionHandlers | undefined;
  #state: "open" | "closing" | "closed" = "open";
  #isPaused = false;
  /** Sent by the node, not yet on the medium. */
  #queue: Item[] = [];
  #queueBytes = 0;
  /** When the medium has taken all it was given. */
  #freeAtMs = 0;
  /** On the medium or unread at the far end. */
  #underWayBytes = 0;
  /** Arrived here, not yet read. */
  #unread: Item[] = [];
  /** Would have arrived here, but the medium is blocked: a stream retransmits until it is not. */
  #stalled: Item[] = [];
  #wantsDrain = false;
  readonly #highWaterBytes: number;
  readonly #lowWaterBytes: number;

  constructor(edge: Edge, host: EndHost, remoteHost: EndHost, direction: PipeDirection) {
    this.edge = edge;
    this.host = host;
    this.remoteHost = remoteHost;
    this.direction = direction;
    this.remote = remoteHost.id;
    this.remoteEndpoint = endpointOf(edge, remoteHost.index);
    this.localEndpoint = endpointOf(edge, host.index);
    const { kind, linkClass, rateBitsPerSecond, version = PROTOCOL_VERSION_MAX } = edge.params;
    this.version = version;
    this.linkClass = linkClass;
    this.rateBitsPerSecond = rateBitsPerSecond;
    this.#highWaterBytes = edge.isSlow ? SLOW_HIGH_WATER_BYTES : HIGH_WATER_BYTES;
    this.#lowWaterBytes = edge.isSlow ? SLOW_LOW_WATER_BYTES : LOW_WATER_BYTES;
    this.isReliable = kind === "stream";
    this.frameBytesMax = kind === "stream" ? FRAME_BYTES_MAX : 1_400;
    edge.sessions.add(this);
  }

  join(far: SimSession): void {
    this.#far = far;
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  get bufferedBytes(): number {
    return this.#queueBytes + this.#mediumBytes();
  }

  /** Frames that arrived and wait to be read: bounded by the window, whatever the reader does. */
  get unreadFrames(): number {
    return this.#unread.length;
  }

  open(handlers: SessionHandlers): void {
    this.#handlers = handlers;
    if (this.#state !== "open") this.#tellClosed(undefined);
    else this.#readSoon();
  }

  send(frame: Uint8Array): boolean {
    if (this.#state !== "open") return true;
    if (frame.length > this.frameBytesMax)
      throw godwitError("GODWIT_BUG", `frame of ${frame.length} bytes on a link of ${this.frameBytesMax}`);
    if (this.isReliable) this.#push(frame.slice());
    else if (this.bufferedBytes < DATAGRAM_BACKLOG_BYTES) this.#launch(frame.slice());
    const isFull = this.bufferedBytes > this.#highWaterBytes;
    if (isFull && !this.#wantsDrain) {
      this.#wantsDrain = true;
      this.#watchDrain();
    }
    return !isFull;
  }

  flush(): void {}

  pause(paused: boolean): void {
    this.#isPaused = paused;
    if (!paused) this.#readSoon();
  }

  close(): void {
    if (this.#state !== "open") return;
    this.#state = "closing";
    if (this.isReliable) {
      this.#push("end");
      this.edge.time.after(CLOSE_FLUSH_MS, () => {
        if (this.#queue.length === 0) return;
        this.#queue = [];
        this.#queueBytes = 0;
        this.#reset();
      });
    } else this.#launch("end");
    this.#end(undefined);
  }

  /** The medium or the machine broke it: this end hears of it, the other end is not told. */
  break(reason: string): void {
    if (this.#state === "closed") return;
    this.#end(reason);
  }

  /** This life is over: the machine forgets the session without a word. */
  vanish(): void {
    this.#state = "closed";
    this.#queue = [];
    this.#queueBytes = 0;
    this.#unread = [];
    this.#stalled = [];
    this.edge.sessions.delete(this);
    if (!this.edge.isSlow) return;
    this.edge.time.after(SLOW_SILENCE_MS, () => this.#far.break("the medium hears the far end no more"));
  }

  /** The process died but its machine lives: the far end is reset. */
  resetFar(): void {
    this.#reset();
  }

  onUnblocked(): void {
    if (this.edge.isBlocked(this.remoteHost.index)) return;
    const stalled = this.#stalled;
    this.#stalled = [];
    for (const item of stalled) this.#arrive(item);
  }

  /** The node thawed: what piled up is read. */
  readUnread(): void {
    this.#readSoon();
  }

  #mediumBytes(): number {
    const restMs = this.#freeAtMs - this.edge.time.nowMs;
    return restMs <= 0 ? 0 : (restMs * this.rateBitsPerSecond) / 8_000;
  }

  #push(item: Item): void {
    this.#queue.push(item);
    this.#queueBytes += bytesOf(item);
    this.#pump();
  }

  #pump(): void {
    while (this.#queue.length > 0 && this.#underWayBytes < WINDOW_BYTES) {
      const item = this.#queue.shift()!;
      this.#queueBytes -= bytesOf(item);
      this.#underWayBytes += bytesOf(item);
      this.#launch(item);
    }
  }

  /** Puts one item on the medium. */
  #launch(item: Item): void {
    const { time, params, random } = this.edge;
    const bytes = bytesOf(item);
    this.bytesSent += bytes;
    this.#freeAtMs = Math.max(this.#freeAtMs, time.nowMs) + (bytes * 8_000) / this.rateBitsPerSecond;
    let delayMs = this.#freeAtMs - time.nowMs + params.delayMs;
    if (!this.isReliable) {
      if (random.float() < params.loss + this.edge.extraLoss) return;
      delayMs += random.float() * params.jitterMs;
    }
    const far = this.#far;
    time.after(delayMs, () => far.#arrive(item));
  }

  #arrive(item: Item): void {
    if (this.edge.isBlocked(this.remoteHost.index)) {
      if (this.isReliable) this.#stalled.push(item);
      return;
    }
    this.edge.time.note(
      `${this.edge.time.nowMs} ${this.remoteHost.index}>${this.host.index} ${item === "end" ? item : checksum(item)}`,
    );
    if (!this.host.isAlive || this.#state !== "open") {
      // A machine answers for a connection it does not know; one without power does not.
      if (this.isReliable && this.host.isPowered) this.#reset();
      return;
    }
    if (!this.isReliable && this.#unread.length >= DATAGRAM_UNREAD_MAX) return;
    this.#unread.push(item);
    this.#read();
  }

  #readSoon(): void {
    if (this.#unread.length > 0) this.edge.time.after(0, () => this.#read());
  }

  #read(): void {
    while (this.#unread.length > 0 && this.#handlers !== undefined && !this.#isPaused) {
      if (this.host.isFrozen || this.#state !== "open") return;
      const item = this.#unread.shift()!;
      if (this.isReliable) {
        this.#far.#underWayBytes -= bytesOf(item);
        this.#far.#pump();
      }
      if (item === "end") return this.#end(undefined);
      this.bytesReceived += bytesOf(item);
      this.host.dispatch("frame", () => this.#deliver(item));
    }
  }

  #deliver(frame: Uint8Array): void {
    if (this.#state !== "open") return;
    try {
      this.#handlers!.frame(frame);
    } catch (error) {
      this.#reset();
      this.#end(String(error));
    }
  }

  /** Tells the far end, as a TCP reset would. */
  #reset(): void {
    if (!this.isReliable) return;
    const far = this.#far;
    this.edge.time.after(this.edge.params.delayMs, () => {
      if (!this.edge.isBlocked(this.host.index) && far.#state !== "closed" && far.host.isAlive)
        far.#end("reset by the far end");
    });
  }

  #end(reason: string | undefined): void {
    if (this.#state === "closed") return;
    const isFlushing = this.#state === "closing";
    this.#state = "closed";
    if (!isFlushing) {
      this.#queue = [];
      this.#queueBytes = 0;
    }
    this.#unread = [];
    this.#stalled = [];
    this.edge.sessions.delete(this);
    if (this.#handlers !== undefined) this.#tellClosed(reason);
  }

  #tellClosed(reason: string | undefined): void {
    const handlers = this.#handlers!;
    this.edge.time.after(0, () =>
      this.host.dispatch("closed", () =>
        handlers.closed(reason === undefined ? undefined : godwitError("GODWIT_LINK_CLOSED", reason)),
      ),
    );
  }

  #watchDrain(): void {
    const excess = this.#mediumBytes() - this.#lowWaterBytes;
    const delayMs = Math.max(1, (excess * 8_000) / this.rateBitsPerSecond);
    this.edge.time.after(delayMs, () => {
      if (this.#state !== "open") return;
      if (this.bufferedBytes > this.#lowWaterBytes) return this.#watchDrain();
      this.#wantsDrain = false;
      this.host.dispatch("drain", () => this.#handlers?.drain());
    });
  }
}

export const endpointOf = (edge: Edge, index: number): string => `${edge.name}://n${index}:4860`;

/** FNV-1a over length and a sample of the bytes: cheap, and any difference of two runs shows within a few frames. */
function checksum(bytes: Uint8Array): string {
  let hash = 0x811c9dc5 ^ bytes.length;
  const step = Math.max(1, bytes.length >> 6);
  for (let i = 0; i < bytes.length; i += step) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return `${bytes.length} ${(hash >>> 0).toString(16)}`;
}
