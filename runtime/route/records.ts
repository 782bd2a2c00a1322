/**
 * Fetches node records that proofs name by hash, from the neighbours that advertised them, so that A learns C's key
 * through B. The bytes are opaque here: only their hash is checked before they are handed on. At most
 * RECORD_REQUESTS_MAX under way; the rest waits in the table. docs/protocol/routing.md "Records".
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Share } from "../kernel/room.ts";
import {
  decodeRecordReply,
  decodeRecordRequest,
  encodeRecordReply,
  encodeRecordRequest,
} from "../wire/route-messages.ts";
import type { RouteCore } from "./core.ts";
import {
  RECORD_ASKERS_MAX,
  RECORD_CARRIED_TIMEOUT_MS,
  RECORD_REQUESTS_MAX,
  RECORD_REST_MS,
  RECORD_SLOW_TIMEOUT_MS,
  RECORD_TIMEOUT_MS,
  RECORD_TRIES,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import { recordHash } from "./origin.ts";
import type { Destination } from "./table.ts";
import type { Airtime } from "./requests.ts";

/** Requests of what one source of strangers advertises. */
const RECORD_REQUESTS_PER_SOURCE_MAX = (RECORD_REQUESTS_MAX * 3) / 4;
/** Waiting ones looked at in one event of the router, and of those behind the last that was asked for. */
const WAITING_LOOKED_AT_MAX = 256;
const WAITING_LOOKED_AT_BEHIND = 16;
/** Neighbours that advertise a destination of which the source is looked at; the next time the ones behind them. */
const CANDIDATES_LOOKED_AT_MAX = 8;
/** Whom this node knows, as a source of its own. */
const KEPT = "kept";

interface Pending {
  readonly hash: Uint8Array;
  /** Of the neighbour that brought the destination. */
  readonly source: string;
  tries: number;
  dueAtMs: number;
}

export class RecordFetcher {
  readonly #core: RouteCore;
  readonly #mayUseAirtime: Airtime;
  readonly #pending = new Map<Destination, Pending>();
  readonly #perSource = new Map<string, number>();
  /** Wanted, in the order they will be asked for; destinations of the table only. */
  readonly #waiting = new Set<Destination>();
  /** Of them those that somebody here waits for: asked for first and past every bound, for there are few. */
  readonly #urgent = new Set<Destination>();
  /** Neighbours that asked for what was not here yet: they get it when it comes, or it would cross a mesh one rest a hop. */
  readonly #askers = new Map<Destination, Set<NodeId>>();
  /** Nobody answered: left alone until the rest is over. */
  readonly #resting = new Set<Destination>();
  /** Times that nobody answered, so that others are asked next. */
  readonly #rounds = new WeakMap<Destination, number>();
  /** Waiting ones looked at in a row that may not be asked for before a request ends; all of them: nobody is looked at. */
  #fruitless = 0;
  #look = 0;
  #timer: Timer | undefined;
  #restTimer: Timer | undefined;

  constructor(core: RouteCore, mayUseAirtime: Airtime) {
    this.#core = core;
    this.#mayUseAirtime = mayUseAirtime;
  }

  /** A proof for the destination was accepted: is its record here? */
  want(destination: Destination): void {
    if (this.#isHere(destination)) return;
    this.#resting.delete(destination);
    const pending = this.#pending.get(destination);
    if (pending !== undefined) {
      if (isEqual(pending.hash, destination.proof!.recordHash)) return;
      this.#end(destination);
    }
    this.#waiting.add(destination);
    if (this.#core.deps.regard?.worthOf(destination.id) === "kept") this.#urgent.add(destination);
    else if (!this.#isFull(this.#sourceOf(destination))) this.#fruitless = 0;
  }

  /** Sends what may be sent. Called when an event of the router ends: before that nobody is known to advertise what is new. */
  run(): void {
    for (const destination of this.#urgent) {
      this.#waiting.delete(destination);
      if (!this.#isHere(destination)) this.#begin(destination, KEPT);
    }
    this.#urgent.clear();
    if (this.#fruitless >= this.#waiting.size) return;
    let looks = Math.min(this.#waiting.size, WAITING_LOOKED_AT_MAX);
    let behind = WAITING_LOOKED_AT_MAX;
    for (const destination of this.#waiting) {
      if (this.#pending.size >= RECORD_REQUESTS_MAX || looks-- === 0 || behind-- === 0) break;
      this.#waiting.delete(destination);
      if (this.#isHere(destination)) continue;
      const source = this.#sourceOf(destination);
      // Whoever advertises thousands without records must not keep those of others waiting.
      if (this.#isFull(source)) {
        this.#waiting.add(destination);
        this.#fruitless++;
      } else {
        this.#begin(destination, source);
        this.#fruitless = 0;
        behind = WAITING_LOOKED_AT_BEHIND;
      }
    }
  }

  #isFull(source: string): boolean {
    return (this.#perSource.get(source) ?? 0) >= RECORD_REQUESTS_PER_SOURCE_MAX;
  }

  #begin(destination: Destination, source: string): void {
    const pending = { hash: destination.proof!.recordHash, source, tries: 0, dueAtMs: 0 };
    this.#pending.set(destination, pending);
    this.#perSource.set(source, (this.#perSource.get(source) ?? 0) + 1);
    this.#ask(destination, pending);
  }

  #end(destination: Destination): void {
    const pending = this.#pending.get(destination);
    if (pending === undefined) return;
    this.#pending.delete(destination);
    this.#fruitless = 0;
    const left = (this.#perSource.get(pending.source) ?? 1) - 1;
    if (left > 0) this.#perSource.set(pending.source, left);
    else this.#perSource.delete(pending.source);
  }

  /** Of those that advertise it, the first that may ask: one who repeats what another advertises must not make that wait with it. */
  #sourceOf({ list }: Destination): string {
    const { candidates } = this.#core.table;
    const looks = Math.min(list.rows, CANDIDATES_LOOKED_AT_MAX);
    let first: string | undefined;
    for (let look = 0; look < looks; look++) {
      const source = this.#shareOf(candidates.nthNeighbour(list, this.#look++ % list.rows)).by;
      if (!this.#isFull(source)) return source;
      first ??= source;
    }
    return first ?? "nobody";
  }

  #shareOf({ id }: Neighbour): Share {
    return this.#core.deps.regard?.shareOf(id) ?? { by: id, isKnown: false };
  }

  #isHere(destination: Destination): boolean {
    const { proof } = destination;
    if (proof === undefined || proof.recordHash.every((byte) => byte === 0)) return true;
    const known = this.#core.deps.knownRecord(destination.id);
    return known !== undefined && isEqual(known.hash, proof.recordHash);
  }

  #ask(destination: Destination, pending: Pending): void {
    const target = this.#targetOf(destination, pending.tries);
    pending.tries++;
    pending.dueAtMs = this.#core.now() + RECORD_TIMEOUT_MS;
    this.#timer ??= this.#core.after(RECORD_TIMEOUT_MS, () => this.#onTimer());
    if (target === undefined) return;
    const frame = encodeRecordRequest({ destination: destination.id, recordHash: pending.hash });
    if (!target.hasTable) {
      const isCarried = target.link.takesBulk === true;
      pending.dueAtMs = this.#core.now() + (isCarried ? RECORD_CARRIED_TIMEOUT_MS : RECORD_SLOW_TIMEOUT_MS);
      if (!this.#mayUseAirtime(target, frame.length)) return;
    }
    this.#core.deps.send(target.id, frame);
  }

  /**
   * Its owner first, over whatever link: others may have just the one before. Then known ones, then source by source: a crowd of one address that advertises
   * it and has no record takes one turn of several.
   */
  #targetOf(destination: Destination, tries: number): Neighbour | undefined {
    const owner = this.#core.neighbours.get(destination.id);
    const round = this.#rounds.get(destination) ?? 0;
    const ownersTries = owner === undefined || !isTurnOf(owner, round) ? 0 : 1;
    if (tries < ownersTries) return owner;
    const known: Neighbour[][] = [];
    const strangers = new Map<string, Neighbour[]>();
    for (const neighbour of this.#core.table.tellersOf(destination)) {
      if (!neighbour.hasTable || neighbour === owner) continue;
      const { by, isKnown } = this.#shareOf(neighbour);
      const ofSource = strangers.get(by);
      if (isKnown) known.push([neighbour]);
      else if (ofSource === undefined) strangers.set(by, [neighbour]);
      else ofSource.push(neighbour);
    }
    const groups = [...known, ...strangers.values()];
    const turn = round * (RECORD_TRIES - ownersTries) + tries - ownersTries;
    const group = groups[turn % Math.max(groups.length, 1)];
    return group?.[round % group.length];
  }

  #onTimer(): void {
    this.#timer = undefined;
    const nowMs = this.#core.now();
    let nextAtMs = Number.POSITIVE_INFINITY;
    for (const [destination, pending] of this.#pending) {
      if (pending.dueAtMs <= nowMs) {
        // It may have come with a link.
        if (this.#isHere(destination))
          this.#onHere(destination, this.#core.deps.knownRecord(destination.id)!.bytes);
        else if (pending.tries >= RECORD_TRIES) this.#rest(destination);
        else this.#ask(destination, pending);
      }
      if (this.#pending.has(destination)) nextAtMs = Math.min(nextAtMs, pending.dueAtMs);
    }
    if (this.#timer === undefined && Number.isFinite(nextAtMs))
      this.#timer = this.#core.after(Math.max(nextAtMs - nowMs, 1), () => this.#onTimer());
  }

  #rest(destination: Destination): void {
    this.#end(destination);
    this.#rounds.set(destination, (this.#rounds.get(destination) ?? 0) + 1);
    this.#resting.add(destination);
    this.#restTimer ??= this.#core.after(RECORD_REST_MS, () => {
      this.#restTimer = undefined;
      for (const resting of this.#resting) this.#waiting.add(resting);
      this.#resting.clear();
    });
  }

  handleRequest(from: Neighbour, frame: Uint8Array): void {
    const { destination, recordHash: wanted } = decodeRecordRequest(frame);
    const { deps } = this.#core;
    const record = destination === deps.self ? deps.ownRecord() : deps.knownRecord(destination)?.bytes;
    // The hash is checked on the bytes: what is stored under a name may have moved on.
    if (record === undefined || !isEqual(recordHash(record), wanted))
      return this.#noteAsker(from, destination);
    const reply = encodeRecordReply({ destination, record });
    if (!from.hasTable && !this.#mayUseAirtime(from, reply.length)) return;
    deps.send(from.id, reply);
  }

  handleReply(from: Neighbour, frame: Uint8Array): void {
    const { destination: id, record } = decodeRecordReply(frame);
    const destination = this.#core.table.get(id);
    if (destination === undefined || !this.#isWanted(destination, recordHash(record)))
      return this.#core.drop("record-unasked");
    if (this.#core.deps.onRecord(id, record, from.id)) {
      this.#onHere(destination, record);
    } else {
      // The originator signed a hash of something invalid: nobody else has better.
      this.#core.drop("record-invalid");
      this.#rest(destination);
    }
  }

  /** Asked for, now or before a rest: a neighbour that had it not then sends it late. */
  #isWanted(destination: Destination, hash: Uint8Array): boolean {
    const pending = this.#pending.get(destination);
    if (pending !== undefined) return isEqual(hash, pending.hash);
    const { proof } = destination;
    return this.#resting.has(destination) && proof !== undefined && isEqual(hash, proof.recordHash);
  }

  #noteAsker(from: Neighbour, id: NodeId): void {
    const destination = this.#core.table.get(id);
    if (destination === undefined || destination === this.#core.self) return;
    const askers = this.#askers.get(destination) ?? new Set<NodeId>();
    if (askers.size < RECORD_ASKERS_MAX) askers.add(from.id);
    this.#askers.set(destination, askers);
  }

  #onHere(destination: Destination, record: Uint8Array): void {
    this.#end(destination);
    this.#rounds.delete(destination);
    this.#waiting.delete(destination);
    this.#resting.delete(destination);
    this.#passOn(destination, record);
  }

  #passOn(destination: Destination, record: Uint8Array): void {
    const askers = this.#askers.get(destination);
    if (askers === undefined) return;
    this.#askers.delete(destination);
    const reply = encodeRecordReply({ destination: destination.id, record });
    for (const id of askers) {
      const neighbour = this.#core.neighbours.get(id);
      if (neighbour === undefined) continue;
      if (neighbour.hasTable || this.#mayUseAirtime(neighbour, reply.length)) this.#core.deps.send(id, reply);
    }
  }

  forgetDestination(destination: Destination): void {
    this.#askers.delete(destination);
    this.#end(destination);
    this.#waiting.delete(destination);
    this.#urgent.delete(destination);
    this.#resting.delete(destination);
  }

  close(): void {
    this.#timer?.cancel();
    this.#restTimer?.cancel();
  }
}

/** A record may be wider than a slow link is: its owner is asked there after pauses that double. */
const isTurnOf = ({ hasTable }: Neighbour, round: number): boolean => hasTable || (round & (round - 1)) === 0;

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
