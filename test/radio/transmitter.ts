/**
 * The half of a radio that sends: sixteen places in the order of priorities, and when the first of them goes. A frame waits a random
 * number of slots: for one of its own more of them the busier the channel is, for one that is repeated more of them the better it was heard, so that who is far
 * repeats first. Nobody talks while he hears somebody. As RadioLibInterface and MeshPacketQueue of the firmware.
 */
import type { Random, Timer } from "@godwit/sdk";
import { frameMs, type Lora } from "../sim/radio/lora.ts";
import type { MediumTime } from "../sim/radio/medium.ts";
import type { AirtimeLog } from "./airtime-log.ts";
import { frameOf, frameBytesOf, type Packet } from "./packet.ts";
import { CW_MAX, windowOfSnr, windowOfUtilisation } from "./plan.ts";

export const QUEUE_MAX = 16;

export interface TransmitterOptions {
  readonly time: MediumTime;
  readonly random: Random;
  readonly lora: Lora;
  readonly slotMs: number;
  readonly airtime: AirtimeLog;
  /** It repeats before others do, as routers. */
  readonly isEarly: (packet: Packet) => boolean;
  readonly isOwn: (packet: Packet) => boolean;
  /** Somebody is heard. */
  readonly isBusy: () => boolean;
  /** Puts it on the air; calls back when it has left. */
  readonly transmit: (frame: Uint8Array, ms: number, left: () => void) => void;
  /** A place is free again. */
  readonly onRoom: () => void;
}

export class Transmitter {
  readonly #options: TransmitterOptions;
  readonly #queue: Packet[] = [];
  #timer: Timer | undefined;
  #isSending = false;
  sent = 0;
  repeated = 0;
  cancelled = 0;
  dropped = 0;

  constructor(options: TransmitterOptions) {
    this.#options = options;
  }

  get free(): number {
    return QUEUE_MAX - this.#queue.length;
  }

  get isIdle(): boolean {
    return this.#queue.length === 0 && !this.#isSending;
  }

  /** On the air, ms. */
  airtimeOf(packet: Packet): number {
    return frameMs(this.#options.lora, frameBytesOf(packet));
  }

  /** False: no place, and nothing of lower priority to take the place of. */
  enqueue(packet: Packet): boolean {
    if (this.#queue.length >= QUEUE_MAX) {
      this.dropped++;
      const last = this.#queue.findLastIndex((it) => it.txAfter === 0);
      if (last < 0 || this.#queue[last]!.priority >= packet.priority) return false;
      this.#queue.splice(last, 1);
    }
    this.#insert(packet);
    if (this.#timer === undefined) this.#delay();
    return true;
  }

  has(from: number, id: number): boolean {
    return this.#queue.some((it) => it.from === from && it.id === id);
  }

  /** Takes it out of the queue, if it has fewer hops left than `hopsBelow`. */
  cancel(from: number, id: number, hopsBelow = Number.POSITIVE_INFINITY): boolean {
    const at = this.#queue.findIndex((it) => it.from === from && it.id === id && it.hopLimit < hopsBelow);
    if (at < 0) return false;
    this.#queue.splice(at, 1);
    this.cancelled++;
    this.#options.onRoom();
    return true;
  }

  /** Behind all whom the wait before a repetition could make speak: for a router that repeats after others. */
  makeLate(from: number, id: number): void {
    const at = this.#queue.findIndex((it) => it.from === from && it.id === id && it.txAfter === 0);
    if (at < 0) return;
    const [packet] = this.#queue.splice(at, 1);
    this.#insert({ ...packet!, txAfter: this.#options.time.nowMs + this.#worstMs(packet!) });
    if (this.#timer === undefined) this.#delay();
  }

  /** A frame was heard to its end: everybody's wait starts anew. */
  heard(): void {
    this.#delay();
  }

  /** It is switched off: what waits is gone. */
  clear(): void {
    this.#queue.length = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #insert(packet: Packet): void {
    const { isOwn } = this.#options;
    const isBefore = (a: Packet, b: Packet): boolean => {
      if ((a.txAfter === 0) !== (b.txAfter === 0)) return a.txAfter === 0;
      return a.priority === b.priority ? !isOwn(a) && isOwn(b) : a.priority > b.priority;
    };
    const at = this.#queue.findIndex((it) => isBefore(packet, it));
    this.#queue.splice(at < 0 ? this.#queue.length : at, 0, packet);
  }

  #delay(): void {
    const first = this.#queue[0];
    this.#timer?.cancel();
    this.#timer = undefined;
    if (first === undefined) return;
    const { nowMs } = this.#options.time;
    let waitMs = first.rxRssi === 0 ? this.#ownMs() : this.#repeatMs(first);
    if (first.txAfter > 0) {
      first.txAfter = Math.min(
        Math.max(first.txAfter + waitMs, nowMs + waitMs),
        nowMs + 2 * this.#worstMs(first),
      );
      waitMs = first.txAfter - nowMs;
    }
    this.#arm(waitMs);
  }

  #arm(waitMs: number): void {
    this.#timer = this.#options.time.after(Math.max(1, waitMs), () => {
      this.#timer = undefined;
      this.#attempt();
    });
  }

  #attempt(): void {
    const first = this.#queue[0];
    if (first === undefined) return;
    const { isBusy, time } = this.#options;
    if (this.#isSending || isBusy()) return this.#delay();
    const leftMs = first.txAfter - time.nowMs;
    if (first.txAfter > 0 && leftMs > 0) return this.#arm(leftMs);
    this.#send(this.#queue.shift()!);
  }

  #send(packet: Packet): void {
    const { airtime, isOwn, transmit, onRoom } = this.#options;
    const ms = this.airtimeOf(packet);
    this.#isSending = true;
    this.sent++;
    if (!isOwn(packet)) this.repeated++;
    airtime.note(ms, true);
    transmit(frameOf(packet), ms, () => {
      this.#isSending = false;
      this.#delay();
    });
    onRoom();
  }

  #ownMs(): number {
    const { airtime, random, slotMs } = this.#options;
    return random.below(2 ** windowOfUtilisation(airtime.channelPercent)) * slotMs;
  }

  #repeatMs(packet: Packet): number {
    const { isEarly, random, slotMs } = this.#options;
    const size = windowOfSnr(packet.rxSnr);
    if (isEarly(packet)) return random.below(Math.max(1, 2 * size)) * slotMs;
    return (2 * CW_MAX + random.below(2 ** size)) * slotMs;
  }

  #worstMs({ rxSnr }: Packet): number {
    return (2 * CW_MAX + 2 ** windowOfSnr(rxSnr)) * this.#options.slotMs;
  }
}
