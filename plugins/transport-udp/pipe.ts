/**
 * One connection over a UDP socket as a datagram Pipe: named by its connection id, wherever the far end's datagrams come
 * from. Paces itself by the far end's feedback, finds the path's size, and follows a far end that moved once the link has
 * found its datagram genuine and the new address has answered. docs/protocol/udp.md
 */
import {
  formatEndpoint,
  type Clock,
  type Pipe,
  type PipeDirection,
  type PipeHandlers,
  type Random,
  type Timer,
} from "@godwit/sdk";
import { MTU_BASE, MTU_FLOOR, PathMtu, type PathProbe } from "./path-mtu.ts";
import { SendWindow, ReceiveCount } from "./window.ts";
import {
  CHALLENGE_NONCE_BYTES,
  DATA_HEAD_BYTES,
  encodeData,
  encodeUdp,
  HEAD_BYTES,
  PROBE_BYTES_MIN,
  readU32,
  UdpKind,
  type UdpDatagram,
} from "./wire.ts";

const RATE_BITS_PER_SECOND = 100_000_000;
/** `write` answers false above this many bytes waiting, and drops above twice as many. */
const HIGH_WATER_BYTES = 256 * 1024;
/** Kept while nobody has opened the pipe. */
const EARLY_DATAGRAMS_MAX = 16;
/** Feedback goes at once after so many datagrams, and a little later after so few; below that nobody needs it. */
const FEEDBACK_EVERY = 16;
const FEEDBACK_LEAST = 4;
const FEEDBACK_DELAY_MS = 10;
const SILENCE_MS = 250;
const PROBE_WAIT_MS = 400;
/** Unanswered while a small one beside it was answered: the size does not pass. */
const PROBE_MISSES = 3;
/** With fewer misses after so many tries the path is silent or lossy, and nothing is known of the size. */
const PROBE_TRIES_MAX = 10;
const PROBE_AGAIN_MS = 5_000;
/** While large datagrams are sent, their size is confirmed this often. */
const CONFIRM_MS = 1_000;
const RAISE_MS = 600_000;
/** After a size failed that had worked: the path may mend. */
const RAISE_AFTER_FALL_MS = 60_000;
const CHALLENGE_MIN_MS = 200;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export const remoteOf = ({ host, port }: Address): string =>
  formatEndpoint("udp", host.replace(/^::ffff:(?=\d+\.)/i, ""), port);

/** What the socket does for its pipes. */
export interface PipeSocket {
  readonly local: string;
  /** Largest datagram to try, in bytes. */
  readonly mtuMax: number;
  readonly clock: Clock;
  readonly random: Random;
  /** Owned by the socket from the call on. */
  send(bytes: Uint8Array, to: Address): void;
  /** Now, and never fragmented. False: the interface itself carries less. */
  sendWhole(bytes: Uint8Array, to: Address): boolean;
  /** False while the kernel takes no more. */
  readonly isWritable: boolean;
  proven(pipe: UdpPipe): void;
  closed(pipe: UdpPipe): void;
  moved(): void;
  /** The search for the path's size has come to an end. */
  sized(pipe: UdpPipe): void;
}

/** A size that is being tried; `echo` is the nonce of the small probes beside it. */
interface Trial extends PathProbe {
  readonly nonce: number;
  readonly echo: number;
  tries: number;
  misses: number;
  wasEchoed: boolean;
}

const isSame = (a: Address, b: Address): boolean => a.port === b.port && a.host === b.host;

export class UdpPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = RATE_BITS_PER_SECOND;
  readonly direction: PipeDirection;
  readonly id: Uint8Array;
  readonly #socket: PipeSocket;
  /** Until something came from one of them all are tried, as RFC 8305 asks for in its own way. */
  #addresses: readonly Address[];
  #handlers: PipeHandlers | undefined;
  readonly #early: Uint8Array[] = [];
  readonly #window = new SendWindow();
  readonly #count = new ReceiveCount();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFull = false;
  #isClosed = false;
  #isProven = false;
  #error: Error | undefined;
  #silence: Timer | undefined;
  #feedback: Timer | undefined;

  readonly #path: PathMtu;
  #trial: Trial | undefined;
  #probeTimer: Timer | undefined;
  #hasFallen = false;
  #confirmTimer: Timer | undefined;

  /** Where the datagram that is being handed out came from, if from elsewhere. */
  #candidate: Address | undefined;
  #challenge: { readonly nonce: Uint8Array; readonly to: Address; readonly atMs: number } | undefined;

  constructor(socket: PipeSocket, direction: PipeDirection, id: Uint8Array, addresses: readonly Address[]) {
    this.#socket = socket;
    this.direction = direction;
    this.id = id;
    this.#addresses = addresses;
    this.#path = new PathMtu(socket.mtuMax);
  }

  get local(): string {
    return this.#socket.local;
  }

  get remote(): string {
    return remoteOf(this.#addresses[0]!);
  }

  get mtu(): number {
    return this.#path.size - DATA_HEAD_BYTES;
  }

  /** What a path carries that does not carry the base whole; undefined when it does, or while nothing is known. */
  get narrow(): { readonly bytes: number; readonly isCut: boolean } | undefined {
    const { size, isCut } = this.#path;
    return !this.#isClosed && (isCut || size < MTU_BASE) ? { bytes: size, isCut } : undefined;
  }

  get bufferedBytes(): number {
    return this.#waitingBytes;
  }

  get isProven(): boolean {
    return this.#isProven;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed) return queueMicrotask(() => handlers.closed(this.#error));
    queueMicrotask(() => {
      for (const bytes of this.#early.splice(0)) if (!this.#isClosed) handlers.data(bytes);
    });
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    if (bytes.length > 0 && bytes.length <= this.mtu) {
      if (this.#waiting.length === 0 && this.#canSend) this.#sendData(bytes);
      else if (this.#waitingBytes + bytes.length <= 2 * HIGH_WATER_BYTES) {
        this.#waiting.push(new Uint8Array(bytes));
        this.#waitingBytes += bytes.length;
        this.#silence ??= this.#socket.clock.after(SILENCE_MS, () => this.#onSilence());
      }
    }
    this.#isFull ||= this.#waitingBytes > HIGH_WATER_BYTES;
    return !this.#isFull;
  }

  pause(): void {}

  proven(): void {
    if (this.#isClosed) return;
    if (!this.#isProven) {
      this.#isProven = true;
      this.#socket.proven(this);
      this.#search();
    }
    if (this.#candidate !== undefined) this.#challengeMove(this.#candidate);
  }

  close(): void {
    this.end(undefined);
  }

  end(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#early.length = 0;
    for (const timer of [this.#silence, this.#feedback, this.#probeTimer, this.#confirmTimer])
      timer?.cancel();
    this.#socket.closed(this);
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed(error));
  }

  /** From the socket, borrowed. */
  receive({ kind, body }: UdpDatagram, from: Address): void {
    if (this.#isClosed) return;
    const isKnown = this.#settleAddress(from);
    switch (kind) {
      case UdpKind.data:
        return this.#onData(body, isKnown ? undefined : from);
      case UdpKind.challenge:
        if (isKnown)
          this.#send(UdpKind.response, CHALLENGE_NONCE_BYTES, (out) => out.set(body.subarray(0, 8)));
        return;
      case UdpKind.response:
        return this.#onResponse(body.subarray(0, CHALLENGE_NONCE_BYTES), from);
      default:
        if (isKnown) this.#onService(kind, body);
    }
  }

  /** The kernel takes datagrams again. */
  pump(): void {
    if (this.#isClosed) return;
    let at = 0;
    while (at < this.#waiting.length && this.#canSend) {
      const bytes = this.#waiting[at++]!;
      this.#waitingBytes -= bytes.length;
      // The path may carry less by now.
      if (bytes.length <= this.mtu) this.#sendData(bytes);
    }
    if (at > 0) this.#waiting.splice(0, at);
    if (this.#waiting.length === 0) {
      this.#silence?.cancel();
      this.#silence = undefined;
    }
    if (this.#isFull && this.#waitingBytes < HIGH_WATER_BYTES / 2) {
      this.#isFull = false;
      this.#handlers?.drain();
    }
  }

  get #canSend(): boolean {
    return this.#socket.isWritable && this.#window.hasRoom;
  }

  #sendData(bytes: Uint8Array): void {
    const sequence = this.#window.take();
    for (const address of this.#addresses)
      this.#socket.send(encodeData(this.direction === "outbound", this.id, sequence, bytes), address);
    if (bytes.length + DATA_HEAD_BYTES > MTU_FLOOR && this.#isProven)
      this.#confirmTimer ??= this.#socket.clock.after(CONFIRM_MS, () => this.#confirm());
  }

  #send(
    kind: number,
    bodyBytes: number,
    fill: (body: Uint8Array, view: DataView) => void,
    to: Address = this.#addresses[0]!,
  ): void {
    this.#socket.send(encodeUdp(kind, this.direction === "outbound", this.id, bodyBytes, fill), to);
  }

  /** Whether `from` is the far end's address; the first of several to answer becomes it. */
  #settleAddress(from: Address): boolean {
    const known = this.#addresses.find((address) => isSame(address, from));
    if (known !== undefined && this.#addresses.length > 1) this.#addresses = [known];
    return known !== undefined;
  }

  #onData(body: Uint8Array, elsewhere: Address | undefined): void {
    const payload = body.subarray(4);
    // Only records can prove that their sender moved; a handshake message from elsewhere is somebody else's.
    if (elsewhere !== undefined && (payload[0]! & 0x80) === 0) return;
    this.#count.note(readU32(body, 0));
    if (this.#count.unreported >= FEEDBACK_EVERY) this.#sendFeedback();
    else if (this.#count.unreported === FEEDBACK_LEAST)
      this.#feedback ??= this.#socket.clock.after(FEEDBACK_DELAY_MS, () => this.#sendFeedback());
    if (this.#handlers === undefined) {
      if (this.#early.length < EARLY_DATAGRAMS_MAX) this.#early.push(new Uint8Array(payload));
      return;
    }
    this.#candidate = elsewhere;
    this.#handlers.data(payload);
    this.#candidate = undefined;
  }

  #onService(kind: number, body: Uint8Array): void {
    switch (kind) {
      case UdpKind.feedback:
        this.#window.onFeedback(readU32(body, 0), readU32(body, 4));
        if (this.#waiting.length > 0) {
          this.#silence?.cancel();
          this.#silence = this.#socket.clock.after(SILENCE_MS, () => this.#onSilence());
        }
        return this.pump();
      case UdpKind.probe: {
        const nonce = body.slice(0, 4);
        return this.#send(UdpKind.probeAck, 4, (out) => out.set(nonce));
      }
      case UdpKind.probeAck:
        return this.#onProbeAck(readU32(body, 0));
      case UdpKind.reset:
        return this.end(new Error("the far end does not know the connection: it has restarted or closed it"));
      default:
        return;
    }
  }

  #sendFeedback(): void {
    this.#feedback?.cancel();
    this.#feedback = undefined;
    this.#count.reported();
    this.#send(UdpKind.feedback, 8, (_, view) => {
      view.setUint32(0, this.#count.highest);
      view.setUint32(4, this.#count.received);
    });
  }

  #onSilence(): void {
    this.#silence = undefined;
    this.#window.onSilence();
    this.pump();
    if (this.#waiting.length > 0)
      this.#silence ??= this.#socket.clock.after(SILENCE_MS, () => this.#onSilence());
  }

  /** Tries the next size, or rests until the path may have changed. */
  #search(): void {
    if (this.#isClosed || this.#trial !== undefined) return;
    if (this.#path.isDead)
      return this.end(new Error(`the path carries no datagram of ${MTU_FLOOR} bytes, whole or in fragments`));
    const probe = this.#path.candidate;
    this.#probeTimer?.cancel();
    if (probe !== undefined) return this.#try(probe);
    this.#rest(this.#hasFallen ? RAISE_AFTER_FALL_MS : RAISE_MS);
    this.#hasFallen = false;
    this.#socket.sized(this);
  }

  #rest(delayMs: number): void {
    this.#probeTimer = this.#socket.clock.after(delayMs, () => {
      this.#path.forget();
      this.#search();
    });
  }

  #confirm(): void {
    this.#confirmTimer = undefined;
    if (this.#trial !== undefined) return;
    this.#probeTimer?.cancel();
    this.#try(this.#path.current);
  }

  #try(probe: PathProbe): void {
    const [nonce, echo] = [this.#socket.random.below(2 ** 32), this.#socket.random.below(2 ** 32)];
    this.#trial = { ...probe, nonce, echo, tries: 0, misses: 0, wasEchoed: false };
    this.#sendTrial();
  }

  /** The size, and beside it a small one: when only that is answered it was the size. */
  #sendTrial(): void {
    const trial = this.#trial!;
    if (trial.wasEchoed) trial.misses++;
    if (trial.misses >= PROBE_MISSES) return this.#endTrial("failed");
    if (trial.tries++ >= PROBE_TRIES_MAX) return this.#endTrial("unknown");
    trial.wasEchoed = false;
    this.#probeTimer = this.#socket.clock.after(PROBE_WAIT_MS, () => this.#sendTrial());
    const isOutbound = this.direction === "outbound";
    const probe = (nonce: number, bodyBytes: number) =>
      encodeUdp(UdpKind.probe, isOutbound, this.id, bodyBytes, (_, view) => view.setUint32(0, nonce));
    const to = this.#addresses[0]!;
    const large = probe(trial.nonce, trial.size - HEAD_BYTES);
    if (!trial.isWhole) this.#socket.send(large, to);
    else if (!this.#socket.sendWhole(large, to)) return this.#endTrial("failed");
    this.#socket.send(probe(trial.echo, PROBE_BYTES_MIN), to);
  }

  #onProbeAck(nonce: number): void {
    if (nonce === this.#trial?.nonce) this.#endTrial("passed");
    else if (nonce === this.#trial?.echo) this.#trial.wasEchoed = true;
  }

  #endTrial(outcome: "passed" | "failed" | "unknown"): void {
    const trial = this.#trial!;
    const before = this.#path.size;
    this.#trial = undefined;
    this.#probeTimer?.cancel();
    if (outcome === "unknown") return this.#rest(PROBE_AGAIN_MS);
    this.#path[outcome](trial);
    this.#hasFallen ||= this.#path.size < before;
    this.#search();
  }

  #challengeMove(to: Address): void {
    const nowMs = this.#socket.clock.monotonicMs();
    if (this.#challenge !== undefined && nowMs - this.#challenge.atMs < CHALLENGE_MIN_MS) return;
    const nonce = this.#socket.random.bytes(CHALLENGE_NONCE_BYTES);
    this.#challenge = { nonce, to, atMs: nowMs };
    this.#send(UdpKind.challenge, CHALLENGE_NONCE_BYTES, (out) => out.set(nonce), to);
  }

  #onResponse(nonce: Uint8Array, from: Address): void {
    const challenge = this.#challenge;
    if (challenge === undefined || !isSame(challenge.to, from)) return;
    if (Buffer.compare(challenge.nonce, nonce) !== 0) return;
    this.#challenge = undefined;
    this.#addresses = [from];
    this.#socket.moved();
    // Another path, another size.
    this.#path.forget();
    this.#confirm();
  }
}
