/**
 * A channel in memory that all in earshot share: one frame at a time for each listener, half duplex, collisions, and stations that listen before
 * they talk. Airtime is that of a plain modem of some kbit/s. For tests only.
 */
import type { Medium, MediumHeard, Pipe, PipeDirection, PipeHandlers, Random, Urgency } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { ManualClock } from "../kernel/clock.ts";

/** LoRa at spreading factor 11 and 250 kHz, as most use it: about so many bits a second behind a preamble. */
export const RATE_BITS = 1_074;
const PREAMBLE_MS = 230;
const HEADER_BYTES = 16;
const SLOT_MS = 28;
const SLOTS = 16;
const QUEUE_MAX = 16;
const UTILISATION_MS = 300_000;
export const MTU = 500;

interface Frame {
  readonly from: Station;
  /** An address, or `all`. */
  readonly to: string;
  readonly key: string;
  readonly bytes: Uint8Array;
}

interface OnAir extends Frame {
  readonly others: OnAir[];
}

export class TestChannel {
  readonly clock: ManualClock;
  readonly random: Random;
  readonly stations: Station[] = [];
  /** Pairs that do not hear each other, `a b`. */
  readonly hidden = new Set<string>();
  readonly onAir = new Set<OnAir>();
  /** Of all frames since the start, ms. */
  airtimeMs = 0;
  /** By the first byte of what was sent: handshake messages, records, beacons. */
  readonly airtimeBy = new Map<"handshake" | "record" | "broadcast", number>();
  collisions = 0;

  constructor(clock: ManualClock, random: Random) {
    this.clock = clock;
    this.random = random;
  }

  station(): Station {
    const station = new Station(this, `radio://${this.stations.length.toString().padStart(4, "0")}`);
    this.stations.push(station);
    return station;
  }

  costMs(bytes: number): number {
    return PREAMBLE_MS + ((HEADER_BYTES + bytes) * 8_000) / RATE_BITS;
  }

  hears(listener: Station, sender: Station): boolean {
    return (
      listener !== sender &&
      listener.isOn &&
      sender.isOn &&
      !this.hidden.has(`${listener.address} ${sender.address}`)
    );
  }

  hide(a: Station, b: Station): void {
    this.hidden.add(`${a.address} ${b.address}`);
    this.hidden.add(`${b.address} ${a.address}`);
  }

  isBusyAt(station: Station): boolean {
    return [...this.onAir].some(({ from }) => from === station || this.hears(station, from));
  }

  send(frame: Frame, onEnd: () => void): void {
    const ms = this.costMs(frame.bytes.length);
    const sent: OnAir = { ...frame, others: [...this.onAir] };
    for (const other of this.onAir) other.others.push(sent);
    this.onAir.add(sent);
    this.airtimeMs += ms;
    const kind = frame.to === "all" ? "broadcast" : (frame.bytes[0]! & 0x80) === 0 ? "handshake" : "record";
    this.airtimeBy.set(kind, (this.airtimeBy.get(kind) ?? 0) + ms);
    for (const station of this.stations)
      if (station === frame.from || this.hears(station, frame.from)) station.noteBusy(ms);
    this.clock.after(ms, () => {
      this.onAir.delete(sent);
      for (const listener of this.stations) {
        if (!this.hears(listener, frame.from)) continue;
        if (frame.to !== "all" && frame.to !== listener.address) continue;
        if (sent.others.some(({ from }) => from === listener || this.hears(listener, from)))
          this.collisions++;
        else listener.hear(frame);
      }
      onEnd();
    });
  }
}

export class Station {
  readonly address: string;
  medium: Medium;
  readonly channel: TestChannel;
  isOn = true;
  /** What others began here. */
  accept: (pipe: Pipe) => void = () => {};
  screen: (datagram: Uint8Array, remote: string) => "open" | Uint8Array | undefined = () => "open";
  /** Of this station, ms. */
  airtimeMs = 0;
  /** Added to what is measured, 0 to 1. */
  foreignUtilisation = 0;
  /** Of what is said to all, and by the node itself of all else. */
  admits: Urgency = 4;
  heardAll: MediumHeard = () => {};
  readonly #queue: { readonly frame: Frame; readonly left: () => void }[] = [];
  readonly #pipes = new Map<string, ChannelPipe>();
  readonly #busy: { readonly atMs: number; readonly ms: number }[] = [];
  #isWaiting = false;
  #isBroadcasting = false;
  #number = 0;

  constructor(channel: TestChannel, address: string) {
    this.channel = channel;
    this.address = address;
    this.medium = this.newMedium();
  }

  /** As of a radio that was away. */
  newMedium(): Medium {
    const { channel } = this;
    const utilisation = () => this.utilisation;
    const admits = () => this.admits;
    return {
      name: "radio",
      rateBitsPerSecond: RATE_BITS,
      airtimeMs: (bytes) => channel.costMs(bytes),
      get utilisation() {
        return utilisation();
      },
      get admits() {
        return admits();
      },
      broadcastBytesMax: MTU,
      broadcast: (bytes, urgency) => this.broadcast(bytes, urgency),
      listen: (heard) => void (this.heardAll = heard),
    };
  }

  get utilisation(): number {
    const fromMs = this.channel.clock.monotonicMs() - UTILISATION_MS;
    while (this.#busy.length > 0 && this.#busy[0]!.atMs < fromMs) this.#busy.shift();
    const ownMs = this.#busy.reduce((sum, { ms }) => sum + ms, 0);
    return Math.min(1, ownMs / UTILISATION_MS + this.foreignUtilisation);
  }

  noteBusy(ms: number): void {
    this.#busy.push({ atMs: this.channel.clock.monotonicMs(), ms });
  }

  broadcast(bytes: Uint8Array, urgency: Urgency = 3): boolean {
    if (urgency > this.admits || this.#isBroadcasting || bytes.length > MTU) return false;
    const frame = { from: this, to: "all", key: "", bytes: bytes.slice() };
    this.#isBroadcasting = this.#enqueue(frame, () => (this.#isBroadcasting = false));
    return this.#isBroadcasting;
  }

  dial(endpoint: string): Pipe {
    const key = `${this.address} ${this.#number++}`;
    const pipe = new ChannelPipe(this, endpoint, "outbound", key);
    this.#pipes.set(key, pipe);
    return pipe;
  }

  /** A datagram as a stranger would send it. */
  forge(to: string, bytes: Uint8Array): void {
    this.#enqueue({ from: this, to, key: `${this.address} ${this.#number++}`, bytes }, () => {});
  }

  forget(key: string): void {
    this.#pipes.delete(key);
  }

  write(to: string, key: string, bytes: Uint8Array, left: () => void): void {
    if (!this.#enqueue({ from: this, to, key, bytes: bytes.slice() }, left))
      this.channel.clock.after(0, left);
  }

  hear({ from, to, key, bytes }: Frame): void {
    if (to === "all") return this.heardAll(from.address, bytes);
    const pipe = this.#pipes.get(key);
    if (pipe !== undefined) return pipe.receive(bytes);
    if ((bytes[0]! & 0x80) !== 0) return;
    const verdict = this.screen(bytes, from.address);
    if (verdict === undefined) return;
    if (verdict !== "open") return this.write(from.address, key, verdict, () => {});
    const fresh = new ChannelPipe(this, from.address, "inbound", key);
    this.#pipes.set(key, fresh);
    this.accept(fresh);
    fresh.receive(bytes);
  }

  #enqueue(frame: Frame, left: () => void): boolean {
    if (this.#queue.length >= QUEUE_MAX || !this.isOn) return false;
    this.#queue.push({ frame, left });
    this.#pump();
    return true;
  }

  #pump(): void {
    if (this.#isWaiting || this.#queue.length === 0) return;
    this.#isWaiting = true;
    const { clock, random } = this.channel;
    clock.after(SLOT_MS * (1 + random.below(SLOTS)), () => {
      if (this.channel.isBusyAt(this)) {
        this.#isWaiting = false;
        return this.#pump();
      }
      const { frame, left } = this.#queue.shift()!;
      this.airtimeMs += this.channel.costMs(frame.bytes.length);
      this.channel.send(frame, () => {
        this.#isWaiting = false;
        left();
        this.#pump();
      });
    });
  }
}

class ChannelPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "slow";
  readonly mtu = MTU;
  readonly rateBitsPerSecond = RATE_BITS;
  readonly direction: PipeDirection;
  readonly remote: string;
  readonly local: string;
  readonly medium: Medium;
  readonly answerMs = 800;
  bufferedBytes = 0;
  readonly #station: Station;
  readonly #key: string;
  readonly #early: Uint8Array[] = [];
  #handlers: PipeHandlers | undefined;
  #isClosed = false;

  constructor(station: Station, remote: string, direction: PipeDirection, key: string) {
    this.#station = station;
    this.#key = key;
    this.remote = remote;
    this.direction = direction;
    this.local = station.address;
    this.medium = station.medium;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    for (const bytes of this.#early.splice(0))
      this.#station.channel.clock.after(0, () => this.receive(bytes));
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    if (bytes.length > MTU) throw godwitError("GODWIT_BUG", `a datagram of ${bytes.length} bytes`);
    this.bufferedBytes += bytes.length;
    this.#station.write(this.remote, this.#key, bytes, () => {
      this.bufferedBytes -= bytes.length;
      if (this.#isClosed) return;
      this.#handlers?.left?.();
      this.#handlers?.drain();
    });
    return true;
  }

  receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#handlers === undefined) this.#early.push(bytes);
    else this.#handlers.data(bytes);
  }

  pause(): void {}

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#station.forget(this.#key);
    this.#station.channel.clock.after(0, () => this.#handlers?.closed());
  }
}
