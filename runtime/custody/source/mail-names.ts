/**
 * What names the mail of one start: an epoch drawn anew, and a counter for each address under it. Nothing of it is kept, so an older copy of
 * the disk, or two of one, cannot name two messages alike. What was accepted keeps its name in its own row.
 * docs/protocol/delivery.md "Names of a message".
 */
import { BoundedMap, BoundedSet } from "@godwit/sdk/bounded";
import { TokenBucket } from "../../kernel/backoff.ts";
import { formatHex, parseHex, type BundleId, type MessageId, type NodeId } from "../../kernel/ids.ts";
import { messageIdOf, noBundleId } from "../../wire/message.ts";
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import type { CustodyContext } from "../context.ts";
import type { OutboxEntry } from "./entry.ts";

/** Addresses counted under one epoch; one more begins another. */
const ADDRESSES_MAX = 65_536;
/** Epochs of this start that are remembered: each but the first was proven to be somebody else's as well, or was full. */
const EPOCHS_MAX = 1_024;
const RENAMED_MAX = 65_536;
/** Who signs receipts for bundles that nobody sealed gets little work out of it. */
const RENAMES_PER_SECOND = 0.1;
export const RENAMES_BURST = 1_000;
/**
 * Every epoch is a set that each recipient keeps for months, and it takes some 2,300 of one sender. A false receipt for mail of the current
 * epoch costs one, so whoever signs them must not be able to use up the room that others have for this node's mail.
 */
const RENEWALS_PER_SECOND = 2 / 86_400;
export const RENEWALS_BURST = 64;

export interface MailName {
  /** Hex. */
  readonly epoch: string;
  readonly counter: number;
}

type NamingContext = Pick<CustodyContext, "self" | "log" | "random" | "clock" | "metrics">;

/** The names of an outbox: given, proven to be somebody else's as well, and given anew. */
export class MailNaming {
  readonly #ctx: NamingContext;
  readonly #addressesMax: number;
  /** Drawn by this start: nobody but a double can have named anything under them. */
  readonly #epochs = new BoundedSet<string>({ name: "mail epochs of this start", max: EPOCHS_MAX });
  readonly #next = new Map<string, number>();
  /** From what a message is called inside the seal to what its sender was told. */
  readonly #renamed = new BoundedMap<MessageId, MessageId>({ name: "renamed messages", max: RENAMED_MAX });
  readonly #renames: TokenBucket;
  readonly #renewals: TokenBucket;
  readonly #doubles;
  #epoch = "";

  constructor(ctx: NamingContext, addressesMax: number = ADDRESSES_MAX) {
    this.#ctx = ctx;
    this.#addressesMax = addressesMax;
    this.#renames = new TokenBucket(ctx.clock, RENAMES_PER_SECOND, RENAMES_BURST);
    this.#renewals = new TokenBucket(ctx.clock, RENEWALS_PER_SECOND, RENEWALS_BURST);
    this.#doubles = ctx.metrics.counter("godwit_mail_named_twice_total");
    this.#renew();
  }

  /** A name that nothing else has. One counter per address: a recipient then sees an almost unbroken run, which is short to remember. */
  next(address: string): MailName {
    if (!this.#next.has(address) && this.#next.size >= this.#addressesMax) this.#renew();
    const counter = this.#next.get(address) ?? 0;
    this.#next.set(address, counter + 1);
    return { epoch: this.#epoch, counter };
  }

  /** An entry of the store. */
  restore(entry: OutboxEntry): void {
    if (entry.isRenamed === true) this.#renamed.set(idOf(this.#ctx.self, entry.to, entry), entry.id);
  }

  /** What the sender was told for the id that a recipient knows. */
  toldAs(id: MessageId): MessageId {
    return this.#renamed.get(id) ?? id;
  }

  /**
   * A receipt for mail that this start named counts for the bundles that it sealed alone. Any other proves that somebody else names
   * mail under that epoch: a second life of this very process, such as a resumed snapshot of its machine.
   */
  isOfDouble({ epoch, targets, formerBundles }: OutboxEntry, bundle: BundleId): boolean {
    return (
      this.#epochs.has(epoch) &&
      bundle !== noBundleId &&
      !targets.some((target) => target.bundle === bundle) &&
      formerBundles?.includes(bundle) !== true
    );
  }

  /** Another epoch for all that comes, and another name for this one. False: too often, the receipts are not to be believed. */
  rename(entry: OutboxEntry): boolean {
    const isOfCurrent = entry.epoch === this.#epoch;
    if (!this.#renames.take() || (isOfCurrent && !this.#renewals.take())) return false;
    this.#ctx.log.error("mail named twice", {
      message: entry.id,
      advice: "this identity runs twice, or a snapshot of its machine was resumed: end one of them",
    });
    this.#doubles.add();
    if (isOfCurrent) this.#renew();
    Object.assign(entry, this.next(entry.to));
    entry.isRenamed = true;
    this.restore(entry);
    return true;
  }

  #renew(): void {
    this.#next.clear();
    this.#epoch = formatHex(this.#ctx.random.bytes(STORE_EPOCH_BYTES));
    this.#epochs.add(this.#epoch);
  }
}

export const idOf = (self: NodeId, to: string, { epoch, counter }: MailName): MessageId =>
  messageIdOf(self, to, parseHex(epoch, STORE_EPOCH_BYTES)!, counter);
