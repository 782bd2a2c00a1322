/** What a radio knows of its airtime, in the firmware's own buckets: six of ten seconds for the channel, sixty of a minute for itself. */
import type { MediumTime } from "../sim/radio/medium.ts";

const HOUR_MS = 3_600_000;

export class AirtimeLog {
  readonly #time: MediumTime;
  readonly #channel: Buckets;
  readonly #own: Buckets;
  /** Since it booted, ms. */
  ownMs = 0;

  constructor(time: MediumTime) {
    this.#time = time;
    this.#channel = new Buckets(6, 10_000, time.nowMs);
    this.#own = new Buckets(60, 60_000, time.nowMs);
  }

  /** Own or heard; `isOwn`: it was sent here. */
  note(ms: number, isOwn: boolean): void {
    const { nowMs } = this.#time;
    this.#channel.add(nowMs, ms);
    if (!isOwn) return;
    this.#own.add(nowMs, ms);
    this.ownMs += ms;
  }

  /** `channel_utilization`: of the last minute, percent. */
  get channelPercent(): number {
    return (100 * this.#channel.sumAt(this.#time.nowMs)) / 60_000;
  }

  /** `air_util_tx`: its own of the last hour, percent. */
  get ownPercent(): number {
    return (100 * this.#own.sumAt(this.#time.nowMs)) / HOUR_MS;
  }

  /** Until so much of an hour (0 to 1) is its own again at most, whole minutes. */
  silentMinutes(dutyCycle: number): number {
    const counts = this.#own.oldestFirst(this.#time.nowMs);
    let ms = counts.reduce((sum, count) => sum + count, 0);
    const at = counts.findIndex((count) => (ms -= count) / HOUR_MS < dutyCycle);
    return at < 0 ? counts.length : at + 1;
  }
}

class Buckets {
  readonly #counts: number[];
  readonly #spanMs: number;
  #at: number;

  constructor(count: number, spanMs: number, nowMs: number) {
    this.#counts = Array.from({ length: count }, () => 0);
    this.#spanMs = spanMs;
    this.#at = Math.floor(nowMs / spanMs);
  }

  add(nowMs: number, ms: number): void {
    this.#turn(nowMs);
    this.#counts[this.#at % this.#counts.length]! += ms;
  }

  sumAt(nowMs: number): number {
    this.#turn(nowMs);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  oldestFirst(nowMs: number): number[] {
    this.#turn(nowMs);
    const { length } = this.#counts;
    return this.#counts.map((_, back) => this.#counts[(this.#at + 1 + back) % length]!);
  }

  #turn(nowMs: number): void {
    const at = Math.floor(nowMs / this.#spanMs);
    const passed = Math.min(at - this.#at, this.#counts.length);
    for (let i = 0; i < passed; i++) this.#counts[(at - i) % this.#counts.length] = 0;
    this.#at = at;
  }
}
