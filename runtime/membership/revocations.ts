/**
 * How revocations reach everybody, those included who come later: a new one goes to every neighbour at once, and two
 * neighbours whose sets differ compare lists and push what the other lacks. Owns no revocation, the record book does;
 * must never pass on one that was not verified here. docs/protocol/records.md "Spreading".
 */
import { createHash } from "node:crypto";
import type { Clock, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { HeldRecord, RecordBook } from "./records.ts";
import { FrameType } from "../wire/constants.ts";
import {
  decodeRevocationDigest,
  decodeRevocationFrame,
  decodeRevocationList,
  encodeRevocationDigest,
  encodeRevocationFrame,
  encodeRevocationList,
  REVOCATION_DIGEST_BYTES,
  REVOCATION_LIST_HEAD_BYTES,
  REVOCATION_NAME_BYTES,
  type RevocationDigest,
  type RevocationList,
} from "../wire/revocation-messages.ts";

/** Neighbours are told the digest again this often while anything is revoked: what a lost frame left out heals, ms. */
export const DIGEST_EVERY_MS = 3_600_000;
/** Revocations pushed in answer to one list; what is left follows the next digest. */
export const PUSHES_MAX = 256;
/** Signatures checked for neighbours a second, and at once. */
const CHECKS_PER_SECOND = 100;
const CHECKS_BURST = 2_000;
/** Digests of one neighbour are answered at most this often while nothing new came, ms. */
const LISTS_EVERY_MS = 1_000;

/** A list that a large frame could hold is split all the same, so that other control traffic passes in between. */
const LIST_BYTES_MAX = 16_384;

const NAME_FIRST = "00".repeat(REVOCATION_NAME_BYTES);
const NAME_LAST = "ff".repeat(REVOCATION_NAME_BYTES);

export interface RevocationSpreadDeps {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly records: RecordBook;
  /** On the control lane. False: no room or no link. */
  send(to: NodeId, frame: Uint8Array): boolean;
  /** 0 without link. */
  frameBytesMax(to: NodeId): number;
}

interface NeighbourState {
  /** Names that it was given: if it still lacks one, it refused it. Tried again with the next hourly digest. */
  readonly pushed: Set<string>;
  listedAtMs: number;
  listedSize: number;
  /** Something for it was refused: it is compared with as soon as it takes frames again. */
  isBehind: boolean;
}

/** What is told of all revocations together. */
interface Summary {
  readonly version: number;
  /** By name. */
  readonly named: readonly { readonly name: string; readonly bytes: Uint8Array }[];
  readonly digest: RevocationDigest;
}

const nameOf = (id: NodeId): string =>
  Buffer.from(nodeIdBytes(id).subarray(0, REVOCATION_NAME_BYTES)).toString("hex");

export class RevocationSpread {
  readonly #deps: RevocationSpreadDeps;
  readonly #neighbours = new Map<NodeId, NeighbourState>();
  readonly #checks: TokenBucket;
  readonly #refused;
  #summary: Summary | undefined;
  #timer: Timer | undefined;

  constructor(deps: RevocationSpreadDeps) {
    this.#deps = deps;
    this.#checks = new TokenBucket(deps.clock, CHECKS_PER_SECOND, CHECKS_BURST);
    this.#refused = deps.metrics.counter("godwit_revocations_refused_total");
    deps.metrics.observedGauge("godwit_revocations", () => deps.records.revocations.size);
  }

  onNeighbourUp(id: NodeId): void {
    this.#neighbours.set(id, {
      pushed: new Set(),
      listedAtMs: Number.NEGATIVE_INFINITY,
      listedSize: 0,
      isBehind: false,
    });
    this.#sendDigest(id);
    this.#watch();
  }

  onNeighbourDown(id: NodeId): void {
    this.#neighbours.delete(id);
  }

  /** A neighbour takes frames again. */
  onWritable(id: NodeId): void {
    const state = this.#neighbours.get(id);
    if (state?.isBehind !== true) return;
    state.isBehind = false;
    // What it was told before counts for nothing: an answer of either end may be what was lost.
    state.listedAtMs = Number.NEGATIVE_INFINITY;
    this.#sendDigest(id);
  }

  /** The record book took one: everybody near is told. */
  onRevoked({ record, bytes }: HeldRecord): void {
    const name = nameOf(record.id);
    for (const [id, state] of this.#neighbours) this.#push(id, state, name, bytes);
    this.#watch();
  }

  /** A frame of types 0x50 to 0x52. Borrowed. Throws GODWIT_DECODE. */
  onFrame(from: NodeId, type: number, frame: Uint8Array): void {
    const state = this.#neighbours.get(from);
    if (state === undefined) return;
    if (type === FrameType.revocationDigest) {
      const { digest, count } = decodeRevocationDigest(frame);
      const own = this.#summarize().digest;
      if (count !== own.count || Buffer.compare(digest, own.digest) !== 0) this.#sendLists(from, state);
    } else if (type === FrameType.revocationList) this.#onList(from, state, decodeRevocationList(frame));
    else if (type === FrameType.revocation) this.#onRevocation(from, decodeRevocationFrame(frame));
  }

  /** Pushes what the sender of the list lacks. What it has beyond ours comes in answer to our own list. */
  #onList(from: NodeId, state: NeighbourState, { first, last, names }: RevocationList): void {
    const theirs = new Set(names);
    let pushes = 0;
    for (const { name, bytes } of this.#summarize().named) {
      if (name < first || name > last || theirs.has(name) || state.pushed.has(name)) continue;
      if (pushes >= PUSHES_MAX) return this.#sendDigest(from);
      if (!this.#push(from, state, name, bytes)) return;
      pushes++;
    }
  }

  #onRevocation(teller: NodeId, bytes: Uint8Array): void {
    if (!this.#checks.take()) return this.#refused.add(1, { reason: "rate" });
    const outcome = this.#deps.records.offer(bytes, { teller });
    if (outcome === "invalid" || outcome === "full") this.#refused.add(1, { reason: outcome });
  }

  #push(to: NodeId, state: NeighbourState, name: string, bytes: Uint8Array): boolean {
    const frame = encodeRevocationFrame(bytes);
    if (!this.#send(to, frame)) return false;
    state.pushed.add(name);
    return true;
  }

  #send(to: NodeId, frame: Uint8Array): boolean {
    const isSent = this.#deps.send(to, frame);
    const state = this.#neighbours.get(to);
    // Too wide stays too wide: only what waits for room is worth another try before the next hourly digest.
    if (!isSent && state !== undefined && frame.length <= this.#deps.frameBytesMax(to)) state.isBehind = true;
    return isSent;
  }

  #sendDigest(to: NodeId): void {
    // Whoever holds none has nothing to tell, and is told by those who do.
    if (this.#deps.records.revocations.size > 0)
      this.#send(to, encodeRevocationDigest(this.#summarize().digest));
  }

  /** All names, in as many frames as the link needs, which together cover the whole range. */
  #sendLists(to: NodeId, state: NeighbourState): void {
    const nowMs = this.#deps.clock.monotonicMs();
    const { size } = this.#deps.records.revocations;
    if (nowMs - state.listedAtMs < LISTS_EVERY_MS && state.listedSize === size) return;
    Object.assign(state, { listedAtMs: nowMs, listedSize: size });
    const names = this.#summarize().named.map(({ name }) => name);
    const room = Math.min(this.#deps.frameBytesMax(to), LIST_BYTES_MAX) - REVOCATION_LIST_HEAD_BYTES;
    const perFrame = Math.max(1, Math.floor(room / REVOCATION_NAME_BYTES));
    let first = NAME_FIRST;
    for (let at = 0; at === 0 || at < names.length; at += perFrame) {
      const part = names.slice(at, at + perFrame);
      const last = at + perFrame >= names.length ? NAME_LAST : part.at(-1)!;
      this.#send(to, encodeRevocationList({ first, last, names: part }));
      first = nextName(last);
    }
  }

  /** Made anew only when there is another revocation: frames that ask for it, and links, cost nothing to make. */
  #summarize(): Summary {
    const { revocations, revocationsVersion: version } = this.#deps.records;
    if (this.#summary?.version === version) return this.#summary;
    const named = [...revocations].map(([id, { bytes }]) => ({ name: nameOf(id), bytes }));
    named.sort((a, b) => (a.name < b.name ? -1 : 1));
    return (this.#summary = { version, named, digest: revocationDigest(revocations.keys()) });
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#deps.records.revocations.size === 0) return;
    this.#timer = this.#deps.clock.after(DIGEST_EVERY_MS, () => {
      this.#timer = undefined;
      for (const [id, state] of this.#neighbours) {
        state.pushed.clear();
        this.#sendDigest(id);
      }
      this.#watch();
    });
  }
}

/** Of the ids of the revoked, in any order. */
export function revocationDigest(ids: Iterable<NodeId>): RevocationDigest {
  const sorted = [...ids].sort((a, b) => Buffer.compare(nodeIdBytes(a), nodeIdBytes(b)));
  const hash = createHash("sha256");
  for (const id of sorted) hash.update(nodeIdBytes(id));
  return {
    count: sorted.length,
    digest: new Uint8Array(hash.digest().subarray(0, REVOCATION_DIGEST_BYTES)),
  };
}

const nextName = (name: string): string => {
  const next = (BigInt(`0x${name}`) + 1n).toString(16);
  return next.length > name.length ? name : next.padStart(name.length, "0");
};
