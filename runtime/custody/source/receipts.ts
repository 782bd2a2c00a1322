/** Receipts as the source reads them: verified, and in the form in which they are kept as proof. */
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import {
  decodeReceipt,
  decodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  type Receipt,
} from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import type { Store } from "../../store/types.ts";
import type { OutboxEntries } from "./entries.ts";
import type { Live, StoredReceipt } from "./entry.ts";
import type { MailNaming } from "./mail-names.ts";
import { proofOf } from "./proofs.ts";

export interface ProvenReceipt {
  readonly receipt: Receipt;
  readonly stored: StoredReceipt;
}

/** The body of a receipt bundle from `signer` to this node. Throws GODWIT_DECODE, for a bad signature too. */
export function readReceipts(
  ctx: Pick<CustodyContext, "network" | "self" | "verify">,
  signer: NodeId,
  bytes: Uint8Array,
): ProvenReceipt[] {
  const { receipts, signature } = decodeReceiptBody(bytes);
  const hashes = receipts.map(receiptHash);
  if (!ctx.verify(signer, receiptSigningBytes(ctx.network, signer, ctx.self, hashes), signature)) {
    throw godwitError("GODWIT_DECODE", "receipt whose signature is not of the node it names");
  }
  // They outlive the frame that they came in.
  const proof = proofOf(signature.slice(), hashes);
  return receipts.map((encoded) => {
    const receipt = decodeReceipt(encoded);
    const { atMs, isUnconfirmed, trace } = receipt;
    const stored = { by: signer, atMs, isUnconfirmed, trace, encoded: encoded.slice(), proof };
    return { receipt, stored };
  });
}

/** In receipts for bundles that could not be opened. */
const NO_MESSAGE = "0".repeat(32);

/** Which messages receipts are about. */
export class NamedMessages {
  readonly #store: Pick<Store, "page">;
  readonly #entries: OutboxEntries;
  readonly #names: MailNaming;

  constructor(store: Pick<Store, "page">, entries: OutboxEntries, names: MailNaming) {
    this.#store = store;
    this.#entries = entries;
    this.#names = names;
  }

  /** In memory. */
  find({ messageId, bundleId }: Receipt): Live | undefined {
    return this.#entries.get(this.#names.toldAs(messageId)) ?? this.#entries.byBundle(bundleId);
  }

  /** Ids, as their sender was told, of those that are not in memory. Rejects with GODWIT_STORE_FAILED. */
  async stored(receipts: readonly ProvenReceipt[]): Promise<MessageId[]> {
    const ids: MessageId[] = [];
    for (const { receipt } of receipts) {
      if (this.find(receipt) !== undefined) continue;
      const { messageId, bundleId } = receipt;
      if (messageId !== NO_MESSAGE) ids.push(this.#names.toldAs(messageId));
      const order = this.#entries.storedOrder(bundleId);
      if (messageId !== NO_MESSAGE || order === undefined) continue;
      const page = { order: "oldest-first", after: order - 1, limit: 1 } as const;
      const [row] = await this.#store.page("outbox", page);
      if (row?.order === order) ids.push(row.key as MessageId);
    }
    return ids;
  }
}
