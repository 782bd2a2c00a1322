/**
 * What the router keeps for one neighbour: its link, the tags that tie frames to this adjacency, and which destinations
 * it still has to be told about. Two columns are indexed by destination slot, so that a neighbour costs two bytes for each
 * destination and no object. Sends nothing itself; updates.ts does.
 */
import type { Timer } from "@godwit/sdk";
import { assert } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Bottleneck } from "../wire/constants.ts";
import type { LinkProfile } from "./limits.ts";
import { SlotQueue } from "./slot-queue.ts";
import { UpdateWindow } from "./window.ts";

/** The best link to a neighbour, as routing sees it. */
/**
 * Takes the airtime of a frame of so many bytes from the channel's budget. `mail`: mail waits for it. `answer`: a neighbour wants to hear it, or have it asked:
 * `by`, by default the one at the far end.
 */
export type TakeAirtime = (
  bytes: number,
  need: "mail" | "begin" | "control" | "answer",
  by?: NodeId,
) => boolean;

export interface LinkCost {
  /** 0.1 ms units, 1..LINK_COST_MAX (cost.ts); anything below 1 counts as 1. */
  readonly cost: number;
  /** Largest frame, bytes. */
  readonly mtu: number;
  readonly bottleneck: Bottleneck;
  readonly profile: LinkProfile;
  /** Slow links only: prices their control traffic. */
  readonly rateBitsPerSecond?: number;
  /** Slow links only: slow because it is carried and not because it is narrow, so that bulk may enter it. */
  readonly takesBulk?: boolean;
  /** Slow links over a channel that all in earshot share. Such links are told what is new and nothing else: who is there a beacon to all says. */
  readonly takeAirtime?: TakeAirtime | undefined;
  /** The far end knows questions for paths, and its answers come within their life. */
  readonly knowsPaths?: boolean;
}

/** Bits of the flags column. */
const LAZY = 1;
const SOON = 2;
const IN_SOON = 4;
const IN_LAZY = 8;
/** The neighbour was told of a reachable plane and has not acknowledged a retraction since. */
const TOLD = 16;
/** What was sent last was a retraction. */
const RETRACTED = 32;
/** Send the proof even if there is no route to tell. */
const HINT = 64;
/** The neighbour can be relied on to hold the proof that the table has now. */
const PROVEN = 128;

/** Frames under way have numbers of a byte; there are far fewer at once (limits.ts). */
const FRAME_NUMBERS = 2 ** 8;
const NO_FRAME = 0;

/** One update frame that has not been acknowledged. */
export interface FrameInFlight {
  readonly serial: number;
  /** Of no other that is under way to the same neighbour; 1 to 255. */
  readonly number: number;
  readonly sentAtMs: number;
  bytes: number;
  readonly slots: number[];
  /** Sequence number of the proof that the receiver can be relied on to keep, for each slot; -1: none. */
  readonly proofs: number[];
}

export class Neighbour {
  readonly id: NodeId;
  readonly bootId: string;
  link: LinkCost;
  /** Frames from the neighbour must carry this; fresh for every adjacency, so that nothing of an earlier one is read. */
  readonly ownTag: number;
  /** Frames to the neighbour carry this; 0: not yet known, nothing is sent. */
  peerTag = 0;
  /** The neighbour has shown that it knows `ownTag`. */
  isOpen = false;
  /** Its number in the table's columns; below 0: it is not in the table. */
  handle = -1;
  /** Destinations that it said something of. */
  rows = 0;
  /** Newest serial received in an update. */
  newestSerial = 0;
  /** Newest serial when tombstones were last swept. */
  sweptSerial = 0;
  lastSentSerial = 0;
  readonly inFlight: FrameInFlight[] = [];
  srttMs: number | undefined = undefined;
  window = new UpdateWindow();
  /** Acknowledgement timeouts in a row. */
  timeouts = 0;
  flushTimer: Timer | undefined = undefined;
  lazyTimer: Timer | undefined = undefined;
  ackTimer: Timer | undefined = undefined;
  digestTimer: Timer | undefined = undefined;
  digestSentAtMs = 0;
  resyncTimer: Timer | undefined = undefined;
  resyncTries = 0;
  resyncSentAtMs = Number.NEGATIVE_INFINITY;
  resyncServedAtMs = Number.NEGATIVE_INFINITY;
  /** Buckets whose last digest differed, and the newest serial received when they were asked for again. */
  mismatched = 0;
  resyncSerial = 0;
  /** Buckets in which entries were refused, and digests until they are compared again. */
  refusedBuckets = 0;
  refusedDigests = 0;
  /** Bytes of updates read lately, running dry at UPDATE_BYTES_PER_SECOND. */
  updateBytes = 0;
  updateBytesAtMs = 0;
  /** Mail that it took in was lost: its routes are the last resort. */
  isQuarantined = false;
  /** Token bucket of failed signatures. */
  badProofs = 0;
  badProofAtMs = 0;
  #flags = new Uint8Array(0);
  /** By slot: the number of the newest frame under way that carries it. A map of a whole table's slots would be made anew again and again. */
  #carriers = new Uint8Array(0);
  readonly #soon = new SlotQueue(IN_SOON);
  readonly #lazy = new SlotQueue(IN_LAZY);

  constructor(id: NodeId, bootId: string, link: LinkCost, ownTag: number) {
    this.id = id;
    this.bootId = bootId;
    this.link = link;
    this.ownTag = ownTag;
  }

  get hasTable(): boolean {
    return this.link.profile !== "slow";
  }

  get soonCount(): number {
    return this.#soon.count;
  }

  /** Nothing waits and nothing is under way: what the neighbour holds is what it would be sent now. */
  get isSettled(): boolean {
    return this.#soon.count === 0 && this.#lazy.count === 0 && this.inFlight.length === 0;
  }

  markSoon(slot: number): void {
    this.#reserve(slot);
    const flags = this.#flags[slot]!;
    this.#flags[slot] = (flags & ~LAZY) | SOON | IN_SOON;
    if ((flags & IN_SOON) === 0) this.#soon.add(slot);
  }

  markLazy(slot: number): void {
    this.#reserve(slot);
    const flags = this.#flags[slot]!;
    if ((flags & SOON) !== 0) return;
    this.#flags[slot] = flags | LAZY | IN_LAZY;
    if ((flags & IN_LAZY) === 0) this.#lazy.add(slot);
  }

  /** As `markLazy`, and the proof goes along even without a route. */
  markHint(slot: number): void {
    this.markLazy(slot);
    this.#flags[slot] = this.#flags[slot]! | HINT;
  }

  /** Moves what was lazy to what leaves soon. */
  promoteLazy(): void {
    while (this.#lazy.count > 0) {
      const slot = this.#lazy.peek(this.#flags);
      const flags = this.#flags[slot]! & ~IN_LAZY;
      this.#flags[slot] = flags;
      this.#lazy.shift();
      if ((flags & LAZY) !== 0) this.markSoon(slot);
    }
  }

  /**
   * Hands over the slots that wait, clearing their marks first (so a mark made meanwhile counts), until `take`
   * answers false; that slot and those behind it keep waiting.
   */
  drainSoon(take: (slot: number, hint: boolean) => boolean): void {
    while (this.#soon.count > 0) {
      const slot = this.#soon.peek(this.#flags);
      const flags = this.#flags[slot]!;
      const isSoon = (flags & SOON) !== 0;
      // Else the slot went to another destination meanwhile, which may wait lazily.
      this.#flags[slot] = flags & ~(isSoon ? SOON | LAZY | IN_SOON | HINT : IN_SOON);
      if (isSoon && !take(slot, (flags & HINT) !== 0)) {
        this.#flags[slot] = flags;
        return;
      }
      this.#soon.shift();
    }
  }

  wasTold(slot: number): boolean {
    return slot < this.#flags.length && (this.#flags[slot]! & TOLD) !== 0;
  }

  isUnderWay(slot: number): boolean {
    return (
      slot < this.#flags.length && (this.#carriers[slot] !== NO_FRAME || (this.#flags[slot]! & SOON) !== 0)
    );
  }

  /** Whether the neighbour is known to hold the proof that the table has now for the slot. */
  holdsProof(slot: number): boolean {
    return slot < this.#flags.length && (this.#flags[slot]! & PROVEN) !== 0;
  }

  noteProof(slot: number): void {
    this.#reserve(slot);
    this.#flags[slot] = this.#flags[slot]! | PROVEN;
  }

  /** The neighbour asks for it again, or the table has a newer one. */
  forgetProof(slot: number): void {
    if (slot < this.#flags.length) this.#flags[slot] = this.#flags[slot]! & ~PROVEN;
  }

  /** A frame to be filled; it counts as under way once it is in `inFlight`, which it must be before another one begins. */
  beginFrame(serial: number, sentAtMs: number): FrameInFlight {
    let number = 1;
    while (this.inFlight.some((frame) => frame.number === number)) number++;
    assert(number < FRAME_NUMBERS, "more updates under way than their numbers have room for");
    return { serial, number, sentAtMs, bytes: 0, slots: [], proofs: [] };
  }

  noteSent(slot: number, { number }: FrameInFlight, isReachable: boolean): void {
    this.#reserve(slot);
    this.#carriers[slot] = number;
    const flags = this.#flags[slot]!;
    // The other end may forget a destination that nobody offers any more, and its proof with it.
    this.#flags[slot] = isReachable ? (flags | TOLD) & ~RETRACTED : (flags | RETRACTED) & ~PROVEN;
  }

  /**
   * Settles a frame; undefined when it is not under way (late, duplicate or invented). `seqnoOf` says which proof the
   * table has now: one that was replaced meanwhile is not the one that counts.
   */
  acknowledge(serial: number, seqnoOf: (slot: number) => number | undefined): FrameInFlight | undefined {
    const at = this.inFlight.findIndex((frame) => frame.serial === serial);
    if (at < 0) return undefined;
    const [frame] = this.inFlight.splice(at, 1);
    frame!.slots.forEach((slot, i) => {
      if (this.#carriers[slot] !== frame!.number) return;
      this.#carriers[slot] = NO_FRAME;
      if ((this.#flags[slot]! & RETRACTED) !== 0)
        this.#flags[slot] = this.#flags[slot]! & ~(TOLD | RETRACTED);
      else if (frame!.proofs[i]! >= 0 && frame!.proofs[i] === seqnoOf(slot)) this.noteProof(slot);
    });
    return frame;
  }

  /** Puts what the frame carried, and no later one did, back among what leaves soon. */
  revive(frame: FrameInFlight): void {
    for (const slot of frame.slots) {
      if (this.#carriers[slot] !== frame.number) continue;
      this.#carriers[slot] = NO_FRAME;
      this.markSoon(slot);
    }
  }

  /** A slot has been given to another destination, or the neighbour has forgotten everything about it. */
  resetSlot(slot: number): void {
    if (slot >= this.#flags.length) return;
    this.#carriers[slot] = NO_FRAME;
    this.#flags[slot] = this.#flags[slot]! & (IN_SOON | IN_LAZY);
  }

  /** The neighbour has forgotten everything: nothing is told, nothing under way. */
  resetSending(): void {
    this.inFlight.length = 0;
    this.#soon.clear();
    this.#lazy.clear();
    this.#flags.fill(0);
    this.#carriers.fill(NO_FRAME);
    this.srttMs = undefined;
    this.window = new UpdateWindow();
    this.timeouts = 0;
  }

  cancelTimers(): void {
    for (const timer of [this.flushTimer, this.lazyTimer, this.ackTimer, this.digestTimer, this.resyncTimer])
      timer?.cancel();
    this.flushTimer = this.lazyTimer = this.ackTimer = this.digestTimer = this.resyncTimer = undefined;
  }

  #reserve(slot: number): void {
    if (slot < this.#flags.length) return;
    const length = Math.max(64, slot + 1, Math.ceil(this.#flags.length * 1.5));
    this.#flags = grown(this.#flags, length);
    this.#carriers = grown(this.#carriers, length);
  }
}

function grown(column: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(length);
  longer.set(column);
  return longer;
}
