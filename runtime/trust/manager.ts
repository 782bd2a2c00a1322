/**
 * Watches the nodes that were met: applies the operator's rules, keeps what each was worth, promotes the good, demotes
 * and blocks liars, and calls members of its own accord so that the node has enough links of enough kinds. Owns those
 * wishes; the dialer owns the dialling, the book what is remembered. Never overrules an operator. docs/trust.md.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock, Hint, Log, Random, Timer } from "@godwit/sdk";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { PeerBook, TrustGrant } from "./book.ts";
import { type Onion, Onions } from "./onions.ts";
import { planTrust, type PeerHistory } from "./history.ts";
import { planLinks, type LinkedPeer, type Member } from "./plan-links.ts";
import type { Peer } from "../peer/peer.ts";
import type { TrustRules } from "./rules.ts";

/** Names of these sources of hints: links of the node's own accord, and onions that were promoted. */
export const MANAGER_SOURCE = "peers";
export const ONIONS_SOURCE = "onions";
/** Trust is looked at this often where nothing else is said, and after each report. */
const REVIEW_MS = 60_000;
/** Links are looked at this often, and soon after one came or went. */
const LINKS_MS = 10_000;
const LINKS_SOON_MS = 1_000;
/** A start-up's own dials come first. */
const LINKS_FIRST_MS = 2_000;
/** A member without a link after this is left alone, the longer the more often. */
const TRY_MS = 30_000;
const REST_FIRST_MS = 10 * 60_000;
const REST_CAP_MS = 6 * 3_600_000;
const RESTING_MAX = 4_096;

export type PeerReport = "delivered" | "lost" | "lied";

const historyOf: Readonly<Record<PeerReport, Partial<PeerHistory>>> = {
  delivered: { deliveries: 1 },
  lost: { losses: 1 },
  lied: { lies: 1 },
};

/** What a reload may change. */
export interface PeerManagerSettings {
  readonly rules: TrustRules;
  /** Links that the node seeks of its own accord; 0: none. */
  readonly linksWanted: number;
  /** Undefined: nobody is promoted. */
  readonly promoteAfterMs: number | undefined;
  /** The same for nodes behind an onion address that a discovery named. */
  readonly promoteOnionsAfterMs?: number | undefined;
  /** Between two looks at trust; default 60,000. */
  readonly reviewMs?: number | undefined;
}

export interface PeerManagerDeps extends PeerManagerSettings {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly book: PeerBook;
  connected(): Iterable<Peer>;
  /** Live members with their endpoints, for links of its own accord. */
  members(): Iterable<Member>;
  /** The name that the node holds here. */
  callsignOf(id: NodeId): string | undefined;
  /** By the configuration, the authority or the operator's decision. */
  isVouched(id: NodeId): boolean;
  setTrust(id: NodeId, grant: TrustGrant): Promise<void>;
  hint(hint: Hint): void;
  withdraw(endpoint: string): void;
  disconnect(id: NodeId): void;
  /** Dials it for ever, and no longer. */
  keep(endpoint: string, id: NodeId): void;
  letGo(endpoint: string): void;
  /** The discovery that names the endpoint now, and neither the operator nor a member beside it. */
  discoveryNaming(endpoint: string): string | undefined;
  onionConsidered(id: NodeId, onion: Onion, reason: string): void;
}

interface Wish {
  readonly endpoints: readonly string[];
  sinceMs: number;
  isLinked: boolean;
}

export class PeerManager {
  readonly #deps: PeerManagerDeps;
  readonly #salt: number;
  #settings: PeerManagerSettings;
  readonly #onions: Onions;
  /** What is dialled for ever since its node was promoted: let go with the trust, whoever took that. */
  readonly #kept = new Map<NodeId, string>();
  readonly #wishes = new Map<NodeId, Wish>();
  readonly #resting = new BoundedMap<NodeId, { untilMs: number; times: number }>({
    name: "resting members",
    max: RESTING_MAX,
  });
  readonly #changes;
  #reviewedAtMs: number;
  #reviewTimer: Timer | undefined;
  #linksTimer: Timer | undefined;
  #linksDueMs = Number.POSITIVE_INFINITY;

  constructor(deps: PeerManagerDeps) {
    this.#deps = deps;
    const seed = deps.random.bytes(4);
    this.#salt = new DataView(seed.buffer, seed.byteOffset).getUint32(0);
    this.#reviewedAtMs = deps.clock.monotonicMs();
    this.#settings = deps;
    this.#onions = new Onions({
      discoveryNaming: (endpoint) => deps.discoveryNaming(endpoint),
      considered: (id, onion) => this.#consider(id, onion),
    });
    this.#changes = deps.metrics.counter("godwit_peer_trust_changes_total");
    deps.metrics.observedGauge("godwit_peer_links_sought", () => this.#wishes.size);
  }

  start(): void {
    this.#reviewLater();
    if (this.#settings.linksWanted > 0) this.#linksBy(LINKS_FIRST_MS);
  }

  /**
   * Whom a rule speaks of no longer, a blocked one too, is free at once; whom it speaks of now is what it says. `rules` that are the same object
   * are the same rules: a block by one of them outlives its link as before.
   */
  configure(settings: PeerManagerSettings): void {
    const before = this.#settings;
    this.#settings = settings;
    if (settings.rules !== before.rules) this.#deps.book.forgetRuled();
    for (const peer of [...this.#deps.connected()]) this.#applyRules(peer);
    // Not otherwise, or who changes settings all the time puts it off for ever.
    if (settings.reviewMs !== before.reviewMs) this.#reviewLater();
    this.#linksBy(LINKS_SOON_MS);
  }

  get #reviewMs(): number {
    return this.#settings.reviewMs ?? REVIEW_MS;
  }

  #reviewLater(): void {
    this.#reviewTimer?.cancel();
    this.#reviewTimer = this.#deps.clock.after(this.#reviewMs, () => this.#onReview());
  }

  onPeerUp(peer: Peer): void {
    this.#applyRules(peer);
    this.#onions.note(peer);
    this.#linksBy(LINKS_SOON_MS);
  }

  onPeerDown(id: NodeId): void {
    // A block by rule outlives the link that showed it, or the node would be back at once; until the next start.
    if (!this.#deps.book.isBlocked(id)) this.#deps.book.setRuled(id, undefined);
    this.#linksBy(LINKS_SOON_MS);
  }

  /** What somebody found out about a node that it was linked to. */
  report(id: NodeId, what: PeerReport): void {
    this.#deps.book.addHistory(id, historyOf[what]);
    if (what === "lied") this.#judge(id, this.#promoted);
  }

  #applyRules(peer: Peer): void {
    const { book, callsignOf, disconnect, log } = this.#deps;
    const { rules } = this.#settings;
    const endpoints = peer.links.map((link) => link.session.remoteEndpoint);
    const rule = rules.match({ callsign: callsignOf(peer.id), endpoints });
    book.setRuled(
      peer.id,
      rule === undefined
        ? undefined
        : {
            level: rule.level,
            reason: "a rule in [trust]",
            isVouched: rule.callsigns.length > 0 && this.#deps.isVouched(peer.id),
          },
    );
    if (rule?.level !== "blocked" || !book.isBlocked(peer.id)) return;
    log.info("peer blocked by rule", { peer: shortId(peer.id), endpoints: endpoints.join(" ") });
    disconnect(peer.id);
  }

  #onReview(): void {
    const { clock, book } = this.#deps;
    this.#reviewLater();
    const nowMs = clock.monotonicMs();
    // A node that stood still saw nothing of what went on meanwhile.
    const passedMs = Math.min(nowMs - this.#reviewedAtMs, 2 * this.#reviewMs);
    this.#reviewedAtMs = nowMs;
    const linked = new Map([...this.#deps.connected()].map((peer) => [peer.id, peer]));
    // The link over the onion may have come beside another, or its hint after it.
    for (const peer of linked.values()) this.#onions.note(peer);
    // Counted once: anybody can fill the book, and a walk over it for each node in it would hold up the mesh.
    let promoted = this.#promoted;
    for (const { id } of book.nodes) {
      const peer = linked.get(id);
      const linkedMs = peer === undefined ? 0 : Math.min(passedMs, nowMs - peer.upAtMs);
      book.addHistory(id, { knownMs: passedMs, linkedMs });
      promoted += this.#judge(id, promoted);
    }
    for (const peer of linked.values()) this.#applyRules(peer);
    for (const id of this.#kept.keys()) if (book.trustOf(id) !== "trusted") this.#letGo(id);
  }

  /** Answers by how many there are more promoted ones. */
  #judge(id: NodeId, promoted: number): number {
    const { book, setTrust, log } = this.#deps;
    const { promoteAfterMs, promoteOnionsAfterMs: afterMs } = this.#settings;
    const standing = book.standing(id);
    const found = this.#onions.get(id);
    const onion = found === undefined || afterMs === undefined ? undefined : { ...found, afterMs };
    const plan = planTrust(standing, { promoteAfterMs, promoted, onion });
    if (plan.kind === "keep") return 0;
    // Its record may not have the address that it was found at.
    if (found !== undefined && plan.kind === "promote") this.#keep(id, found.endpoint);
    else this.#letGo(id);
    const level = plan.kind === "promote" ? "trusted" : plan.kind === "demote" ? "member" : "blocked";
    this.#changes.add(1, { to: level });
    const forMs = plan.kind === "block" ? { forMs: plan.forMs } : {};
    // It pays for these lies with the block; what it paid before makes the next one longer.
    if (plan.kind === "block") book.addHistory(id, { lies: -standing.history.lies, blocks: 1 });
    setTrust(id, { level, reason: plan.reason, by: "manager", ...forMs }).catch((error: unknown) =>
      log.warn("trust not kept", { peer: shortId(id), error: String(error) }),
    );
    if (plan.kind === "promote") return 1;
    return standing.level === "trusted" && standing.by === "manager" ? -1 : 0;
  }

  #keep(id: NodeId, endpoint: string): void {
    this.#letGo(id);
    this.#kept.set(id, endpoint);
    this.#deps.keep(endpoint, id);
  }

  #letGo(id: NodeId): void {
    const endpoint = this.#kept.get(id);
    if (endpoint === undefined) return;
    this.#kept.delete(id);
    this.#deps.letGo(endpoint);
  }

  #consider(id: NodeId, onion: Onion): void {
    const { book, onionConsidered } = this.#deps;
    const { promoteOnionsAfterMs: afterMs } = this.#settings;
    if (afterMs === undefined || book.trustOf(id) === "trusted") return;
    const words = `an onion address that ${onion.source} named; dialled for ever when it was linked for ${Math.round(afterMs / 1_000)} s and good`;
    onionConsidered(id, onion, words);
  }

  /** Walks the book: once a review, not for each node. */
  get #promoted(): number {
    let count = 0;
    for (const { id, trust } of this.#deps.book.nodes)
      if (trust === "trusted" && this.#deps.book.standing(id).by === "manager") count++;
    return count;
  }

  #linksBy(delayMs: number): void {
    if (this.#settings.linksWanted === 0 && this.#wishes.size === 0) return;
    const dueMs = this.#deps.clock.monotonicMs() + delayMs;
    if (dueMs >= this.#linksDueMs) return;
    this.#linksTimer?.cancel();
    this.#linksDueMs = dueMs;
    this.#linksTimer = this.#deps.clock.after(delayMs * (1 + this.#deps.random.float() / 4), () => {
      this.#linksDueMs = Number.POSITIVE_INFINITY;
      this.#seekLinks();
      this.#linksBy(LINKS_MS);
    });
  }

  #seekLinks(): void {
    const { self, clock, book, hint } = this.#deps;
    const { linksWanted } = this.#settings;
    const nowMs = clock.monotonicMs();
    const linked = [...this.#deps.connected()].map((peer): LinkedPeer => {
      const session = (peer.best ?? peer.links[0])?.session;
      return { id: peer.id, endpoint: session?.remoteEndpoint ?? "", isSlow: session?.linkClass === "slow" };
    });
    this.#tendWishes(new Set(linked.map(({ id }) => id)), nowMs);
    const trying = new Set([...this.#wishes].filter(([, wish]) => !wish.isLinked).map(([id]) => id));
    const choices = planLinks({
      self,
      wanted: linksWanted,
      salt: this.#salt,
      members: this.#deps.members(),
      linked,
      trying,
      isResting: (id) => book.isBlocked(id) || (this.#resting.get(id)?.untilMs ?? 0) > nowMs,
    });
    for (const { id, endpoints } of choices) {
      this.#wishes.set(id, { endpoints, sinceMs: nowMs, isLinked: false });
      for (const endpoint of endpoints) hint({ endpoint, nodeId: id });
    }
  }

  /** Notes which wishes came true, gives up those that do not, and lets go of what is more than twice the wanted. */
  #tendWishes(linked: ReadonlySet<NodeId>, nowMs: number): void {
    for (const [id, wish] of this.#wishes) {
      const isLinked = linked.has(id);
      if (wish.isLinked && !isLinked) wish.sinceMs = nowMs;
      wish.isLinked = isLinked;
      if (isLinked) this.#resting.delete(id);
      else if (nowMs - wish.sinceMs >= TRY_MS) {
        this.#rest(id, nowMs);
        this.#drop(id, wish);
      }
    }
    for (const [id, wish] of this.#wishes) {
      if (this.#wishes.size <= 2 * this.#settings.linksWanted) break;
      if (wish.isLinked) this.#drop(id, wish);
    }
  }

  #rest(id: NodeId, nowMs: number): void {
    const times = (this.#resting.get(id)?.times ?? 0) + 1;
    this.#resting.renew(id, {
      untilMs: nowMs + Math.min(REST_FIRST_MS * 2 ** (times - 1), REST_CAP_MS),
      times,
    });
  }

  /** A link that is up stays: only the wish to call the node again ends. */
  #drop(id: NodeId, wish: Wish): void {
    this.#wishes.delete(id);
    for (const endpoint of wish.endpoints) this.#deps.withdraw(endpoint);
  }
}
