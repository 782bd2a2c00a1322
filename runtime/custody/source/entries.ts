/**
 * The messages of an outbox that are in memory, by their ids and by every bundle that they were ever sealed into; and of those on the disk
 * alone, the same by a few bytes for each bundle: what anybody may ask for by writing this node's name into a header costs one look,
 * however much is here.
 */
import type { BundleId, MessageId } from "../../kernel/ids.ts";
import { REFERENCE_CHARS } from "../../wire/message.ts";
import type { Live, OutboxEntry, Target } from "./entry.ts";

/** Bundles of one message that a receipt may still name. */
const FORMER_BUNDLES_MAX = 32;
const FINGERPRINT_CHARS = 13;
/** A fingerprint without what follows the reference of a receipt of a session, which is as many of its first characters. */
const AFTER_REFERENCE = 16 ** (FINGERPRINT_CHARS - REFERENCE_CHARS);

export class OutboxEntries {
  readonly #byId = new Map<MessageId, Live>();
  /** Every target and former bundle of each entry, and nothing else. */
  readonly #byBundle = new Map<BundleId, MessageId>();
  /** Keys of that, by how they begin. */
  readonly #byReference = new Map<number, readonly BundleId[]>();
  /** From 52 bits of a bundle to the order of the message that is not in memory. */
  readonly #stored = new Map<number, number>();

  get size(): number {
    return this.#byId.size;
  }

  get(id: MessageId): Live | undefined {
    return this.#byId.get(id);
  }

  /** Whose bundle this is, or was, if that is in memory. */
  byBundle(id: BundleId): Live | undefined {
    const message = this.#byBundle.get(id);
    return message === undefined ? undefined : this.#byId.get(message);
  }

  /** Whose bundles begin like that, hex, of those in memory: one, and hardly ever another. */
  beginning(reference: string): Live[] {
    const bundles = this.#byReference.get(Number.parseInt(reference, 16)) ?? [];
    return bundles.flatMap((bundle) => this.byBundle(bundle) ?? []);
  }

  /** The order of the message on the disk whose bundle this seems to be, or to have been. */
  storedOrder(id: BundleId): number | undefined {
    return this.#stored.get(fingerprint(id));
  }

  /** Orders of messages on the disk that have, or had, a bundle which begins like one of these, hex; looks at all that are there. */
  storedOrders(references: readonly string[], max: number): number[] {
    const wanted = new Set(references.map((reference) => Number.parseInt(reference, 16)));
    const orders: number[] = [];
    for (const bundle of this.#stored.keys())
      if (wanted.has(Math.floor(bundle / AFTER_REFERENCE)) && orders.length < max)
        orders.push(this.#stored.get(bundle)!);
    return orders;
  }

  isOwn(id: BundleId): boolean {
    return this.#byBundle.has(id) || this.#stored.has(fingerprint(id));
  }

  /** Oldest in memory first. Nothing may be deleted on the way. */
  values(): Iterable<Live> {
    return this.#byId.values();
  }

  add(live: Live): void {
    this.#byId.set(live.entry.id, live);
    for (const bundle of bundlesOf(live.entry)) {
      this.#name(bundle, live.entry.id);
      this.#stored.delete(fingerprint(bundle));
    }
  }

  /** It is on the disk alone from now on. */
  store({ entry, order }: Live): void {
    this.delete(entry.id);
    this.noteStored(entry, order);
  }

  noteStored(entry: OutboxEntry, order: number): void {
    for (const bundle of bundlesOf(entry)) this.#stored.set(fingerprint(bundle), order);
  }

  /** It is nowhere. */
  forget(entry: OutboxEntry): void {
    this.delete(entry.id);
    for (const bundle of bundlesOf(entry)) this.#stored.delete(fingerprint(bundle));
  }

  delete(id: MessageId): void {
    const live = this.#byId.get(id);
    if (live === undefined) return;
    for (const bundle of bundlesOf(live.entry)) this.#unname(bundle);
    this.#byId.delete(id);
  }

  /** Sealed. Of an entry that is added later `add` does the rest. */
  setTargets(entry: OutboxEntry, targets: readonly Target[]): void {
    entry.targets = targets;
    if (this.#byId.get(entry.id) !== undefined)
      for (const { bundle } of targets) this.#name(bundle, entry.id);
  }

  /** Its bundles are former ones from now on; the oldest of those are forgotten past a bound. */
  dropTargets(entry: OutboxEntry): void {
    const former = bundlesOf(entry);
    for (const bundle of former.splice(0, former.length - FORMER_BUNDLES_MAX)) this.#unname(bundle);
    entry.formerBundles = former;
    entry.targets = [];
  }

  #name(bundle: BundleId, id: MessageId): void {
    const reference = referenceOf(bundle);
    if (!this.#byBundle.has(bundle))
      this.#byReference.set(reference, [...(this.#byReference.get(reference) ?? []), bundle]);
    this.#byBundle.set(bundle, id);
  }

  #unname(bundle: BundleId): void {
    if (!this.#byBundle.delete(bundle)) return;
    const reference = referenceOf(bundle);
    const others = this.#byReference.get(reference)!.filter((other) => other !== bundle);
    if (others.length > 0) this.#byReference.set(reference, others);
    else this.#byReference.delete(reference);
  }
}

const bundlesOf = ({ targets, formerBundles }: OutboxEntry): BundleId[] => [
  ...(formerBundles ?? []),
  ...targets.map(({ bundle }) => bundle),
];

const referenceOf = (id: BundleId): number => Number.parseInt(id.slice(0, REFERENCE_CHARS), 16);
const fingerprint = (id: BundleId): number => Number.parseInt(id.slice(0, FINGERPRINT_CHARS), 16);
