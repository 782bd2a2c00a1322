/**
 * The channel of a simulated mesh (test/sim/radio/world.ts) made of emulated radios: what is on it went through a firmware's queue, with its signatures, its
 * header and its limits, and what the devices say of their own accord is between it.
 */
import type { Random } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { formatHex } from "../../runtime/kernel/ids.ts";
import { AirtimeLedger } from "../sim/radio/airtime.ts";
import type { Share } from "../sim/radio/channel.ts";
import { RadioLife } from "../sim/radio/life.ts";
import { frameBytes, frameMs } from "../sim/radio/lora.ts";
import type { RadioWorldOptions, WorldAir, WorldRadio } from "../sim/radio/options.ts";
import { type SimTime, WORLD_START_MS } from "../sim/time.ts";
import type { Life } from "../sim/node.ts";
import { Ether } from "./ether.ts";
import { decodeLoraFrame } from "./lora-frame.ts";
import { endpointOf, MeshPort, type Written } from "./mesh-port.ts";
import { presets, type PresetName } from "./plan.ts";
import type { EmulatedRadio, RadioOptions } from "./radio.ts";

const CHANNEL = "godwit";
const HEAD_BYTES = 2;
/** Packets that were handed to radios, of which it is known what they are for. */
const HANDED_MAX = 65_536;
const OF_THE_DEVICE: readonly Share[] = [{ kind: "device", part: 1 }];

interface FirmwareRadio extends WorldRadio {
  readonly radio: EmulatedRadio;
  airtimeMs: number;
}

/** `radioOf`: what the radio of a node is, beyond its channel. */
export const firmwareAir =
  (radioOf: (node: number) => RadioOptions) =>
  (options: RadioWorldOptions, time: SimTime, random: Random): FirmwareAir =>
    new FirmwareAir(options, time, random, radioOf);

export class FirmwareAir implements WorldAir {
  readonly airtime: AirtimeLedger;
  readonly ether: Ether;
  readonly radios: readonly (FirmwareRadio | undefined)[];
  readonly channel: WorldAir["channel"];
  /** Whole frames in the order of leaving, each with what most of it is for. */
  readonly frames: { readonly kind: string; readonly bytes: number }[] = [];
  readonly #options: RadioWorldOptions;
  readonly #time: SimTime;
  /** By sender and id. */
  readonly #handed = new BoundedMap<string, Written>({
    name: "packets handed over",
    max: HANDED_MAX,
  });

  constructor(
    options: RadioWorldOptions,
    time: SimTime,
    random: Random,
    radioOf: (node: number) => RadioOptions,
  ) {
    this.#options = options;
    this.#time = time;
    this.airtime = new AirtimeLedger(() => time.nowMs);
    const { nodes, lora, loss, hasRadio = () => true } = options;
    const preset = (Object.keys(presets) as PresetName[]).find((name) => presets[name].lora === lora);
    if (preset === undefined || options.foreignShare > 0 || options.attackShare !== undefined)
      throw new Error("emulated radios have presets, and no strangers beside them");
    this.ether = new Ether({
      preset,
      loss,
      time,
      seed: random.below(2 ** 32),
      wallMs: () => WORLD_START_MS + time.nowMs,
    });
    const psk = random.bytes(32);
    this.radios = Array.from({ length: nodes }, (_, node) =>
      hasRadio(node) ? this.#add({ channels: [{ name: CHANNEL, psk }], ...radioOf(node) }) : undefined,
    );
    this.#makeEarshot(random);
    const { medium } = this.ether;
    this.channel = {
      get airtimeMs() {
        return medium.airtimeMs;
      },
      misses: medium.misses,
      radios: this.radios.filter((radio) => radio !== undefined),
      // A datagram with the head of the transport.
      airtimeOf: (bytes, to) => frameMs(lora, frameBytes(options.overhead, HEAD_BYTES + bytes, to)),
    };
    medium.onSent = (sent) => this.#onSent(sent);
  }

  endpointOf(node: number): string {
    return endpointOf(this.radios[node]!.radio);
  }

  newLife(life: Life, seed: number): RadioLife {
    const { ownShare, versionOf } = this.#options;
    const { radio } = this.radios[life.index]!;
    return new RadioLife({
      life,
      newPort: (parts) =>
        new MeshPort({
          ...parts,
          radio,
          channel: CHANNEL,
          airtimePercent: 100 * ownShare,
          handed: (id, written) => {
            written.id = id;
            this.#handed.renew(`${radio.number} ${id}`, written);
          },
        }),
      time: this.#time,
      airtime: this.airtime,
      versionMax: versionOf?.(life.index),
      seed,
    });
  }

  start(): void {
    for (const { node, fromMs, forMs } of this.#options.cellars ?? []) {
      const { radio } = this.radios[node]!;
      this.#time.after(fromMs, () => {
        radio.isShielded = true;
        this.#time.after(forMs, () => (radio.isShielded = false));
      });
    }
  }

  startTalk(): void {}

  #add(options: RadioOptions): FirmwareRadio {
    const radio = this.ether.radio({ ...options, neighbours: [] });
    return { radio, address: radio.number, airtimeMs: 0, refused: 0 };
  }

  #makeEarshot(random: Random): void {
    const { nodes, hears } = this.#options;
    for (let a = 0; a < nodes; a++)
      for (let b = a + 1; b < nodes; b++) {
        const dB = hears(a, b, random);
        const [one, other] = [this.radios[a], this.radios[b]];
        if (dB !== undefined && one !== undefined && other !== undefined)
          this.ether.join(one.radio, other.radio, dB);
      }
  }

  #onSent(sent: { radio: EmulatedRadio; frame: Uint8Array; startMs: number; endMs: number }): void {
    const { radio, frame, startMs, endMs } = sent;
    const own = this.radios.find((one) => one?.radio === radio);
    const { from = 0, id = 0 } = decodeLoraFrame(frame) ?? {};
    // A stranger may say anything in anybody's name.
    const written = own === undefined ? undefined : this.#handed.get(`${from} ${id}`);
    if (written !== undefined) this.#time.after(endMs - startMs, written.left);
    const shares = written?.shares ?? OF_THE_DEVICE;
    if (own !== undefined && written !== undefined) own.airtimeMs += endMs - startMs;
    const { kind } = shares.reduce((most, share) => (share.part > most.part ? share : most));
    this.frames.push({ kind, bytes: frame.length });
    this.#time.note(`${this.#time.nowMs} air ${from} ${frame.length} ${formatHex(frame.subarray(0, 16))}`);
    this.airtime.onSent({ frame: { from: radio.number, shares }, startMs, endMs }, this.#reach(radio));
  }

  /** Which part of the nodes a sender keeps from talking, himself among them. */
  #reach(sender: EmulatedRadio): number {
    const radios = this.radios.filter((one) => one !== undefined);
    const reached = radios.filter(
      ({ radio }) => radio === sender || this.ether.medium.strength(sender, radio) !== undefined,
    );
    return reached.length / radios.length;
  }
}
