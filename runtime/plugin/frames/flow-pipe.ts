/** The end of a flow where it is used, as a `Pipe` or with half-closes as a stream or socket. */
import { type LinkClass, type Medium, type Pipe, type PipeDirection, StreamCore } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { type FlowHandlers, type Flows, Incoming, Outgoing } from "./flow.ts";
import { encodeU32, PluginFrame } from "./frames.ts";

/** `write` of a flow answers false above this many bytes waiting for room at the far end. */
const HIGH_WATER_BYTES = 262_144;
/** A flow that was closed politely and of which nothing was heard since is over. */
const CLOSE_DEADLINE_MS = 2_000;
/** Datagrams of one pipe that have not left; of one that keeps more the oldest count as gone. */
const WAITING_MAX = 4_096;
const RESET = Uint8Array.of(1);

/** What a pipe is, as it travels. */
export interface FlowProperties {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  readonly remote: string;
  readonly local: string;
  readonly linkClass: LinkClass;
  readonly isAnonymous: boolean;
  readonly patienceMs: number;
  /** Of datagrams that wait at the far end before they leave. */
  readonly answerMs?: number | undefined;
  readonly rateBitsPerSecond: number;
  readonly mtu: number;
  /** Of the node's end alone: what travels is whether there is one. */
  readonly medium?: Medium | undefined;
}

/** The end where a flow is used. As a `Pipe` it follows that contract; streams and sockets use `end` and `reset` too. */
export class FlowPipe extends StreamCore implements Pipe {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  readonly local: string;
  readonly linkClass: LinkClass;
  readonly isAnonymous: boolean;
  readonly patienceMs: number;
  readonly rateBitsPerSecond: number;
  readonly medium?: Medium;
  remote: string;
  mtu: number;
  answerMs?: number;
  readonly #flows: Flows;
  readonly #id: number;
  readonly #out: Outgoing;
  readonly #in: Incoming;
  #arrived = 0;
  #proven = 0;
  #provenSent = 0;
  /** Of datagrams that have not left, in the order of writing: whether the far end has it, or it was dropped here. */
  readonly #waiting: boolean[] = [];
  #left: (() => void) | undefined;

  /** `parse` judges changes that the far end tells; it throws GODWIT_DECODE. */
  constructor(
    flows: Flows,
    id: number,
    properties: FlowProperties,
    parse: (properties: unknown) => Partial<FlowProperties> = () => ({}),
  ) {
    const out = new Outgoing(flows, id);
    super(
      {
        write: (bytes) => out.take(bytes),
        // What the far end sends is bounded by the room that it was given.
        pause() {},
        resume() {},
        end: () => flows.port.send(PluginFrame.end, id),
        shut: () => flows.port.send(PluginFrame.close, id),
        destroy: () => flows.port.send(PluginFrame.close, id, RESET),
      },
      {
        clock: flows.clock,
        highWaterBytes: HIGH_WATER_BYTES,
        // Room comes in pieces of a quarter of that; a drain at each is not worth its turn.
        lowWaterBytes: 0,
        closeMs: CLOSE_DEADLINE_MS,
        isClosedWhenGone: true,
        onOver: () => flows.delete(id),
      },
    );
    this.#flows = flows;
    this.#id = id;
    this.#out = out;
    this.#in = new Incoming(flows, id);
    this.kind = properties.kind;
    this.direction = properties.direction;
    this.remote = properties.remote;
    this.local = properties.local;
    this.linkClass = properties.linkClass;
    this.isAnonymous = properties.isAnonymous;
    this.patienceMs = properties.patienceMs;
    this.rateBitsPerSecond = properties.rateBitsPerSecond;
    this.mtu = properties.mtu;
    if (properties.medium !== undefined) this.medium = properties.medium;
    if (properties.answerMs !== undefined) this.answerMs = properties.answerMs;
    flows.add(id, {
      onData: (body) => this.#onBody(body),
      onCredit: (bytes) => {
        out.addCredit(bytes);
        this.onDrain();
      },
      onProven() {},
      onLeft: (count) => this.#onLeft(count),
      onClose() {},
      onClosed: (error) => this.onGone(error),
      onEnd: () => this.onEnd(),
      onChange: (change) => {
        const { remote, mtu, answerMs } = parse(change);
        if (remote !== undefined) this.remote = remote;
        if (mtu !== undefined) this.mtu = mtu;
        if (answerMs !== undefined && this.answerMs !== undefined) this.answerMs = answerMs;
      },
    });
  }

  override open(handlers: FlowHandlers): void {
    this.#left = () => handlers.left?.();
    super.open({
      data: (bytes) => {
        handlers.data(bytes);
        if (!this.isOver) this.#in.take(bytes.length);
      },
      end: () => handlers.end?.(),
      drain: () => handlers.drain(),
      closed: (error) => handlers.closed(error),
    });
  }

  override write(bytes: Uint8Array): boolean {
    if (this.kind === "stream") return super.write(bytes);
    if (!this.isWritable) return true;
    const isSent = this.#out.datagram(bytes);
    if (this.answerMs === undefined) return true;
    if (this.#waiting.length >= WAITING_MAX) this.#tellLeft();
    this.#waiting.push(isSent);
    if (!isSent) queueMicrotask(() => this.#tellDropped());
    return true;
  }

  /** Throws GODWIT_DECODE. */
  #onLeft(count: number): void {
    // They may have crossed with what was forgotten for want of room.
    if (this.answerMs === undefined || count > WAITING_MAX)
      throw godwitError("GODWIT_DECODE", "plugin frame: more has left than was sent");
    for (let i = 0; i < count && !this.isOver; i++) {
      this.#tellDropped();
      this.#tellLeft();
    }
    this.#tellDropped();
  }

  #tellDropped(): void {
    while (this.#waiting[0] === false && !this.isOver) this.#tellLeft();
  }

  #tellLeft(): void {
    if (this.#waiting.shift() !== undefined) this.#left?.();
  }

  override pause(paused: boolean): void {
    if (this.kind === "stream") super.pause(paused);
  }

  proven(): void {
    if (this.kind === "stream" && this.#provenSent > 0) return;
    if (this.#proven === this.#provenSent) queueMicrotask(this.#sendProven);
    this.#proven = this.#arrived;
  }

  readonly #sendProven = (): void => {
    if (this.isOver) return;
    this.#provenSent = this.#proven;
    this.#flows.port.send(PluginFrame.proven, this.#id, encodeU32(this.#proven >>> 0));
  };

  /** At once, whatever waits; the far end hears that. Idempotent. */
  reset(): void {
    this.cut();
  }

  #onBody(body: Uint8Array): void {
    this.#in.arrive(body.length);
    this.#arrived++;
    // Whoever closes reads no more, and what comes meanwhile must not stop the far end.
    if (this.isReadable) this.onData(body);
    else this.#in.take(body.length);
  }
}
