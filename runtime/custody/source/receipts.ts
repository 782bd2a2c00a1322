/** Receipts as the source reads them: verified, and in the form in which they are kept as proof. */
import { godwitError } from "../../kernel/errors.ts";
import type { NodeId } from "../../kernel/ids.ts";
import {
  decodeReceipt,
  decodeReceiptBody,
  receiptHash,
  receiptSigningBytes,
  type Receipt,
} from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import type { StoredReceipt } from "./entry.ts";
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
