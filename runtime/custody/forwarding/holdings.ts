/**
 * The bundles in custody, and where each is found without looking at the others: by id, by destination, and, of those
 * that wait for a receipt, by the neighbour that acknowledged them. Decides nothing and keeps no time.
 */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import type { Holding } from "../context.ts";

/** Many holdings under one key, in the order they were put there; a key without any is gone. */
export class Shelves {
  readonly #shelves = new Map<NodeId, Set<Holding>>();

  get isEmpty(): boolean {
    return this.#shelves.size === 0;
  }

  put(key: NodeId, holding: Holding): void {
    const shelf = this.#shelves.get(key);
    if (shelf === undefined) this.#shelves.set(key, new Set([holding]));
    else shelf.add(holding);
  }

  take(key: NodeId, holding: Holding): void {
    const shelf = this.#shelves.get(key);
    if (shelf?.delete(holding) === true && shelf.size === 0) this.#shelves.delete(key);
  }

  countUnder(key: NodeId): number {
    return this.#shelves.get(key)?.size ?? 0;
  }

  *under(key: NodeId | undefined): Iterable<Holding> {
    if (key !== undefined) yield* this.#shelves.get(key) ?? [];
    else for (const shelf of this.#shelves.values()) yield* shelf;
  }
}

export class Holdings {
  readonly #byId = new Map<BundleId, Holding>();
  readonly #toward = new Shelves();
  /** By neighbour, then by destination: those in state `relayed`. */
  readonly #relayed = new Map<NodeId, Shelves>();
  #bytes = 0;

  get count(): number {
    return this.#byId.size;
  }

  /** Copy it to change what it walks over. */
  get all(): Iterable<Holding> {
    return this.#byId.values();
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(id: BundleId): Holding | undefined {
    return this.#byId.get(id);
  }

  /** Is this very one, not merely one with its id, still here? */
  has(holding: Holding): boolean {
    return this.#byId.get(holding.id) === holding;
  }

  /** False when one with this id is here. */
  add(holding: Holding): boolean {
    if (this.#byId.has(holding.id)) return false;
    this.#byId.set(holding.id, holding);
    this.#toward.put(holding.header.destination, holding);
    this.#bytes += holding.sealedBytes;
    return true;
  }

  remove(id: BundleId): Holding | undefined {
    const holding = this.#byId.get(id);
    if (holding === undefined) return undefined;
    this.#byId.delete(id);
    this.#toward.take(holding.header.destination, holding);
    this.leaveRelayed(holding);
    this.#bytes -= holding.sealedBytes;
    return holding;
  }

  /** Every bundle for a destination, in the order they came. Copy it to change what it walks over. */
  toward(destination: NodeId): Iterable<Holding> {
    return this.#toward.under(destination);
  }

  /** Those that wait for a receipt after this neighbour acknowledged them; to one destination, or to all. Copy as above. */
  relayedBy(neighbour: NodeId, destination?: NodeId): Iterable<Holding> {
    return this.#relayed.get(neighbour)?.under(destination) ?? [];
  }

  relayedCount(neighbour: NodeId, destination: NodeId): number {
    return this.#relayed.get(neighbour)?.countUnder(destination) ?? 0;
  }

  hasRelayed(neighbour: NodeId): boolean {
    return this.#relayed.has(neighbour);
  }

  /** It becomes, or stays, `relayed`: by this neighbour. */
  setRelayed(holding: Holding, by: NodeId): void {
    this.leaveRelayed(holding);
    holding.state = "relayed";
    holding.relayedTo = by;
    let shelves = this.#relayed.get(by);
    if (shelves === undefined) this.#relayed.set(by, (shelves = new Shelves()));
    shelves.put(holding.header.destination, holding);
  }

  /** Call before a `relayed` holding becomes something else; no harm for others. */
  leaveRelayed(holding: Holding): void {
    const { state, relayedTo: by, header } = holding;
    const shelves = state === "relayed" && by !== undefined ? this.#relayed.get(by) : undefined;
    if (shelves === undefined) return;
    shelves.take(header.destination, holding);
    if (shelves.isEmpty) this.#relayed.delete(by!);
  }
}
