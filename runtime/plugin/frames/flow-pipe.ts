/** The end of a flow where it is used, as a `Pipe` or with half-closes as a stream or socket. */
import type { GodwitError, LinkClass, Pipe, PipeDirection, Timer } from "@godwit/sdk";
import { type FlowHandlers, type Flows, Incoming, Outgoing } from "./flow.ts";
import { EMPTY, encodeU32, PluginFrame } from "./frames.ts";

/** `write` of a flow answers false above this many bytes waiting for room at the far end. */
const HIGH_WATER_BYTES = 262_144;
/** A flow that was closed politely and of which nothing was heard since is over. */
const CLOSE_DEADLINE_MS = 2_000;

/** What a pipe is, as it travels. */
export interface FlowProperties {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  readonly remote: string;
  readonly local: string;
  readonly linkClass: LinkClass;
  readonly isAnonymous: boolean;
  readonly patienceMs: number;
  readonly rateBitsPerSecond: number;
  readonly mtu: number;
}

/** The end where a flow is used. As a `Pipe` it follows that contract; streams and sockets use `end` and `reset` too. */
export class FlowPipe implements Pipe {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  readonly local: string;
  readonly linkClass: LinkClass;
  readonly isAnonymous: boolean;
  readonly patienceMs: number;
  readonly rateBitsPerSecond: number;
  remote: string;
  mtu: number;
  readonly #flows: Flows;
  readonly #id: number;
  readonly #out: Outgoing;
  readonly #in: Incoming;
  readonly #parse: (properties: unknown) => Partial<FlowProperties>;
  #handlers: FlowHandlers | undefined;
  #held: Uint8Array[] = [];
  #isPaused = false;
  #isFull = false;
  #isClosing = false;
  #isOver = false;
  #isDelivered = false;
  #hasFarEnded = false;
  #isEnding = false;
  #hasSentEnd = false;
  #error: GodwitError | undefined;
  #arrived = 0;
  #proven = 0;
  #provenSent = 0;
  #timer: Timer | undefined;

  /** `parse` judges changes that the far end tells; it throws GODWIT_DECODE. */
  constructor(
    flows: Flows,
    id: number,
    properties: FlowProperties,
    parse: (properties: unknown) => Partial<FlowProperties> = () => ({}),
  ) {
    this.#flows = flows;
    this.#id = id;
    this.#out = new Outgoing(flows, id);
    this.#in = new Incoming(flows, id);
    this.#parse = parse;
    this.kind = properties.kind;
    this.direction = properties.direction;
    this.remote = properties.remote;
    this.local = properties.local;
    this.linkClass = properties.linkClass;
    this.isAnonymous = properties.isAnonymous;
    this.patienceMs = properties.patienceMs;
    this.rateBitsPerSecond = properties.rateBitsPerSecond;
    this.mtu = properties.mtu;
    flows.add(id, {
      onData: (body) => this.#onData(body),
      onCredit: (bytes) => this.#onCredit(bytes),
      onProven() {},
      onClose() {},
      onClosed: (error) => this.#onClosed(error),
      onEnd: () => {
        this.#hasFarEnded = true;
        this.#deliver();
      },
      onChange: (change) => {
        const { remote, mtu } = this.#parse(change);
        if (remote !== undefined) this.remote = remote;
        if (mtu !== undefined) this.mtu = mtu;
      },
    });
  }

  get bufferedBytes(): number {
    return this.#out.waitingBytes;
  }

  open(handlers: FlowHandlers): void {
    this.#handlers = handlers;
    if (this.#held.length > 0 || this.#isOver || this.#hasFarEnded) queueMicrotask(() => this.#deliver());
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isOver || this.#isClosing || this.#isEnding) return true;
    if (this.kind === "datagram") {
      this.#out.datagram(bytes);
      return true;
    }
    this.#out.stream(bytes);
    if (this.#out.waitingBytes > HIGH_WATER_BYTES) this.#isFull = true;
    return !this.#isFull;
  }

  pause(paused: boolean): void {
    if (this.kind === "datagram") return;
    this.#isPaused = paused;
    if (!paused) this.#deliver();
  }

  proven(): void {
    if (this.kind === "stream" && this.#provenSent > 0) return;
    if (this.#proven === this.#provenSent) queueMicrotask(this.#sendProven);
    this.#proven = this.#arrived;
  }

  readonly #sendProven = (): void => {
    if (this.#isOver) return;
    this.#provenSent = this.#proven;
    this.#flows.port.send(PluginFrame.proven, this.#id, encodeU32(this.#proven >>> 0));
  };

  end(): void {
    if (this.#isOver || this.#isClosing || this.#isEnding) return;
    this.#isEnding = true;
    if (this.#out.waitingBytes === 0) this.#sendEnd();
  }

  #sendEnd(): void {
    if (this.#hasSentEnd) return;
    this.#hasSentEnd = true;
    this.#flows.port.send(PluginFrame.end, this.#id);
  }

  close(): void {
    if (this.#isOver || this.#isClosing) return;
    this.#isClosing = true;
    // Whoever closes reads no more, and must still be told that it is over.
    this.#isPaused = false;
    this.#timer = this.#flows.clock.after(CLOSE_DEADLINE_MS, () => this.reset());
    if (this.#out.waitingBytes === 0) this.#sendClose(false);
  }

  reset(): void {
    if (this.#isOver) return;
    this.#sendClose(true);
    this.#onClosed(undefined);
  }

  #sendClose(isReset: boolean): void {
    this.#flows.port.send(PluginFrame.close, this.#id, isReset ? new Uint8Array([1]) : EMPTY);
  }

  #onData(body: Uint8Array): void {
    this.#in.arrive(body.length);
    this.#arrived++;
    if (this.#isClosing) return this.#in.take(body.length);
    if (this.#handlers === undefined || this.#isPaused || this.#held.length > 0) {
      this.#held.push(body.slice());
      return;
    }
    this.#handlers.data(body);
    this.#in.take(body.length);
  }

  #deliver(): void {
    if (this.#handlers === undefined) return;
    while (this.#held.length > 0 && !this.#isPaused) {
      const bytes = this.#held.shift()!;
      if (!this.#isClosing) this.#handlers.data(bytes);
      if (!this.#isOver) this.#in.take(bytes.length);
    }
    if (this.#held.length > 0) return;
    if (this.#hasFarEnded) {
      this.#hasFarEnded = false;
      this.#handlers.end?.();
    }
    if (this.#isOver && !this.#isDelivered) {
      this.#isDelivered = true;
      this.#handlers.closed(this.#error);
    }
  }

  #onCredit(bytes: number): void {
    this.#out.addCredit(bytes);
    if (this.#out.waitingBytes > 0) return;
    if (this.#isClosing) return this.#sendClose(false);
    if (this.#isEnding) return this.#sendEnd();
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#handlers?.drain();
  }

  #onClosed(error: GodwitError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = this.#isClosing ? undefined : error;
    this.#timer?.cancel();
    this.#out.drop();
    this.#flows.delete(this.#id);
    this.#deliver();
  }
}
