/**
 * Somebody with a radio and no key: records what is on the air and sends it again later, as it was or changed, in the name of whoever sent it.
 * Takes a given share of the channel.
 */
import type { Random } from "@godwit/sdk";
import type { SimTime } from "../time.ts";
import type { Channel, Frame } from "./channel.ts";
import type { Radio } from "./radio.ts";

/** Frames that it keeps. */
const RECORDED_MAX = 1_000;
/** Of what it sends so much is as it was. */
const VERBATIM_SHARE = 0.5;
const SHARES = [{ kind: "foreign", part: 1 }] as const;
/** It looks for something to send this often when there is nothing, ms. */
const IDLE_MS = 10_000;

export interface AttackerOptions {
  readonly channel: Channel;
  readonly radio: Radio;
  /** Of the channel, 0 to 1. */
  readonly share: number;
  readonly time: SimTime;
  readonly random: Random;
}

export class Attacker {
  readonly #options: AttackerOptions;
  readonly #recorded: Frame[] = [];
  sent = 0;

  constructor(options: AttackerOptions) {
    this.#options = options;
  }

  /** A frame was on the air. */
  onSent(radio: Radio, frame: Frame): void {
    if (radio === this.#options.radio) return;
    const copy = { ...frame, bytes: frame.bytes.slice() };
    if (this.#recorded.length < RECORDED_MAX) this.#recorded.push(copy);
    else this.#recorded[this.#options.random.below(RECORDED_MAX)] = copy;
  }

  start(): void {
    this.#next(IDLE_MS);
  }

  #next(delayMs: number): void {
    this.#options.time.after(delayMs, () => {
      const { channel, radio, share, random } = this.#options;
      const frame = this.#recorded[random.below(Math.max(1, this.#recorded.length))];
      if (frame === undefined) return this.#next(IDLE_MS);
      const bytes = random.float() < VERBATIM_SHARE ? frame.bytes : this.#changed(frame.bytes);
      radio.sendAs(frame.from, frame.to, bytes, SHARES);
      this.sent++;
      const airtimeMs = channel.airtimeOf(bytes.length, frame.to === "all" ? "all" : "one");
      this.#next(-Math.log(1 - random.float()) * (airtimeMs / share));
    });
  }

  /** A bit, the end, or what comes after the first byte. */
  #changed(bytes: Uint8Array): Uint8Array {
    const { random } = this.#options;
    const out = bytes.slice();
    switch (random.below(3)) {
      case 0:
        if (out.length > 0) out[random.below(out.length)]! ^= 1 << random.below(8);
        return out;
      case 1:
        return out.subarray(0, 1 + random.below(Math.max(1, out.length)));
      default:
        out.set(random.bytes(Math.max(0, out.length - 1)), Math.min(1, out.length));
        return out;
    }
  }
}
