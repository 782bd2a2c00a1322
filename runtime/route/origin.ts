/**
 * This node as a destination: its sequence number, raised by nobody else, at a limited rate, and the proof of it. Must
 * never lower it. docs/protocol/routing.md "Sequence numbers".
 */
import { createHash } from "node:crypto";
import type { Timer } from "@godwit/sdk";
import {
  MTU_MAX,
  RECORD_HASH_BYTES,
  SEQNO_MAX,
  seqnoSigningBytes,
  type SeqnoProof,
} from "../wire/route-messages.ts";
import type { RouteCore } from "./core.ts";
import { SEQNO_BURST, SEQNO_REFILL_MS } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";

const COUNTER_SPAN = 2 ** 24;
/** A number that two lives shall not have in common is drawn from this many. */
const DRAWN_SPAN = 2 ** 16;
export const epochOf = (seqno: number): number => Math.floor(seqno / COUNTER_SPAN);

/** First 8 bytes of SHA-256. */
export const recordHash = (record: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha256").update(record).digest().subarray(0, RECORD_HASH_BYTES));

export class Origin {
  readonly #core: RouteCore;
  #seqno: number;
  #tokens = SEQNO_BURST;
  #tokensAtMs: number;
  #raiseTimer: Timer | undefined;
  readonly #askers = new Set<Neighbour>();
  /** A neighbour asks for a number that it could have by now. Set by who tells slow neighbours, who get no updates. */
  onAskedAgain: (asker: Neighbour) => void = () => {};

  constructor(core: RouteCore) {
    this.#core = core;
    this.#seqno = core.deps.bootEpoch * COUNTER_SPAN;
    this.#tokensAtMs = core.now();
    this.#publish();
  }

  get seqno(): number {
    return this.#seqno;
  }

  /** The signed node record has changed: its hash travels with a new sequence number. */
  recordChanged(): void {
    this.#raiseSoon();
  }

  /** A neighbour needs `seqno` or newer from us; one raise serves all who asked. */
  request(seqno: number, asker: Neighbour): void {
    if (seqno <= this.#seqno) {
      this.#core.tellNow(this.#core.self, asker);
      return this.onAskedAgain(asker);
    }
    this.#askers.add(asker);
    this.#raiseSoon();
  }

  /** A proof that carries our own id. A newer one is from another life: go above it, or leave it to that one. */
  hear(proof: SeqnoProof): void {
    if (proof.seqno <= this.#seqno) return;
    const { deps } = this.#core;
    const signed = seqnoSigningBytes(deps.network, deps.self, proof.seqno, proof.recordHash);
    if (!deps.verify(deps.self, signed, proof.signature)) return this.#core.drop("bad-proof");
    const epoch = deps.outrun(epochOf(proof.seqno));
    if (epoch === undefined) return;
    this.#seqno = Math.min(Math.max(epoch * COUNTER_SPAN + this.#drawn(), proof.seqno + 1), SEQNO_MAX);
    deps.log.warn("own sequence number was behind", { heard: proof.seqno, now: this.#seqno });
    this.#publish();
  }

  /** Neighbours had the time to say what they remember: from here on this run's numbers are its own. */
  settle(): void {
    this.#seqno = Math.min(this.#seqno + this.#drawn(), SEQNO_MAX);
    this.#publish();
  }

  forget(neighbour: Neighbour): void {
    this.#askers.delete(neighbour);
  }

  close(): void {
    this.#raiseTimer?.cancel();
  }

  #drawn(): number {
    return 1 + this.#core.deps.random.below(DRAWN_SPAN);
  }

  #raiseSoon(): void {
    if (this.#raiseTimer !== undefined) return;
    const nowMs = this.#core.now();
    const refill = (nowMs - this.#tokensAtMs) / SEQNO_REFILL_MS;
    this.#tokens = Math.min(SEQNO_BURST, this.#tokens + refill);
    this.#tokensAtMs = nowMs;
    if (this.#tokens >= 1) return this.#raise();
    this.#raiseTimer = this.#core.after((1 - this.#tokens) * SEQNO_REFILL_MS + 1, () => {
      this.#raiseTimer = undefined;
      this.#raiseSoon();
    });
  }

  #raise(): void {
    this.#tokens--;
    if (this.#seqno >= SEQNO_MAX) return;
    this.#seqno++;
    this.#publish();
  }

  /** Signs the present number and tells everybody, those who asked at once. */
  #publish(): void {
    const { deps, self, neighbours } = this.#core;
    const record = deps.ownRecord();
    const hash = record === undefined ? new Uint8Array(RECORD_HASH_BYTES) : recordHash(record);
    const signature = deps.sign(seqnoSigningBytes(deps.network, deps.self, this.#seqno, hash));
    self.proof = { seqno: this.#seqno, recordHash: hash, signature };
    this.#core.onNewProof(self);
    self.verifiedSeqno = this.#seqno;
    const route = { seqno: this.#seqno, metric: 0, mtu: MTU_MAX, bottleneck: 0 } as const;
    self.any.selected = self.bulk.selected = route;
    for (const neighbour of neighbours.values()) {
      if (this.#askers.has(neighbour)) this.#core.tellNow(self, neighbour);
      else this.#core.tellSoon(self, neighbour);
    }
    this.#askers.clear();
    for (const watcher of this.#core.watchers) watcher(self);
  }
}
