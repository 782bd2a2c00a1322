/**
 * The radio channel of a simulated mesh in virtual time: datagrams between addresses on the medium (medium.ts), with what is around
 * them on the air. Radios (radio.ts) decide when to send.
 */
import type { SimTime } from "../time.ts";
import { frameBytes, frameMs, type Overhead } from "./lora.ts";
import { Medium, type MediumOptions, type OnAir } from "./medium.ts";
import { Radio, type RadioOptions } from "./radio.ts";

export interface Frame {
  readonly from: number;
  readonly to: number | "all";
  readonly bytes: Uint8Array;
  /** Names it while relays repeat it. */
  readonly id: number;
  readonly hops: number;
  /** Who pays for it, by what share: sums to 1. */
  readonly shares: readonly Share[];
}

/** Which kind of traffic, and its part of a frame, 0 to 1. */
export interface Share {
  readonly kind: string;
  readonly part: number;
}

export type Transmission = OnAir<Radio, Frame>;

export interface ChannelOptions extends MediumOptions {
  readonly time: SimTime;
  readonly overhead: Overhead;
}

export class Channel extends Medium<Radio, Frame> {
  readonly overhead: Overhead;
  readonly time: SimTime;
  /** By address. */
  readonly #byAddress = new Map<number, Radio>();

  constructor(options: ChannelOptions) {
    super(options);
    this.time = options.time;
    this.overhead = options.overhead;
  }

  add(options: Omit<RadioOptions, "channel">): Radio {
    const radio = new Radio({ ...options, channel: this });
    this.radios.push(radio);
    this.#byAddress.set(radio.address, radio);
    return radio;
  }

  radioAt(address: number): Radio | undefined {
    return this.#byAddress.get(address);
  }

  /** How long a datagram is on the air, ms. */
  airtimeOf(bytes: number, to: "one" | "all"): number {
    return frameMs(this.lora, frameBytes(this.overhead, bytes, to));
  }

  /** Puts a frame on the air now. */
  send(radio: Radio, frame: Frame, onEnd: () => void): void {
    const { time } = this;
    const ms = this.airtimeOf(frame.bytes.length, frame.to === "all" ? "all" : "one");
    time.note(`${time.nowMs} air ${frame.from} ${frame.bytes.length} ${checksum(frame.bytes)}`);
    this.transmit(radio, frame, ms, onEnd);
  }
}

/** FNV-1a. */
function checksum(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}
