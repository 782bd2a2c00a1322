/**
 * Two ends of an imaginary wire, for tests and simulations: streams cut into any pieces, datagrams lost, doubled and
 * reordered, all from one seed and in the time of one clock. Keeps the whole contract of `Pipe`, back-pressure
 * included. Never used by a running node.
 */
import type { LinkClass, Pipe, PipeDirection, PipeHandlers } from "@godwit/sdk";
import type { Clock } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";

export interface MemoryPipeOptions {
  readonly kind: "stream" | "datagram";
  readonly clock: Clock;
  readonly random: Random;
  readonly linkClass?: LinkClass;
  /** Of its endpoints; memory by default. */
  readonly scheme?: string;
  readonly rateBitsPerSecond?: number;
  /** What the medium says of itself where it is carried, ms. */
  readonly patienceMs?: number;
  /** Datagrams: largest, 1,400 bytes by default. */
  readonly mtu?: number;
  /** Datagrams wait here and leave one after the other, and the pipe says so. */
  readonly pace?: MemoryPace;
  /** One way, in ms; 1 by default. */
  readonly latencyMs?: number;
  /** Datagrams: extra delay, uniform from 0, which reorders. */
  readonly jitterMs?: number;
  /** Datagrams: share lost, share doubled (0 to 1). */
  readonly loss?: number;
  readonly duplication?: number;
  /** Streams: what is due arrives in random pieces of 1 to this many bytes. Default: as it was written. */
  readonly pieceBytesMax?: number;
  /** `write` answers false above this many bytes not yet delivered; 1 MiB by default. */
  readonly highWaterBytes?: number;
  /** Keeps a copy of everything sent in `sent`. */
  readonly isRecording?: boolean;
  /** Sees everything that is sent and may change it; undefined drops it (on a stream: the bytes are gone). */
  readonly tamper?: (bytes: Uint8Array, from: "a" | "b") => Uint8Array | undefined;
  /** Runs a delivery after a delay; by default `clock.after`. Benchmarks pass their own. */
  readonly schedule?: (delayMs: number, fn: () => void) => void;
}

export interface MemoryPace {
  readonly answerMs: number;
  /** On the air, before it arrives. */
  airtimeMs(bytes: number): number;
  /** Share of the time that each end may be on the air, above 0 to 1; by default all. */
  readonly share?: number;
  /** Nothing leaves before this time of the clock, ms. */
  readonly quietUntilMs?: number;
}

export interface MemoryPipePair {
  /** The dialling end. */
  readonly a: MemoryPipe;
  readonly b: MemoryPipe;
  /** Both ends see their pipe break with this error. */
  cut(error: Error): void;
  /** From now on nothing arrives and nobody is told. */
  vanish(): void;
}

export function memoryPipePair(options: MemoryPipeOptions): MemoryPipePair {
  const a = new MemoryPipe(options, "a");
  const b = new MemoryPipe(options, "b");
  a.connect(b);
  b.connect(a);
  return {
    a,
    b,
    cut(error) {
      a.breakWith(error);
      b.breakWith(error);
    },
    vanish() {
      a.isSilent = true;
      b.isSilent = true;
    },
  };
}

export class MemoryPipe implements Pipe {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  readonly remote: string;
  readonly local: string;
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  readonly mtu: number;
  readonly patienceMs: number;
  /** Set where datagrams wait. */
  readonly answerMs?: number;
  /** What was sent from this end, in order, if `isRecording`. */
  readonly sent: Uint8Array[] = [];
  isSilent = false;
  /** Bytes and writes accepted so far. */
  sentBytes = 0;
  writes = 0;

  readonly #options: MemoryPipeOptions;
  readonly #name: "a" | "b";
  #peer!: MemoryPipe;
  #handlers: PipeHandlers | undefined;
  #inFlight = 0;
  #wantsDrain = false;
  #isPaused = false;
  #isClosed = false;
  #hasReported = false;
  /** Arrived but not handed over: the reader is paused or has not opened. */
  readonly #arrived: { readonly bytes: Uint8Array; readonly taken: () => void }[] = [];
  #end: { readonly error: Error | undefined } | undefined;
  #isHandingOver = false;
  /** Those that have not left, in a paced pipe. */
  readonly #queue: { readonly bytes: Uint8Array | undefined; readonly length: number }[] = [];
  #queuedBytes = 0;
  #isOnAir = false;
  /** Airtime used, ms. */
  airMs = 0;

  constructor(options: MemoryPipeOptions, name: "a" | "b") {
    this.#options = options;
    this.#name = name;
    this.kind = options.kind;
    this.direction = name === "a" ? "outbound" : "inbound";
    const { scheme = "memory" } = options;
    this.local = `${scheme}://${name}`;
    this.remote = `${scheme}://${name === "a" ? "b" : "a"}`;
    this.linkClass = options.linkClass ?? "fast";
    this.rateBitsPerSecond = options.rateBitsPerSecond ?? 1e9;
    this.patienceMs = options.patienceMs ?? 0;
    this.mtu = options.kind === "stream" ? 0 : (options.mtu ?? 1_400);
    if (options.pace !== undefined) this.answerMs = options.pace.answerMs;
  }

  connect(peer: MemoryPipe): void {
    this.#peer = peer;
  }

  get bufferedBytes(): number {
    return this.#inFlight + this.#queuedBytes;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  open(handlers: PipeHandlers): void {
    if (this.#handlers !== undefined) throw new Error("a pipe is opened once");
    this.#handlers = handlers;
    this.#schedule(0, () => this.#handOver());
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    if (this.kind === "datagram" && bytes.length > this.mtu)
      throw new Error(`a datagram of ${bytes.length} bytes on a medium for ${this.mtu}`);
    this.sentBytes += bytes.length;
    this.writes++;
    const copy = new Uint8Array(bytes);
    if (this.#options.isRecording === true) this.sent.push(copy);
    const out = this.#options.tamper === undefined ? copy : this.#options.tamper(copy, this.#name);
    if (this.#options.pace !== undefined) {
      this.#queue.push({ bytes: out, length: bytes.length });
      this.#queuedBytes += bytes.length;
      if (!this.#isOnAir) this.#schedule(0, () => this.#depart());
      this.#wantsDrain ||= this.#queuedBytes > this.#highWater;
      return this.#queuedBytes <= this.#highWater;
    }
    if (out !== undefined && !this.isSilent) this.#put(out);
    if (this.#inFlight <= this.#highWater) return true;
    this.#wantsDrain = true;
    return false;
  }

  /** Puts bytes on the wire as if this end had sent them: replays and forgeries. */
  inject(bytes: Uint8Array): void {
    this.#peer.#arrive(new Uint8Array(bytes), () => {});
  }

  pause(isPaused: boolean): void {
    if (this.kind === "datagram") return;
    this.#isPaused = isPaused;
    if (!isPaused) this.#schedule(0, () => this.#handOver());
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const peer = this.#peer;
    // After what is in flight: a polite end flushes first.
    if (!this.isSilent) this.#schedule(this.#latency, () => peer.#endWith(undefined));
    this.#schedule(0, () => this.#report(undefined));
  }

  breakWith(error: Error): void {
    this.#isClosed = true;
    this.#schedule(0, () => this.#report(error));
  }

  get #highWater(): number {
    return this.#options.highWaterBytes ?? 1_048_576;
  }

  get #latency(): number {
    return this.#options.latencyMs ?? 1;
  }

  #schedule(delayMs: number, fn: () => void): void {
    if (this.#options.schedule !== undefined) this.#options.schedule(delayMs, fn);
    else this.#options.clock.after(delayMs, fn);
  }

  #put(bytes: Uint8Array): void {
    const { random, loss = 0, duplication = 0, jitterMs = 0 } = this.#options;
    const isDatagram = this.kind === "datagram";
    if (isDatagram && loss > 0 && random.float() < loss) return;
    const copies = isDatagram && duplication > 0 && random.float() < duplication ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.#inFlight += bytes.length;
      const extraMs = isDatagram && jitterMs > 0 ? random.float() * jitterMs : 0;
      this.#schedule(this.#latency + extraMs, () => {
        const landed = () => this.#landed(bytes.length);
        // A stream's bytes stay the sender's until they are read; a datagram leaves it behind.
        if (isDatagram) landed();
        if (!this.isSilent) this.#peer.#arrive(bytes, isDatagram ? () => {} : landed);
      });
    }
  }

  /** The next one goes on the air, and leaves when that is over. */
  #depart(): void {
    const { pace, clock } = this.#options;
    if (pace === undefined || this.#isOnAir || this.#isClosed || this.#queue.length === 0) return;
    const quietMs = (pace.quietUntilMs ?? 0) - clock.monotonicMs();
    if (quietMs > 0) return void this.#schedule(quietMs, () => this.#depart());
    this.#isOnAir = true;
    const { bytes, length } = this.#queue.shift()!;
    this.#queuedBytes -= length;
    if (this.#wantsDrain && this.#queuedBytes <= this.#highWater / 2) {
      this.#wantsDrain = false;
      this.#schedule(0, () => this.#handlers?.drain());
    }
    const airtimeMs = pace.airtimeMs(length);
    this.airMs += airtimeMs;
    this.#schedule(airtimeMs, () => {
      if (bytes !== undefined && !this.isSilent) this.#put(bytes);
      this.#handlers?.left?.();
    });
    this.#schedule(airtimeMs / (pace.share ?? 1), () => {
      this.#isOnAir = false;
      this.#depart();
    });
  }

  #landed(bytes: number): void {
    this.#inFlight -= bytes;
    if (this.#options.pace !== undefined) return;
    if (!this.#wantsDrain || this.#inFlight > this.#highWater / 2) return;
    this.#wantsDrain = false;
    this.#schedule(0, () => {
      if (!this.#isClosed) this.#handlers?.drain();
    });
  }

  #arrive(bytes: Uint8Array, taken: () => void): void {
    this.#arrived.push({ bytes, taken });
    this.#handOver();
  }

  #endWith(error: Error | undefined): void {
    this.#end ??= { error };
    this.#handOver();
  }

  #handOver(): void {
    const handlers = this.#handlers;
    if (handlers === undefined || this.#isHandingOver) return;
    this.#isHandingOver = true;
    while (this.#arrived.length > 0 && !this.#isPaused && !this.#isClosed) {
      const piece = this.#takePiece();
      handlers.data(piece);
      // Borrowed until the call returns: whoever kept it reads rubbish from now on.
      piece.fill(0xee);
    }
    this.#isHandingOver = false;
    if (this.#end !== undefined && (this.#arrived.length === 0 || this.#isClosed)) {
      this.#isClosed = true;
      this.#report(this.#end.error);
    }
  }

  /** One datagram, one write, or a random piece that cuts and joins writes. */
  #takePiece(): Uint8Array {
    const { pieceBytesMax, random } = this.#options;
    const arrived = this.#arrived;
    if (this.kind === "datagram" || pieceBytesMax === undefined) {
      const { bytes, taken } = arrived.shift()!;
      taken();
      return bytes.slice();
    }
    const piece = new Uint8Array(1 + random.below(pieceBytesMax));
    let filled = 0;
    while (filled < piece.length && arrived.length > 0) {
      const { bytes, taken } = arrived[0]!;
      const length = Math.min(bytes.length, piece.length - filled);
      piece.set(bytes.subarray(0, length), filled);
      filled += length;
      if (length < bytes.length) arrived[0] = { bytes: bytes.subarray(length), taken };
      else {
        arrived.shift();
        taken();
      }
    }
    return piece.slice(0, filled);
  }

  #report(error: Error | undefined): void {
    if (this.#hasReported || this.#handlers === undefined) return;
    this.#hasReported = true;
    this.#handlers.closed(error);
  }
}
