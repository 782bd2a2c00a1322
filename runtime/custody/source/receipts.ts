/** Receipts as the source reads them: verified, in the form in which they are kept as proof, and which messages they are about. */
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import {
  decodeReceipt,
  decodeReceiptBody,
  decodeSessionReceipts,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
  type Receipt,
} from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import type { OutboxEntries } from "./entries.ts";
import type { Live, ProvenReceipt } from "./entry.ts";
import type { MailNaming } from "./mail-names.ts";
import { proofOf } from "./proofs.ts";
import { SessionReceipts } from "./session-receipts.ts";

/** The body of a bundle of signed receipts from `signer` to this node. Throws GODWIT_DECODE, for a bad signature too. */
function readSigned(
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
    const stored = {
      by: signer,
      atMs,
      isUnconfirmed,
      trace,
      encoded: encoded.slice(),
      isSession: false,
      proof,
    };
    return { receipt, stored };
  });
}

/** In receipts for bundles that could not be opened. */
const NO_MESSAGE = "0".repeat(32);

/** A bundle of receipts. */
export interface ArrivedReceipts {
  /** Ids, as their sender was told, of messages that are not in memory and that some of them may be about. */
  readonly missing: readonly MessageId[];
  /** Those that hold, once such messages were brought there. */
  proven(): readonly ProvenReceipt[];
}

/** Which messages receipts are about. */
export class NamedMessages {
  readonly #ctx: CustodyContext;
  readonly #entries: OutboxEntries;
  readonly #names: MailNaming;
  readonly #session: SessionReceipts;

  constructor(ctx: CustodyContext, entries: OutboxEntries, names: MailNaming) {
    this.#ctx = ctx;
    this.#entries = entries;
    this.#names = names;
    this.#session = new SessionReceipts(ctx, entries);
  }

  /** From `signer`, signed or of a session. Rejects with GODWIT_DECODE, for a bad signature too, and GODWIT_STORE_FAILED. */
  async read(signer: NodeId, bytes: Uint8Array): Promise<ArrivedReceipts> {
    const inSession = decodeSessionReceipts(bytes);
    if (inSession === undefined) {
      const receipts = readSigned(this.#ctx, signer, bytes);
      return { missing: await this.#stored(receipts), proven: () => receipts };
    }
    const proven = this.#session.proven(signer, inSession);
    const others = inSession.filter((receipt) => !proven.has(receipt));
    return {
      missing: await this.#session.stored(others),
      proven: () => [...proven.values(), ...this.#session.proven(signer, others).values()],
    };
  }

  /** In memory. */
  find({ messageId, bundleId }: Receipt): Live | undefined {
    return this.#entries.get(this.#names.toldAs(messageId)) ?? this.#entries.byBundle(bundleId);
  }

  async #stored(receipts: readonly ProvenReceipt[]): Promise<MessageId[]> {
    const ids: MessageId[] = [];
    for (const { receipt } of receipts) {
      if (this.find(receipt) !== undefined) continue;
      const { messageId, bundleId, status } = receipt;
      const isNamed = messageId !== NO_MESSAGE && status !== ReceiptStatus.sessionUnknown;
      if (isNamed) ids.push(this.#names.toldAs(messageId));
      const order = this.#entries.storedOrder(bundleId);
      if (isNamed || order === undefined) continue;
      const page = { order: "oldest-first", after: order - 1, limit: 1 } as const;
      const [row] = await this.#ctx.store.page("outbox", page);
      if (row?.order === order) ids.push(row.key as MessageId);
    }
    return ids;
  }
}
