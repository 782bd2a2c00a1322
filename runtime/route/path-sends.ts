/**
 * What paths on demand have to say and the channel has no airtime for yet: a few frames, each made when it leaves, so that it says what is
 * true then. Must never send without airtime on a slow link, or keep a frame past its time.
 */
import type { NodeId } from "../kernel/ids.ts";
import type { RouteCore } from "./core.ts";
import { PATH_FRAMES_MAX, PATH_FRAMES_PER_NEIGHBOUR_MAX, PATH_FRAME_WAIT_MS } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";

/** What a frame may take of its channel (kernel/airtime.ts). */
export type PathNeed = "begin" | "control" | "answer";
export type PathAirtime = (neighbour: Neighbour, bytes: number, need: PathNeed, by?: NodeId) => boolean;

export interface PathFrame {
  readonly to: Neighbour;
  readonly need: PathNeed;
  /** Whose question it is that is asked on: it gives way to all else, takes half of the places at most, and airtime of that neighbour's part. */
  readonly askedOnFor?: NodeId | undefined;
  /** Undefined: there is nothing to say any more. Must change nothing. */
  make(): Uint8Array | undefined;
  /** It leaves now: called before it does. */
  leaves(): void;
}

interface Waiting extends PathFrame {
  readonly fromMs: number;
  readonly untilMs: number;
}

export class PathSends {
  readonly #core: RouteCore;
  readonly #takeAirtime: PathAirtime;
  readonly #waiting = new Map<string, Waiting>();

  constructor(core: RouteCore, takeAirtime: PathAirtime) {
    this.#core = core;
    this.#takeAirtime = takeAirtime;
  }

  get count(): number {
    return this.#waiting.size;
  }

  /** Leaves with the next `flush` behind `delayMs`; one of the same kind about the same node to the same neighbour is replaced. */
  put(kind: string, about: NodeId, frame: PathFrame, delayMs = 0): void {
    const key = `${kind} ${frame.askedOnFor !== undefined} ${about} ${frame.to.id}`;
    if (!this.#waiting.has(key) && this.#isFullFor(frame)) return this.#core.drop("airtime");
    const fromMs = this.#core.now() + delayMs;
    this.#waiting.set(key, { ...frame, fromMs, untilMs: fromMs + PATH_FRAME_WAIT_MS });
  }

  #isFullFor({ to, askedOnFor }: PathFrame): boolean {
    const isAskedOn = askedOnFor !== undefined;
    const alike = [...this.#waiting.values()].filter(
      (waiting) => !isAskedOn || waiting.askedOnFor !== undefined,
    );
    const share = isAskedOn ? 0.5 : 1;
    if (alike.length >= share * PATH_FRAMES_MAX) return true;
    return alike.filter((waiting) => waiting.to === to).length >= share * PATH_FRAMES_PER_NEIGHBOUR_MAX;
  }

  flush(): void {
    const isLast = ({ askedOnFor }: Waiting) => askedOnFor !== undefined;
    for (const entry of [...this.#waiting].sort(([, a], [, b]) => Number(isLast(a)) - Number(isLast(b))))
      this.#flushOne(...entry);
  }

  #flushOne(key: string, waiting: Waiting): void {
    const nowMs = this.#core.now();
    if (waiting.fromMs > nowMs) return;
    if (this.#core.neighbours.get(waiting.to.id) !== waiting.to || waiting.untilMs < nowMs)
      return void this.#waiting.delete(key);
    const frame = waiting.make();
    if (frame !== undefined && !this.#maySend(waiting, frame.length)) return;
    this.#waiting.delete(key);
    if (frame === undefined) return;
    waiting.leaves();
    this.#core.deps.send(waiting.to.id, frame);
  }

  #maySend({ to, need, askedOnFor }: Waiting, bytes: number): boolean {
    if (to.hasTable) return true;
    return this.#takeAirtime(to, bytes, askedOnFor === undefined ? need : "answer", askedOnFor);
  }
}
