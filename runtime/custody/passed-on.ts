/**
 * Where bundles that left this node's custody went, for a while: one that comes again was lost behind that neighbour, or
 * its receipt was. Memory only, and bounded: what is forgotten is merely offered the same way once more.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock } from "@godwit/sdk";
import type { BundleId, NodeId } from "../kernel/ids.ts";

const BUNDLES_MAX = 8_192;
const DESTINATIONS_MAX = 1_024;
/** Sooner than this it is a copy that crossed its acknowledgement. */
const AGAIN_MIN_MS = 1_000;

export class PassedOn {
  readonly #clock: Clock;
  readonly #bundles = new BoundedMap<BundleId, { readonly to: NodeId; readonly atMs: number }>({
    name: "bundles passed on",
    max: BUNDLES_MAX,
  });
  readonly #own = new BoundedMap<NodeId, NodeId>({ name: "ways of own bundles", max: DESTINATIONS_MAX });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `isOwn`: made here, a receipt for instance. */
  note(id: BundleId, destination: NodeId, to: NodeId, isOwn: boolean): void {
    if (to === destination) return;
    if (isOwn) this.#own.renew(destination, to);
    else this.#bundles.renew(id, { to, atMs: this.#clock.monotonicMs() });
  }

  /** Who had it, when it comes again. */
  before(id: BundleId): NodeId | undefined {
    const entry = this.#bundles.get(id);
    if (entry === undefined || this.#clock.monotonicMs() - entry.atMs < AGAIN_MIN_MS) return undefined;
    return entry.to;
  }

  /** Who took the last receipt to that node. */
  lastOwn(destination: NodeId): NodeId | undefined {
    return this.#own.get(destination);
  }
}
