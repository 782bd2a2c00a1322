/**
 * The sending half of a large bundle's transfer: what a neighbour wants of what was offered to it, in chunks and never beyond its credit. Owns
 * the few blocks in memory meanwhile, and who gives them up for whom; transfer.ts is the other half. docs/protocol/delivery.md "Large bundles".
 */
import type { Teller } from "../../kernel/hub.ts";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { CHUNK_HEAD_BYTES_MAX, encodeChunk } from "../../wire/bundle.ts";
import { BLOCK_BYTES } from "../../wire/constants.ts";
import type { Priority } from "../../wire/constants.ts";
import type { CustodyContext, Holding, SealedPieces } from "../context.ts";
import type { Forwarder } from "./forwarder.ts";
import { piecesInMemory } from "./pieces.ts";
import { CREDIT_BYTES_MAX } from "./credit.ts";
import { type Progress, type SendingEvents, Sendings } from "./sending.ts";
import { CHUNK_BYTES_MIN, STALL_MS } from "./transfer.ts";

/** Largest chunk; smaller ones where credit is small, or urgent frames would wait behind one for seconds. */
const CHUNK_BYTES = 56 * 1024;
/** Chunks that one grant of credit is cut into. */
const CHUNKS_PER_GRANT = 4;
const CHUNK_OVERHEAD = 64;
/** Blocks of outgoing transfers held in memory: each holds the one it sends and the next. */
const OUTGOING_BYTES_MAX = 16 * 1024 * 1024;
const BLOCKS_HELD = 2;

interface Outgoing {
  readonly to: NodeId;
  readonly id: BundleId;
  readonly priority: Priority;
  readonly sealedBytes: number;
  readonly pieces: SealedPieces;
  next: number;
  end: number;
  chunkBytes: number;
  wantedAtMs: number;
  /** What is sent now, from where. */
  held: { readonly at: number; readonly bytes: Uint8Array } | undefined;
  /** What comes behind it is being read, from where. */
  ahead: { readonly at: number; readonly bytes: Promise<Uint8Array | undefined> } | undefined;
  isWaiting: boolean;
  /** Of its own, for what is lent only for a moment: what is sent now and what comes behind it. */
  readonly blocks: Uint8Array[];
}

const heldBytes = ({ sealedBytes }: { sealedBytes: number }): number =>
  Math.min(sealedBytes, BLOCKS_HELD * BLOCK_BYTES);

export class ChunkSender {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #events: Teller<SendingEvents>;
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #sendings = new Sendings();
  /** Where frames are made: whoever sends one copies it within the call. */
  readonly #frame = new Uint8Array(CHUNK_HEAD_BYTES_MAX + CHUNK_BYTES);
  #bytes = 0;

  constructor(ctx: CustodyContext, forwarder: Forwarder, events: Teller<SendingEvents>) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#events = events;
  }

  /** How far it is; undefined: nobody fetches it. */
  progressOf(id: BundleId): Progress | undefined {
    return this.#sendings.of(id, this.#ctx.clock.monotonicMs());
  }

  /** A neighbour asks for a range of what was offered to it; anything else is ignored. */
  async onWant(from: NodeId, want: { id: BundleId; offset: number; length: number }): Promise<void> {
    const holding = this.#forwarder.touch(from, want.id);
    if (holding === undefined || want.offset >= holding.sealedBytes) return;
    this.#noteWanted(from, holding, want.offset);
    const key = `${from}/${want.id}`;
    let outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) {
      if (!this.#makeRoom(from, heldBytes(holding))) return;
      this.#bytes += heldBytes(holding);
      const opened = await this.#open(holding);
      // The offer may have ended while the store was read.
      const pieces = this.#forwarder.touch(from, want.id) === holding ? opened : undefined;
      outgoing = this.#outgoing.get(key);
      if (pieces === undefined || outgoing !== undefined) this.#bytes -= heldBytes(holding);
      if (pieces === undefined && opened === undefined) this.#forwarder.onUnreadable(holding, from);
      if (outgoing === undefined) {
        if (pieces === undefined) return;
        outgoing = newOutgoing(from, holding, pieces);
      }
    }
    const end = Math.min(want.offset + Math.min(want.length, CREDIT_BYTES_MAX), outgoing.sealedBytes);
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

  #noteWanted(from: NodeId, holding: Holding, offset: number): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const told = this.#sendings.onWanted(from, holding, offset, nowMs);
    if (told !== undefined && holding.messageId !== undefined)
      this.#events.emit("outboxProgress", { id: holding.messageId, ...told });
  }

  /** The transfer is over, well or not. */
  end(neighbour: NodeId, id: BundleId): void {
    this.#sendings.end(neighbour, id);
    this.#letGo(neighbour, id);
  }

  /** Nothing of it is held in memory. */
  #letGo(neighbour: NodeId, id: BundleId): void {
    const key = `${neighbour}/${id}`;
    const outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) return;
    this.#outgoing.delete(key);
    this.#bytes -= heldBytes(outgoing);
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
      if (nowMs - wantedAtMs >= STALL_MS || this.#bytesOf(to) > own) this.#letGo(to, id);
    }
    return this.#bytes + bytes <= OUTGOING_BYTES_MAX || this.#bytes === 0;
  }

  /** Held for all that share with this neighbour. */
  #bytesOf(neighbour: NodeId): number {
    const { regard } = this.#ctx;
    const { by } = regard.shareOf(neighbour);
    let bytes = 0;
    for (const outgoing of this.#outgoing.values())
      if (regard.shareOf(outgoing.to).by === by) bytes += heldBytes(outgoing);
    return bytes;
  }

  async #open(holding: Holding): Promise<SealedPieces | undefined> {
    try {
      if (holding.pieces !== undefined) return await holding.pieces();
      const sealed = await holding.load();
      return sealed === undefined ? undefined : piecesInMemory(sealed);
    } catch {
      return undefined;
    }
  }

  #pump(outgoing: Outgoing): void {
    const { carrier } = this.#ctx;
    const frameMax = carrier.frameBytesMax(outgoing.to) - CHUNK_OVERHEAD;
    const size = Math.min(CHUNK_BYTES, outgoing.chunkBytes, frameMax);
    if (size <= 0) return;
    // As long as something moves its offer is not overdue.
    this.#forwarder.touch(outgoing.to, outgoing.id);
    while (outgoing.next < outgoing.end) {
      const held = this.#heldFrom(outgoing, outgoing.next);
      if (held === undefined) return;
      const bytes = held.subarray(0, Math.min(size, outgoing.end - outgoing.next));
      const frame = encodeChunk(outgoing.id, outgoing.next, bytes, this.#frame);
      if (!carrier.send(outgoing.to, outgoing.priority, frame)) return;
      outgoing.next += bytes.length;
    }
  }

  /** Bytes from there on; undefined while they are read. */
  #heldFrom(outgoing: Outgoing, offset: number): Uint8Array | undefined {
    const { held } = outgoing;
    if (held !== undefined && offset >= held.at && offset < held.at + held.bytes.length)
      return held.bytes.subarray(offset - held.at);
    if (outgoing.isWaiting) return undefined;
    if (outgoing.ahead?.at !== offset) {
      outgoing.ahead = undefined;
      outgoing.held = undefined;
      const bytes = outgoing.pieces.read(offset);
      if (bytes instanceof Uint8Array) {
        outgoing.held = { at: offset, bytes: copied(outgoing, bytes) };
        return outgoing.held.bytes;
      }
      outgoing.ahead = { at: offset, bytes };
    }
    const { bytes } = outgoing.ahead;
    outgoing.isWaiting = true;
    void bytes.then((read) => this.#onRead(outgoing, offset, read));
    return undefined;
  }

  #onRead(outgoing: Outgoing, at: number, bytes: Uint8Array | undefined): void {
    outgoing.isWaiting = false;
    outgoing.ahead = undefined;
    if (this.#outgoing.get(`${outgoing.to}/${outgoing.id}`) !== outgoing) return;
    if (bytes === undefined) {
      const holding = this.#forwarder.get(outgoing.id);
      if (holding === undefined) return this.end(outgoing.to, outgoing.id);
      return this.#forwarder.onUnreadable(holding, outgoing.to);
    }
    outgoing.held = { at, bytes };
    const behind = at + bytes.length;
    if (behind < outgoing.sealedBytes) {
      const next = outgoing.pieces.read(behind);
      const ahead = next instanceof Uint8Array ? Promise.resolve(copied(outgoing, next)) : next;
      outgoing.ahead = { at: behind, bytes: ahead };
    }
    this.#pump(outgoing);
  }
}

const newOutgoing = (to: NodeId, { id, header, sealedBytes }: Holding, pieces: SealedPieces): Outgoing => ({
  to,
  id,
  priority: header.priority,
  sealedBytes,
  pieces,
  next: 0,
  end: 0,
  chunkBytes: 0,
  wantedAtMs: 0,
  held: undefined,
  ahead: undefined,
  isWaiting: false,
  blocks: [],
});

/** In the block that holds nothing that is still to be sent. */
function copied({ held, blocks }: Outgoing, bytes: Uint8Array): Uint8Array {
  const free = blocks.findIndex(({ buffer }) => buffer !== held?.bytes.buffer);
  const block = (blocks[free < 0 ? blocks.length : free] ??= new Uint8Array(BLOCK_BYTES));
  block.set(bytes);
  return block.subarray(0, bytes.length);
}
