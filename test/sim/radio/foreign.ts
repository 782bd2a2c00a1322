/** Traffic of others on the channel: stations that no node listens to, as many frames of mixed length as make a given share of it. */
import type { Random } from "@godwit/sdk";
import type { SimTime } from "../time.ts";
import type { Channel } from "./channel.ts";
import type { Radio } from "./radio.ts";

/** Of a datagram, bytes. */
const FOREIGN_BYTES = [10, 200] as const;
const SHARES = [{ kind: "foreign", part: 1 }] as const;

export interface ForeignOptions {
  readonly channel: Channel;
  readonly stations: readonly Radio[];
  /** Of the channel, 0 to 1, as it is offered; what collides is among it. */
  readonly share: number;
  readonly time: SimTime;
  readonly random: Random;
}

export class ForeignTraffic {
  readonly #options: ForeignOptions;

  constructor(options: ForeignOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#options.share > 0) this.#next(0);
  }

  /** A pause after each frame in which the share comes out, whatever the frame was. */
  #next(lastMs: number): void {
    const { channel, stations, share, time, random } = this.#options;
    const meanMs = channel.airtimeOf((FOREIGN_BYTES[0] + FOREIGN_BYTES[1]) / 2, "one") / share;
    const pauseMs = lastMs === 0 ? random.float() * meanMs : -Math.log(1 - random.float()) * (lastMs / share);
    time.after(pauseMs, () => {
      const bytes = FOREIGN_BYTES[0] + random.below(FOREIGN_BYTES[1] - FOREIGN_BYTES[0]);
      const station = stations[random.below(stations.length)]!;
      // To itself: to nobody who listens.
      station.offer(station.address, random.bytes(bytes), SHARES, () => {});
      this.#next(channel.airtimeOf(bytes, "one"));
    });
  }
}
