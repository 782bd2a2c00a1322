/** Which bundles the sequences of a slow link stand for, of the last 128 in each direction. docs/protocol/slow.md "Sequences". */
import type { Departure } from "../kernel/departure.ts";
import type { BundleId, NodeId } from "../kernel/ids.ts";
import { nextSequence, sequenceAge, SEQUENCES_MAX } from "../wire/compact.ts";
import type { OwnReference } from "./references.ts";

/** Frames that are kept for the case that the far end cannot read them, bytes. */
const FRAMES_BYTES_MAX = 131_072;

export interface SentBundle {
  readonly id: BundleId;
  /** The ordinary frame, owned, as long as it may have to be sent in full. */
  frame: Uint8Array | undefined;
  /** It was answered, or sent in full: it is not sent once more. */
  isSettled: boolean;
  /** What it referred to or defined. */
  readonly uses: readonly OwnReference[];
  /** Nodes that it named as the far end does. */
  readonly theirs: readonly NodeId[];
  /** Of whoever waits for its answer. */
  readonly departure: Departure | undefined;
}

function isLater(sequence: number, than: number): boolean {
  const age = sequenceAge(sequence, than);
  return age > 0 && age < SEQUENCES_MAX;
}

/** Those of this end. */
export class SentBundles {
  readonly #sent = new Map<number, SentBundle>();
  #next = 0;
  #bytes = 0;

  /** The sequence that the next one gets. */
  get next(): number {
    return this.#next;
  }

  add(bundle: SentBundle): void {
    this.#remove((this.#next - SEQUENCES_MAX) & 255);
    this.#sent.set(this.#next, bundle);
    this.#next = nextSequence(this.#next);
    this.#bytes += bundle.frame?.length ?? 0;
    for (const sent of this.#sent.values()) {
      if (this.#bytes <= FRAMES_BYTES_MAX) break;
      this.#takeFrame(sent);
    }
  }

  get(sequence: number): SentBundle | undefined {
    return this.#sent.get(sequence);
  }

  /** Another copy of that bundle was sent after the one of that sequence, and was not answered yet. */
  hasNewer(id: BundleId, sequence: number): boolean {
    return [...this.#sent].some(
      ([other, sent]) => sent.id === id && !sent.isSettled && isLater(other, sequence),
    );
  }

  /** Nothing is to be sent of it any more. The frame, if it is still there. */
  settle(sent: SentBundle): Uint8Array | undefined {
    sent.isSettled = true;
    return this.#takeFrame(sent);
  }

  #takeFrame(sent: SentBundle): Uint8Array | undefined {
    const { frame } = sent;
    this.#bytes -= frame?.length ?? 0;
    sent.frame = undefined;
    return frame;
  }

  #remove(sequence: number): void {
    const sent = this.#sent.get(sequence);
    if (sent === undefined) return;
    this.#takeFrame(sent);
    this.#sent.delete(sequence);
  }
}

/** Those of the far end. */
export class ReceivedBundles {
  readonly #ids = new Map<number, BundleId>();
  readonly #sequences = new Map<BundleId, number>();
  #newest: number | undefined;

  note(sequence: number, id: BundleId): void {
    const newest = this.#newest ?? sequence;
    const age = sequenceAge(newest, sequence);
    // Of those that lie half the numbers away nobody knows whether they came before or after.
    const isNewer = age > SEQUENCES_MAX;
    this.#newest = isNewer ? sequence : newest;
    this.#forget(sequence);
    this.#ids.set(sequence, id);
    this.#sequences.set(id, sequence);
    if (!isNewer) return;
    for (const held of [...this.#ids.keys()])
      if (sequenceAge(sequence, held) >= SEQUENCES_MAX) this.#forget(held);
  }

  /** By which the far end knows it. */
  sequenceOf(id: BundleId): number | undefined {
    return this.#sequences.get(id);
  }

  /** Oldest first. */
  inOrder(sequences: readonly number[]): number[] {
    const newest = this.#newest ?? 0;
    return sequences.toSorted((a, b) => sequenceAge(newest, b) - sequenceAge(newest, a));
  }

  #forget(sequence: number): void {
    const id = this.#ids.get(sequence);
    if (id === undefined) return;
    this.#ids.delete(sequence);
    if (this.#sequences.get(id) === sequence) this.#sequences.delete(id);
  }
}
