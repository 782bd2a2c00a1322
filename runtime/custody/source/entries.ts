/**
 * The messages of an outbox by their ids and by every bundle that they were ever sealed into: what anybody may ask for by
 * writing this node's name into a header costs one look, however much is here.
 */
import type { BundleId, MessageId } from "../../kernel/ids.ts";
import { PagedMap, type Page } from "../paged-map.ts";
import type { Live, OutboxEntry, Target } from "./entry.ts";

/** Bundles of one message that a receipt may still name. */
const FORMER_BUNDLES_MAX = 32;

export class OutboxEntries {
  readonly #byId = new PagedMap<MessageId, Live>();
  /** Every target and former bundle of each entry, and nothing else. */
  readonly #byBundle = new Map<BundleId, MessageId>();

  get size(): number {
    return this.#byId.size;
  }

  get(id: MessageId): Live | undefined {
    return this.#byId.get(id);
  }

  /** Whose bundle this is, or was. */
  byBundle(id: BundleId): Live | undefined {
    const message = this.#byBundle.get(id);
    return message === undefined ? undefined : this.#byId.get(message);
  }

  /** Oldest first. Nothing may be deleted on the way. */
  values(): Iterable<Live> {
    return this.#byId.values();
  }

  page(page: Page): OutboxEntry[] {
    return this.#byId.page(page).map(({ entry }) => entry);
  }

  add(live: Live): void {
    this.#byId.set(live.entry.id, live);
    for (const bundle of bundlesOf(live.entry)) this.#byBundle.set(bundle, live.entry.id);
  }

  delete(id: MessageId): void {
    const live = this.#byId.get(id);
    if (live === undefined) return;
    for (const bundle of bundlesOf(live.entry)) this.#byBundle.delete(bundle);
    this.#byId.delete(id);
  }

  /** Sealed. Of an entry that is added later `add` does the rest. */
  setTargets(entry: OutboxEntry, targets: readonly Target[]): void {
    entry.targets = targets;
    if (this.#byId.get(entry.id) !== undefined)
      for (const { bundle } of targets) this.#byBundle.set(bundle, entry.id);
  }

  /** Its bundles are former ones from now on; the oldest of those are forgotten past a bound. */
  dropTargets(entry: OutboxEntry): void {
    const former = bundlesOf(entry);
    for (const bundle of former.splice(0, former.length - FORMER_BUNDLES_MAX)) this.#byBundle.delete(bundle);
    entry.formerBundles = former;
    entry.targets = [];
  }
}

const bundlesOf = ({ targets, formerBundles }: OutboxEntry): BundleId[] => [
  ...(formerBundles ?? []),
  ...targets.map(({ bundle }) => bundle),
];
