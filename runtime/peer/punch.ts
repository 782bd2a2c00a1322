/**
 * Direct links between nodes behind NATs. Neighbours tell each other where their datagrams come from; two nodes that
 * have no link exchange what they were told through the mesh and dial each other at once, from the socket that they
 * listen on. Until that works, and if it never does, routing relays. Never dials an address that its owner has not signed
 * for itself. docs/protocol/punch.md
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { createHash } from "node:crypto";
import type { Clock, Hint, Log, Random } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import { formatHex, shortId, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Regard } from "../kernel/room.ts";
import { SharedMap } from "../kernel/shared-map.ts";
import type { Session } from "../link/types.ts";
import { type PunchCandidate, planPunches, RETRY_FIRST_MS } from "./plan-punches.ts";
import {
  decodeObserved,
  decodePunch,
  encodeObserved,
  encodePunch,
  isCallable,
  PUNCH_ENDPOINTS_MAX,
  PUNCH_NONCE_BYTES,
  punchMessage,
  PunchStep,
  type PunchStepCode,
} from "../wire/punch.ts";

const ROUND_MS = 2_000;
/** How long both ends dial, and how long an answer is waited for. */
const ATTEMPT_MS = 8_000;
/**
 * Addresses that neighbours reported, the newest of each share: strangers of one source must not decide where this node is. What was
 * reported longer ago than this has probably changed.
 */
const OBSERVED_MAX = 8;
const OBSERVED_LIFETIME_MS = 600_000;
/** A neighbour that did not move is told so again: what it keeps would grow too old. */
const TELL_AGAIN_MS = 250_000;
/** Members of which something is remembered; the longest untouched go. */
const REMEMBERED_MAX = 1_024;
/** Punches of one member are heard this often, and of all together. */
const HEARD_EVERY_MS = 5_000;
const HEARD_PER_SECOND = 2;
const HEARD_BURST = 8;
/** Signatures are checked at most this often. */
const CHECKED_PER_SECOND = 20;

export interface PunchDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  sign(bytes: Uint8Array): Uint8Array;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  readonly regard: Regard;
  isBlocked(id: NodeId): boolean;
  isNeighbour(id: NodeId): boolean;
  /** Members that some route leads to. */
  members(): Iterable<NodeId>;
  /** What this node publishes of itself. */
  endpoints(): readonly string[];
  sendPacket(to: NodeId, payload: Uint8Array): void;
  hint(hint: Hint): void;
}

interface Observed {
  readonly endpoint: string;
  readonly atMs: number;
  /** Whoever said so. */
  readonly isKnown: boolean;
}

interface Memory {
  trafficBytes: number;
  failures: number;
  calledAtMs: number;
  heardAtMs: number;
  /** Of this node's last call, until it was answered. */
  nonce: string | undefined;
  /** Called or was called, and no link came of it yet. */
  isTried: boolean;
  isPunched: boolean;
}

export class Punching {
  readonly #deps: PunchDeps;
  readonly #networkHash: Uint8Array;
  /** By the neighbour that said so, newest last. */
  readonly #observed = new SharedMap<NodeId, Observed>({ name: "own addresses as told", max: OBSERVED_MAX });
  readonly #told = new WeakMap<Session, { readonly endpoint: string; readonly atMs: number }>();
  readonly #memories = new BoundedMap<NodeId, Memory>({ name: "punched members", max: REMEMBERED_MAX });
  readonly #heard: TokenBucket;
  readonly #checked: TokenBucket;
  readonly #counter;
  #hasRounds = false;

  constructor(deps: PunchDeps) {
    this.#deps = deps;
    this.#networkHash = createHash("sha256").update(deps.network).digest();
    this.#heard = new TokenBucket(deps.clock, HEARD_PER_SECOND, HEARD_BURST);
    this.#checked = new TokenBucket(deps.clock, CHECKED_PER_SECOND, CHECKED_PER_SECOND);
    this.#counter = deps.metrics.counter("godwit_punches_total");
  }

  /** A link came up, or its far end was heard: it is told where we see it, when that is new and now and then. */
  tell(session: Session): void {
    const endpoint = session.remoteEndpoint;
    if (session.isReliable || !isCallable(endpoint)) return;
    const atMs = this.#deps.clock.monotonicMs();
    const told = this.#told.get(session);
    if (told?.endpoint === endpoint && atMs - told.atMs < TELL_AGAIN_MS) return;
    this.#told.set(session, { endpoint, atMs });
    session.send(encodeObserved(endpoint));
  }

  /** Throws GODWIT_DECODE. */
  onObserved(from: NodeId, frame: Uint8Array): void {
    const endpoint = decodeObserved(frame);
    const share = this.#deps.regard.shareOf(from);
    const { isKnown } = share;
    this.#observed.set(from, { endpoint, isKnown, atMs: this.#deps.clock.monotonicMs() }, share);
    if (this.#hasRounds) return;
    this.#hasRounds = true;
    this.#deps.clock.after(ROUND_MS, () => this.#round());
  }

  /** Something went towards a member. */
  noteTraffic(to: NodeId, bytes: number): void {
    if (this.#observed.size > 0) this.#memory(to).trafficBytes += bytes;
  }

  onNeighbourUp(id: NodeId): void {
    const memory = this.#memories.get(id);
    if (memory === undefined || !(memory.isTried || memory.isPunched)) return;
    memory.nonce = undefined;
    memory.isTried = false;
    memory.failures = 0;
    memory.isPunched = true;
    this.#counter.add(1, { outcome: "linked" });
  }

  /** A routed packet of kind 5; its source is what it says only if the signature is right. Throws GODWIT_DECODE. */
  onPacket(source: NodeId, payload: Uint8Array): void {
    const { step, nonce, endpoints, body, signature } = decodePunch(payload);
    const { clock, isBlocked, isNeighbour, verify, self } = this.#deps;
    if (source === self || isBlocked(source) || isNeighbour(source) || !this.#checked.take()) return;
    if (!verify(source, punchMessage(this.#networkHash, source, self, body), signature))
      return this.#counter.add(1, { outcome: "forged" });
    const memory = this.#memory(source);
    if (step === PunchStep.answer) {
      const isLate = clock.monotonicMs() - memory.calledAtMs > ATTEMPT_MS;
      if (memory.nonce !== formatHex(nonce) || isLate) return;
      // One answer to a call: whoever answers on and on must not make this node dial without bound.
      memory.nonce = undefined;
      return this.#dial(source, endpoints);
    }
    const nowMs = clock.monotonicMs();
    if (nowMs - memory.heardAtMs < HEARD_EVERY_MS || !this.#heard.take())
      return this.#counter.add(1, { outcome: "limited" });
    memory.heardAtMs = nowMs;
    const own = this.#ownEndpoints();
    if (own.length === 0) return;
    memory.isTried = true;
    this.#send(source, PunchStep.answer, nonce, own);
    this.#dial(source, endpoints);
  }

  #round(): void {
    this.#deps.clock.after(ROUND_MS, () => this.#round());
    const { clock, self, members, isNeighbour, isBlocked } = this.#deps;
    const nowMs = clock.monotonicMs();
    const own = this.#ownEndpoints();
    if (own.length === 0) return;
    const candidates: PunchCandidate[] = [];
    let punched = 0;
    for (const id of members()) {
      const memory = this.#memories.get(id);
      if (isNeighbour(id)) punched += memory?.isPunched === true ? 1 : 0;
      else if (id !== self && !isBlocked(id)) candidates.push({ id, ...(memory ?? NOTHING) });
    }
    for (const memory of this.#memories.values()) memory.trafficBytes = Math.floor(memory.trafficBytes / 2);
    for (const id of planPunches({ self, nowMs, punched, candidates })) {
      const memory = this.#memory(id);
      const nonce = this.#deps.random.bytes(PUNCH_NONCE_BYTES);
      memory.nonce = formatHex(nonce);
      memory.isTried = true;
      memory.calledAtMs = nowMs;
      // Until a link says otherwise.
      memory.failures++;
      this.#counter.add(1, { outcome: "called" });
      this.#send(id, PunchStep.call, nonce, own);
    }
  }

  #send(to: NodeId, step: PunchStepCode, nonce: Uint8Array, endpoints: readonly string[]): void {
    const { self, sign, sendPacket } = this.#deps;
    const body = encodePunch({ step, nonce, endpoints });
    const signature = sign(punchMessage(this.#networkHash, self, to, body));
    sendPacket(to, Buffer.concat([body, signature]));
  }

  /** What others saw first, known ones before strangers: that is what a NAT lets in; then what we publish, for a peer on our side of it. */
  #ownEndpoints(): string[] {
    const sinceMs = this.#deps.clock.monotonicMs() - OBSERVED_LIFETIME_MS;
    const newest = [...this.#observed.values()].filter(({ atMs }) => atMs >= sinceMs).reverse();
    const seen = [...newest.filter(({ isKnown }) => isKnown), ...newest.filter(({ isKnown }) => !isKnown)];
    const all = [...seen.map(({ endpoint }) => endpoint), ...this.#deps.endpoints().filter(isCallable)];
    return [...new Set(all)].slice(0, PUNCH_ENDPOINTS_MAX);
  }

  #dial(nodeId: NodeId, endpoints: readonly string[]): void {
    this.#deps.log.debug("dialling through NATs", { peer: shortId(nodeId), endpoints });
    for (const endpoint of endpoints) this.#deps.hint({ endpoint, nodeId, lifetimeMs: ATTEMPT_MS });
  }

  #memory(id: NodeId): Memory {
    const memory = this.#memories.get(id) ?? { ...NOTHING };
    this.#memories.renew(id, memory);
    return memory;
  }
}

const NOTHING: Readonly<Memory> = {
  trafficBytes: 0,
  failures: 0,
  calledAtMs: -RETRY_FIRST_MS,
  heardAtMs: Number.NEGATIVE_INFINITY,
  nonce: undefined,
  isTried: false,
  isPunched: false,
};
