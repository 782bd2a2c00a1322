/**
 * Which invitations were used, by whom. Kept durably until they expire, told to every member, so that a token that was
 * stolen opens the door once. Owns the table and its bounds; join/enrolment.ts lets newcomers in. docs/protocol/join.md.
 */
import type { Log } from "@godwit/sdk";
import {
  decodeRedemption,
  inviteKey,
  signRedemption,
  type Invite,
  type Redemption,
} from "../identity/invite.ts";
import type { Signer, Verify } from "../identity/record.ts";
import type { NodeId } from "../kernel/ids.ts";
import { Quota } from "../kernel/quota.ts";
import { EARLIER_RUN, type Regard } from "../kernel/room.ts";
import type { FullTables } from "../kernel/full-tables.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Store, StoreOp } from "../store/types.ts";
import type { NodeTime } from "../time/node-time.ts";

/**
 * All of them; a full table lets nobody in, because it could not remember whom. To forget one would open the door once more, so
 * strangers who tell too many are refused, and a quarter is for what this node itself and known ones let in (kernel/quota.ts).
 */
export const REDEMPTIONS_MAX = 1_024;
/** Part of them that one neighbour may tell. */
const NEIGHBOUR_SHARE = 0.5;
/** Clocks of members may differ by this much. */
export const EXPIRY_SLACK_MS = 120_000;
export const INVITE_TTL_MAX_MS = 30 * 24 * 3_600_000;
/** No use of an invitation need be remembered for longer, whatever the clocks said. */
const KEPT_MAX_MS = INVITE_TTL_MAX_MS + 2 * EXPIRY_SLACK_MS;
/** Those that are over are looked for at most this often, ms: a flood of them must not cost a walk each. */
const PURGE_MS = 1_000;
const KEY_PREFIX = "redemption/";

interface Held extends Redemption {
  readonly bytes: Uint8Array;
  /** Running time until which it is kept at least. */
  readonly untilRunMs: number;
  readonly from: NodeId | undefined;
  /** Durable; before that it counts, and is not told to anybody. */
  isDurable: boolean;
}

export interface RedemptionsDeps {
  readonly identity: Signer;
  readonly network: string;
  readonly time: NodeTime;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly store: Store;
  readonly verify: Verify;
  readonly regard: Regard;
  readonly fullTables: Pick<FullTables, "refused">;
  /** More nodes joined by an invitation than it allowed: it was used on both sides of a partition. */
  onConflict(invite: Invite, redeemers: readonly Redemption[]): void;
}

export class Redemptions {
  readonly #deps: RedemptionsDeps;
  /** By invitation, then by redeemer. */
  readonly #held = new Map<string, Map<NodeId, Held>>();
  readonly #quota = new Quota<string>({
    countMax: REDEMPTIONS_MAX,
    bytesMax: Number.MAX_SAFE_INTEGER,
    oneShare: NEIGHBOUR_SHARE,
  });
  readonly #dropped;
  /** Running time. */
  #purgedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: RedemptionsDeps) {
    this.#deps = deps;
    this.#dropped = deps.metrics.counter("godwit_redemptions_dropped_total");
    deps.metrics.observedGauge("godwit_redemptions", () => this.#quota.count);
  }

  async load(): Promise<void> {
    const { store, time } = this.#deps;
    for (const { key, meta } of await store.load("setting")) {
      if (!key.startsWith(KEY_PREFIX)) continue;
      const [base64, until] = meta.split(" ");
      const bytes = new Uint8Array(Buffer.from(base64 ?? "", "base64"));
      const redemption = this.#decode(bytes);
      // A row of an earlier release says nothing of running time, and the clock of this start may be wrong.
      const untilRunMs = until === undefined ? Number.NaN : Number(until);
      if (redemption !== undefined) {
        const mostMs = time.runMs + KEPT_MAX_MS;
        const held = this.#insert(
          redemption,
          bytes,
          undefined,
          true,
          Number.isFinite(untilRunMs) ? Math.min(untilRunMs, mostMs) : mostMs,
        );
        if (until === undefined) await store.commit([putOf(held)]).catch(() => {});
      }
      // A used invitation that cannot be read any more is told: its use is known to others alone.
      else await store.commit([{ op: "set-aside", in: "setting", key }]).catch(() => {});
    }
  }

  /** Whether `redeemer` may still use it: it did before, or a use is left. */
  isFree(invite: Invite, redeemer: NodeId): boolean {
    const used = this.#held.get(inviteKey(invite));
    return used === undefined || used.has(redeemer) || used.size < invite.uses;
  }

  /** For telling others. Shared bytes: never write to them. */
  get all(): Uint8Array[] {
    this.#purge();
    return [...this.#held.values()].flatMap((used) =>
      [...used.values()].filter(({ isDurable }) => isDurable).map(({ bytes }) => bytes),
    );
  }

  /**
   * Notes a use by `redeemer`: at once in memory, so that a second one beside it fails, and resolves when it is durable with
   * what others must hear. Undefined: it was known. Rejects, and takes it back, when it cannot be made durable or the table is
   * full.
   */
  async redeem(invite: Invite, redeemer: NodeId): Promise<Uint8Array | undefined | "full"> {
    if (this.#held.get(inviteKey(invite))?.has(redeemer) === true) return undefined;
    this.#purge();
    if (this.#quota.count >= REDEMPTIONS_MAX) {
      this.#deps.fullTables.refused("used invitations");
      return "full";
    }
    const { identity, network, time } = this.#deps;
    const atMs = Math.floor(time.wallMs);
    const bytes = signRedemption(identity, { invite, redeemer, atMs }, network);
    const held = this.#insert({ invite, redeemer, acceptor: identity.id, atMs }, bytes, undefined, false);
    try {
      await this.#deps.store.commit([putOf(held)]);
    } catch (error) {
      this.#remove(held);
      throw error;
    }
    held.isDurable = true;
    return bytes;
  }

  /**
   * One that a neighbour told. True: it is new here, others must hear of it. Copies what it keeps. Throws GODWIT_DECODE for a
   * forged one, which no honest neighbour passes on; what is dropped anyway costs no check of a signature.
   */
  offer(bytes: Uint8Array, from: NodeId): boolean {
    const { network, verify } = this.#deps;
    const redemption = decodeRedemption(bytes, network, () => true);
    if (this.#held.get(inviteKey(redemption.invite))?.has(redemption.redeemer) === true) return false;
    // Those who still keep it say it again and again: a clock that is not in doubt has to do.
    if (this.#deps.time.canJudge() && this.#deps.time.leftMs(keptUntilMs(redemption.invite)) <= 0)
      return this.#drop("expired");
    this.#purge();
    const refusal = this.#quota.refusal(from, this.#deps.regard.shareOf(from), 0);
    if (refusal !== undefined) {
      this.#deps.fullTables.refused("used invitations");
      return this.#drop(refusal);
    }
    decodeRedemption(bytes, network, verify);
    const held = this.#insert(redemption, new Uint8Array(bytes), from, true);
    this.#deps.store.commit([putOf(held)]).catch(() => {});
    const used = [...this.#held.get(inviteKey(redemption.invite))!.values()];
    if (used.length > redemption.invite.uses) this.#deps.onConflict(redemption.invite, used);
    return true;
  }

  #drop(reason: string): false {
    this.#dropped.add(1, { reason });
    return false;
  }

  #decode(bytes: Uint8Array): Redemption | undefined {
    try {
      return decodeRedemption(bytes, this.#deps.network, this.#deps.verify);
    } catch {
      return undefined;
    }
  }

  #insert(
    redemption: Redemption,
    bytes: Uint8Array,
    from: NodeId | undefined,
    isDurable: boolean,
    untilRunMs: number = this.#untilRunMs(redemption),
  ): Held {
    const held: Held = { ...redemption, bytes, from, isDurable, untilRunMs };
    const key = inviteKey(redemption.invite);
    const used = this.#held.get(key) ?? new Map<NodeId, Held>();
    used.set(redemption.redeemer, held);
    this.#held.set(key, used);
    const self = this.#deps.identity.id;
    const share =
      redemption.acceptor === self
        ? { by: self, isKnown: true }
        : from === undefined
          ? EARLIER_RUN
          : this.#deps.regard.shareOf(from);
    // Its own are bounded by the invitations that it issued, and not by a share.
    this.#quota.add(keyOf(held), from ?? redemption.acceptor, share, 0);
    return held;
  }

  #remove(held: Held): void {
    const key = inviteKey(held.invite);
    const used = this.#held.get(key);
    if (used?.delete(held.redeemer) !== true) return;
    if (used.size === 0) this.#held.delete(key);
    this.#quota.drop(keyOf(held));
  }

  #untilRunMs({ invite }: Redemption): number {
    const { time } = this.#deps;
    const leftMs = time.canJudge() ? time.leftMs(keptUntilMs(invite)) : KEPT_MAX_MS;
    return time.runMs + Math.min(Math.max(leftMs, 0), KEPT_MAX_MS);
  }

  #purge(): void {
    const nowMs = this.#deps.time.runMs;
    if (nowMs - this.#purgedAtMs < PURGE_MS) return;
    this.#purgedAtMs = nowMs;
    const ops: StoreOp[] = [];
    for (const used of this.#held.values())
      for (const held of used.values()) {
        const end = { wallMs: keptUntilMs(held.invite), runMs: held.untilRunMs };
        if (!this.#deps.time.isPromiseOver(end)) continue;
        this.#remove(held);
        ops.push({ op: "delete", in: "setting", key: keyOf(held) });
      }
    if (ops.length > 0) this.#deps.store.commit(ops).catch(() => {});
  }
}

const keptUntilMs = ({ expiresAtS }: Invite): number => expiresAtS * 1_000 + 2 * EXPIRY_SLACK_MS;
const keyOf = ({ invite, redeemer }: Redemption): string => `${KEY_PREFIX}${inviteKey(invite)}/${redeemer}`;
/** As a release wrote it that counted no running time: it reads the whole meta as base64. */
export const earlierRedemption = (key: string, meta: string): string | undefined =>
  key.startsWith(KEY_PREFIX) ? meta.split(" ")[0]! : undefined;

const putOf = (held: Held): StoreOp => ({
  op: "put",
  in: "setting",
  key: keyOf(held),
  meta: `${Buffer.from(held.bytes).toString("base64")} ${Math.ceil(held.untilRunMs)}`,
});
