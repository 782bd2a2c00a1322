/**
 * Short names for what the two ends of a slow link say again and again: nodes, and sessions of mail. Each end gives its own, and tells
 * what one stands for until the far end has shown that it knows. docs/protocol/slow.md "References".
 */
import { NODE_ID_CHARS, type NodeId } from "../kernel/ids.ts";
import { type Reference, REFERENCES_MAX } from "../wire/compact.ts";

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

  use(is: string): OwnReference {
    let entry = this.#entries.get(is);
    if (entry === undefined) entry = { index: this.#freeIndex(), is, isProven: false };
    else this.#entries.delete(is);
    this.#entries.set(is, entry);
    return entry;
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
  readonly #entries: (string | undefined)[] = Array.from({ length: REFERENCES_MAX }, () => undefined);

  node(reference: Reference<NodeId>): NodeId | undefined {
    return this.#resolve(reference, NODE_ID_CHARS) as NodeId | undefined;
  }

  session(reference: Reference<string>): string | undefined {
    return this.#resolve(reference, SESSION_ID_CHARS);
  }

  #resolve({ index, is }: Reference<string>, chars: number): string | undefined {
    if (is !== undefined) this.#entries[index] = is;
    const held = this.#entries[index];
    return held?.length === chars ? held : undefined;
  }
}
