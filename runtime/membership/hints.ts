/**
 * Where the facts from discovery meet. Merges the hints of all sources by endpoint, forgets what is void, and tells
 * the dialer what to reach. Hints never prove anything. Bounded per source, and in each by the address that they name, because a
 * source repeats what strangers say.
 */
import type { Clock, Hint, Timer } from "@godwit/sdk";
import { parseNodeId, type NodeId } from "../kernel/ids.ts";
import type { Naming } from "../kernel/named-places.ts";
import { Room, type Share } from "../kernel/room.ts";
import { sourceOf } from "../kernel/source.ts";

export const HINTS_PER_SOURCE_MAX = 4_096;
/** No transport has longer addresses, and a node record takes no longer one. */
export const ENDPOINT_CHARS_MAX = 200;
/** As for transports. */
const DIAL_TIMEOUT_MIN_MS = 1_000;
export const HINT_LIFETIME_MAX_MS = 24 * 3_600_000;

/** Whose word a hint is: the operator's, who is not judged, or whom the dial judges it by. */
export type HintOrigin = "operator" | Naming["by"];

/** What one source says. */
interface Source {
  readonly hints: Map<string, HeldHint>;
  readonly room: Room<string>;
}

interface HeldHint {
  readonly hint: Hint;
  readonly origin: HintOrigin;
  readonly nodeId: NodeId | undefined;
  readonly atMs: number;
  readonly expiry: Timer | undefined;
}

export interface HintsDeps {
  /** For a reason of this node's own. */
  isKnown(id: NodeId): boolean;
  /** The dialer has a link there. */
  isLinked(endpoint: string): boolean;
  /** An endpoint is wanted, or was heard of again, by the word of `share`. */
  wanted(
    endpoint: string,
    nodeId: NodeId | undefined,
    isPermanent: boolean,
    share: Share,
    dialTimeoutMs: number | undefined,
  ): void;
  /** Whoever wanted it for ever does no longer; others speak for it still. */
  weakened?(endpoint: string): void;
  /** No source speaks for the endpoint any more. */
  unwanted(endpoint: string): void;
  /** A source spoke of an endpoint for the first time. */
  heard(source: string, endpoint: string, nodeId: NodeId | undefined): void;
}

export class Hints {
  readonly #clock: Clock;
  readonly #deps: HintsDeps;
  readonly #sources = new Map<string, Source>();

  constructor(clock: Clock, deps: HintsDeps) {
    this.#clock = clock;
    this.#deps = deps;
  }

  /**
   * False when the source holds its bound of hints and none gives way, or the endpoint is too long. Throws GODWIT_ID_INVALID for a
   * malformed node id.
   */
  add(source: string, hint: Hint, origin: HintOrigin): boolean {
    const { hints, room } = this.#sources.get(source) ?? this.#newSource(source);
    const nodeId = hint.nodeId === undefined ? undefined : parseNodeId(hint.nodeId);
    const old = hints.get(hint.endpoint);
    if (hint.endpoint.length > ENDPOINT_CHARS_MAX) return false;
    if (!room.admit(hint.endpoint, this.#shareOf(sourceOf(hint.endpoint), nodeId, origin))) return false;
    room.renew(hint.endpoint);
    old?.expiry?.cancel();
    const lifetimeMs = hint.lifetimeMs;
    const expiry =
      lifetimeMs === undefined
        ? undefined
        : this.#clock.after(Math.min(Math.max(lifetimeMs, 0), HINT_LIFETIME_MAX_MS), () =>
            this.withdraw(source, hint.endpoint),
          );
    hints.set(hint.endpoint, { hint, origin, nodeId, atMs: this.#clock.monotonicMs(), expiry });
    if (old?.hint.permanent === true) this.#tellWeakened(hint.endpoint);
    this.#tellWanted(hint.endpoint, nodeId);
    if (old === undefined) this.#deps.heard(source, hint.endpoint, nodeId);
    return true;
  }

  /** What the source wants for ever of that node. */
  pinnedBy(source: string, id: NodeId): string[] {
    const held = [...(this.#sources.get(source)?.hints ?? [])];
    return held.flatMap(([endpoint, { nodeId, hint }]) =>
      nodeId === id && hint.permanent === true ? endpoint : [],
    );
  }

  withdraw(source: string, endpoint: string): void {
    const said = this.#sources.get(source);
    const held = said?.hints.get(endpoint);
    if (said === undefined || held === undefined) return;
    held.expiry?.cancel();
    said.hints.delete(endpoint);
    said.room.leave(endpoint);
    const left = this.#newest(endpoint);
    if (left === undefined) return this.#deps.unwanted(endpoint);
    if (this.#isPermanent(endpoint)) return;
    if (held.hint.permanent === true) {
      this.#tellWeakened(endpoint);
      return this.#tellWanted(endpoint, held.nodeId);
    }
    // The word of a source that fell silent must not pin the endpoint to a node that the others do not name.
    if (held.nodeId !== undefined && left.nodeId !== held.nodeId) this.#tellWanted(endpoint, left.nodeId);
  }

  /** Everything a source ever said is void: its plugin stopped. */
  withdrawAll(source: string): void {
    for (const endpoint of [...(this.#sources.get(source)?.hints.keys() ?? [])])
      this.withdraw(source, endpoint);
    this.#sources.delete(source);
  }

  /** Who names an endpoint now; undefined: the operator does, among others or alone. */
  namings(endpoint: string): readonly Naming[] | undefined {
    const namings: Naming[] = [];
    for (const { hints } of this.#sources.values()) {
      const held = hints.get(endpoint);
      if (held === undefined) continue;
      if (held.origin === "operator") return undefined;
      namings.push({ by: held.origin, nodeId: held.nodeId, interface: held.hint.interface });
    }
    return namings;
  }

  /** Nobody said anything of anybody. */
  get isEmpty(): boolean {
    return [...this.#sources.values()].every(({ hints }) => hints.size === 0);
  }

  /** The plugin that names an endpoint now; undefined where none does, or the operator names it too. */
  discoveryNaming(endpoint: string): string | undefined {
    let found: string | undefined;
    for (const [source, { hints }] of this.#sources) {
      const origin = hints.get(endpoint)?.origin;
      if (origin === "operator") return undefined;
      if (origin === "plugin") found ??= source;
    }
    return found;
  }

  /** Every live hint with its source and age. */
  get list(): {
    source: string;
    endpoint: string;
    nodeId: NodeId | undefined;
    isPermanent: boolean;
    ageMs: number;
    /** Undefined: until it is withdrawn. */
    expiresInMs: number | undefined;
  }[] {
    const nowMs = this.#clock.monotonicMs();
    return [...this.#sources].flatMap(([source, { hints }]) =>
      [...hints.values()].map(({ hint, nodeId, atMs }) => ({
        source,
        endpoint: hint.endpoint,
        nodeId,
        isPermanent: hint.permanent === true,
        ageMs: nowMs - atMs,
        expiresInMs:
          hint.lifetimeMs === undefined
            ? undefined
            : Math.max(0, atMs + Math.min(hint.lifetimeMs, HINT_LIFETIME_MAX_MS) - nowMs),
      })),
    );
  }

  /** What an operator wrote down stands: a memory of who was once met there must not pin the endpoint to that node. */
  #tellWeakened(endpoint: string): void {
    if (!this.#isPermanent(endpoint)) this.#deps.weakened?.(endpoint);
  }

  #tellWanted(endpoint: string, nodeId: NodeId | undefined): void {
    const said = [...this.#sources].flatMap(([source, { hints }]) => {
      const held = hints.get(endpoint);
      return held === undefined ? [] : [{ source, held }];
    });
    const shares = said.map(({ source, held }) => this.#shareOf(source, held.nodeId, held.origin));
    const share = shares.find(({ isKnown }) => isKnown) ?? shares[0]!;
    const permanent = said.filter(({ held }) => held.hint.permanent === true);
    // Whoever has no patience of his own leaves it to the transport, and the most patient counts.
    const patience = said.map(({ held }) => held.hint.dialTimeoutMs ?? Number.POSITIVE_INFINITY);
    const longestMs = Math.max(...patience);
    const dialTimeoutMs = Number.isFinite(longestMs) ? Math.max(longestMs, DIAL_TIMEOUT_MIN_MS) : undefined;
    if (permanent.length === 0) return this.#deps.wanted(endpoint, nodeId, false, share, dialTimeoutMs);
    const isOpen = permanent.some(({ held }) => held.nodeId === undefined);
    const pinned = isOpen ? undefined : permanent[0]?.held.nodeId;
    this.#deps.wanted(endpoint, pinned, true, share, dialTimeoutMs);
  }

  #newSource(name: string): Source {
    const source: Source = {
      hints: new Map(),
      room: new Room({
        name: "hints",
        max: HINTS_PER_SOURCE_MAX,
        strangersMax: HINTS_PER_SOURCE_MAX,
        worthOf: (endpoint) => {
          const held = source.hints.get(endpoint);
          if (held?.hint.permanent === true || held?.origin === "operator") return "kept";
          return this.#deps.isLinked(endpoint) ? "used" : "none";
        },
        evict: (endpoint) => this.withdraw(name, endpoint),
      }),
    };
    this.#sources.set(name, source);
    return source;
  }

  /**
   * What the operator wrote, and what this node has from the record of whom it knows, has a share of its own; a plugin repeats what anybody
   * announced, whomever that names. `by`: what all others have in common.
   */
  #shareOf(by: string, nodeId: NodeId | undefined, origin: HintOrigin): Share {
    if (origin === "operator") return { by: "operator", isKnown: true };
    if (origin === "member" && nodeId !== undefined && this.#deps.isKnown(nodeId))
      return { by: nodeId, isKnown: true };
    return { by, isKnown: false };
  }

  #newest(endpoint: string): HeldHint | undefined {
    let newest: HeldHint | undefined;
    for (const { hints } of this.#sources.values()) {
      const held = hints.get(endpoint);
      if (held !== undefined && (newest === undefined || held.atMs >= newest.atMs)) newest = held;
    }
    return newest;
  }

  #isPermanent(endpoint: string): boolean {
    return [...this.#sources.values()].some(({ hints }) => hints.get(endpoint)?.hint.permanent === true);
  }
}
