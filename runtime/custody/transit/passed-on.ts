/**
 * Where bundles that left this node's custody went, for a while: one that comes again was lost behind that neighbour, or
 * its receipt was. Memory only, and bounded, with shares by who brought them: what is forgotten is offered the same way once more,
 * and whoever lost it is met later, so that nobody may make this node forget for others.
 */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { CustodyContext } from "../context.ts";

export const BUNDLES_MAX = 8_192;
export const DESTINATIONS_MAX = 1_024;
/** Sooner than this it is a copy that crossed its acknowledgement. */
const AGAIN_MIN_MS = 1_000;

export class PassedOn {
  readonly #ctx: Pick<CustodyContext, "clock" | "regard">;
  readonly #bundles = new SharedMap<BundleId, { readonly to: NodeId; readonly atMs: number }>({
    name: "bundles passed on",
    max: BUNDLES_MAX,
  });
  readonly #own = new SharedMap<NodeId, NodeId>({ name: "ways of own bundles", max: DESTINATIONS_MAX });

  constructor(ctx: Pick<CustodyContext, "clock" | "regard">) {
    this.#ctx = ctx;
  }

  /** `from`: who brought it; undefined: it was made here, a receipt for instance. */
  note(id: BundleId, destination: NodeId, to: NodeId, from: NodeId | undefined): void {
    if (to === destination) return;
    const { clock, regard } = this.#ctx;
    if (from !== undefined) this.#bundles.set(id, { to, atMs: clock.monotonicMs() }, regard.shareOf(from));
    // Receipts go to whoever sent something, and that may be anybody: those of one way are of one share.
    else
      this.#own.set(
        destination,
        to,
        regard.isKnown(destination)
          ? { by: destination, isKnown: true }
          : { ...regard.shareOf(to), isKnown: false },
      );
  }

  /** Who had it, when it comes again. */
  before(id: BundleId): NodeId | undefined {
    const entry = this.#bundles.get(id);
    if (entry === undefined || this.#ctx.clock.monotonicMs() - entry.atMs < AGAIN_MIN_MS) return undefined;
    return entry.to;
  }

  /** Who took the last receipt to that node. */
  lastOwn(destination: NodeId): NodeId | undefined {
    return this.#own.get(destination);
  }
}
