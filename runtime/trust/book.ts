/**
 * What is remembered of nodes across restarts: how far they are trusted and by whose word, what they were worth, and
 * where they were met. The endpoints let a restarted node call its old neighbours at once, even those that always called
 * it. Bounded, with shares by source address (kernel/room.ts). docs/trust.md.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../kernel/ids.ts";
import {
  hasFields,
  isAbsentOr,
  isListOf,
  isNullOr,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "../kernel/json.ts";
import type { Log } from "@godwit/sdk";
import { Room, type Share, type Worth, type Regard, shareAtStart } from "../kernel/room.ts";
import { loadSound } from "../store/sound.ts";
import type { Store } from "../store/types.ts";
import type { NodeTime } from "../time/node-time.ts";
import { addHistory, noHistory, type PeerHistory, type TrustStanding } from "./history.ts";

/** docs/architecture.md "Trust". */
export type TrustLevel = "unknown" | "member" | "trusted" | "blocked";

export const BOOK_MAX = 4_096;
const ENDPOINTS_MAX = 8;
/** Linked for so long in all, a node that was met gives way to others later, ms. */
const OF_USE_LINKED_MS = 600_000;

export interface TrustGrant {
  readonly level: TrustLevel;
  readonly reason: string;
  readonly by: "operator" | "manager";
  /** Until this long from now: trust by the earlier, a block by the later of wall clock and running time; undefined: for good. */
  readonly forMs?: number;
}

/** How far a node is trusted now, and why. */
export interface TrustView extends TrustStanding {
  readonly reason: string | undefined;
  /** Wall clock, ms since 1970. */
  readonly untilMs: number | undefined;
}

/** What a node is since the configuration is another one. */
export interface LevelChange {
  readonly id: NodeId;
  readonly before: TrustLevel;
  readonly level: TrustLevel;
}

export interface Ruled {
  readonly level: TrustLevel;
  readonly reason: string;
  /** The rule is about a name that the configuration, the authority or the operator gave to this node. */
  readonly isVouched: boolean;
}

interface BookEntry {
  readonly trust: TrustLevel | null;
  readonly trustReason: string | null;
  /** Null with a trust of its own: written by a release that knew only the operator. */
  readonly trustBy: "operator" | "manager" | null;
  /** Wall clock. */
  readonly trustUntilMs: number | null;
  /** Running time; null in rows of a release that counted none, which the wall clock alone ends. */
  readonly trustUntilRunMs: number | null;
  readonly endpoints: readonly string[];
  /** Wall clock, ms since 1970; 0 when never met. */
  readonly lastSeenMs: number;
  /** Its last link led over loopback. */
  readonly isLocal: boolean;
  readonly history: PeerHistory;
}

const blank: BookEntry = {
  trust: null,
  trustReason: null,
  trustBy: null,
  trustUntilMs: null,
  trustUntilRunMs: null,
  endpoints: [],
  lastSeenMs: 0,
  isLocal: false,
  history: noHistory,
};

/** Each field since another release. */
const isBookEntry = hasFields({
  trust: isAbsentOr(isNullOr(isOneOf("unknown", "member", "trusted", "blocked"))),
  trustReason: isAbsentOr(isNullOr(isText(4_096))),
  trustBy: isAbsentOr(isNullOr(isOneOf("operator", "manager"))),
  trustUntilMs: isAbsentOr(isNullOr(isTime)),
  endpoints: isAbsentOr(isListOf(isText(4_096), ENDPOINTS_MAX)),
  lastSeenMs: isAbsentOr(isTime),
  history: isAbsentOr(
    hasFields(Object.fromEntries(Object.keys(noHistory).map((name) => [name, isAbsentOr(isTime)]))),
  ),
});

export interface BookDeps {
  readonly store: Store;
  /** Wins over whatever was set at run time. */
  readonly configured: ReadonlyMap<NodeId, TrustLevel>;
  readonly time: NodeTime;
  readonly log: Log;
  readonly regard: Regard;
  /** Fewer places than BOOK_MAX, for tests. */
  readonly bookMax?: number;
}

export class PeerBook {
  readonly #deps: BookDeps;
  #configured: ReadonlyMap<NodeId, TrustLevel>;
  readonly #entries = new Map<NodeId, BookEntry>();
  /** What the operator's rules say of nodes that are linked now. */
  readonly #room: Room<NodeId>;
  readonly #ruled = new BoundedMap<NodeId, Ruled>({
    name: "nodes that rules speak of",
    max: BOOK_MAX,
  });

  constructor(deps: BookDeps) {
    this.#deps = deps;
    this.#configured = deps.configured;
    this.#room = new Room({
      name: "peers met",
      max: deps.bookMax ?? BOOK_MAX,
      worthOf: (id) => this.#worthOf(id),
      evict: (id) => this.#evict(id),
    });
  }

  async load(): Promise<void> {
    await loadSound(this.#deps.store, "peer", ({ key, meta }) => {
      const entry = parseMeta<Partial<BookEntry>>(meta, isBookEntry);
      if (entry === undefined) return undefined;
      const history = { ...noHistory, ...entry.history };
      const id = key as NodeId;
      this.#entries.set(id, { ...blank, ...entry, history });
      if (!this.#room.admit(id, shareAtStart(this.#deps.regard, id))) this.#entries.delete(id);
      return entry;
    });
  }

  /** The operator's word anew; answers whose level it changed. What follows from that is the caller's. */
  configure(configured: ReadonlyMap<NodeId, TrustLevel>): LevelChange[] {
    const ids = [...new Set([...this.#configured.keys(), ...configured.keys()])];
    const old = ids.map((id) => ({ id, before: this.trustOf(id) }));
    this.#configured = configured;
    return old
      .map(({ id, before }) => ({ id, before, level: this.trustOf(id) }))
      .filter(({ before, level }) => level !== before);
  }

  /** `member` for whoever completed a handshake and was given nothing else. */
  trustOf(id: NodeId): TrustLevel {
    return this.standing(id).level;
  }

  /** Configuration, then what was decided about this node, then the rules; then how it was met. */
  standing(id: NodeId): TrustView {
    const entry = this.#entries.get(id) ?? blank;
    const { history, trustReason, trustBy, trustUntilMs } = entry;
    const none = { reason: undefined, untilMs: undefined, history };
    const configured = this.#configured.get(id);
    if (configured !== undefined) return { ...none, level: configured, by: "configuration" };
    const trust = this.#inForce(entry);
    const ruled = this.#ruled.get(id);
    // A rule stands above the manager's own judgement, and below the operator's word about the one node.
    if (ruled !== undefined && (trust === null || trustBy === "manager"))
      return { ...none, level: ruled.level, by: "rule", reason: ruled.reason };
    if (trust !== null) {
      const end =
        trustUntilMs === null ? undefined : { wallMs: trustUntilMs, runMs: entry.trustUntilRunMs ?? 0 };
      const untilMs =
        end !== undefined && trust === "blocked" ? this.#deps.time.promiseEndsAtMs(end) : end?.wallMs;
      return { level: trust, by: trustBy ?? "operator", reason: trustReason ?? undefined, untilMs, history };
    }
    return { ...none, level: entry.lastSeenMs > 0 ? "member" : "unknown", by: "default" };
  }

  /** By the configuration or by what the operator decided about this one node: no rule, and not by being there for long. */
  isTrustedByOperator(id: NodeId): boolean {
    const configured = this.#configured.get(id);
    if (configured !== undefined) return configured === "trusted";
    const entry = this.#entries.get(id);
    return entry !== undefined && entry.trustBy !== "manager" && this.#inForce(entry) === "trusted";
  }

  /**
   * Whether it is trusted by somebody who may give rights: the configuration, the operator, or a rule about a name that one of
   * them or the authority gave it. The peer manager and rules about addresses choose links, and let nobody in anywhere.
   */
  hasRights(id: NodeId): boolean {
    const { level, by } = this.standing(id);
    if (level !== "trusted") return false;
    return by === "rule" ? this.#ruled.get(id)?.isVouched === true : by !== "manager";
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
  setTrust(id: NodeId, { level, reason, by, forMs }: TrustGrant): Promise<void> {
    const end = forMs === undefined ? undefined : this.#deps.time.end(forMs);
    const until = { trustUntilMs: end?.wallMs ?? null, trustUntilRunMs: end?.runMs ?? null };
    const decided = { trust: level, trustReason: reason, trustBy: by, ...until };
    return this.#put(id, { ...(this.#entries.get(id) ?? blank), ...decided }, this.#deps.regard.shareOf(id));
  }

  /** What the rules say of a linked node; undefined when none matches, or when it went. */
  setRuled(id: NodeId, ruled: Ruled | undefined): void {
    // Linked nodes are ruled on again with each review, so that those that were longest away go first.
    if (ruled === undefined) this.#ruled.delete(id);
    else this.#ruled.renew(id, ruled);
  }

  /** The rules are other ones: whom the old ones spoke of is ruled on anew by the caller. */
  forgetRuled(): void {
    this.#ruled.clear();
  }

  /** Its last link led over loopback: its own loopback addresses mean something here. */
  isOnThisMachine(id: NodeId): boolean {
    return this.#entries.get(id)?.isLocal === true;
  }

  /**
   * Met at a link's start or end. `isLocal`: over loopback; undefined: as it was. Loss of this note costs a slower meeting, so nobody waits
   * for it.
   */
  noteSeen(id: NodeId, endpoints: readonly string[] | undefined, wallMs: number, isLocal?: boolean): void {
    const old = this.#entries.get(id) ?? blank;
    const entry = {
      ...old,
      endpoints: (endpoints ?? old.endpoints).slice(0, ENDPOINTS_MAX),
      lastSeenMs: wallMs,
      isLocal: isLocal ?? old.isLocal,
    };
    this.#put(id, entry, this.#deps.regard.shareOf(id)).catch(() => {});
  }

  /** Adds to what a node that was met was worth. Kept with the entry's next note; a crash forgets little. */
  addHistory(id: NodeId, more: Partial<PeerHistory>): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) this.#entries.set(id, { ...entry, history: addHistory(entry.history, more) });
  }

  /** Null when nothing was decided, or its time is over. */
  #inForce({ trust, trustUntilMs, trustUntilRunMs }: BookEntry): TrustLevel | null {
    if (trustUntilMs === null) return trust;
    const { time } = this.#deps;
    const isOver =
      trust === "blocked"
        ? time.isPromiseOver({ wallMs: trustUntilMs, runMs: trustUntilRunMs ?? 0 })
        : time.isGrantOver({ wallMs: trustUntilMs, runMs: trustUntilRunMs ?? Number.POSITIVE_INFINITY });
    return isOver ? null : trust;
  }

  #put(id: NodeId, entry: BookEntry, share: Share): Promise<void> {
    const known = this.#entries.get(id);
    this.#entries.set(id, entry);
    this.#room.renew(id);
    if (!this.#room.admit(id, share)) {
      // Whatever is there is kept: of this one nothing is remembered, but what an operator says stands until the next start.
      if (known === undefined && entry.trust === null) this.#entries.delete(id);
      if (entry.trust === null) return Promise.resolve();
    }
    return this.#deps.store.commit([{ op: "put", in: "peer", key: id, meta: JSON.stringify(entry) }]);
  }

  /** What an operator decided stays; whoever was linked for long was of use. */
  #worthOf(id: NodeId): Worth {
    const entry = this.#entries.get(id);
    const isDecided = entry !== undefined && this.#inForce(entry) !== null && entry.trustBy !== "manager";
    if (isDecided || this.#configured.has(id)) return "kept";
    const worth = this.#deps.regard.worthOf(id);
    if (worth !== "none" || entry === undefined) return worth;
    // Nor does a flood set free whom the manager blocked, before it has pushed out everything else.
    const isOfUse = entry.history.linkedMs >= OF_USE_LINKED_MS || this.#inForce(entry) === "blocked";
    return isOfUse ? "used" : "none";
  }

  #evict(id: NodeId): void {
    this.#entries.delete(id);
    this.#deps.store.commit([{ op: "delete", in: "peer", key: id }]).catch(() => {});
  }
}
