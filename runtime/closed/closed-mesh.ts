/**
 * A closed mesh at work: carries a new network secret to the members that may have it, moves links over to it before
 * the old one ends, and answers the API about revocations, secrets and proofs of names. Owns no secret (closed/secrets.ts
 * does) and no revocation (membership/records.ts does). docs/closed-meshes.md
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock, Log, Pipe, Random, Timer } from "@godwit/sdk";
import type {
  ClosedView,
  RevocationView,
  RotateRequest,
  RotationView,
  SecretsView,
} from "../view/contract/closed.ts";
import { parseNameGrant, parseRevocation } from "../identity/proof-text.ts";
import { decodeRecord, hasNameGrant, type NodeRecord, type Verify } from "../identity/record.ts";
import { decodeRotation, encodeRotation, type Rotation } from "../identity/rotation.ts";
import { Backoff } from "../kernel/backoff.ts";
import { asGodwitError, GodwitError, godwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Session } from "../link/types.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { whyMadeUp } from "./secret-strength.ts";
import type { NetworkSecrets } from "./secrets.ts";
import type { Peer } from "../peer/peer.ts";
import { SystemKind } from "../wire/constants.ts";

/** Links under an old secret are dialled again after this, ms, growing while the far end has not got the new one. */
const RENEW_FIRST_MS = 1_000;
const RENEW_CAP_MS = 60_000;
/** Neighbours remembered to have been offered the newest order. */
const OFFERED_MAX = 4_096;

export interface ClosedMeshDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly callsign: string | undefined;
  readonly authority: NodeId | undefined;
  readonly mesh: Mesh;
  readonly secrets: NetworkSecrets;
  /** Its timers end when the node stops. */
  readonly clock: Clock;
  /** Aborts when the node stops. */
  readonly signal: AbortSignal;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly verify: Verify;
  /** Under the preferred secret and no other. */
  handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session>;
  /** Forgets which secret which endpoint took. */
  forgetSecrets(): void;
}

export class ClosedMesh implements ClosedView {
  readonly #deps: ClosedMeshDeps;
  readonly #backoff: Backoff;
  /** Neighbours that were offered the order of this generation over the life of this process. */
  readonly #offered = new BoundedMap<NodeId, number>({
    name: "neighbours offered an order",
    max: OFFERED_MAX,
  });
  readonly #refusals;
  #timer: Timer | undefined;

  constructor(deps: ClosedMeshDeps) {
    this.#deps = deps;
    this.#backoff = new Backoff({ firstMs: RENEW_FIRST_MS, capMs: RENEW_CAP_MS }, deps.random);
    this.#refusals = deps.metrics.counter("godwit_rotations_refused_total");
    deps.metrics.observedGauge("godwit_secret_epochs", () => deps.secrets.live.length);
    deps.metrics.observedGauge("godwit_links_old_secret", () => this.#oldLinks().length);
    deps.secrets.onChange = (retired) => this.#onSecrets(retired);
  }

  stop(): void {
    this.#deps.secrets.stop();
  }

  /** A neighbour whose link is under an old secret may have missed the new one: whoever has the order passes it on. */
  onPeerUp(peer: Peer): void {
    const { secrets } = this.#deps;
    const { order, preferred } = secrets;
    if (order === undefined || peer.best?.session.secretEpoch === preferred?.id) return;
    if (this.#offered.get(peer.id) === order.generation || this.#reasonAgainst(peer.id, false) !== undefined)
      return;
    this.#offered.renew(peer.id, order.generation);
    void this.#send(peer.id, order);
    this.#renewSoon();
  }

  /** A sealed system message. Rejects only where the sender's hop shall keep it. */
  async onSystem(from: NodeId, plaintext: Uint8Array): Promise<void> {
    if (plaintext[0] !== SystemKind.networkSecret) return;
    try {
      this.#deps.secrets.accept(decodeRotation(plaintext));
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (error.code === "GODWIT_STATE_UNUSABLE")
        throw godwitError("GODWIT_STORE_FAILED", "the network secret cannot be stored now", error);
      this.#refusals.add();
      this.#deps.log.warn("network secret not taken", { from: shortId(from), error });
    }
  }

  revocations(): RevocationView[] {
    return [...this.#deps.mesh.records.revocations.values()]
      .map(({ record }) => revocationView(record))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async publishRevocation(text: string): Promise<RevocationView> {
    const { mesh, network, authority, verify } = this.#deps;
    const bytes = parseRevocation(text);
    let record: NodeRecord;
    try {
      record = decodeRecord(bytes, network, verify, authority);
    } catch (error) {
      const why = error instanceof GodwitError ? error.message : String(error);
      throw godwitError("GODWIT_PROOF_INVALID", `the revocation is refused: ${why}`, error);
    }
    if (!record.isRevoked) throw godwitError("GODWIT_PROOF_INVALID", "the record is no revocation");
    if (mesh.records.offer(bytes) === "full")
      throw godwitError("GODWIT_QUEUE_FULL", "no room for more nodes that revoked themselves");
    await mesh.records.keep(record.id);
    return revocationView(mesh.records.get(record.id)!.record);
  }

  secrets(): SecretsView {
    const { secrets, authority, network } = this.#deps;
    const links = this.#linksByEpoch();
    return {
      rotate: secrets.policy,
      authority: authority ?? null,
      network,
      generation: secrets.generation,
      epochs: secrets.epochs.map(({ id, source, generation, retiresInMs }, index) => ({
        epoch: id,
        state: index === 0 ? "current" : "old",
        source,
        generation,
        links: links.get(id) ?? 0,
        retires_in_seconds: retiresInMs === undefined ? null : Math.ceil(retiresInMs / 1_000),
      })),
    };
  }

  async rotateSecret({ everyone, ...order }: RotateRequest): Promise<RotationView> {
    const { secrets, mesh, self } = this.#deps;
    // Checks the bounds before anything changes.
    encodeRotation(order);
    const madeUp = whyMadeUp(order.secret);
    if (madeUp !== undefined)
      throw godwitError(
        "GODWIT_ROTATION_REFUSED",
        `the new secret ${madeUp}, as if a person had made it up: let godwit secret rotate make one`,
      );
    if (order.generation <= secrets.generation && secrets.order?.generation !== order.generation)
      throw godwitError(
        "GODWIT_ROTATION_REFUSED",
        `generation ${order.generation} is not above ${secrets.generation}, which is in force`,
      );
    secrets.accept(order);
    const sent: NodeId[] = [];
    const leftOut: RotationView["left_out"] = [];
    for (const { record } of mesh.records.all) {
      if (record.id === self) continue;
      const reason = this.#reasonAgainst(record.id, everyone);
      if (reason !== undefined) leftOut.push({ id: record.id, reason });
      else if (await this.#send(record.id, order)) sent.push(record.id);
      else leftOut.push({ id: record.id, reason: "it cannot be sealed to, or the store is full" });
    }
    return { epoch: secrets.preferred!.id, generation: order.generation, sent, left_out: leftOut };
  }

  retireSecrets(): string[] {
    return this.#deps.secrets.retire();
  }

  async adoptName(text: string): Promise<{ name: string; serial: number }> {
    const { mesh, self, callsign, authority, network, verify } = this.#deps;
    const grant = parseNameGrant(text);
    const refuse = (why: string): never => {
      throw godwitError("GODWIT_PROOF_INVALID", `the name proof is refused: ${why}`);
    };
    if (authority === undefined) return refuse("network.authority is not set");
    if (grant.id !== self) return refuse(`it is for node ${shortId(grant.id)}, this is ${shortId(self)}`);
    if (grant.callsign !== callsign)
      return refuse(`it is for ${grant.callsign}, this node is called ${callsign ?? "nothing"}`);
    if (!hasNameGrant(grant, authority, network, verify))
      return refuse(`it is not signed by network.authority for the mesh ${network}`);
    if (grant.serial < (mesh.nameProof?.serial ?? 0)) return refuse("a newer one is in use");
    await mesh.adoptName(grant.callsign, { serial: grant.serial, signature: grant.signature });
    return { name: grant.callsign, serial: grant.serial };
  }

  forgetName(name: string): Promise<void> {
    return this.#deps.mesh.names.forgetPin(name);
  }

  /**
   * Why a node does not get the new secret. Where there is an authority, a record alone is not enough: whoever stole the
   * old secret could have brought any number of nodes into the mesh with it.
   */
  #reasonAgainst(id: NodeId, everyone: boolean): string | undefined {
    const { mesh, authority } = this.#deps;
    if (mesh.records.isRevoked(id)) return "revoked";
    if (mesh.book.isBlocked(id)) return "blocked";
    if (everyone || authority === undefined) return undefined;
    // Not whom the peer manager or a rule promoted: time spent in the mesh is no proof.
    const { level, by } = mesh.book.standing(id);
    if (level === "trusted" && (by === "operator" || by === "configuration")) return undefined;
    return mesh.names.isBound(id) ? undefined : "neither the authority nor this operator vouches for it";
  }

  async #send(to: NodeId, order: Rotation): Promise<boolean> {
    const { mesh, secrets, log } = this.#deps;
    try {
      return await mesh.custody.sendSystem(to, encodeRotation(order), secrets.overlapMs);
    } catch (error) {
      log.warn("network secret not sent", { to: shortId(to), error: asGodwitError(error) });
      return false;
    }
  }

  #onSecrets(retired: readonly string[]): void {
    this.#deps.forgetSecrets();
    this.#backoff.reset();
    // Whoever is still under a secret that ended proved nothing but the old one.
    for (const { session } of this.#links())
      if (session.secretEpoch !== undefined && retired.includes(session.secretEpoch)) session.close();
    this.#renewSoon();
  }

  #renewSoon(): void {
    if (this.#timer !== undefined || this.#oldLinks().length === 0) return;
    this.#timer = this.#deps.clock.after(this.#backoff.nextMs(), () => {
      void this.#renew().finally(() => {
        this.#timer = undefined;
        this.#renewSoon();
      });
    });
  }

  /** One after the other: a node with many neighbours does not dial them all at once. */
  async #renew(): Promise<void> {
    const { mesh, handshake } = this.#deps;
    for (const { session } of this.#oldLinks()) {
      if (this.#deps.signal.aborted) return;
      if (session.direction === "outbound") await mesh.dialer.renew(session, handshake);
    }
  }

  #links = () => [...this.#deps.mesh.peers.connected].flatMap((peer) => [...peer.links]);

  #oldLinks = () => {
    const id = this.#deps.secrets.preferred?.id;
    return this.#links().filter(({ session, isRetiring }) => session.secretEpoch !== id && !isRetiring);
  };

  #linksByEpoch(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { session, isRetiring } of this.#links())
      if (session.secretEpoch !== undefined && !isRetiring)
        counts.set(session.secretEpoch, (counts.get(session.secretEpoch) ?? 0) + 1);
    return counts;
  }
}

const revocationView = ({ id, signer, reason }: NodeRecord): RevocationView => ({
  id,
  by: signer,
  by_authority: signer !== id,
  reason: reason ?? null,
});
