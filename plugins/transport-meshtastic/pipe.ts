/** A pipe to one far radio. Owns what was written and has not left; knows nothing of airtime, which is the scheduler's. */
import type { Medium, Pipe, PipeDirection, PipeHandlers, Urgency } from "@godwit/sdk";
import { formatMeshtasticEndpoint } from "./endpoint.ts";
import type { Head } from "./wire.ts";

/** Datagrams of one pipe that wait: a link is told to stop before the scheduler is full. */
const WAITING_MAX = 4;
/** What came before the pipe was opened, datagrams. */
const EARLY_MAX = 4;
/**
 * Nothing of the far end for so long, not even what it says to all, although something was sent to it since: the pipe is given up, ms. Much of what
 * is sent asks for no answer, so that a shorter silence says nothing.
 */
const SILENCE_MS = 24 * 3_600_000;
/** Smallest answer of a link, bytes: an empty record. */
const ANSWER_BYTES = 12;

/** What a pipe needs of the channel that it is on. */
export interface PipeAir {
  readonly medium: Medium;
  readonly tag: string;
  /** Of this end. */
  readonly endpoint: string;
  readonly slotMs: number;
  readonly nowMs: number;
  readonly isFull: boolean;
  later(fn: () => void): void;
  /** Borrowed. False: there is no room. `done`: it is on its way, or dropped; not within. */
  send(head: Head, to: number, bytes: Uint8Array, urgency: Urgency | undefined, done: () => void): boolean;
  forget(pipe: MeshtasticPipe): void;
}

export class MeshtasticPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "slow";
  readonly direction: PipeDirection;
  readonly number: number;
  /** Of the connection. */
  readonly connection: number;
  readonly remote: string;
  readonly local: string;
  readonly rateBitsPerSecond: number;
  readonly mtu: number;
  readonly medium: Medium;
  readonly answerMs: number;
  readonly #air: PipeAir;
  readonly #head: Head;
  #handlers: PipeHandlers | undefined;
  #early: Uint8Array[] = [];
  /** Written and not told of, oldest first. */
  readonly #written: { readonly bytes: number }[] = [];
  #wantsDrain = false;
  #state: "open" | "closed" | "told" = "open";
  #heardAtMs: number;
  #sentSinceMs: number | undefined;
  bufferedBytes = 0;

  constructor(air: PipeAir, direction: PipeDirection, number: number, connection: number) {
    this.#air = air;
    this.direction = direction;
    this.number = number;
    this.connection = connection;
    this.remote = formatMeshtasticEndpoint(number, air.tag);
    this.local = air.endpoint;
    this.mtu = air.medium.broadcastBytesMax;
    this.medium = air.medium;
    this.rateBitsPerSecond = air.medium.rateBitsPerSecond;
    this.answerMs = air.medium.airtimeMs(ANSWER_BYTES, "one") + air.slotMs;
    this.#head = { kind: "pipe", isFromDialler: direction === "outbound", number: connection };
    this.#heardAtMs = air.nowMs;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    this.#air.later(() => {
      for (const bytes of this.#early.splice(0)) this.#deliver(bytes);
      this.#tell(undefined);
    });
  }

  write(bytes: Uint8Array, urgency?: Urgency): boolean {
    if (this.#state !== "open" || bytes.length > this.mtu) return true;
    const written = { bytes: bytes.length };
    const gone = () => this.#tellLeft(written);
    const isTaken = this.#air.send(this.#head, this.number, bytes, urgency, () => {
      this.#watchSilence();
      gone();
    });
    this.#written.push(written);
    this.bufferedBytes += bytes.length;
    if (!isTaken) this.#air.later(gone);
    if (this.#written.length < WAITING_MAX && !this.#air.isFull) return true;
    this.#wantsDrain = true;
    return false;
  }

  pause(): void {}

  close(): void {
    this.#end(undefined);
  }

  break(reason: string): void {
    this.#end(new Error(reason));
  }

  /** Something of the far end came, on whichever connection. */
  heard(): void {
    this.#heardAtMs = this.#air.nowMs;
    this.#sentSinceMs = undefined;
  }

  /** Nothing was heard since something was sent, for a day. */
  checkSilence(): void {
    const sinceMs = this.#sentSinceMs;
    if (sinceMs !== undefined && this.#air.nowMs - sinceMs > SILENCE_MS && this.#heardAtMs <= sinceMs)
      this.break("nothing is heard of the far end");
  }

  /** Its own from now on. */
  receive(bytes: Uint8Array): void {
    if (this.#state !== "open") return;
    if (this.#handlers !== undefined) this.#deliver(bytes);
    else if (this.#early.length < EARLY_MAX) this.#early.push(bytes);
  }

  /** Whoever was told to stop may go on: its own datagrams have left, and the scheduler takes more. */
  drainIfRoom(): void {
    if (!this.#wantsDrain || this.#written.length > WAITING_MAX / 2 || this.#air.isFull) return;
    this.#wantsDrain = false;
    if (this.#state === "open") this.#handlers?.drain();
  }

  #deliver(bytes: Uint8Array): void {
    if (this.#state === "open") this.#handlers!.data(bytes);
  }

  /** The urgent has left before what was written earlier. */
  #tellLeft(written: { readonly bytes: number }): void {
    const at = this.#written.indexOf(written);
    this.#written.splice(at, 1);
    this.bufferedBytes -= written.bytes;
    if (this.#state === "open") this.#handlers?.left?.(at);
    this.drainIfRoom();
  }

  #watchSilence(): void {
    this.#sentSinceMs ??= this.#air.nowMs;
  }

  #end(error: Error | undefined): void {
    if (this.#state !== "open") return;
    this.#state = "closed";
    this.#air.forget(this);
    this.#air.later(() => this.#tell(error));
  }

  #tell(error: Error | undefined): void {
    if (this.#state !== "closed" || this.#handlers === undefined) return;
    this.#state = "told";
    this.#handlers.closed(error);
  }
}
