/**
 * Table updates that came and are not read yet. What 250 neighbours say at once is half a minute of work: read as fast as it comes
 * it would keep probes, packets and timers waiting until the links are given up, and then all is said again. So a turn of the event
 * loop reads so much and no more, a frame of each neighbour in turn, and what does not fit is not acknowledged, which its sender
 * takes as a sign to send less (updates.ts). Owns copies of the frames; must never change their order within a neighbour.
 */
import type { Timer } from "@godwit/sdk";
import type { RouteCore } from "./core.ts";
import {
  UPDATE_TURN_BYTES,
  UPDATE_TURN_MS,
  UPDATE_WAITING_FRAME_BYTES,
  UPDATES_WAITING_BYTES_MAX,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";

/** Of the bytes that may wait. */
const shareOf = ({ length }: Uint8Array): number => length + UPDATE_WAITING_FRAME_BYTES;

export class InboundUpdates {
  readonly #core: RouteCore;
  /** Borrows the frame; throws what is wrong with it. */
  readonly #read: (from: Neighbour, frame: Uint8Array) => void;
  /** In the order in which they are asked next. */
  readonly #waiting = new Map<Neighbour, Uint8Array[]>();
  #waitingBytes = 0;
  /** Of this turn. */
  #readBytes = 0;
  #readMs = 0;
  #turn: Timer | undefined;

  constructor(core: RouteCore, read: (from: Neighbour, frame: Uint8Array) => void) {
    this.#core = core;
    this.#read = read;
  }

  /** Frames that wait, bytes, with what each counts as beside its own. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Borrowed. Throws what is wrong with it, if it is read at once. */
  take(from: Neighbour, frame: Uint8Array): void {
    this.#turn ??= this.#core.after(0, () => this.#onTurn());
    if (this.#waiting.size === 0 && this.#mayRead) return this.#readNow(from, frame);
    const held = this.#waiting.get(from);
    // Whoever has nothing here may always have one, so that a few cannot keep all others out.
    if (held !== undefined && this.#waitingBytes + shareOf(frame) > UPDATES_WAITING_BYTES_MAX)
      return this.#core.drop("update-budget");
    if (held === undefined) this.#waiting.set(from, [frame.slice()]);
    else held.push(frame.slice());
    this.#waitingBytes += shareOf(frame);
  }

  /** The neighbour is gone, or what it said is. */
  forget(neighbour: Neighbour): void {
    for (const frame of this.#waiting.get(neighbour) ?? []) this.#waitingBytes -= shareOf(frame);
    this.#waiting.delete(neighbour);
  }

  close(): void {
    this.#turn?.cancel();
    this.#waiting.clear();
    this.#waitingBytes = 0;
  }

  get #mayRead(): boolean {
    return this.#readBytes < UPDATE_TURN_BYTES && this.#readMs < UPDATE_TURN_MS;
  }

  #readNow(from: Neighbour, frame: Uint8Array): void {
    const startedMs = this.#core.now();
    this.#readBytes += frame.length;
    try {
      this.#read(from, frame);
    } finally {
      this.#readMs += this.#core.now() - startedMs;
    }
  }

  #onTurn(): void {
    this.#turn = undefined;
    this.#readBytes = this.#readMs = 0;
    while (this.#mayRead) {
      const next = this.#waiting.entries().next().value;
      if (next === undefined) return;
      const [from, frames] = next;
      const frame = frames.shift()!;
      this.#waitingBytes -= shareOf(frame);
      this.#waiting.delete(from);
      if (frames.length > 0) this.#waiting.set(from, frames);
      try {
        this.#readNow(from, frame);
      } catch (error) {
        this.forget(from);
        this.#core.deps.malformed(from.id, error);
      }
    }
    this.#turn ??= this.#core.after(0, () => this.#onTurn());
  }
}
