/** The channel of one world with everybody on it: the nodes' radios, who hears whom, others' traffic, and an attacker. */
import type { Random } from "@godwit/sdk";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import type { SimTime } from "../time.ts";
import { AirtimeLedger } from "./airtime.ts";
import { Attacker } from "./attacker.ts";
import { Channel } from "./channel.ts";
import { ForeignTraffic } from "./foreign.ts";
import type { Life } from "../node.ts";
import type { HostileStation } from "./hostile.ts";
import { RadioLife } from "./life.ts";
import type { RadioWorldOptions, WorldAir } from "./options.ts";
import { endpointOf, RadioPort } from "./port.ts";
import type { Radio } from "./radio.ts";

const FOREIGN_STATIONS = 3;
/** How well others are heard at most, and the attacker always, dB. */
const FOREIGN_DB = 20;
/** Of whoever keeps to no budget. */
const UNBOUNDED = { queueFramesMax: 64, ownShare: 1, burstMs: 3_600_000, dutyCycle: 1 } as const;

export class Air implements WorldAir {
  readonly channel: Channel;
  readonly airtime: AirtimeLedger;
  readonly radios: readonly (Radio | undefined)[];
  readonly #options: RadioWorldOptions;
  readonly #time: SimTime;
  readonly #foreign: ForeignTraffic;
  readonly #attacker: Attacker | undefined;
  readonly #hostile: readonly { readonly radio: Radio; readonly station: HostileStation }[];

  constructor(options: RadioWorldOptions, time: SimTime, random: Random) {
    this.#options = options;
    this.#time = time;
    const { seed, nodes, lora, overhead, loss, hasRadio = () => true } = options;
    this.channel = new Channel({ time, random: fork(random), lora, overhead, loss });
    this.airtime = new AirtimeLedger(() => time.nowMs);
    this.radios = Array.from({ length: nodes }, (_, node) =>
      hasRadio(node) ? this.#makeRadio(random) : undefined,
    );
    this.#makeEarshot(random);
    this.#foreign = this.#makeForeign(random);
    this.#attacker = this.#makeAttacker(seededRandom(seed * 15_486_071 + 3));
    // Drawn apart: the honest ones are the same with it and without.
    this.#hostile = this.#makeHostile(seededRandom(seed * 15_486_071 + 5));
    this.channel.onSent = (sent) => {
      this.airtime.onSent(sent, this.#reach(sent.radio));
      this.#attacker?.onSent(sent.radio, sent.frame);
      if (this.#hostile.every(({ radio }) => radio !== sent.radio))
        for (const { station } of this.#hostile) station.onSent(sent.frame);
    };
  }

  start(): void {
    if (this.#options.isForeignLate !== true) this.#foreign.start();
    this.#attacker?.start();
    for (const { station } of this.#hostile) station.start();
    for (const { node, fromMs, forMs } of this.#options.cellars ?? []) {
      const radio = this.radios[node]!;
      this.#time.after(fromMs, () => {
        radio.isShielded = true;
        this.#time.after(forMs, () => (radio.isShielded = false));
      });
    }
  }

  endpointOf(node: number): string {
    return endpointOf(this.radios[node]!.address);
  }

  newLife(life: Life, seed: number): RadioLife {
    const { mtu, versionOf } = this.#options;
    const radio = this.radios[life.index]!;
    return new RadioLife({
      life,
      newPort: (parts) => new RadioPort({ ...parts, radio, time: this.#time, mtu }),
      time: this.#time,
      airtime: this.airtime,
      versionMax: versionOf?.(life.index),
      seed,
    });
  }

  startTalk(): void {
    if (this.#options.isForeignLate === true) this.#foreign.start();
  }

  #makeRadio(random: Random): Radio {
    const { queueFramesMax, ownShare, burstMs, dutyCycle, relayHopsMax = 0 } = this.#options;
    const budget = { queueFramesMax, ownShare, burstMs, dutyCycle, relayHopsMax };
    const radio = this.#add(random, budget);
    // Its node is not there yet.
    radio.power(false);
    return radio;
  }

  #add(random: Random, budget: Omit<Parameters<Channel["add"]>[0], "address" | "random">): Radio {
    return this.channel.add({ ...budget, address: random.below(2 ** 32), random: fork(random) });
  }

  /** Which part of the nodes a sender keeps from talking, himself among them. */
  #reach(sender: Radio): number {
    let [all, reached] = [0, 0];
    for (const radio of this.radios) {
      if (radio === undefined) continue;
      all++;
      if (radio === sender || this.channel.strength(sender, radio) !== undefined) reached++;
    }
    return reached / all;
  }

  #makeEarshot(random: Random): void {
    const { nodes, hears } = this.#options;
    for (let a = 0; a < nodes; a++) {
      for (let b = a + 1; b < nodes; b++) {
        const dB = hears(a, b, random);
        const [radioA, radioB] = [this.radios[a], this.radios[b]];
        if (dB !== undefined && radioA !== undefined && radioB !== undefined)
          this.channel.join(radioA, radioB, dB);
      }
    }
  }

  #makeForeign(random: Random): ForeignTraffic {
    const { foreignShare: share } = this.#options;
    const { channel } = this;
    const stations = Array.from({ length: share > 0 ? FOREIGN_STATIONS : 0 }, () =>
      this.#add(random, UNBOUNDED),
    );
    for (const [at, station] of stations.entries()) {
      this.#heardByNodes(station, () => FOREIGN_DB * random.float());
      for (const other of stations.slice(0, at)) channel.join(station, other, FOREIGN_DB);
    }
    return new ForeignTraffic({ channel, stations, share, time: this.#time, random: fork(random) });
  }

  #makeAttacker(random: Random): Attacker | undefined {
    const { attackShare: share = 0 } = this.#options;
    if (share === 0) return undefined;
    const radio = this.#add(random, UNBOUNDED);
    this.#heardByNodes(radio, () => FOREIGN_DB);
    return new Attacker({ channel: this.channel, radio, share, time: this.#time, random });
  }

  #makeHostile(random: Random): { radio: Radio; station: HostileStation }[] {
    return (this.#options.hostile ?? []).map((make) => {
      const radio = this.#add(random, UNBOUNDED);
      this.#heardByNodes(radio, () => FOREIGN_DB);
      return { radio, station: make({ radio, time: this.#time, random: fork(random) }) };
    });
  }

  #heardByNodes(radio: Radio, dB: () => number): void {
    for (const own of this.radios) if (own !== undefined) this.channel.join(radio, own, dB());
  }
}

const fork = (random: Random): Random => seededRandom(random.below(2 ** 32));
