/**
 * Who delivers a message that was sealed to several machines of one location. Each copy is held durably; a machine
 * delivers once every other one has acknowledged its claim, or when those that have not said farewell, soon when they failed,
 * and after the failover delay when they are merely silent; and then says `unconfirmed`.
 * A machine that grants stands by with its copy until the claimer says that it delivered.
 * docs/protocol/delivery.md "Locations and failover".
 */
import type { Timer } from "@godwit/sdk";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import { BundleKind } from "../../wire/bundle.ts";
import { ClaimAnswer, encodeClaim, encodeClaimAnswer } from "../../wire/message.ts";
import { Quota } from "../../kernel/quota.ts";
import { EARLIER_RUN, Room, type Share } from "../../kernel/room.ts";
import type { CustodyContext } from "../context.ts";
import type { Arrival } from "./delivery.ts";

/** Claims granted for messages that have not arrived here; strangers of one source push out their own, oldest first. */
export const GRANTS_MAX = 4_096;
export const CLAIMS_MAX = 16_384;
const FAILOVER_DELAY_MAX_MS = 24 * 3_600_000;
const ANSWER_LIFETIME_MS = 3_600_000;
/** A machine that failed may be cut off rather than dead, and what one that left said last may be under way: they are waited for so long. */
const GONE_DELAY_MS = 5_000;

/** Bodies of messages that wait for claims are in memory. */
const CLAIMS_BYTES_MAX = 32 * 1024 * 1024;
/** Part of both that one sender may have. */
const SENDER_SHARE = 0.5;

export interface ClaimsEvents {
  /** Seals and sends a small bundle to a machine of the location. */
  send(to: NodeId, kind: number, plaintext: Uint8Array, lifetimeMs: number): void;
  /** This machine delivers. Resolves false when it could not (full, disk): it is tried again. */
  deliver(arrival: Arrival, isUnconfirmed: boolean): Promise<boolean>;
  /** Another machine delivered: the copy here goes. */
  drop(arrival: Arrival): Promise<void>;
  wasDeliveredHere(id: MessageId): boolean;
}

interface Live {
  readonly arrival: Arrival;
  readonly others: readonly NodeId[];
  readonly granted: Set<NodeId>;
  state: "claiming" | "standby";
  /** In its state since then, monotonic. */
  sinceMs: number;
  /** Whom a copy that stands by waits for; undefined: not known any more. */
  claimer: NodeId | undefined;
  timer: Timer | undefined;
}

export class Claims {
  readonly #ctx: CustodyContext;
  readonly #events: ClaimsEvents;
  readonly #live = new Map<MessageId, Live>();
  readonly #granted = new Map<MessageId, NodeId>();
  readonly #grants: Room<MessageId>;
  readonly #quota = new Quota<MessageId>({
    countMax: CLAIMS_MAX,
    bytesMax: CLAIMS_BYTES_MAX,
    oneShare: SENDER_SHARE,
  });

  readonly #unwatch: () => void;

  constructor(ctx: CustodyContext, events: ClaimsEvents) {
    this.#ctx = ctx;
    this.#events = events;
    this.#unwatch = ctx.presence.watch((id) => this.#onPresence(id));
    this.#grants = new Room({
      name: "grants",
      max: GRANTS_MAX,
      worthOf: (id) => (ctx.regard.isKnown(this.#granted.get(id) ?? ctx.self) ? "kept" : "none"),
      evict: (id) => this.#forgetGrant(id),
    });
  }

  async load(): Promise<void> {
    for (const row of await this.#ctx.store.load("setting")) {
      if (!row.key.startsWith("granted/")) continue;
      const id = row.key.slice("granted/".length) as MessageId;
      this.#granted.set(id, row.meta as NodeId);
      if (!this.#grants.admit(id, EARLIER_RUN)) this.#forgetGrant(id);
    }
  }

  get count(): number {
    return this.#live.size;
  }

  /** Why another copy cannot wait here now. */
  refusal({ from, share, inner }: Arrival): "full" | "quota" | undefined {
    return this.#quota.refusal(from, share, inner.body.length);
  }

  has(id: MessageId): boolean {
    return this.#live.has(id);
  }

  /** Starts for a copy that is durable here. */
  start(arrival: Arrival): void {
    if (this.#live.has(arrival.id)) return;
    this.#quota.add(arrival.id, arrival.from, arrival.share, arrival.inner.body.length);
    const others = arrival.inner.machines.filter((machine) => machine !== this.#ctx.self);
    const live: Live = {
      arrival,
      others,
      granted: new Set<NodeId>(),
      state: "claiming",
      sinceMs: this.#ctx.clock.monotonicMs(),
      claimer: undefined,
      timer: undefined,
    };
    this.#live.set(arrival.id, live);
    const grantedTo = this.#granted.get(arrival.id);
    // A grant to a node that has no say, given before the machines were known, counts for nothing.
    if (grantedTo !== undefined && others.includes(grantedTo)) this.#standBy(live, grantedTo);
    else this.#claim(live);
  }

  /** Another machine claims. Its answer goes out only after the grant is durable. */
  async onClaim(by: NodeId, share: Share, id: MessageId): Promise<void> {
    const { lifetimeDefaultMs } = this.#ctx.limits;
    const answer = (code: number) =>
      this.#events.send(
        by,
        BundleKind.claimAnswer,
        encodeClaimAnswer(id, code),
        // Only that it was delivered is still of use once the claimer has gone on without an answer.
        code === ClaimAnswer.delivered ? lifetimeDefaultMs : Math.min(ANSWER_LIFETIME_MS, lifetimeDefaultMs),
      );
    if (this.#events.wasDeliveredHere(id)) return answer(ClaimAnswer.delivered);
    const live = this.#live.get(id);
    if (live !== undefined) {
      // Not one of the machines it was sealed to: whoever it is, it has no say.
      if (!live.others.includes(by)) return;
      if (live.state === "claiming" && this.#isBefore(live, by)) return answer(ClaimAnswer.contested);
      this.#standBy(live, by);
    }
    // Without a place for it nothing is granted: a grant that is forgotten at once could deliver twice.
    if (!(await this.#grant(id, by, share))) return;
    answer(ClaimAnswer.granted);
  }

  onAnswer(by: NodeId, id: MessageId, code: number): void {
    const live = this.#live.get(id);
    if (live === undefined || !live.others.includes(by)) return;
    if (code === ClaimAnswer.delivered) return void this.#drop(live);
    if (live.state !== "claiming") return;
    if (code === ClaimAnswer.contested) return this.#standBy(live, by);
    if (code !== ClaimAnswer.granted) return;
    live.granted.add(by);
    if (live.others.every((other) => live.granted.has(other))) void this.#deliver(live, false);
    else this.#await(live);
  }

  #onPresence(id: NodeId): void {
    for (const live of this.#live.values())
      if (live.claimer === id || (live.state === "claiming" && live.others.includes(id))) this.#await(live);
  }

  stop(): void {
    this.#unwatch();
    for (const live of this.#live.values()) live.timer?.cancel();
    this.#live.clear();
  }

  /** The order of the machines in the message breaks a tie. */
  #isBefore(live: Live, other: NodeId): boolean {
    const { machines } = live.arrival.inner;
    return machines.indexOf(this.#ctx.self) < machines.indexOf(other);
  }

  #claim(live: Live): void {
    const { arrival } = live;
    this.#enter(live, "claiming", undefined);
    live.granted.clear();
    const plaintext = encodeClaim({ messageId: arrival.id, sender: arrival.from });
    for (const other of live.others)
      this.#events.send(other, BundleKind.claim, plaintext, arrival.lifetimeMs);
    this.#await(live);
  }

  #standBy(live: Live, claimer: NodeId): void {
    this.#enter(live, "standby", claimer);
    this.#await(live);
  }

  #enter(live: Live, state: Live["state"], claimer: NodeId | undefined): void {
    live.state = state;
    live.sinceMs = this.#ctx.clock.monotonicMs();
    live.claimer = claimer;
  }

  /** What a copy does when it has waited long enough, as those that it waits for are known to be now. */
  #await(live: Live): void {
    live.timer?.cancel();
    const { state, sinceMs } = live;
    const fn = state === "claiming" ? () => void this.#deliver(live, true) : () => this.#claim(live);
    const waitMs = state === "claiming" ? this.#claimWaitMs(live) : this.#standbyWaitMs(live);
    live.timer = this.#ctx.clock.after(Math.max(0, sinceMs + waitMs - this.#ctx.clock.monotonicMs()), fn);
  }

  #claimWaitMs({ arrival, others, granted }: Live): number {
    const delayMs = delayOf(arrival);
    const waits = others.map((other) => {
      if (granted.has(other)) return 0;
      const presence = this.#ctx.presence.of(other);
      return presence === "left" ? 0 : presence === "failed" ? Math.min(GONE_DELAY_MS, delayMs) : delayMs;
    });
    return Math.max(1, ...waits);
  }

  /** Twice the delay: the claimer itself may have to wait one before it delivers. */
  #standbyWaitMs({ arrival, claimer }: Live): number {
    const delayMs = delayOf(arrival) * 2;
    const isThere = claimer === undefined || this.#ctx.presence.of(claimer) === "there";
    return isThere ? delayMs : Math.min(GONE_DELAY_MS, delayMs);
  }

  /** It is tried again. */
  #retry(live: Live, fn: () => void): void {
    live.timer?.cancel();
    live.timer = this.#ctx.clock.after(delayOf(live.arrival), fn);
  }

  async #deliver(live: Live, isUnconfirmed: boolean): Promise<void> {
    live.timer?.cancel();
    if (this.#live.get(live.arrival.id) !== live) return;
    // Two machines run under this identity, perhaps: which of them delivers is not known yet.
    if (this.#ctx.isContested() || !(await this.#events.deliver(live.arrival, isUnconfirmed))) {
      return this.#retry(live, () => void this.#deliver(live, isUnconfirmed));
    }
    this.#forget(live);
    const told = encodeClaimAnswer(live.arrival.id, ClaimAnswer.delivered);
    for (const other of live.others)
      this.#events.send(other, BundleKind.claimAnswer, told, live.arrival.lifetimeMs);
  }

  #forget(live: Live): void {
    live.timer?.cancel();
    if (this.#live.delete(live.arrival.id)) this.#quota.drop(live.arrival.id);
  }

  /** Never rejects: while the store cannot note it, the copy stays and the question is asked again. */
  async #drop(live: Live): Promise<void> {
    live.timer?.cancel();
    try {
      await this.#events.drop(live.arrival);
      this.#forget(live);
    } catch {
      if (this.#live.get(live.arrival.id) === live) this.#retry(live, () => this.#claim(live));
    }
  }

  async #grant(id: MessageId, by: NodeId, share: Share): Promise<boolean> {
    const before = this.#granted.get(id);
    this.#granted.set(id, by);
    if (!this.#grants.admit(id, share)) {
      if (before === undefined) this.#granted.delete(id);
      return false;
    }
    await this.#ctx.store.commit([{ op: "put", in: "setting", key: `granted/${id}`, meta: by }]);
    return true;
  }

  #forgetGrant(id: MessageId): void {
    this.#granted.delete(id);
    this.#ctx.store.commit([{ op: "delete", in: "setting", key: `granted/${id}` }]).catch(() => {});
  }
}

/** The sender's word, so within reason: a copy that waits for ever would fill the place of others. */
const delayOf = ({ inner }: Arrival): number =>
  Math.min(Math.max(inner.failoverDelayMs, 1), FAILOVER_DELAY_MAX_MS);
