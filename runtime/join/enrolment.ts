/**
 * A member's side of joining: issues invitations, judges those that newcomers bring, hands over what makes them members,
 * and spreads the word that an invitation was used. A session under an invitation ends here and never becomes a peer.
 * Specified by docs/protocol/join.md.
 */
import type { Teller } from "../kernel/hub.ts";
import type { Regard } from "../kernel/room.ts";
import type { FullTables } from "../kernel/full-tables.ts";
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock, Log, Random } from "@godwit/sdk";
import type { Airtime } from "../kernel/airtime.ts";
import {
  INVITE_ID_BYTES,
  INVITE_USES_MAX,
  inviteKey,
  inviteSecret,
  type Invite,
  type Redemption,
} from "../identity/invite.ts";
import type { Signer, Verify } from "../identity/record.ts";
import { formatToken, idPrefixOf, TOKEN_ADDRESSES_MAX, type Token } from "../identity/token.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { formatHex, shortId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { InviteVerdict } from "../link/responder.ts";
import { QUEUED_TIMEOUT_MS } from "../link/constants.ts";
import { isPaced, type Session } from "../link/types.ts";
import { planInviteAddresses, type AddressCandidate } from "./invite-addresses.ts";
import type { RecordBook } from "../membership/records.ts";
import type { NodeTime } from "../time/node-time.ts";
import { EXPIRY_SLACK_MS, INVITE_TTL_MAX_MS, Redemptions } from "./redemptions.ts";
import type { Peer } from "../peer/peer.ts";
import type { Store, StoreOp } from "../store/types.ts";
import {
  decodeEnrolRequest,
  decodeRedemptions,
  encodeEnrolGrant,
  encodeEnrolRefuse,
  encodeRedemptions,
  EnrolRefusal,
  GRANT_RECORDS_MAX,
  type SecretLife,
} from "../wire/join-messages.ts";

/** Newcomers in a session at once. */
export const ENROLMENTS_MAX = 16;
/** A newcomer that is not done by then starts anew. */
const ENROL_TIMEOUT_MS = { fast: 15_000, medium: 60_000, slow: 300_000 } as const;
/** Requests answered in one session: datagrams may have to be repeated. */
const REQUESTS_MAX = 64;
export const INVITE_TTL_MIN_MS = 60_000;
/** Own invitations whose age is known by running time, oldest forgotten first. */
const ISSUED_MAX = 1_024;
const ISSUED_PREFIX = "invite-issued/";

export interface LiveSecret extends SecretLife {
  readonly secret: Uint8Array;
}

export interface EnrolmentDeps {
  readonly regard: Regard;
  readonly fullTables: Pick<FullTables, "refused">;
  readonly identity: Signer;
  readonly network: string;
  readonly clock: Clock;
  readonly time: NodeTime;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly store: Store;
  readonly verify: Verify;
  /** Aborts when the node stops: newcomers that come after it are refused. */
  readonly signal: AbortSignal;
  readonly records: RecordBook;
  /** Live network secrets, newest first; none: an open mesh. */
  secrets(): readonly LiveSecret[];
  /** Of the channels that all in earshot share. */
  airtime(): Airtime;
  /** To a neighbour, borrowed. False: it was dropped and counted. */
  tell(to: NodeId, frame: Uint8Array): boolean;
  connected(): Iterable<Peer>;
  isReachable(id: NodeId): boolean;
  /** Whether a newcomer may be told of this endpoint in another's record: what this node would not connect to itself is nobody's business. */
  mayPassOn(id: NodeId, endpoint: string): boolean;
  readonly events: Teller<EnrolmentEvents>;
}

export interface EnrolmentEvents {
  /** A newcomer was let in by this node. */
  joined: { readonly id: NodeId; readonly inviteId: string; readonly callsign: string };
  /** An invitation was used by more nodes than it allowed. */
  inviteConflict: { readonly inviteId: string; readonly redeemers: readonly NodeId[] };
}

export interface IssuedInvite {
  readonly token: string;
  readonly invite: Invite | undefined;
  readonly addresses: readonly string[];
  /** True: this node's clock is not set, so that no other member can judge when the invitation expires. */
  readonly isOwnOnly: boolean;
}

export class Enrolment {
  readonly #deps: EnrolmentDeps;
  readonly #redemptions: Redemptions;
  readonly #issued = new BoundedMap<string, number>({ name: "invitations issued here", max: ISSUED_MAX });
  readonly #sessions = new Set<Session>();
  /** Neighbours that something was not told: there was no room. They hear all of it once there is. */
  readonly #behind = new Set<NodeId>();
  readonly #enrolments;

  constructor(deps: EnrolmentDeps) {
    this.#deps = deps;
    const { metrics } = deps;
    this.#enrolments = metrics.counter("godwit_enrolments_total");
    this.#redemptions = new Redemptions({
      ...deps,
      onConflict: (invite, redeemers) => this.#onConflict(invite, redeemers),
    });
  }

  async load(): Promise<void> {
    await this.#redemptions.load();
    const { store, time } = this.#deps;
    const issued = (await store.load("setting"))
      .filter(({ key }) => key.startsWith(ISSUED_PREFIX))
      .map(({ key, meta }) => ({ key, untilRunMs: Number(meta) }))
      .sort((a, b) => a.untilRunMs - b.untilRunMs);
    const gone: StoreOp[] = [];
    for (const [index, { key, untilRunMs }] of issued.entries()) {
      // One that is over is remembered for a while: a clock that is set back must not open it again.
      const isKept = untilRunMs + INVITE_TTL_MAX_MS > time.runMs && issued.length - index <= ISSUED_MAX;
      if (isKept) this.#issued.set(key.slice(ISSUED_PREFIX.length), untilRunMs);
      else gone.push({ op: "delete", in: "setting", key });
    }
    if (gone.length > 0) await store.commit(gone).catch(() => {});
  }

  /** Throws GODWIT_REQUEST_INVALID when no member has an address to put into it. */
  issue(wish: { readonly ttlMs: number; readonly uses: number; readonly callsign?: string }): IssuedInvite {
    const { identity, network, time, random } = this.#deps;
    const addresses = planInviteAddresses(this.#candidates(), TOKEN_ADDRESSES_MAX, random);
    if (addresses.length === 0)
      throw godwitError(
        "GODWIT_REQUEST_INVALID",
        "no member that is known here has an address that others can dial: let a transport listen, or set advertise",
      );
    const secret = this.#deps.secrets()[0]?.secret;
    const ttlMs = Math.min(Math.max(wish.ttlMs, INVITE_TTL_MIN_MS), INVITE_TTL_MAX_MS);
    const { wallMs } = time;
    const invite: Invite | undefined =
      secret === undefined
        ? undefined
        : {
            id: random.bytes(INVITE_ID_BYTES),
            expiresAtS: Math.min(Math.floor((wallMs + ttlMs) / 1_000), 2 ** 32 - 1),
            uses: Math.min(Math.max(wish.uses, 1), INVITE_USES_MAX),
          };
    if (invite !== undefined) this.#remember(invite, time.end(ttlMs).runMs);
    const token: Token = {
      network,
      inviter: identity.id,
      callsign: wish.callsign,
      membership:
        invite === undefined || secret === undefined
          ? undefined
          : { invite, secret: inviteSecret(secret, invite, network) },
      addresses: addresses.map(({ id, endpoint }) => ({ endpoint, idPrefix: idPrefixOf(id) })),
    };
    return {
      token: formatToken(token),
      invite,
      addresses: addresses.map(({ endpoint }) => endpoint),
      isOwnOnly: invite !== undefined && !time.canJudge(),
    };
  }

  /** Its own invitations a node judges by both clocks, all others by the wall clock, with some slack, unless that is in doubt. */
  judge(invite: Invite): InviteVerdict {
    const { time } = this.#deps;
    const wallMs = invite.expiresAtS * 1_000 + EXPIRY_SLACK_MS;
    const ownRunMs = this.#issued.get(inviteKey(invite));
    if (ownRunMs === undefined) {
      // None is good for so long: the clock of who issued it was ahead.
      const isBeyond = time.leftMs(wallMs) > INVITE_TTL_MAX_MS + 2 * EXPIRY_SLACK_MS;
      if (!time.canJudge() || isBeyond) return "unsure";
    }
    return time.isGrantOver({ wallMs, runMs: ownRunMs ?? Number.POSITIVE_INFINITY }) ? "expired" : "valid";
  }

  /** Takes a session under an invitation; it lives until the newcomer has what it came for. */
  serve(session: Session): void {
    const { invite } = session;
    if (invite === undefined || this.#deps.signal.aborted || this.#sessions.size >= ENROLMENTS_MAX) {
      session.open({ frame() {}, drain() {}, closed() {} });
      this.#send(session, encodeEnrolRefuse(EnrolRefusal.busy));
      return session.close();
    }
    this.#sessions.add(session);
    const timeoutMs = Math.max(ENROL_TIMEOUT_MS[session.linkClass], isPaced(session) ? QUEUED_TIMEOUT_MS : 0);
    const timer = this.#deps.clock.after(timeoutMs, () => session.close());
    let requests = 0;
    session.open({
      frame: (bytes) => {
        const callsign = decodeEnrolRequest(bytes);
        if (++requests > REQUESTS_MAX) return session.close();
        void this.#enrol(session, invite, callsign);
      },
      drain() {},
      closed: () => {
        timer.cancel();
        this.#sessions.delete(session);
      },
    });
  }

  /** Frame `redemptions` of a neighbour. Borrowed. Throws GODWIT_DECODE. */
  onFrame(from: NodeId, bytes: Uint8Array): void {
    const fresh = decodeRedemptions(bytes).filter((redemption) => this.#redemptions.offer(redemption, from));
    if (fresh.length > 0) this.#tell(fresh, from);
  }

  /** A neighbour came: it may have been on the other side of a partition. */
  onPeerUp(peer: Peer): void {
    const all = this.#redemptions.all;
    if (all.length > 0) this.#tellPeer(peer, all);
  }

  onPeerDown(id: NodeId): void {
    this.#behind.delete(id);
  }

  /** It takes frames again, or wider ones. */
  onWritable(peer: Peer): void {
    if (this.#behind.delete(peer.id)) this.#tellPeer(peer, this.#redemptions.all);
  }

  stop(): void {
    for (const session of this.#sessions) session.close();
  }

  /** Never rejects. */
  async #enrol(session: Session, invite: Invite, callsign: string): Promise<void> {
    const outcome = await this.#redeem(session.remote, invite).catch((error: unknown) => {
      this.#deps.log.error("redemption not stored", { error: asGodwitError(error) });
      return "storeFailed" as const;
    });
    const refusal = outcome === "granted" ? this.#grant(session) : outcome;
    this.#enrolments.add(1, { outcome: refusal ?? "granted" });
    if (refusal !== undefined) {
      this.#send(session, encodeEnrolRefuse(EnrolRefusal[refusal]));
      session.flush();
      return;
    }
    const inviteId = formatHex(invite.id);
    this.#deps.log.info("newcomer let in", { peer: shortId(session.remote), invite: inviteId, callsign });
    this.#deps.events.emit("joined", { id: session.remote, inviteId, callsign });
  }

  async #redeem(
    redeemer: NodeId,
    invite: Invite,
  ): Promise<"granted" | "expired" | "unsure" | "used" | "usesFull"> {
    const verdict = this.judge(invite);
    if (verdict !== "valid") return verdict;
    if (!this.#redemptions.isFree(invite, redeemer)) return "used";
    const bytes = await this.#redemptions.redeem(invite, redeemer);
    if (bytes === "full") return "usesFull";
    if (bytes !== undefined) this.#tell([bytes], redeemer);
    return "granted";
  }

  #grant(session: Session): "noRoom" | undefined {
    const { identity, records } = this.#deps;
    const own = records.get(identity.id);
    const others = planInviteAddresses(this.#candidates(), GRANT_RECORDS_MAX, this.#deps.random)
      .map(({ id }) => id)
      .filter((id, index, ids) => id !== identity.id && ids.indexOf(id) === index)
      .map((id) => records.get(id));
    const known = [own, ...others].flatMap((held) => (held === undefined ? [] : [held.bytes]));
    const live = this.#deps.secrets();
    const grant = {
      secrets: live.map(({ secret }) => secret),
      records: known,
      lives: live.map(({ generation, retiresInMs, signature }) => ({
        generation,
        // 0 would say that nothing replaces it.
        retiresInMs: retiresInMs === undefined ? undefined : Math.max(1, Math.floor(retiresInMs)),
        signature,
      })),
    };
    const frame = encodeEnrolGrant(grant, session.frameBytesMax);
    if (frame === undefined) return "noRoom";
    this.#send(session, frame);
    session.flush();
    return undefined;
  }

  /** Whoever was let in needs all of it at once: what it costs is owed, and paid back by silence. */
  #send(session: Session, frame: Uint8Array): void {
    const budget = session.medium && this.#deps.airtime().of(session.medium);
    budget?.charge(budget.costMs(frame.length, true), "handshakes");
    session.send(frame);
  }

  #candidates(): AddressCandidate[] {
    const { identity, records, clock, connected, isReachable, mayPassOn } = this.#deps;
    const nowMs = clock.monotonicMs();
    const linked = new Map([...connected()].map((peer) => [peer.id, nowMs - peer.upAtMs]));
    return [...records.all]
      .filter(({ record }) => !record.isRevoked)
      .map(({ record: { id, endpoints } }) => ({
        id,
        endpoints: id === identity.id ? endpoints : endpoints.filter((endpoint) => mayPassOn(id, endpoint)),
        isSelf: id === identity.id,
        isReachable: isReachable(id),
        linkedMs: linked.get(id),
      }));
  }

  #remember(invite: Invite, untilRunMs: number): void {
    const key = inviteKey(invite);
    this.#issued.set(key, untilRunMs);
    const row: StoreOp = {
      op: "put",
      in: "setting",
      key: `${ISSUED_PREFIX}${key}`,
      meta: String(Math.floor(untilRunMs)),
    };
    this.#deps.store.commit([row]).catch((error: unknown) => {
      // After a restart it then ends by the wall clock alone, as for every other member.
      this.#deps.log.warn("invitation not kept", { error: asGodwitError(error) });
    });
  }

  #tell(redemptions: readonly Uint8Array[], except: NodeId): void {
    for (const peer of this.#deps.connected()) if (peer.id !== except) this.#tellPeer(peer, redemptions);
  }

  #tellPeer(peer: Peer, redemptions: readonly Uint8Array[]): void {
    const frames = encodeRedemptions(redemptions, peer.frameBytesMax);
    if (frames.length === 0 || !frames.every((frame) => this.#deps.tell(peer.id, frame)))
      this.#behind.add(peer.id);
  }

  #onConflict(invite: Invite, uses: readonly Redemption[]): void {
    const redeemers = uses.map(({ redeemer }) => redeemer);
    const inviteId = formatHex(invite.id);
    this.#deps.log.warn("invitation used too often", {
      invite: inviteId,
      redeemers,
      acceptors: uses.map(({ acceptor }) => acceptor),
      advice: "block the node that should not be there, and change the network secret",
    });
    this.#deps.events.emit("inviteConflict", { inviteId, redeemers });
  }
}
