/**
 * One station of a channel: a queue of bounded length, listening before it talks with a random wait that grows with the
 * load (as Meshtastic's firmware does), a share of the airtime of its own, the duty cycle that a region allows in any hour, and,
 * where it relays, one repetition of what it hears first. Knows nothing of links.
 */
import type { Random, Timer } from "@godwit/sdk";
import type { Channel, Frame, Share } from "./channel.ts";

const HOUR_MS = 3_600_000;
/** Slots to wait in: two to the power of so many, between an idle and a full channel. */
const WINDOW_EXPONENTS = [3, 8] as const;
/** Of the utilisation that is told. */
const UTILISATION_MS = 300_000;
/** A wait shorter than this is none: it is what rounding left of one. */
const ROUNDING_MS = 1e-3;
/** Frames of others that a relay remembers having repeated. */
const REPEATED_MAX = 256;

export interface RadioOptions {
  readonly channel: Channel;
  /** 32 bits. */
  readonly address: number;
  readonly random: Random;
  /** Frames that wait; more are refused. */
  readonly queueFramesMax: number;
  /** Of the airtime it may take on the average, 0 to 1, and how much of that at once, ms. */
  readonly ownShare: number;
  readonly burstMs: number;
  /** Of the airtime it may have in any hour, 0 to 1. */
  readonly dutyCycle: number;
  /** It repeats what it hears, up to so many repetitions on the way of one frame. */
  readonly relayHopsMax?: number;
}

interface Waiting {
  readonly frame: Frame;
  readonly airtimeMs: number;
  /** True: it has left as a whole. */
  readonly done: (hasLeft: boolean) => void;
}

export class Radio {
  readonly address: number;
  readonly channel: Channel;
  readonly #options: RadioOptions;
  readonly #queue: Waiting[] = [];
  #timer: Timer | undefined;
  #isSending = false;
  #isOn = true;
  /** In a cellar: it hears nobody and nobody hears it. */
  isShielded = false;
  heard: (frame: Frame) => void = () => {};
  airtimeMs = 0;
  /** Refused because the queue was full. */
  refused = 0;
  queuedMost = 0;
  #tokensMs: number;
  #tokensAtMs = 0;
  /** Own frames. */
  readonly #sent: Recent;
  /** What kept the channel busy here, own frames among it. */
  readonly #busy: Recent;
  readonly #repeated = new Set<number>();
  #frames = 0;

  constructor(options: RadioOptions) {
    this.#options = options;
    this.channel = options.channel;
    this.address = options.address;
    this.#tokensMs = options.burstMs;
    this.#sent = new Recent(HOUR_MS);
    this.#busy = new Recent(UTILISATION_MS);
  }

  /** Of the airtime it may take on the average, 0 to 1. */
  get share(): number {
    return Math.min(this.#options.ownShare, this.#options.dutyCycle);
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  get queued(): number {
    return this.#queue.length;
  }

  get isFull(): boolean {
    return this.#queue.length >= this.#options.queueFramesMax;
  }

  /** Off: what waits is gone, and nobody is told. */
  power(isOn: boolean): void {
    this.#isOn = isOn;
    if (isOn) return;
    this.#queue.length = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Airtime of its own in the hour that ends now, ms. */
  get hourMs(): number {
    return this.#sent.sumAt(this.channel.time.nowMs);
  }

  /** Share of the last minutes in which it heard somebody, or sent itself. */
  get utilisation(): number {
    return Math.min(1, this.#busy.sumAt(this.channel.time.nowMs) / UTILISATION_MS);
  }

  noteBusy(ms: number): void {
    this.#busy.add(this.channel.time.nowMs, ms);
  }

  /** False: the queue is full, and `done` is not called. The bytes are its own from now on. */
  offer(
    to: number | "all",
    bytes: Uint8Array,
    shares: readonly Share[],
    done: (hasLeft: boolean) => void,
  ): boolean {
    if (this.isFull || !this.#isOn) {
      this.refused++;
      return false;
    }
    this.#enqueue({ from: this.address, to, bytes, id: this.#nextId(), hops: 0, shares }, done);
    return true;
  }

  /** In the name of another, whom nothing on the air proves. Nothing when the queue is full. */
  sendAs(from: number, to: number | "all", bytes: Uint8Array, shares: readonly Share[]): void {
    if (!this.isFull) this.#enqueue({ from, to, bytes, id: this.#nextId(), hops: 0, shares }, () => {});
  }

  /** As its sender numbers them; others' never collide, since the address is in it. */
  #nextId(): number {
    return this.address * 2 ** 20 + (this.#frames++ % 2 ** 20);
  }

  /** A frame reached it. */
  hear(frame: Frame): void {
    const { relayHopsMax = 0 } = this.#options;
    const isNew = !this.#repeated.has(frame.id);
    if (isNew && frame.from !== this.address) {
      if (this.#repeated.size >= REPEATED_MAX)
        for (const oldest of this.#repeated) {
          this.#repeated.delete(oldest);
          break;
        }
      this.#repeated.add(frame.id);
      if (frame.hops < relayHopsMax && frame.to !== this.address && !this.isFull)
        this.#enqueue({ ...frame, hops: frame.hops + 1 }, () => {});
      if (frame.to === "all" || frame.to === this.address) this.heard(frame);
    }
  }

  #enqueue(frame: Frame, done: (hasLeft: boolean) => void): void {
    const airtimeMs = this.channel.airtimeOf(frame.bytes.length, frame.to === "all" ? "all" : "one");
    this.#queue.push({ frame, airtimeMs, done });
    this.queuedMost = Math.max(this.queuedMost, this.#queue.length);
    this.#arm();
  }

  /** When the first one may go at the earliest by its own share and the duty cycle, ms from now. */
  #budgetWaitMs(airtimeMs: number): number {
    const { ownShare, burstMs, dutyCycle } = this.#options;
    const { nowMs } = this.channel.time;
    this.#tokensMs = Math.min(burstMs, this.#tokensMs + (nowMs - this.#tokensAtMs) * ownShare);
    this.#tokensAtMs = nowMs;
    // A frame beyond the burst leaves as soon as the bucket is full, and what it was short of is owed.
    const shareWaitMs = Math.max(0, (Math.min(airtimeMs, burstMs) - this.#tokensMs) / ownShare);
    const overMs = this.hourMs + airtimeMs - dutyCycle * HOUR_MS;
    return Math.max(shareWaitMs, this.#sent.whenLess(overMs) - nowMs);
  }

  #arm(): void {
    const next = this.#queue[0];
    if (next === undefined || this.#isSending || this.#timer !== undefined) return;
    const [least, most] = WINDOW_EXPONENTS;
    const exponent = least + Math.round((most - least) * this.utilisation);
    const slots = this.#options.random.below(2 ** exponent);
    const waitMs = this.#budgetWaitMs(next.airtimeMs) + slots * this.channel.slotMs;
    this.#timer = this.channel.time.after(waitMs, () => {
      this.#timer = undefined;
      if (this.channel.isBusyAt(this) || this.#budgetWaitMs(next.airtimeMs) > ROUNDING_MS) return this.#arm();
      this.#send();
    });
  }

  #send(): void {
    const { frame, airtimeMs, done } = this.#queue.shift()!;
    this.#isSending = true;
    this.#tokensMs -= airtimeMs;
    this.airtimeMs += airtimeMs;
    this.#sent.add(this.channel.time.nowMs, airtimeMs);
    this.channel.send(this, frame, () => {
      this.#isSending = false;
      this.#arm();
      done(true);
    });
  }
}

/** Spans of the last `keptMs`, and their sum. */
class Recent {
  readonly #keptMs: number;
  readonly #spans: { readonly atMs: number; readonly ms: number }[] = [];
  #sumMs = 0;

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  add(atMs: number, ms: number): void {
    this.#spans.push({ atMs, ms });
    this.#sumMs += ms;
    this.sumAt(atMs);
  }

  sumAt(nowMs: number): number {
    while (this.#spans[0] !== undefined && this.#spans[0].atMs <= nowMs - this.#keptMs)
      this.#sumMs -= this.#spans.shift()!.ms;
    return this.#sumMs;
  }

  /** When the oldest that are `ms` together will have gone. */
  whenLess(ms: number): number {
    let leftMs = ms;
    for (const span of this.#spans) {
      if (leftMs <= 0) return Number.NEGATIVE_INFINITY;
      leftMs -= span.ms;
      if (leftMs <= 0) return span.atMs + this.#keptMs;
    }
    return leftMs <= 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }
}
