/**
 * What a transport over a radio gives the node: pipes to addresses, and the channel as a medium (sdk/src/medium.ts). A datagram has one
 * byte before it: who dialled, and the number that the dialling end gave the connection; so both may dial each other, and a
 * restarted node is not taken for the one before. Identity and encryption are the link's.
 */
import type { Medium, MediumHeard, Pipe, PipeDirection, PipeHandlers } from "@godwit/sdk";
import { godwitError } from "../../../runtime/kernel/errors.ts";
import type { SimTime } from "../time.ts";
import type { Watcher } from "./airtime.ts";
import type { Frame, Share } from "./channel.ts";
import type { LifePort, PortParts } from "./life.ts";
import { bitsPerSecond } from "./lora.ts";
import type { Radio } from "./radio.ts";

const FROM_DIALLER = 0x80;
const NUMBERS = 0x7f;
/** What is no datagram of a pipe. */
export const BROADCAST = 0x7f;
const RESET = 0xff;
const HEAD_BYTES = 1;
const PIPES_MAX = 256;
/** Datagrams of one pipe that wait: a link is told to stop before the radio's queue is full. */
const PIPE_FRAMES_MAX = 4;
/**
 * Nothing of the far end for so long, not even what it says to all, although something was sent to it since: the pipe is given up, ms. Much of
 * what is sent asks for no answer, so that a shorter silence says nothing.
 */
const SILENCE_MS = 24 * 3_600_000;
/** Smallest answer of a link, bytes: an empty record. */
const ANSWER_BYTES = 12;
/** One answer to strangers' records in this time, ms. */
const RESET_PACE_MS = 60_000;

const SCHEME = "radio";
export const endpointOf = (address: number): string => `radio://${address.toString(16).padStart(8, "0")}`;
export const addressOf = (endpoint: string): number => Number.parseInt(endpoint.slice("radio://".length), 16);

export interface PortOptions extends Pick<PortParts, "random" | "dispatch" | "screen" | "accept"> {
  readonly radio: Radio;
  readonly time: SimTime;
  /** Largest datagram that a pipe takes, bytes. */
  readonly mtu: number;
  readonly watcher: Watcher;
}

export class RadioPort implements LifePort {
  readonly scheme = SCHEME;
  readonly medium: Medium;
  readonly options: PortOptions;
  readonly #pipes = new Map<string, RadioPipe>();
  #heardAll: MediumHeard = () => {};
  #isBroadcasting = false;
  #resetAtMs = Number.NEGATIVE_INFINITY;
  #number: number;
  #isOver = false;

  constructor(options: PortOptions) {
    this.options = options;
    this.#number = options.random.below(NUMBERS);
    const { radio } = options;
    radio.power(true);
    radio.heard = (frame) => this.#hear(frame);
    this.medium = this.#newMedium();
  }

  get endpoint(): string {
    return endpointOf(this.options.radio.address);
  }

  get pipes(): readonly RadioPipe[] {
    return [...this.#pipes.values()];
  }

  /** No round trip: whether anybody is there the handshake shows. */
  dial(endpoint: string): Pipe {
    if (this.#pipes.size >= PIPES_MAX)
      throw godwitError("GODWIT_DIAL_FAILED", "too many links on this radio");
    do this.#number = (this.#number + 1) % NUMBERS;
    while (this.#pipes.has(keyOf(addressOf(endpoint), true, this.#number)));
    return this.#add("outbound", addressOf(endpoint), this.#number);
  }

  listen(open: (medium: Medium) => void): void {
    open(this.medium);
  }

  end(): void {
    this.#isOver = true;
    this.options.radio.heard = () => {};
    this.options.radio.power(false);
    for (const pipe of this.#pipes.values()) pipe.vanish();
  }

  forget(pipe: RadioPipe): void {
    this.#pipes.delete(pipe.key);
  }

  /** With the head before it; false: the radio has no room. */
  send(
    head: number,
    to: number | "all",
    bytes: Uint8Array,
    shares: readonly Share[],
    done: () => void,
  ): boolean {
    const datagram = new Uint8Array(HEAD_BYTES + bytes.length);
    datagram[0] = head;
    datagram.set(bytes, HEAD_BYTES);
    return this.options.radio.offer(to, datagram, shares, () => {
      done();
      this.options.dispatch(() => {
        for (const pipe of this.#pipes.values()) pipe.drainIfRoom();
      });
    });
  }

  #newMedium(): Medium {
    const { radio } = this.options;
    const { channel } = radio;
    return {
      name: "radio",
      rateBitsPerSecond: bitsPerSecond(channel.lora),
      airtimeMs: (bytes, to) => channel.airtimeOf(HEAD_BYTES + bytes, to),
      ownShare: radio.share,
      get utilisation() {
        return radio.utilisation;
      },
      broadcastBytesMax: this.options.mtu,
      broadcast: (bytes) => {
        if (bytes.length > this.options.mtu || this.#isBroadcasting) return false;
        this.#isBroadcasting = this.send(BROADCAST, "all", bytes, [{ kind: "beacons", part: 1 }], () => {
          this.#isBroadcasting = false;
        });
        return this.#isBroadcasting;
      },
      listen: (heard) => void (this.#heardAll = heard),
    };
  }

  #add(direction: PipeDirection, address: number, number: number): RadioPipe {
    const pipe = new RadioPipe(this, direction, address, number);
    this.#pipes.set(pipe.key, pipe);
    return pipe;
  }

  #hear(frame: Frame): void {
    this.options.dispatch(() => {
      if (this.#isOver || frame.bytes.length < HEAD_BYTES) return;
      const head = frame.bytes[0]!;
      const body = frame.bytes.slice(HEAD_BYTES);
      for (const pipe of this.#pipes.values()) if (pipe.address === frame.from) pipe.heard();
      if (frame.to === "all") {
        if (head === BROADCAST) this.#heardAll(endpointOf(frame.from), body);
        return;
      }
      if (head === RESET) return this.#onReset(frame.from, body);
      const isFromDialler = (head & FROM_DIALLER) !== 0;
      const number = head & NUMBERS;
      // Its own numbers are those of the pipes that the far end answers on.
      const pipe = this.#pipes.get(keyOf(frame.from, !isFromDialler, number));
      if (pipe !== undefined) return pipe.receive(body);
      if (body.length === 0) return;
      if ((body[0]! & 0x80) !== 0) return this.#reset(frame.from, head);
      if (isFromDialler) this.#accept(frame.from, number, body);
    });
  }

  #accept(address: number, number: number, body: Uint8Array): void {
    const verdict = this.options.screen(body, endpointOf(address));
    if (verdict === undefined) return;
    if (verdict !== "open") {
      this.send(number, address, verdict, [{ kind: "handshakes", part: 1 }], () => {});
      return;
    }
    if (this.#pipes.size >= PIPES_MAX) return;
    const pipe = this.#add("inbound", address, number);
    pipe.receive(body);
    this.options.accept(pipe);
  }

  /** A record of a connection that is not here any more. Shorter than its cause. */
  #reset(address: number, head: number): void {
    const { nowMs } = this.options.time;
    if (nowMs - this.#resetAtMs < RESET_PACE_MS) return;
    this.#resetAtMs = nowMs;
    this.send(RESET, address, Uint8Array.of(head), [{ kind: "handshakes", part: 1 }], () => {});
  }

  #onReset(address: number, body: Uint8Array): void {
    const head = body[0];
    if (head === undefined) return;
    this.#pipes
      .get(keyOf(address, (head & FROM_DIALLER) !== 0, head & NUMBERS))
      ?.break("the far end has forgotten this connection");
  }
}

const keyOf = (address: number, isOwn: boolean, number: number): string =>
  `${address} ${isOwn ? "out" : "in"} ${number}`;

interface Written {
  readonly bytes: number;
  isGone: boolean;
}

export class RadioPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "slow";
  readonly direction: PipeDirection;
  readonly address: number;
  readonly remote: string;
  readonly local: string;
  readonly rateBitsPerSecond: number;
  readonly mtu: number;
  readonly medium: Medium;
  readonly answerMs: number;
  readonly key: string;
  readonly #port: RadioPort;
  readonly #head: number;
  #handlers: PipeHandlers | undefined;
  #early: Uint8Array[] = [];
  /** Written and not told of, oldest first. */
  readonly #written: Written[] = [];
  #wantsDrain = false;
  #state: "open" | "closed" | "told" = "open";
  #heardAtMs: number;
  #sentSinceMs: number | undefined;
  bufferedBytes = 0;

  constructor(port: RadioPort, direction: PipeDirection, address: number, number: number) {
    const { options, medium } = port;
    this.#port = port;
    this.direction = direction;
    this.address = address;
    this.remote = endpointOf(address);
    this.local = port.endpoint;
    this.mtu = options.mtu;
    this.medium = medium;
    this.rateBitsPerSecond = medium.rateBitsPerSecond;
    this.answerMs = medium.airtimeMs(ANSWER_BYTES, "one") + options.radio.channel.slotMs;
    this.key = keyOf(address, direction === "outbound", number);
    this.#head = direction === "outbound" ? FROM_DIALLER | number : number;
    this.#heardAtMs = options.time.nowMs;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    this.#later(() => {
      for (const bytes of this.#early.splice(0)) this.#deliver(bytes);
      this.#tell(undefined);
    });
  }

  write(bytes: Uint8Array): boolean {
    if (this.#state !== "open") return true;
    if (bytes.length > this.mtu)
      throw godwitError("GODWIT_BUG", `a datagram of ${bytes.length} bytes on a radio for ${this.mtu}`);
    const written: Written = { bytes: bytes.length, isGone: false };
    const { shares, left } = this.#port.options.watcher.written(this, bytes);
    const gone = () => {
      written.isGone = true;
      this.#tellLeft();
    };
    const isTaken = this.#port.send(this.#head, this.address, bytes, shares, () => {
      left();
      this.#port.options.dispatch(() => {
        this.#watchSilence();
        gone();
      });
    });
    this.#written.push(written);
    this.bufferedBytes += bytes.length;
    if (!isTaken) this.#later(gone);
    if (this.#written.length < PIPE_FRAMES_MAX && !this.#port.options.radio.isFull) return true;
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

  /** The life that it belongs to is over. */
  vanish(): void {
    this.#state = "told";
  }

  /** Something of the far end came, on whichever connection. */
  heard(): void {
    this.#heardAtMs = this.#port.options.time.nowMs;
    this.#sentSinceMs = undefined;
  }

  /** Its own from now on. */
  receive(bytes: Uint8Array): void {
    if (this.#state !== "open") return;
    if (this.#handlers === undefined) this.#early.push(bytes);
    else this.#deliver(bytes);
  }

  #deliver(bytes: Uint8Array): void {
    if (this.#state !== "open") return;
    this.#handlers!.data(bytes);
    // Borrowed: whoever kept it reads rubbish.
    bytes.fill(0xee);
  }

  #tellLeft(): void {
    while (this.#written[0]?.isGone === true) {
      this.bufferedBytes -= this.#written.shift()!.bytes;
      if (this.#state === "open") this.#handlers?.left?.();
    }
    this.drainIfRoom();
  }

  /** Whoever was told to stop may go on: its own datagrams have left, and the radio takes more. */
  drainIfRoom(): void {
    const isFull = this.#written.length > PIPE_FRAMES_MAX / 2 || this.#port.options.radio.isFull;
    if (!this.#wantsDrain || isFull) return;
    this.#wantsDrain = false;
    if (this.#state === "open") this.#handlers?.drain();
  }

  #watchSilence(): void {
    const { time } = this.#port.options;
    if (this.#sentSinceMs !== undefined || this.#state !== "open") return;
    const sinceMs = (this.#sentSinceMs = time.nowMs);
    time.after(SILENCE_MS, () => {
      if (this.#sentSinceMs === sinceMs && this.#heardAtMs <= sinceMs)
        this.break("nothing is heard of the far end");
    });
  }

  #end(error: Error | undefined): void {
    if (this.#state !== "open") return;
    this.#state = "closed";
    this.#port.forget(this);
    this.#later(() => this.#tell(error));
  }

  #tell(error: Error | undefined): void {
    if (this.#state !== "closed" || this.#handlers === undefined) return;
    this.#state = "told";
    this.#handlers.closed(error);
  }

  #later(fn: () => void): void {
    this.#port.options.time.after(0, () => this.#port.options.dispatch(fn));
  }
}
