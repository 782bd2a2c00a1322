/** How much each source of datagrams may cost: buckets that fill by time, by the address or the /64 that it comes from. */
import { type Clock, TokenBucket } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";

/** Sources that are remembered; a forgotten one begins with a full bucket, which the bucket of all makes up for. */
export const SOURCES_MAX = 4_096;

export interface AllowanceOptions {
  readonly clock: Clock;
  /** At once. */
  readonly burst: number;
  /** After that, each second. */
  readonly perSecond: number;
}

export class Allowance {
  readonly #options: AllowanceOptions;
  readonly #buckets = new BoundedMap<string, TokenBucket>({ name: "sources of datagrams", max: SOURCES_MAX });

  constructor(options: AllowanceOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Whether `source` may once more. */
  spend(source: string): boolean {
    const { clock, burst, perSecond } = this.#options;
    const bucket = this.#buckets.get(source) ?? new TokenBucket(clock, perSecond, burst);
    this.#buckets.renew(source, bucket);
    return bucket.take();
  }
}
