/**
 * Short names for what the two ends of a slow link say again and again: nodes, and sessions of mail. Each end gives its own, and tells
 * what one stands for until the far end has shown that it knows. docs/protocol/slow.md "References".
 */
import { NODE_ID_CHARS, type NodeId } from "../kernel/ids.ts";
import { type Reference, REFERENCES_MAX } from "../wire/compact.ts";

/** So many bundles after the far end has used one of its own, it is not spoken of by that any more: each gives three away at most. */
const FRESH_BUNDLES = 16;
/** A session id as hex. */
const SESSION_ID_CHARS = 16;

export interface OwnReference {
  readonly index: number;
  /** A node id, or the id of a session as hex. */
  readonly is: string;
  /** The far end has had it in a bundle that it answered. */
  isProven: boolean;
}

/** Those that this end gives. The one not used for longest gives its index to what comes. */
export class OwnReferences {
  readonly #entries = new Map<string, OwnReference>();
  readonly #byIndex: (OwnReference | undefined)[] = [];

  /** Undefined: it has none. */
  get(is: string): OwnReference | undefined {
    return this.#entries.get(is);
  }

  use(is: string): OwnReference {
    let entry = this.#entries.get(is);
    if (entry === undefined) entry = { index: this.#freeIndex(), is, isProven: false };
    else this.#entries.delete(is);
    this.#entries.set(is, entry);
    this.#byIndex[entry.index] = entry;
    return entry;
  }

  /** The node that the far end means by an index of this end. */
  node({ index }: Reference<NodeId>): NodeId | undefined {
    const is = this.#byIndex[index]?.is;
    return is?.length === NODE_ID_CHARS ? (is as NodeId) : undefined;
  }

  #freeIndex(): number {
    if (this.#entries.size < REFERENCES_MAX) return this.#entries.size;
    const oldest = this.#entries.values().next().value!;
    this.#entries.delete(oldest.is);
    return oldest.index;
  }
}

/** As it stands in the frame. */
export const referenceTo = <T extends string>({ index, is, isProven }: OwnReference): Reference<T> =>
  isProven ? { index } : { index, is: is as T };

/** Those that the far end gives. */
export class FarReferences {
  readonly #entries: (string | undefined)[] = [];
  readonly #indexes = new Map<string, number>();
  /** By index: how many bundles had come when it was last used. */
  readonly #usedAt: number[] = [];
  #bundles = 0;

  /** Another bundle has come. */
  noteBundle(): void {
    this.#bundles++;
  }

  node(reference: Reference<NodeId>): NodeId | undefined {
    return this.#resolve(reference, NODE_ID_CHARS) as NodeId | undefined;
  }

  session(reference: Reference<string>): string | undefined {
    return this.#resolve(reference, SESSION_ID_CHARS);
  }

  /** By which the far end knows it, if it has spoken of it of late. */
  indexOf(is: NodeId): number | undefined {
    const index = this.#indexes.get(is);
    if (index === undefined || this.#bundles - this.#usedAt[index]! > FRESH_BUNDLES) return undefined;
    return index;
  }

  /** The far end does not know it by that any more: not before it speaks of it again. */
  forget(is: NodeId): void {
    this.#indexes.delete(is);
  }

  #resolve({ index, is }: Reference<string>, chars: number): string | undefined {
    if (is !== undefined) this.#define(index, is);
    const held = this.#entries[index];
    if (held?.length !== chars) return undefined;
    this.#usedAt[index] = this.#bundles;
    this.#indexes.set(held, index);
    return held;
  }

  #define(index: number, is: string): void {
    const before = this.#entries[index];
    if (before !== undefined && this.#indexes.get(before) === index) this.#indexes.delete(before);
    this.#entries[index] = is;
  }
}
