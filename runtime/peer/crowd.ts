/**
 * Strangers that called and have a place among the neighbours, by source address: who gives one up when a caller of another source
 * finds none. Owns no session; must never name one that is not a stranger any more. docs/protocol/frames.md.
 */
import { BySize } from "../kernel/by-size.ts";
import type { NodeId } from "../kernel/ids.ts";
import { sourceOf } from "../kernel/source.ts";
import type { Session } from "../link/types.ts";
import { Peer } from "./peer.ts";

/** A session has a place of its own until its hello has come. */
type Place = Session | Peer;

interface Source {
  readonly name: string;
  /** In the order in which they came. */
  readonly keys: Set<Place>;
}

export class Crowd {
  readonly #isStranger: (id: NodeId) => boolean;
  readonly #sources = new Map<string, Source>();
  readonly #sourceOf = new Map<Place, Source>();
  readonly #bySize = new BySize<Source>();

  constructor(isStranger: (id: NodeId) => boolean) {
    this.#isStranger = isStranger;
  }

  get size(): number {
    return this.#sourceOf.size;
  }

  /** No effect for whom this node knows, or dialled. */
  enter(place: Place, session: Session): void {
    if (!this.#isOf(session)) return;
    const name = sourceOf(session.remoteEndpoint);
    let source = this.#sources.get(name);
    if (source === undefined) this.#sources.set(name, (source = { name, keys: new Set() }));
    source.keys.add(place);
    this.#sourceOf.set(place, source);
    this.#bySize.moved(source, source.keys.size - 1);
  }

  /** No effect for one that did not enter. */
  leave(place: Place): void {
    const source = this.#sourceOf.get(place);
    if (source === undefined) return;
    this.#sourceOf.delete(place);
    source.keys.delete(place);
    this.#bySize.moved(source, source.keys.size + 1);
    if (source.keys.size === 0) this.#sources.delete(source.name);
  }

  /**
   * Who gives way to a caller: the newest of the source with most, because it was of least use. Undefined: no source has so
   * many more than the caller's own; those of one source would push each other out for ever.
   */
  yielding({ remoteEndpoint }: Session): Place | undefined {
    const own = sourceOf(remoteEndpoint);
    for (;;) {
      const ownSize = this.#sources.get(own)?.keys.size ?? 0;
      const [most] = this.#bySize.largestFirst(ownSize + 2);
      if (most === undefined) return undefined;
      const newest = [...most.keys].at(-1)!;
      const session = newest instanceof Peer ? newest.links[0]?.session : newest;
      if (session !== undefined && this.#isOf(session)) return newest;
      // It became known meanwhile.
      this.leave(newest);
    }
  }

  #isOf({ direction, remote }: Session): boolean {
    return direction === "inbound" && this.#isStranger(remote);
  }
}
