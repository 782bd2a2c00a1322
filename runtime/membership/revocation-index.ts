/**
 * The ids of the revoked in their order, with the sum over all of them: neighbours ask for both in frames of a few bytes, and anybody can
 * make a thousand nodes that revoke themselves. Owns the order and the sum, which is made anew after a change and when somebody asks; must
 * never be sorted for a frame.
 */
import { createHash } from "node:crypto";
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import {
  REVOCATION_DIGEST_BYTES,
  REVOCATION_NAME_BYTES,
  type RevocationDigest,
} from "../wire/revocation-messages.ts";

interface Item {
  readonly id: NodeId;
  readonly bytes: Uint8Array;
  readonly name: string;
}

/** In hex, as lists carry it. */
export const revocationName = (id: NodeId): string => nameOf(nodeIdBytes(id));
const nameOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.subarray(0, REVOCATION_NAME_BYTES)).toString("hex");

export class RevocationIndex {
  readonly #items: Item[] = [];
  #digest: RevocationDigest | undefined;

  get size(): number {
    return this.#items.length;
  }

  /** Of the ids in their order. */
  get digest(): RevocationDigest {
    if (this.#digest !== undefined) return this.#digest;
    const hash = createHash("sha256");
    for (const { bytes } of this.#items) hash.update(bytes);
    const digest = new Uint8Array(hash.digest().subarray(0, REVOCATION_DIGEST_BYTES));
    return (this.#digest = { count: this.#items.length, digest });
  }

  get names(): string[] {
    return this.#items.map(({ name }) => name);
  }

  add(id: NodeId): void {
    const bytes = nodeIdBytes(id);
    const at = this.#firstFrom(bytes);
    if (this.#items[at]?.id === id) return;
    this.#items.splice(at, 0, { id, bytes, name: nameOf(bytes) });
    this.#digest = undefined;
  }

  delete(id: NodeId): void {
    const at = this.#firstFrom(nodeIdBytes(id));
    if (this.#items[at]?.id !== id) return;
    this.#items.splice(at, 1);
    this.#digest = undefined;
  }

  /** How many names lie between these two, both included. */
  countBetween(first: string, last: string): number {
    return Math.max(0, this.#firstAfter(last) - this.#firstNamed(first));
  }

  /** Those whose names lie between these two, both included. */
  *between(first: string, last: string): Generator<{ readonly id: NodeId; readonly name: string }, void> {
    // A copy: whoever is told of one may change the set.
    yield* this.#items.slice(this.#firstNamed(first), this.#firstAfter(last));
  }

  #firstFrom(bytes: Uint8Array): number {
    return this.#search((item) => Buffer.compare(item.bytes, bytes) < 0);
  }

  #firstNamed(name: string): number {
    return this.#search((item) => item.name < name);
  }

  #firstAfter(name: string): number {
    return this.#search((item) => item.name <= name);
  }

  /** Of the first item that is not before. */
  #search(isBefore: (item: Item) => boolean): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.#items[middle]!)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
