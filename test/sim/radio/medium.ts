/**
 * What the air of one radio channel does, whatever stations stand on it: who hears whom how well, what is on the air, and whom it
 * reaches. A frame reaches a listener unless that sent meanwhile, another frame was not weaker by the capture margin, or it was lost by
 * chance. When to send is a station's own affair: the simulator's (radio.ts) and the emulated Meshtastic radio (test/radio) stand on it.
 */
import type { Random, Timer } from "@godwit/sdk";
import { slotMs, type Lora } from "./lora.ts";

/** The stronger of two frames is heard if it is so much stronger, dB. */
export const CAPTURE_DB = 6;

/** Virtual time (../time.ts), or a real clock. */
export interface MediumTime {
  readonly nowMs: number;
  after(delayMs: number, fn: () => void): Timer;
}

export interface Station<F> {
  /** Off: nothing reaches it. */
  readonly isOn: boolean;
  /** In a cellar: it hears nobody and nobody hears it. */
  readonly isShielded: boolean;
  /** Something that it hears, or sends itself, keeps the channel busy for so long from now on. */
  noteBusy(ms: number): void;
  /** A frame reached it as a whole, so many dB above what it needs. */
  hear(frame: F, dB: number): void;
}

export interface OnAir<S, F> {
  readonly radio: S;
  readonly frame: F;
  readonly startMs: number;
  readonly endMs: number;
  /** Whatever else was on the air meanwhile, heard or not. */
  readonly others: OnAir<S, F>[];
}

export interface MediumOptions {
  readonly time: MediumTime;
  readonly random: Random;
  readonly lora: Lora;
  /** Share of frames that nobody can explain the loss of, 0 to 1. */
  readonly loss: number;
}

/** Why a listener in earshot got nothing. */
export type Miss = "collision" | "sending" | "loss";

export class Medium<S extends Station<F>, F> {
  readonly lora: Lora;
  readonly radios: S[] = [];
  readonly #time: MediumTime;
  readonly #random: Random;
  readonly #loss: number;
  /** By sender, then by listener, dB. */
  readonly #strengths = new Map<S, Map<S, number>>();
  readonly #onAir = new Set<OnAir<S, F>>();
  readonly misses: Record<Miss, number> = { collision: 0, sending: 0, loss: 0 };
  /** Of all together since the start, ms; overlaps count twice. */
  airtimeMs = 0;
  onSent: (transmission: OnAir<S, F>) => void = () => {};

  constructor({ time, random, lora, loss }: MediumOptions) {
    this.#time = time;
    this.#random = random;
    this.lora = lora;
    this.#loss = loss;
  }

  /** From now on `to` hears `from` so many dB above what it needs; undefined: not at all. */
  setStrength(from: S, to: S, dB: number | undefined): void {
    const heard = this.#strengths.get(from) ?? new Map<S, number>();
    this.#strengths.set(from, heard);
    if (dB === undefined) heard.delete(to);
    else heard.set(to, dB);
  }

  /** Both ways alike. */
  join(a: S, b: S, dB: number | undefined): void {
    this.setStrength(a, b, dB);
    this.setStrength(b, a, dB);
  }

  /** What `to` hears of `from`, dB; undefined: nothing. */
  strength(from: S, to: S): number | undefined {
    if (from === to || from.isShielded || to.isShielded) return undefined;
    return this.#strengths.get(from)?.get(to);
  }

  get slotMs(): number {
    return slotMs(this.lora);
  }

  /** Whether `radio` can tell that somebody sends: a frame that has just begun nobody notices. */
  isBusyAt(radio: S): boolean {
    const { nowMs } = this.#time;
    for (const { radio: sender, startMs } of this.#onAir)
      if (nowMs - startMs >= this.slotMs && this.strength(sender, radio) !== undefined) return true;
    return false;
  }

  /** Puts a frame on the air now, for `ms`. */
  transmit(radio: S, frame: F, ms: number, onEnd: () => void): void {
    const startMs = this.#time.nowMs;
    const sent: OnAir<S, F> = { radio, frame, startMs, endMs: startMs + ms, others: [] };
    for (const other of this.#onAir) {
      other.others.push(sent);
      sent.others.push(other);
    }
    this.#onAir.add(sent);
    this.airtimeMs += ms;
    this.onSent(sent);
    for (const listener of this.radios)
      if (listener === radio || this.strength(radio, listener) !== undefined) listener.noteBusy(ms);
    this.#time.after(ms, () => {
      this.#onAir.delete(sent);
      for (const listener of this.radios) this.#bring(sent, listener);
      onEnd();
    });
  }

  #bring(sent: OnAir<S, F>, listener: S): void {
    const dB = this.strength(sent.radio, listener);
    if (dB === undefined || !listener.isOn) return;
    const miss = this.#judge(sent, listener, dB);
    if (miss === undefined) listener.hear(sent.frame, dB);
    else this.misses[miss]++;
  }

  #judge(sent: OnAir<S, F>, listener: S, dB: number): Miss | undefined {
    for (const { radio } of sent.others) {
      if (radio === listener) return "sending";
      const theirs = this.strength(radio, listener);
      if (theirs !== undefined && dB - theirs < CAPTURE_DB) return "collision";
    }
    return this.#random.float() < this.#loss ? "loss" : undefined;
  }
}
