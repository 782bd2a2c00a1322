/**
 * How long a path that was asked for counts, at both of its ends: what a neighbour answered is a way until its life is over, and whoever
 * answered keeps his feasibility distance for longer than that, since nobody acknowledges anything here. Sends nothing.
 * docs/protocol/slow.md "Paths on demand"
 */
import type { RouteCore } from "./core.ts";
import { PATH_HELD_MS, PATH_LIFE_MS } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Destination } from "./table.ts";

interface Told {
  /** The feasibility distance stays at least until then. */
  heldUntilMs: number;
  /** Who has it from here, and until when. */
  readonly to: Map<Neighbour, number>;
}

export class PathLives {
  readonly #core: RouteCore;
  /** Ends of lives, of what neighbours answered. Bounded by the rows of the table. */
  readonly #found = new Map<Destination, Map<Neighbour, number>>();
  /** Bounded by the destinations of the table. */
  readonly #told = new Map<Destination, Told>();

  constructor(core: RouteCore) {
    this.#core = core;
  }

  get count(): number {
    return this.#found.size;
  }

  noteFound(destination: Destination, from: Neighbour, untilMs: number): void {
    const held = this.#found.get(destination);
    if (held === undefined) this.#found.set(destination, new Map([[from, untilMs]]));
    else held.set(from, untilMs);
  }

  /** When what the neighbour answered ends; undefined: it did not answer that. */
  endOf(destination: Destination, from: Neighbour): number | undefined {
    return this.#found.get(destination)?.get(from);
  }

  /** How long this node will have its way to the destination, ms; what no life bounds lasts for a whole one. */
  leftOf(destination: Destination): number {
    const { primary } = destination.any;
    const endMs = primary === undefined ? undefined : this.endOf(destination, primary);
    return endMs === undefined ? PATH_LIFE_MS : Math.min(PATH_LIFE_MS, endMs - this.#core.now());
  }

  /** What has ended, and is no way any more. */
  *ended(): Generator<readonly [Destination, Neighbour]> {
    const nowMs = this.#core.now();
    for (const [destination, found] of this.#found)
      for (const [from, endMs] of found) if (endMs <= nowMs) yield [destination, from];
  }

  /** What the neighbour answered. */
  *of(from: Neighbour): Generator<Destination> {
    for (const [destination, found] of this.#found) if (found.has(from)) yield destination;
  }

  forgetFound(destination: Destination, from: Neighbour): void {
    const found = this.#found.get(destination);
    if (found?.delete(from) === true && found.size === 0) this.#found.delete(destination);
  }

  noteTold(destination: Destination, to: Neighbour): void {
    const nowMs = this.#core.now();
    const held = this.#told.get(destination);
    const told = held ?? { heldUntilMs: 0, to: new Map<Neighbour, number>() };
    if (held === undefined) this.#told.set(destination, told);
    told.heldUntilMs = nowMs + PATH_HELD_MS;
    told.to.set(to, nowMs + PATH_LIFE_MS);
  }

  /** Who may still go by what this node told of the destination. */
  toldOf(destination: Destination): Neighbour[] {
    const told = this.#told.get(destination);
    if (told === undefined) return [];
    const nowMs = this.#core.now();
    for (const [to, untilMs] of told.to) if (untilMs <= nowMs) told.to.delete(to);
    return [...told.to.keys()];
  }

  forgetTold(destination: Destination, to: Neighbour): void {
    this.#told.get(destination)?.to.delete(to);
  }

  /** Whether the feasibility distance of the destination must stay. */
  holds(destination: Destination): boolean {
    return (this.#told.get(destination)?.heldUntilMs ?? 0) > this.#core.now();
  }

  forgetNeighbour(neighbour: Neighbour): void {
    for (const destination of [...this.of(neighbour)]) this.forgetFound(destination, neighbour);
    for (const { to } of this.#told.values()) to.delete(neighbour);
  }

  forgetDestination(destination: Destination): void {
    this.#found.delete(destination);
    this.#told.delete(destination);
  }
}
