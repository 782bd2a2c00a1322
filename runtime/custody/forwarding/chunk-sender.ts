/**
 * The sending half of a large bundle's transfer: what a neighbour wants of what was offered to it, in chunks and never beyond its credit. Owns
 * the bodies in memory meanwhile, and who gives one up for whom; transfer.ts is the other half. docs/protocol/delivery.md "Large bundles".
 */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { encodeChunk } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import type { CustodyContext, Holding } from "../context.ts";
import type { Forwarder } from "./forwarder.ts";
import { CHUNK_BYTES_MIN, CREDIT_BYTES, STALL_MS } from "./transfer.ts";

/** Largest chunk; smaller ones where credit is small, or urgent frames would wait behind one for seconds. */
const CHUNK_BYTES = 32 * 1024;
/** Chunks that one grant of credit is cut into. */
const CHUNKS_PER_GRANT = 4;
const CHUNK_OVERHEAD = 64;
/** Sealed bodies of outgoing transfers held in memory. */
const OUTGOING_BYTES_MAX = 64 * 1024 * 1024;

interface Outgoing {
  readonly to: NodeId;
  readonly id: BundleId;
  readonly priority: Priority;
  readonly sealed: Uint8Array;
  next: number;
  end: number;
  chunkBytes: number;
  wantedAtMs: number;
}

export class ChunkSender {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #outgoing = new Map<string, Outgoing>();
  #bytes = 0;

  constructor(ctx: CustodyContext, forwarder: Forwarder) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
  }

  /** A neighbour asks for a range of what was offered to it; anything else is ignored. */
  async onWant(from: NodeId, want: { id: BundleId; offset: number; length: number }): Promise<void> {
    const holding = this.#forwarder.touch(from, want.id);
    if (holding === undefined || want.offset >= holding.sealedBytes) return;
    const key = `${from}/${want.id}`;
    let outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) {
      if (!this.#makeRoom(from, holding.sealedBytes)) return;
      this.#bytes += holding.sealedBytes;
      const loaded = await this.#load(holding);
      // The offer may have ended while the store was read.
      const sealed = this.#forwarder.touch(from, want.id) === undefined ? undefined : loaded;
      if (sealed === undefined || this.#outgoing.has(key)) {
        this.#bytes -= holding.sealedBytes;
        if (sealed === undefined) return;
        outgoing = this.#outgoing.get(key)!;
      } else {
        outgoing = {
          to: from,
          id: want.id,
          priority: holding.header.priority,
          sealed,
          next: 0,
          end: 0,
          chunkBytes: 0,
          wantedAtMs: 0,
        };
        this.#outgoing.set(key, outgoing);
      }
    }
    const end = Math.min(want.offset + Math.min(want.length, CREDIT_BYTES * 2), outgoing.sealed.length);
    // Going on from where we are needs only more credit; anything else is a resumption.
    if (want.offset > outgoing.end || end <= outgoing.end) outgoing.next = want.offset;
    outgoing.end = end;
    outgoing.wantedAtMs = this.#ctx.clock.monotonicMs();
    // Wanted last, forgotten last.
    this.#outgoing.delete(key);
    this.#outgoing.set(key, outgoing);
    outgoing.chunkBytes = Math.max(CHUNK_BYTES_MIN, Math.ceil(want.length / CHUNKS_PER_GRANT));
    this.#pump(outgoing);
  }

  onWritable(neighbour: NodeId): void {
    for (const outgoing of this.#outgoing.values()) if (outgoing.to === neighbour) this.#pump(outgoing);
  }

  /** The transfer is over, well or not. */
  end(neighbour: NodeId, id: BundleId): void {
    const key = `${neighbour}/${id}`;
    const outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) return;
    this.#outgoing.delete(key);
    this.#bytes -= outgoing.sealed.length;
  }

  onNeighbourDown(neighbour: NodeId): void {
    for (const outgoing of [...this.#outgoing.values()])
      if (outgoing.to === neighbour) this.end(neighbour, outgoing.id);
  }

  /**
   * What gives way is read from the store again when it is wanted again: what nobody wanted for a while, and of whoever has more than the
   * one who asks what was wanted longest ago. False: there is no room.
   */
  #makeRoom(from: NodeId, bytes: number): boolean {
    const nowMs = this.#ctx.clock.monotonicMs();
    const own = this.#bytesOf(from) + bytes;
    for (const { to, id, wantedAtMs } of [...this.#outgoing.values()]) {
      if (this.#bytes + bytes <= OUTGOING_BYTES_MAX) break;
      if (nowMs - wantedAtMs >= STALL_MS || this.#bytesOf(to) > own) this.end(to, id);
    }
    return this.#bytes + bytes <= OUTGOING_BYTES_MAX || this.#bytes === 0;
  }

  /** Held for all that share with this neighbour. */
  #bytesOf(neighbour: NodeId): number {
    const { regard } = this.#ctx;
    const { by } = regard.shareOf(neighbour);
    let bytes = 0;
    for (const { to, sealed } of this.#outgoing.values())
      if (regard.shareOf(to).by === by) bytes += sealed.length;
    return bytes;
  }

  async #load(holding: Holding): Promise<Uint8Array | undefined> {
    try {
      return await holding.load();
    } catch {
      return undefined;
    }
  }

  #pump(outgoing: Outgoing): void {
    const { carrier } = this.#ctx;
    const frameMax = carrier.frameBytesMax(outgoing.to) - CHUNK_OVERHEAD;
    const size = Math.min(CHUNK_BYTES, outgoing.chunkBytes, frameMax);
    if (size <= 0) return;
    while (outgoing.next < outgoing.end) {
      const bytes = outgoing.sealed.subarray(outgoing.next, Math.min(outgoing.next + size, outgoing.end));
      if (!carrier.send(outgoing.to, outgoing.priority, encodeChunk(outgoing.id, outgoing.next, bytes)))
        return;
      outgoing.next += bytes.length;
    }
    this.#forwarder.touch(outgoing.to, outgoing.id);
  }
}
