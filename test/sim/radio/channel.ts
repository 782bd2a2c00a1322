/**
 * One radio channel in virtual time: who hears whom how well, what is on the air, and whom it reaches. A frame reaches a
 * listener unless that sent meanwhile, another frame was not weaker by the capture margin, or it was lost by chance. Radios
 * (radio.ts) decide when to send; here is only what the air does.
 */
import type { Random } from "@godwit/sdk";
import type { SimTime } from "../time.ts";
import { frameBytes, frameMs, slotMs, type Lora, type Overhead } from "./lora.ts";
import { Radio, type RadioOptions } from "./radio.ts";

/** The stronger of two frames is heard if it is so much stronger, dB. */
export const CAPTURE_DB = 6;

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

export interface Transmission {
  readonly radio: Radio;
  readonly frame: Frame;
  readonly startMs: number;
  readonly endMs: number;
  /** Whatever else was on the air meanwhile, heard or not. */
  readonly others: Transmission[];
}

export interface ChannelOptions {
  readonly time: SimTime;
  readonly random: Random;
  readonly lora: Lora;
  readonly overhead: Overhead;
  /** Share of frames that nobody can explain the loss of, 0 to 1. */
  readonly loss: number;
}

/** Why a listener in earshot got nothing. */
export type Miss = "collision" | "sending" | "loss";

export class Channel {
  readonly lora: Lora;
  readonly overhead: Overhead;
  readonly time: SimTime;
  readonly radios: Radio[] = [];
  /** By address. */
  readonly #byAddress = new Map<number, Radio>();
  readonly #random: Random;
  readonly #loss: number;
  readonly #strengths = new Map<string, number>();
  readonly #onAir = new Set<Transmission>();
  readonly misses: Record<Miss, number> = { collision: 0, sending: 0, loss: 0 };
  /** Of all together since the start, ms; overlaps count twice. */
  airtimeMs = 0;
  onSent: (transmission: Transmission) => void = () => {};

  constructor(options: ChannelOptions) {
    this.time = options.time;
    this.#random = options.random;
    this.lora = options.lora;
    this.overhead = options.overhead;
    this.#loss = options.loss;
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

  /** From now on `to` hears `from` so many dB above what it needs; undefined: not at all. */
  setStrength(from: Radio, to: Radio, dB: number | undefined): void {
    const key = `${from.address} ${to.address}`;
    if (dB === undefined) this.#strengths.delete(key);
    else this.#strengths.set(key, dB);
  }

  /** Both ways alike. */
  join(a: Radio, b: Radio, dB: number): void {
    this.setStrength(a, b, dB);
    this.setStrength(b, a, dB);
  }

  /** What `to` hears of `from`, dB; undefined: nothing. */
  strength(from: Radio, to: Radio): number | undefined {
    if (from === to || from.isShielded || to.isShielded) return undefined;
    return this.#strengths.get(`${from.address} ${to.address}`);
  }

  /** How long a datagram is on the air, ms. */
  airtimeOf(bytes: number, to: "one" | "all"): number {
    return frameMs(this.lora, frameBytes(this.overhead, bytes, to));
  }

  get slotMs(): number {
    return slotMs(this.lora);
  }

  /** Whether `radio` can tell that somebody sends: a frame that has just begun nobody notices. */
  isBusyAt(radio: Radio): boolean {
    for (const { radio: sender, startMs } of this.#onAir)
      if (this.time.nowMs - startMs >= this.slotMs && this.strength(sender, radio) !== undefined) return true;
    return false;
  }

  /** Puts a frame on the air now. */
  send(radio: Radio, frame: Frame, onEnd: () => void): void {
    const { time } = this;
    const ms = this.airtimeOf(frame.bytes.length, frame.to === "all" ? "all" : "one");
    const sent: Transmission = { radio, frame, startMs: time.nowMs, endMs: time.nowMs + ms, others: [] };
    for (const other of this.#onAir) {
      other.others.push(sent);
      sent.others.push(other);
    }
    this.#onAir.add(sent);
    this.airtimeMs += ms;
    time.note(`${time.nowMs} air ${frame.from} ${frame.bytes.length} ${checksum(frame.bytes)}`);
    this.onSent(sent);
    for (const listener of this.radios)
      if (listener === radio || this.strength(radio, listener) !== undefined) listener.noteBusy(ms);
    time.after(ms, () => {
      this.#onAir.delete(sent);
      for (const listener of this.radios) {
        const miss = this.#judge(sent, listener);
        if (miss === "silence") continue;
        if (miss === undefined) listener.hear(frame);
        else this.misses[miss]++;
      }
      onEnd();
    });
  }

  #judge(sent: Transmission, listener: Radio): Miss | "silence" | undefined {
    const dB = this.strength(sent.radio, listener);
    if (dB === undefined || !listener.isOn) return "silence";
    for (const { radio } of sent.others) {
      if (radio === listener) return "sending";
      const theirs = this.strength(radio, listener);
      if (theirs !== undefined && dB - theirs < CAPTURE_DB) return "collision";
    }
    return this.#random.float() < this.#loss ? "loss" : undefined;
  }
}

/** FNV-1a. */
function checksum(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}
