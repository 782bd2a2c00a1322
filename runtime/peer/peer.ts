/**
 * One neighbour: its live links and the lanes in front of them. Control has its own lane, so data can never starve
 * failure detection or routing; data lanes follow message priority. Every lane is bounded and refuses when full.
 */
import { type Departure, noteDropped } from "../kernel/departure.ts";
import { BoundedQueue } from "../kernel/queue.ts";
import type { NodeId } from "../kernel/ids.ts";
import { FrameType, type Priority } from "../wire/constants.ts";
import { ALARM, urgencyOf } from "../wire/urgency.ts";
import type { Link } from "./link.ts";
import { supersedes } from "./stale.ts";

export type Lane = "control" | Priority;

const LANES = 5;
const LANE_FRAMES_MAX = 8_192;
const LANE_BYTES_MAX = 4 * 1024 * 1024;
/** Control frames that wait for a link where all wait for long; each new one is compared with them. */
const PACED_CONTROL_MAX = 128;

/** Where the pipe lets the urgent go first that passes what waits here, while less than this waits behind it, bytes. */
const PASSING_BYTES_MAX = 4_096;

interface Queued {
  readonly frame: Uint8Array;
  readonly departure: Departure | undefined;
}

const laneIndex = (lane: Lane): number => (lane === "control" ? 0 : lane + 1);

/** Told of each frame that was taken and is dropped. */
export interface PeerDrops {
  /** The links of now are too narrow for it. */
  tooWide?(): void;
  /** A newer one says all that it says, and took its place. */
  superseded?(): void;
}

export class Peer {
  readonly id: NodeId;
  readonly bootId: string;
  /** As its last hello said. */
  storeEpoch: string;
  /** When that changed on this link, monotonic. */
  storeEpochAtMs = Number.NEGATIVE_INFINITY;
  readonly upAtMs: number;
  /** It came while links of another life of the node were up here. */
  readonly isSuccessor: boolean;
  readonly #links: Link[] = [];
  readonly #lanes = Array.from(
    { length: LANES },
    () =>
      new BoundedQueue<Queued>({
        itemsMax: LANE_FRAMES_MAX,
        bytesMax: LANE_BYTES_MAX,
        whenFull: "refuse",
      }),
  );
  #best: Link | undefined;
  #queued = 0;
  #isDoubted = false;

  readonly #drops: PeerDrops;

  constructor(
    id: NodeId,
    life: { bootId: string; storeEpoch: string; upAtMs: number; isSuccessor?: boolean },
    drops: PeerDrops = {},
  ) {
    this.#drops = drops;
    this.id = id;
    this.bootId = life.bootId;
    this.storeEpoch = life.storeEpoch;
    this.upAtMs = life.upAtMs;
    this.isSuccessor = life.isSuccessor ?? false;
  }

  get links(): readonly Link[] {
    return this.#links;
  }

  /** The link that frames go to now. */
  get best(): Link | undefined {
    return this.#best;
  }

  get isUp(): boolean {
    return this.#best !== undefined;
  }

  /** On none of its links the last question was answered as soon as usual: it may be gone. */
  get isDoubted(): boolean {
    return this.#isDoubted;
  }

  /** Asks its links anew whether it is in doubt. True: that has changed, and it has links yet. */
  weighDoubt(): boolean {
    const isDoubted = this.#links.every((link) => link.isDoubted);
    if (isDoubted === this.#isDoubted || this.#links.length === 0) return false;
    this.#isDoubted = isDoubted;
    return true;
  }

  /** Frames waiting in lanes. */
  get queuedFrames(): number {
    return this.#queued;
  }

  /** Expected wait before a new data frame leaves, ms: what lies in lanes and session at the measured rate. */
  get queueDelayMs(): number {
    if (this.#best === undefined) return 0;
    let bytes = this.#best.session.bufferedBytes;
    if (this.#queued > 0) for (const lane of this.#lanes) bytes += lane.bytes;
    return (bytes * 8_000) / this.#best.rateBitsPerSecond;
  }

  /** Largest frame that some live link takes, bytes. */
  get frameBytesMax(): number {
    return this.#best?.session.frameBytesMax ?? 0;
  }

  addLink(link: Link): void {
    this.#links.push(link);
    this.#choose();
    this.pump();
  }

  removeLink(link: Link): void {
    const at = this.#links.indexOf(link);
    if (at >= 0) this.#links.splice(at, 1);
    this.#choose();
    this.pump();
  }

  /** After a measurement or retirement changed what the links are worth. */
  reconsider(): void {
    this.#choose();
    this.pump();
  }

  /**
   * Sends a frame, borrowed until the call returns. False: no link, the frame is too large for it, or the lane is full;
   * the caller counts the drop or waits for `writable`. `departure` is told when it has really left, or was dropped here.
   */
  send(lane: Lane, frame: Uint8Array, departure?: Departure): boolean {
    const best = this.#best;
    if (best === undefined || frame.length > best.session.frameBytesMax) return false;
    if (this.#queued === 0 && best.isWritable) {
      best.send(frame, lane !== "control", departure);
      return true;
    }
    if (passes(best, frame)) {
      best.send(frame, lane !== "control", departure);
      return true;
    }
    if (lane === "control" && best.isPaced) return this.#waitPaced(frame, departure);
    if (lane === "control" && best.session.bufferedBytes < LANE_BYTES_MAX && this.#lanes[0]!.length === 0) {
      // Control passes queued data; the session's own buffer is all it has to wait for.
      best.send(frame, false, departure);
      return true;
    }
    if (!this.#lanes[laneIndex(lane)]!.push({ frame: frame.slice(), departure }, frame.length)) return false;
    this.#queued++;
    return true;
  }

  /** Where things wait for long control does so here, where a newer word can take the place of an older one. */
  #waitPaced(frame: Uint8Array, departure: Departure | undefined): boolean {
    const lane = this.#lanes[0]!;
    const queued = { frame: frame.slice(), departure };
    const old = lane.replace((item) => supersedes(frame, item.frame), queued, frame.length);
    if (old !== undefined) {
      noteDropped(old.departure);
      this.#drops.superseded?.();
      return true;
    }
    if (lane.length >= PACED_CONTROL_MAX || !lane.push(queued, frame.length)) return false;
    this.#queued++;
    return true;
  }

  /** True while a data frame of this priority would not have to wait in a lane. */
  get hasRoom(): boolean {
    return this.#best !== undefined && this.#queued === 0 && this.#best.isWritable;
  }

  /** Moves lanes into the best link while it takes them, most urgent first. */
  pump(): void {
    const best = this.#best;
    if (best === undefined) return;
    for (let lane = 0; lane < LANES && this.#queued > 0; lane++) {
      const queue = this.#lanes[lane]!;
      while (queue.length > 0 && best.isWritable) {
        const { frame, departure } = queue.shift()!;
        this.#queued--;
        // It waited for a link that took larger ones; custody and routing send again what is lost here.
        if (frame.length <= best.session.frameBytesMax) best.send(frame, lane > 0, departure);
        else {
          noteDropped(departure);
          this.#drops.tooWide?.();
        }
      }
      if (!best.isWritable) return;
    }
  }

  /** Last link gone: what waited is lost here (custody keeps its own copies). Answers how many frames. */
  drop(): number {
    const lost = this.#queued;
    for (const lane of this.#lanes)
      for (let next = lane.shift(); next !== undefined; next = lane.shift()) noteDropped(next.departure);
    this.#queued = 0;
    return lost;
  }

  #choose(): void {
    let best: Link | undefined;
    for (const link of this.#links) {
      if (best === undefined || rank(link) < rank(best)) best = link;
    }
    this.#best = best;
  }
}

/** An alarm, or what spares a repetition, on a pipe that would let it go first. */
const passes = ({ isPaced, session }: Link, frame: Uint8Array): boolean =>
  isPaced &&
  session.medium?.admits !== undefined &&
  frame[0] !== FrameType.hello &&
  urgencyOf(frame) === ALARM &&
  session.bufferedBytes < PASSING_BYTES_MAX;

/** A retiring link is still better than none. */
const rank = (link: Link): number => link.expectedMs + (link.isRetiring ? 1e9 : 0);
