/**
 * How often "I do not know this session" is said: it costs a signature, and whoever asks for it need not be who it seems. Owns no session. Where one
 * is kept back the source seals anew by itself in the end, so that a flood delays mail and loses none.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock } from "@godwit/sdk";
import { TokenBucket } from "../../kernel/backoff.ts";
import type { NodeId } from "../../kernel/ids.ts";

/** Of one session: its source may have lost what it was told before it wrote that down. Each pause is twice the one before. */
export const AGAIN_FIRST_MS = 30_000;
export const AGAIN_MS = 600_000;
const SAID_MAX = 4_096;
/** Of all sessions, of those that one neighbour brought, and of one source that it brought: who the source is nobody has proven. */
const ALL = { perSecond: 20, burst: 200 } as const;
const OF_NEIGHBOUR = { perSecond: 5, burst: 100 } as const;
const OF_SOURCE = { perSecond: 1, burst: 16 } as const;
const BUCKETS_MAX = 1_024;

export class SessionRefusals {
  readonly #clock: Clock;
  readonly #said = new BoundedMap<string, { readonly atMs: number; readonly pauseMs: number }>({
    name: "sessions refused",
    max: SAID_MAX,
  });
  readonly #all: TokenBucket;
  readonly #sources = new BoundedMap<string, TokenBucket>({
    name: "sources of refused sessions",
    max: BUCKETS_MAX,
  });
  readonly #neighbours = new BoundedMap<string, TokenBucket>({
    name: "neighbours with refused sessions",
    max: BUCKETS_MAX,
  });

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#all = new TokenBucket(clock, ALL.perSecond, ALL.burst);
  }

  /** Whether `source` may be told now. `session`: its id in hex; `from`: who brought mail of it, undefined for what was here at the start. */
  take(source: NodeId, session: string, from: NodeId | undefined): boolean {
    const name = `${source} ${session}`;
    const nowMs = this.#clock.monotonicMs();
    const { atMs, pauseMs } = this.#said.get(name) ?? { atMs: -Infinity, pauseMs: AGAIN_FIRST_MS / 2 };
    if (from === undefined || nowMs - atMs < pauseMs) return false;
    const isFree =
      bucketOf(this.#neighbours, from, this.#clock, OF_NEIGHBOUR).take() &&
      bucketOf(this.#sources, `${from} ${source}`, this.#clock, OF_SOURCE).take() &&
      this.#all.take();
    if (isFree) this.#said.renew(name, { atMs: nowMs, pauseMs: Math.min(AGAIN_MS, 2 * pauseMs) });
    return isFree;
  }
}

/** Its own bucket, full at first; those used longest ago yield. */
export function bucketOf(
  buckets: BoundedMap<string, TokenBucket>,
  of: string,
  clock: Clock,
  { perSecond, burst }: { readonly perSecond: number; readonly burst: number },
): TokenBucket {
  const bucket = buckets.get(of) ?? new TokenBucket(clock, perSecond, burst);
  buckets.renew(of, bucket);
  return bucket;
}
