/**
 * What shows a receipt to anyone: the hashes of the receipts that one signature covers, and that signature. Those of many receipts lie once,
 * in a collection of their own, as long as a message of the outbox refers to them; those of one or two in the row of the message itself.
 */
import { createHash } from "node:crypto";
import { formatHex } from "../../kernel/ids.ts";
import { RECEIPT_HASH_BYTES, RECEIPTS_MAX, SIGNATURE_BYTES } from "../../wire/message.ts";
import { loadSound } from "../../store/sound.ts";
import type { Store, StoreOp } from "../../store/types.ts";

const SHARED_FROM_HASHES = 3;
const NAME_BYTES = 12;
const HEAD_BYTES = SIGNATURE_BYTES + RECEIPT_HASH_BYTES;

export interface ReceiptProof {
  /** Key of its row; undefined: it lies with the message. Says what it holds. */
  readonly name: string | undefined;
  readonly signature: Uint8Array;
  /** In the order in which they were signed. */
  readonly hashes: readonly Uint8Array[];
}

export function proofOf(signature: Uint8Array, hashes: readonly Uint8Array[]): ReceiptProof {
  if (hashes.length < SHARED_FROM_HASHES) return { name: undefined, signature, hashes };
  const digest = createHash("sha256").update(signature);
  for (const hash of hashes) digest.update(hash);
  return { name: digest.digest().subarray(0, NAME_BYTES).toString("base64url"), signature, hashes };
}

/** Signature, then hashes; base64url, and longer than any name. */
export const writtenProof = ({ signature, hashes }: ReceiptProof): string =>
  Buffer.concat([signature, ...hashes]).toString("base64url");

/** Undefined for what is none. */
export function parseProof(text: string): ReceiptProof | undefined {
  const bytes = Buffer.from(text, "base64url");
  const count = (bytes.length - SIGNATURE_BYTES) / RECEIPT_HASH_BYTES;
  if (bytes.length < HEAD_BYTES || !Number.isInteger(count) || count > RECEIPTS_MAX) return undefined;
  const hashes = Array.from({ length: count }, (_, i) => {
    const from = SIGNATURE_BYTES + i * RECEIPT_HASH_BYTES;
    return new Uint8Array(bytes.subarray(from, from + RECEIPT_HASH_BYTES));
  });
  return proofOf(new Uint8Array(bytes.subarray(0, SIGNATURE_BYTES)), hashes);
}

/** As clients are told: what shows a receipt, and the signature in hex where that does. */
export function shownProof({ isSession, proof }: { isSession: boolean; proof: ReceiptProof | undefined }): {
  proof: "signature" | "session" | "lost";
  signature: string | undefined;
} {
  if (proof === undefined) return { proof: isSession ? "session" : "lost", signature: undefined };
  return { proof: "signature", signature: formatHex(proof.signature) };
}

/** What has a receipt, or none yet. */
interface Proven {
  readonly receipt: { readonly proof: ReceiptProof | undefined } | null;
}

interface Held {
  readonly proof: ReceiptProof;
  uses: number;
  isKept: boolean;
}

/** Those that messages of the outbox refer to: as many as it has finished messages, at most. */
export class ReceiptProofs {
  readonly #held = new Map<string, Held>();

  async load(store: Store): Promise<void> {
    const proofs = await loadSound(store, "proof", ({ key, meta }) => {
      const proof = parseProof(meta);
      return proof?.name === key ? proof : undefined;
    });
    for (const proof of proofs) this.#held.set(proof.name!, { proof, uses: 0, isKept: true });
  }

  get(name: string): ReceiptProof | undefined {
    return this.#held.get(name)?.proof;
  }

  /** The message refers to the proof of its receipt from now on. */
  use({ receipt }: Proven): void {
    const proof = receipt?.proof;
    if (proof?.name === undefined) return;
    const held = this.#held.get(proof.name) ?? { proof, uses: 0, isKept: false };
    held.uses++;
    this.#held.set(proof.name, held);
  }

  /** It does no more: ops that delete what nothing refers to. */
  release({ receipt }: Proven): StoreOp[] {
    const name = receipt?.proof?.name;
    const held = name === undefined ? undefined : this.#held.get(name);
    if (held === undefined || --held.uses > 0) return [];
    this.#held.delete(name!);
    return [{ op: "delete", in: "proof", key: name! }];
  }

  /** Ops for what these rows refer to and the store has not; `kept` once they are durable. */
  ops(entries: readonly Proven[]): { ops: StoreOp[]; kept(): void } {
    const fresh = new Set<Held>();
    for (const { receipt } of entries) {
      const held = this.#held.get(receipt?.proof?.name ?? "");
      if (held?.isKept === false) fresh.add(held);
    }
    const ops = [...fresh].map(({ proof }): StoreOp => ({
      op: "put",
      in: "proof",
      key: proof.name!,
      meta: writtenProof(proof),
    }));
    return { ops, kept: () => fresh.forEach((held) => (held.isKept = true)) };
  }

  /** Once all messages are known: ops that delete what none of them refers to. */
  sweep(): StoreOp[] {
    const unused = [...this.#held].filter(([, { uses }]) => uses === 0).map(([name]) => name);
    for (const name of unused) this.#held.delete(name);
    return unused.map((key): StoreOp => ({ op: "delete", in: "proof", key }));
  }
}
