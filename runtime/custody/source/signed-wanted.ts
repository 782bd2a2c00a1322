/**
 * Signed receipts in place of those that a session proves: asked for when a way without a slow link leads to whom delivered, and put into the row of the
 * message, durably. Remembers in memory alone what it waits for, so that after a restart nothing is asked for again. Must never put one there that is
 * about another bundle, or by another node, than the receipt that it replaces. docs/protocol/delivery.md "Receipts of a session".
 */
import type { Timer } from "@godwit/sdk";
import { asGodwitError } from "../../kernel/errors.ts";
import { type MessageId, type NodeId, shortId } from "../../kernel/ids.ts";
import { encodeReceiptsWanted, RECEIPTS_MAX, ReceiptStatus } from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import { canReach } from "../lanes.ts";
import type { OutboxEntries } from "./entries.ts";
import type { OutboxDeps, OutboxEntry, ProvenReceipt, StoredReceipt } from "./entry.ts";
import type { MailNaming } from "./mail-names.ts";
import type { ReceiptProofs } from "./proofs.ts";
import type { OutboxReader } from "./reader.ts";
import type { OutboxRows } from "./rows.ts";

/** Messages whose signed receipts are waited for, of all recipients; the oldest are given up for another one. */
export const WANTED_MAX = 4_096;
export const FIRST_PAUSE_MS = 60_000;
export const PAUSE_MAX_MS = 3_600_000;
/** Requests to one recipient without a receipt that came of them. */
export const TRIES_MAX = 8;
/** Asked for at one time. */
export const BUNDLES_AT_ONCE = 16;
/** Of a request; what comes of it is asked for again otherwise. */
const LIFETIME_MS = 3_600_000;

/** Of one recipient. */
interface Wanted {
  readonly ids: Set<MessageId>;
  tries: number;
  /** Runs while it is too early to ask. */
  pause: Timer | undefined;
}

export interface SignedWantedParts {
  readonly proofs: ReceiptProofs;
  readonly rows: OutboxRows;
  readonly entries: OutboxEntries;
  readonly reader: OutboxReader;
  readonly names: MailNaming;
}

export class SignedWanted {
  readonly #ctx: Pick<CustodyContext, "self" | "clock" | "carrier" | "log">;
  readonly #deps: Pick<OutboxDeps, "events" | "sendSystem">;
  readonly #parts: SignedWantedParts;
  readonly #of = new Map<NodeId, Wanted>();
  /** From each message to its recipient, oldest first. */
  readonly #recipients = new Map<MessageId, NodeId>();
  #isStopped = false;

  constructor(
    ctx: Pick<CustodyContext, "self" | "clock" | "carrier" | "log">,
    deps: Pick<OutboxDeps, "events" | "sendSystem">,
    parts: SignedWantedParts,
  ) {
    this.#ctx = ctx;
    this.#deps = deps;
    this.#parts = parts;
  }

  get count(): number {
    return this.#recipients.size;
  }

  /** It was delivered: if its receipt is one of a session, a signed one is to replace that. */
  note({ id, receipt }: OutboxEntry): void {
    if (receipt?.isSession !== true || this.#recipients.has(id) || this.#isStopped) return;
    const [oldest] = this.#recipients.keys();
    if (this.#recipients.size >= WANTED_MAX) this.#forget(oldest!);
    this.#recipients.set(id, receipt.by);
    const wanted = this.#of.get(receipt.by) ?? { ids: new Set(), tries: 0, pause: undefined };
    this.#of.set(receipt.by, wanted);
    wanted.ids.add(id);
    if (wanted.ids.size === 1) this.#pause(receipt.by, wanted);
  }

  onRoute(destination: NodeId): void {
    const wanted = this.#of.get(destination);
    if (wanted !== undefined && wanted.pause === undefined) this.#ask(destination, wanted);
  }

  /**
   * Puts into the rows of their messages those of these receipts that were waited for. Resolves once that is durable; rejects with
   * GODWIT_STORE_FAILED, and nothing has changed then.
   */
  async replace(signer: NodeId, receipts: readonly ProvenReceipt[]): Promise<void> {
    const { proofs, rows, entries, reader, names } = this.#parts;
    const signed = new Map<MessageId, ProvenReceipt>();
    for (const proven of receipts) {
      const id = names.toldAs(proven.receipt.messageId);
      const isWanted = !proven.stored.isSession && this.#recipients.get(id) === signer;
      if (isWanted && proven.receipt.status === ReceiptStatus.delivered) signed.set(id, proven);
    }
    if (signed.size === 0) return;
    const changed: OutboxEntry[] = [];
    for (const [id, entry] of await reader.rows([...signed.keys()])) {
      const { receipt, stored } = signed.get(id)!;
      // Forgotten meanwhile: it would come back.
      if (entry === undefined || !entries.isOwn(receipt.bundleId)) continue;
      if (isOfSame(entry, receipt.bundleId, signer)) changed.push(withReceipt(entry, stored));
    }
    if (changed.length === 0) return;
    for (const entry of changed) proofs.use(entry);
    try {
      await rows.commit(changed.map((entry) => ({ entry, order: 0 })));
    } catch (error) {
      for (const entry of changed) proofs.release(entry);
      throw error;
    }
    const wanted = this.#of.get(signer);
    if (wanted !== undefined) wanted.tries = 0;
    for (const entry of changed) {
      this.#forget(entry.id);
      this.#deps.events.emit("outboxChanged", entry);
    }
  }

  stop(): void {
    this.#isStopped = true;
    for (const { pause } of this.#of.values()) pause?.cancel();
  }

  #forget(id: MessageId): void {
    const recipient = this.#recipients.get(id);
    const wanted = recipient === undefined ? undefined : this.#of.get(recipient);
    if (recipient === undefined || wanted === undefined) return;
    this.#recipients.delete(id);
    wanted.ids.delete(id);
    if (wanted.ids.size > 0) return;
    wanted.pause?.cancel();
    this.#of.delete(recipient);
  }

  /** Once it is over the next change of the routes asks, or it asks itself where the way is fit already. */
  #pause(recipient: NodeId, wanted: Wanted): void {
    const pauseMs = Math.min(PAUSE_MAX_MS, FIRST_PAUSE_MS * 2 ** wanted.tries);
    wanted.pause = this.#ctx.clock.after(pauseMs, () => {
      wanted.pause = undefined;
      this.#ask(recipient, wanted);
    });
  }

  #ask(recipient: NodeId, wanted: Wanted): void {
    if (!canReach(this.#ctx, recipient) || this.#ctx.carrier.isSlow(recipient)) return;
    if (wanted.tries >= TRIES_MAX) return [...wanted.ids].forEach((id) => this.#forget(id));
    this.#pause(recipient, wanted);
    wanted.tries++;
    const ids = [...wanted.ids];
    for (let at = 0; at < Math.min(ids.length, RECEIPTS_MAX * BUNDLES_AT_ONCE); at += RECEIPTS_MAX)
      this.#request(recipient, ids.slice(at, at + RECEIPTS_MAX));
  }

  #request(recipient: NodeId, ids: readonly MessageId[]): void {
    try {
      void this.#deps.sendSystem(recipient, encodeReceiptsWanted(ids), LIFETIME_MS);
    } catch (error) {
      // No key of it is known that it could be sealed to; it is asked again.
      this.#ctx.log.debug("signed receipts not asked for", {
        recipient: shortId(recipient),
        error: asGodwitError(error),
      });
    }
  }
}

/** Delivered, which a session proves, and sealed to that node in that bundle. */
const isOfSame = ({ state, receipt, targets }: OutboxEntry, bundle: string, by: NodeId): boolean =>
  state === "delivered" &&
  receipt?.isSession === true &&
  targets.some((target) => target.node === by && target.bundle === bundle);

const withReceipt = (entry: OutboxEntry, receipt: StoredReceipt): OutboxEntry => ({
  ...entry,
  receipt,
  deliveredAtMs: receipt.atMs,
});
