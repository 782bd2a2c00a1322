/**
 * Places for those who have proven nothing yet, shared by where they come from. Whoever comes gets in: where all places are taken,
 * or those of its source, one yields, and it is of the source that has most. So a crowd of one address costs that address its own
 * places, and many silent ones of many addresses are gone as fast as others come. Where nobody shows a source that would help nobody:
 * a crowd that comes fast enough would push out each who needs time. There the one that came keeps its place for a while, whoever
 * comes, and who finds none comes again. Owns no socket and no timer.
 */
import { descriptorOf, judgeDescriptor } from "./descriptors.ts";

export {
  claimDescriptor,
  type ConnectFor,
  descriptorLimit,
  descriptorMarks,
  descriptorOf,
  GUARANTEED_CONNECTIONS,
  judgeDescriptor,
  onDescriptorShortage,
} from "./descriptors.ts";

export interface PlacesOptions {
  /** Of all sources together. */
  readonly max: number;
  /** Of one source. */
  readonly perSourceMax: number;
  /** How many a listener may hold of the descriptors that are nobody's; by default none. */
  readonly lastMax?: number;
  /** Those without a source do not yield to each other before they have stood for `ms` as they stand. By default they do. */
  readonly grace?: { readonly ms: number; readonly nowMs: () => number };
}

/**
 * What somebody who has a place has shown; who has shown least yields first. `engaged`, which proves nothing but is in use, yields to
 * nobody of its own source, and to another only while its source has more: the newest then. `held` never yields.
 */
export type Standing = "leaving" | "silent" | "busy" | "engaged" | "held";

const YIELDS: readonly Standing[] = ["leaving", "silent", "busy"];

export interface Place {
  /** From another standing than before its turn to yield begins anew. No effect once it is released. */
  stand(standing: Standing): void;
  /** Idempotent. */
  release(): void;
}

interface Entry extends Place {
  readonly onYield: () => void;
  /** When it came to stand as it does, by the clock of `grace`. */
  sinceMs: number;
}

/** The places of one source: in each standing the oldest first. */
class Source {
  readonly #standing: Readonly<Record<Standing, Set<Entry>>> = {
    leaving: new Set(),
    silent: new Set(),
    busy: new Set(),
    engaged: new Set(),
    held: new Set(),
  };
  count = 0;

  of(standing: Standing): Set<Entry> {
    return this.#standing[standing];
  }

  get yielding(): Entry | undefined {
    for (const standing of YIELDS) {
      const [oldest] = this.#standing[standing];
      if (oldest !== undefined) return oldest;
    }
    return undefined;
  }

  /** Those that are held are nobody's business any more. */
  get unproven(): number {
    return this.count - this.#standing.held.size;
  }

  get newestEngaged(): Entry | undefined {
    return [...this.#standing.engaged].at(-1);
  }
}

/** How long a listener takes no more than it had when descriptors ran out, ms. */
const CEILING_MS = 1_000;

export class Places {
  readonly #options: PlacesOptions;
  #ceiling = Number.POSITIVE_INFINITY;
  #ceilingUntilMs = 0;
  readonly #sources = new Map<string, Source>();
  #count = 0;

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  /**
   * `source`: an address as `sourceGroup` gives it; undefined where the medium shows none, and then only the bound of all holds.
   * `onYield` is called, once, when this one has to go; its place is free by then. `mustYield`: another goes even though there is
   * a place, because something else is short. Undefined where nobody yields to it.
   */
  enter(source: string | undefined, onYield: () => void, mustYield = false): Place | undefined {
    const key = source ?? "";
    const { max, perSourceMax } = this.#options;
    const own = this.#sources.get(key);
    if (source !== undefined && own !== undefined && own.count >= perSourceMax) {
      if (!this.#end(own.yielding)) return undefined;
    } else if (this.#count >= max || mustYield) {
      if (!this.#yieldTo(key)) return undefined;
    }
    return this.#take(key, onYield);
  }

  /**
   * As `enter`, for a socket that a listener has just accepted, before anything is made for it: where descriptors run out there are
   * no more places than are taken now, for a second, and near their end one less with each that comes. `onYield` must close its
   * socket within the call. Undefined: close this one.
   */
  accept(socket: object, source: string | undefined, onYield: () => void): Place | undefined {
    const nowMs = performance.now();
    if (nowMs > this.#ceilingUntilMs) this.#ceiling = Number.POSITIVE_INFINITY;
    const verdict = judgeDescriptor(descriptorOf(socket), this.#count, this.#options.lastMax);
    // Two go for one that comes: it may be the one that is waited for.
    const key = source ?? "";
    if (verdict === "fewer" && !this.#yieldTo(key)) return undefined;
    if (verdict !== "keep") {
      // Remembered, because what yields leaves a low number to the next one, which then seems to have room.
      this.#ceiling = Math.min(this.#ceiling, this.#count);
      this.#ceilingUntilMs = nowMs + CEILING_MS;
    }
    return this.enter(source, onYield, this.#count >= this.#ceiling);
  }

  #take(key: string, onYield: () => void): Place {
    let source = this.#sources.get(key);
    if (source === undefined) this.#sources.set(key, (source = new Source()));
    const places = source;
    let current: Set<Entry> | undefined = places.of("silent");
    const nowMs = () => this.#options.grace?.nowMs() ?? 0;
    const entry: Entry = {
      onYield,
      sinceMs: nowMs(),
      stand: (standing) => {
        if (current === undefined || current === places.of(standing)) return;
        current.delete(entry);
        current = places.of(standing);
        current.add(entry);
        entry.sinceMs = nowMs();
      },
      release: () => {
        if (current === undefined) return;
        current.delete(entry);
        current = undefined;
        this.#count--;
        if (--places.count === 0) this.#sources.delete(key);
      },
    };
    current.add(entry);
    places.count++;
    this.#count++;
    return entry;
  }

  /** Somebody of the source that has most; nobody of one that has less than who comes. */
  #yieldTo(key: string): boolean {
    const { grace } = this.#options;
    const own = this.#sources.get(key)?.unproven ?? 0;
    const most = this.#most((one) => one.yielding !== undefined && one.unproven >= own);
    const first = most?.yielding;
    if (grace !== undefined && key === "" && most !== undefined && most === this.#sources.get(key)) {
      const isYoung = grace.nowMs() - first!.sinceMs < grace.ms;
      if (isYoung && !most.of("leaving").has(first!)) return false;
    }
    if (this.#end(first)) return true;
    return this.#end(
      this.#most((one) => one.newestEngaged !== undefined && one.unproven > own + 1)?.newestEngaged,
    );
  }

  /** Of several that have as many, the one that has been here longest. */
  #most(isEligible: (source: Source) => boolean): Source | undefined {
    let most: Source | undefined;
    for (const source of this.#sources.values())
      if ((most === undefined || source.count > most.count) && isEligible(source)) most = source;
    return most;
  }

  #end(entry: Entry | undefined): boolean {
    if (entry === undefined) return false;
    entry.release();
    entry.onYield();
    return true;
  }
}
