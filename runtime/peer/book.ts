/**
 * What is remembered of nodes across restarts: how far they are trusted, and where they were met. The endpoints let a
 * restarted node call its old neighbours at once, even those that always called it. Bounded: the longest unseen go first.
 */
import type { NodeId } from "../kernel/ids.ts";
import { parseMeta } from "../kernel/json.ts";
import type { Log } from "@godwit/sdk";
import type { Store, StoreOp } from "../store/types.ts";

/** docs/architecture.md "Trust". */
export type TrustLevel = "unknown" | "member" | "trusted" | "blocked";

export const BOOK_MAX = 4_096;
const ENDPOINTS_MAX = 8;

interface BookEntry {
  readonly trust: TrustLevel | null;
  readonly trustReason: string | null;
  readonly endpoints: readonly string[];
  /** Wall clock, ms since 1970; 0 when never met. */
  readonly lastSeenMs: number;
}

const blank: BookEntry = { trust: null, trustReason: null, endpoints: [], lastSeenMs: 0 };

export class PeerBook {
  readonly #store: Store;
  readonly #log: Log;
  readonly #entries = new Map<NodeId, BookEntry>();
  readonly #configured: ReadonlyMap<NodeId, TrustLevel>;

  /** `configured` wins over what was set at run time. */
  constructor(store: Store, configured: ReadonlyMap<NodeId, TrustLevel>, log: Log) {
    this.#store = store;
    this.#configured = configured;
    this.#log = log;
  }

  async load(): Promise<void> {
    for (const row of await this.#store.load("peer")) {
      const entry = parseMeta<Partial<BookEntry>>(row, this.#log, "peer");
      if (entry !== undefined) this.#entries.set(row.key as NodeId, { ...blank, ...entry });
    }
  }

  /** `member` for whoever completed a handshake and was given nothing else. */
  trustOf(id: NodeId): TrustLevel {
    const entry = this.#entries.get(id);
    return (
      this.#configured.get(id) ??
      entry?.trust ??
      (entry !== undefined && entry.lastSeenMs > 0 ? "member" : "unknown")
    );
  }

  isBlocked(id: NodeId): boolean {
    return this.trustOf(id) === "blocked";
  }

  /** Wall clock ms, 0 when never. */
  lastSeenMs(id: NodeId): number {
    return this.#entries.get(id)?.lastSeenMs ?? 0;
  }

  /** Every node with something to remember. */
  get nodes(): { id: NodeId; endpoints: readonly string[]; trust: TrustLevel; lastSeenMs: number }[] {
    const ids = new Set([...this.#entries.keys(), ...this.#configured.keys()]);
    return [...ids].map((id) => {
      const { endpoints, lastSeenMs } = this.#entries.get(id) ?? blank;
      return { id, endpoints, trust: this.trustOf(id), lastSeenMs };
    });
  }

  /** Resolves when durable. */
  setTrust(id: NodeId, trust: TrustLevel, reason: string): Promise<void> {
    return this.#put(id, { ...(this.#entries.get(id) ?? blank), trust, trustReason: reason });
  }

  /** Met at a link's start or end. Loss of this note costs a slower meeting, so nobody waits for it. */
  noteSeen(id: NodeId, endpoints: readonly string[] | undefined, wallMs: number): void {
    const old = this.#entries.get(id) ?? blank;
    const entry = {
      ...old,
      endpoints: (endpoints ?? old.endpoints).slice(0, ENDPOINTS_MAX),
      lastSeenMs: wallMs,
    };
    this.#put(id, entry).catch(() => {});
  }

  #put(id: NodeId, entry: BookEntry): Promise<void> {
    this.#entries.set(id, entry);
    const ops: StoreOp[] = [{ op: "put", in: "peer", key: id, meta: JSON.stringify(entry) }];
    if (this.#entries.size > BOOK_MAX) {
      const victim = this.#longestUnseen(id);
      if (victim !== undefined) {
        this.#entries.delete(victim);
        ops.push({ op: "delete", in: "peer", key: victim });
      }
    }
    return this.#store.commit(ops);
  }

  /** Never one that an operator decided about. */
  #longestUnseen(except: NodeId): NodeId | undefined {
    let victim: NodeId | undefined;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const [id, entry] of this.#entries) {
      if (id === except || entry.trust !== null || entry.lastSeenMs >= oldestMs) continue;
      victim = id;
      oldestMs = entry.lastSeenMs;
    }
    return victim;
  }
}
