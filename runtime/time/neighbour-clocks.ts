/** What the clocks of neighbours said last, as their distance from our monotonic one. Bounded; judges nobody. */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Voice } from "./voices.ts";

/** The latest heard ones. */
const CLOCKS_MAX = 1_024;

export class NeighbourClocks {
  readonly #clock: Clock;
  readonly #offsets = new BoundedMap<NodeId, number>({ name: "clocks of neighbours", max: CLOCKS_MAX });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `wallMs`: what its clock shows now. */
  heard(id: NodeId, wallMs: number): void {
    this.#offsets.renew(id, wallMs - this.#clock.monotonicMs());
  }

  forget(id: NodeId): void {
    this.#offsets.delete(id);
  }

  /** Those that have a say, as of now. */
  *voices(standingOf: (id: NodeId) => Voice["standing"] | undefined): Iterable<Voice> {
    const nowMs = this.#clock.monotonicMs();
    for (const [id, offsetMs] of this.#offsets) {
      const standing = standingOf(id);
      if (standing !== undefined) yield { standing, wallMs: offsetMs + nowMs };
    }
  }
}
