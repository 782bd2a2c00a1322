/**
 * Emulated Meshtastic radios that hear each other: one preset on one frequency, on the same medium as the simulated meshes (test/sim/radio).
 * In real time by default, for nodes and other programs that speak to radios by TCP or a serial port; in virtual time for
 * days of fifty of them.
 *
 *     const ether = new Ether({ preset: "longFast", seed: 1 });
 *     const [a, b] = [ether.radio({ firmware: "2.7" }), ether.radio()];
 *     const { port } = await a.listenTcp();
 */
import { systemClock } from "../../runtime/kernel/clock.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { Medium, type MediumTime } from "../sim/radio/medium.ts";
import { presets, strengthAtDb, type PresetName } from "./plan.ts";
import { EmulatedRadio, type RadioOptions } from "./radio.ts";
import { OpenedFrames, Verified } from "./sealing.ts";

export interface EtherOptions {
  readonly preset?: PresetName;
  readonly seed?: number;
  /** Virtual time; else the machine's. */
  readonly time?: MediumTime;
  /** Since 1970, ms. */
  readonly wallMs?: () => number;
  /** Share of frames that nobody can explain the loss of, 0 to 1. */
  readonly loss?: number;
  /** All know each other's names and keys from the start. */
  readonly isIntroduced?: boolean;
}

/** How well radios hear each other of which nothing else is said, dB above what they need. */
const NEAR_DB = 20;

const realTime: MediumTime = {
  get nowMs() {
    return systemClock.monotonicMs();
  },
  after: (delayMs, fn) => systemClock.after(delayMs, fn),
};

export class Ether {
  readonly medium: Medium<EmulatedRadio, Uint8Array>;
  readonly radios: EmulatedRadio[] = [];
  readonly time: MediumTime;
  readonly preset: PresetName;
  readonly #isIntroduced: boolean;
  readonly #air: ConstructorParameters<typeof EmulatedRadio>[0];

  constructor(options: EtherOptions = {}) {
    const { preset = "longFast", seed = 1, time = realTime, loss = 0, isIntroduced = true } = options;
    const random = seededRandom(seed);
    this.time = time;
    this.preset = preset;
    this.#isIntroduced = isIntroduced;
    const { lora } = presets[preset];
    this.medium = new Medium({ time, random: seededRandom(random.below(2 ** 32)), lora, loss });
    const wallMs = options.wallMs ?? (() => systemClock.wallMs());
    this.#air = {
      time,
      medium: this.medium,
      preset,
      random,
      verified: new Verified(),
      opened: new OpenedFrames(),
      wallMs,
    };
  }

  /**
   * One more, switched on. Who hears it: those that are `neighbours`, with how many dB above what they need; else by `position`; else everybody
   * of whom nothing was said either.
   */
  radio(
    options: RadioOptions & {
      readonly neighbours?: readonly (EmulatedRadio | readonly [EmulatedRadio, number])[];
    } = {},
  ): EmulatedRadio {
    const radio = new EmulatedRadio(this.#air, options, this.radios.length + 1);
    for (const other of this.radios) {
      if (this.#isIntroduced) introduce(radio, other);
      if (options.neighbours === undefined) this.medium.join(radio, other, this.#strength(radio, other));
    }
    for (const it of options.neighbours ?? []) {
      const [other, dB] = it instanceof EmulatedRadio ? [it, NEAR_DB] : it;
      this.join(radio, other, dB);
    }
    this.radios.push(radio);
    this.medium.radios.push(radio);
    return radio;
  }

  /** Both ways, dB above what is needed. */
  join(a: EmulatedRadio, b: EmulatedRadio, dB = NEAR_DB): void {
    this.medium.join(a, b, dB);
  }

  /** Neither hears the other any more. */
  part(a: EmulatedRadio, b: EmulatedRadio): void {
    this.medium.join(a, b, undefined);
  }

  async close(): Promise<void> {
    await Promise.all(this.radios.map((radio) => radio.close()));
  }

  #strength({ options: a }: EmulatedRadio, { options: b }: EmulatedRadio): number | undefined {
    if (a.position === undefined || b.position === undefined)
      return a.position === b.position ? NEAR_DB : undefined;
    const metres = Math.hypot(a.position[0] - b.position[0], a.position[1] - b.position[1]);
    const dB = strengthAtDb(presets[this.preset].lora, metres);
    return dB < 0 ? undefined : dB;
  }
}

/** As if they had met before. */
function introduce(a: EmulatedRadio, b: EmulatedRadio): void {
  a.nodes.touch(b.number).user = b.user;
  b.nodes.touch(a.number).user = a.user;
}
