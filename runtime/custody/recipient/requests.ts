/** How often signed receipts are given to who asks for them: sixteen cost as many looks at the store, and a signature. Whoever is not answered asks again. */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock } from "@godwit/sdk";
import { TokenBucket } from "../../kernel/backoff.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { bucketOf } from "./session-refusals.ts";

/** Requests of all senders, and of one; each names 16 messages at most. */
export const REQUESTS = { perSecond: 20, burst: 200 } as const;
export const REQUESTS_OF_SENDER = { perSecond: 1, burst: 16 } as const;
const SENDERS_MAX = 1_024;

export class Requests {
  readonly #clock: Clock;
  readonly #all: TokenBucket;
  readonly #senders = new BoundedMap<string, TokenBucket>({
    name: "senders that ask for signed receipts",
    max: SENDERS_MAX,
  });

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#all = new TokenBucket(clock, REQUESTS.perSecond, REQUESTS.burst);
  }

  take(sender: NodeId): boolean {
    return bucketOf(this.#senders, sender, this.#clock, REQUESTS_OF_SENDER).take() && this.#all.take();
  }
}
