/**
 * Reads table updates into the table: proofs, bounds, serials. An entry that is not believed changes nothing. One
 * unchanged entry costs a look-up and a comparison. docs/protocol/routing.md "Updates".
 */
import { nodeIdBytes } from "../kernel/ids.ts";
import {
  decodeUpdateHeader,
  encodeRouteAck,
  METRIC_INFINITE,
  readUpdateEntry,
  seqnoSigningBytes,
  UNREACHABLE,
  type PlaneRoute,
  type SeqnoProof,
  type UpdateEntry,
} from "../wire/route-messages.ts";
import type { NodeId } from "../kernel/ids.ts";
import { NO_ROW } from "./candidates.ts";
import type { Adjacencies } from "./adjacency.ts";
import type { RouteCore } from "./core.ts";
import {
  BAD_PROOF_BURST,
  BAD_PROOF_REFILL_MS,
  UPDATE_BURST_BYTES,
  UPDATE_BYTES_PER_SECOND,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Origin } from "./origin.ts";
import type { Destination } from "./table.ts";

/** What a signature counts as where bytes of frames are counted: the first check of an id leaves twice that behind, in numbers of 255 bits. */
const CHECK_BYTES = 16 * 1_024;

export class UpdateReceiver {
  readonly #core: RouteCore;
  readonly #adjacencies: Adjacencies;
  readonly #origin: Origin;
  /** A tombstone was left: ask for a sweep. Set by the router. */
  onTombstone: () => void = () => {};
  /** A proof with a record hash was accepted from that neighbour. Set by the router. */
  onProof: (destination: Destination, from: Neighbour) => void = () => {};

  constructor(core: RouteCore, adjacencies: Adjacencies, origin: Origin) {
    this.#core = core;
    this.#adjacencies = adjacencies;
    this.#origin = origin;
  }

  handleUpdate(from: Neighbour, frame: Uint8Array): void {
    if (!this.#mayRead(from, frame.length)) return this.#core.drop("update-budget");
    const { tag, serial, entries } = decodeUpdateHeader(frame);
    if (!this.#adjacencies.admit(from, tag)) return;
    while (entries.remaining > 0) this.#apply(from, serial, readUpdateEntry(entries));
    if (serial > from.newestSerial) from.newestSerial = serial;
    this.#core.deps.send(from.id, encodeRouteAck({ tag: from.peerTag, serial }));
  }

  /** One neighbour that floods must not cost the others their share of this node's time. */
  #mayRead(from: Neighbour, bytes: number): boolean {
    const nowMs = this.#core.now();
    const paid = ((nowMs - from.updateBytesAtMs) / 1_000) * UPDATE_BYTES_PER_SECOND;
    from.updateBytes = Math.max(0, from.updateBytes - paid);
    from.updateBytesAtMs = nowMs;
    if (from.updateBytes + bytes > UPDATE_BURST_BYTES) return false;
    from.updateBytes += bytes;
    return true;
  }

  #apply(from: Neighbour, serial: number, entry: UpdateEntry): void {
    const { table, self } = this.#core;
    const { candidates } = table;
    if (entry.destination === self.id) {
      if (entry.proof !== undefined) this.#origin.hear(entry.proof);
      return;
    }
    const destination = table.get(entry.destination) ?? this.#admitDestination(from, entry);
    if (destination === undefined) return;
    const { list } = destination;
    const row = candidates.find(list, from);
    if (row !== NO_ROW && serial <= candidates.serialAt(row)) return this.#core.drop("stale");
    if (entry.proof !== undefined && !this.learnProof(destination, entry.proof, from)) return;
    const { any, bulk } = entry;
    if (!isCovered(any.metric, any.seqno, destination) || !isCovered(bulk.metric, bulk.seqno, destination))
      return this.#refuseUnproven(from, destination.bucket);
    if (row !== NO_ROW) {
      if (candidates.isSameAt(list, row, any, bulk)) return candidates.setSerial(row, serial);
    } else {
      if (any === UNREACHABLE && bulk === UNREACHABLE) return;
      if (this.#isFullFor(from, entry.destination)) return this.#refuse(from, destination.bucket);
    }
    if (any === UNREACHABLE && bulk === UNREACHABLE) this.onTombstone();
    this.#core.put(destination, from, row, serial, any, bulk);
    if (any !== UNREACHABLE && any.seqno < destination.any.fdSeqno) this.#core.hintProof(destination, from);
  }

  /**
   * What a slow neighbour answered of a destination that it was asked for. Undefined: it is not believed, or finds no place, and nothing has
   * changed.
   */
  takeFound(
    from: Neighbour,
    id: NodeId,
    route: PlaneRoute,
    proof: SeqnoProof | undefined,
  ): Destination | undefined {
    if (id === this.#core.self.id) return undefined;
    const { candidates } = this.#core.table;
    const entry = { destination: id, any: route, bulk: UNREACHABLE, proof };
    const known = this.#core.table.get(id);
    if (known !== undefined && proof !== undefined && !this.learnProof(known, proof, from)) return undefined;
    const destination = known ?? this.#admitDestination(from, entry);
    if (destination === undefined) return undefined;
    const row = candidates.find(destination.list, from);
    if (!isCovered(route.metric, route.seqno, destination)) this.#core.drop("no-proof");
    else if (row === NO_ROW && this.#isFullFor(from, id)) this.#core.drop("table-full");
    else {
      this.#core.put(destination, from, row, ++from.newestSerial, route, UNREACHABLE);
      return destination;
    }
    return undefined;
  }

  /** A destination never heard of: only with a valid proof that covers it, and only while there is room. */
  #admitDestination(
    from: Neighbour,
    { destination: id, any, bulk, proof }: UpdateEntry,
  ): Destination | undefined {
    if (any === UNREACHABLE && bulk === UNREACHABLE) return undefined;
    const bucket = nodeIdBytes(id)[0]! & 15;
    if (proof === undefined) {
      this.#refuseUnproven(from, bucket);
      return undefined;
    }
    // A direct neighbour always fits: their number has its own bound, and those that left give way.
    if (this.#isFullFor(from, id) || !this.#core.hasRoomFor(id, from.id)) {
      this.#refuse(from, bucket);
      return undefined;
    }
    if (!this.#isValid(id, proof, from)) return undefined;
    const destination = this.#core.addDestination(id, from.id);
    this.#keepProof(destination, proof, from);
    this.onTombstone();
    return destination;
  }

  /**
   * Checks a proof if it is newer than the one that is held, and keeps it. A beacon may have told of the number before its
   * proof: an older proof than that is left. False: it is bad, or the neighbour has sent too many bad ones; nothing that
   * came with it may be used.
   */
  learnProof(destination: Destination, proof: SeqnoProof, from: Neighbour): boolean {
    if (destination.proof === undefined || proof.seqno > destination.proof.seqno) {
      if (proof.seqno < destination.verifiedSeqno) return true;
      if (!this.#isValid(destination.id, proof, from)) return false;
      this.#keepProof(destination, proof, from);
    }
    if (from.hasTable && proof.seqno === destination.proof?.seqno) from.noteProof(destination.slot);
    return true;
  }

  #keepProof(destination: Destination, proof: SeqnoProof, from: Neighbour): void {
    destination.verifiedSeqno = proof.seqno;
    destination.proof = {
      seqno: proof.seqno,
      recordHash: proof.recordHash.slice(),
      signature: proof.signature.slice(),
    };
    this.#core.onNewProof(destination);
    if (from.hasTable) from.noteProof(destination.slot);
    this.onProof(destination, from);
    // Towards the originator: if its epoch was lost, this is how it learns what it once said.
    const towards = destination.any.primary ?? this.#core.neighbours.get(destination.id);
    if (towards !== undefined && towards !== from) this.#core.hintProof(destination, towards);
  }

  #isValid(id: NodeId, proof: SeqnoProof, from: Neighbour): boolean {
    const nowMs = this.#core.now();
    from.badProofs = Math.max(0, from.badProofs - (nowMs - from.badProofAtMs) / BAD_PROOF_REFILL_MS);
    from.badProofAtMs = nowMs;
    if (from.badProofs >= BAD_PROOF_BURST) {
      this.#core.drop("proof-budget");
      return false;
    }
    const { network, verify, spend } = this.#core.deps;
    spend?.(CHECK_BYTES);
    if (verify(id, seqnoSigningBytes(network, id, proof.seqno, proof.recordHash), proof.signature))
      return true;
    from.badProofs++;
    this.#core.drop("bad-proof");
    return false;
  }

  #isFullFor(from: Neighbour, id: NodeId): boolean {
    return id !== from.id && from.rows >= this.#core.limits.destinationsPerNeighbourMax;
  }

  #refuse(from: Neighbour, bucket: number): void {
    this.#core.drop("table-full");
    this.#adjacencies.noteRefused(from, bucket);
  }

  #refuseUnproven(from: Neighbour, bucket: number): void {
    this.#core.drop("no-proof");
    this.#adjacencies.askAgain(from, 1 << bucket);
  }
}

/** Finite routes may only carry numbers that the originator is known to have reached. */
const isCovered = (metric: number, seqno: number, destination: Destination): boolean =>
  metric >= METRIC_INFINITE || seqno <= destination.verifiedSeqno;
