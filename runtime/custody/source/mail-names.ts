/**
 * What names the mail of one start: an epoch drawn anew, and a counter for each address under it. Nothing of it is kept, so an older copy of
 * the disk, or two of one, cannot name two messages alike. What was accepted keeps its name in its own row.
 * docs/protocol/delivery.md "Names of a message".
 */
import type { Random } from "@godwit/sdk";
import { formatHex } from "../../kernel/ids.ts";
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";

/** Addresses counted under one epoch; one more begins another. */
export const ADDRESSES_MAX = 65_536;
/** Epochs of this start that are remembered: each but the first was proven to be somebody else's as well, or was full. */
const EPOCHS_MAX = 1_024;

export interface MailName {
  /** Hex. */
  readonly epoch: string;
  readonly counter: number;
}

export class MailNames {
  readonly #random: Random;
  readonly #addressesMax: number;
  /** Newest last. */
  readonly #epochs = new Set<string>();
  readonly #next = new Map<string, number>();
  #epoch: string;

  constructor(random: Random, addressesMax: number = ADDRESSES_MAX) {
    this.#random = random;
    this.#addressesMax = addressesMax;
    this.#epoch = this.#begin();
  }

  /** A name that nothing else has. One counter per address: a recipient then sees an almost unbroken run, which is short to remember. */
  next(address: string): MailName {
    const counter = this.#next.get(address) ?? 0;
    if (counter === 0 && this.#next.size >= this.#addressesMax) {
      this.renew();
      return this.next(address);
    }
    this.#next.set(address, counter + 1);
    return { epoch: this.#epoch, counter };
  }

  /** Drawn by this start: nobody but a double can have named anything under it. */
  isOwn(epoch: string): boolean {
    return this.#epochs.has(epoch);
  }

  /** What is named now is named under it. */
  isCurrent(epoch: string): boolean {
    return epoch === this.#epoch;
  }

  /** From here on another epoch: this one is not ours alone. */
  renew(): void {
    this.#next.clear();
    this.#epoch = this.#begin();
  }

  #begin(): string {
    const epoch = formatHex(this.#random.bytes(STORE_EPOCH_BYTES));
    this.#epochs.add(epoch);
    if (this.#epochs.size > EPOCHS_MAX) this.#epochs.delete(this.#epochs.values().next().value!);
    return epoch;
  }
}
