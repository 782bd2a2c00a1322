/** The Sealer of store-and-forward over Noise K (seal.ts): picks prekeys and makes sealing repeatable. */
import { createHmac, hkdfSync, type Hmac } from "node:crypto";
import type { Random } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Identity } from "./keys.ts";
import type { Prekeys } from "./prekeys.ts";
import { concatBytes } from "../wire/bytes.ts";
import { openInSegments, openSealed, SEAL_WHOLE_MAX, sealInSegments, sealTo, segmentsUnder } from "./seal.ts";

const text = new TextEncoder();

interface PrekeyPublic {
  readonly keyId: number;
  readonly publicKey: Uint8Array;
}

export interface SealerParts {
  readonly identity: Identity;
  readonly prekeys: Prekeys;
  prekeyOf(id: NodeId): PrekeyPublic | undefined;
}

/**
 * Answers the two halves that custody/context.ts asks for. The ephemeral key is HMAC-SHA-256, under a secret of this node (HKDF of its seed), of all that
 * the result depends on: the same message to the same key is the same bytes, and nothing else ever shares a key.
 */
export function createSealer({ identity, prekeys, prekeyOf }: SealerParts) {
  const sealingSecret = new Uint8Array(
    hkdfSync("sha256", identity.seed, new Uint8Array(0), "godwit sealing ephemeral", 32),
  );
  /** To be updated with the plaintext, of which the length is told already. */
  const derivation = (
    to: NodeId,
    prekey: PrekeyPublic | undefined,
    associated: Uint8Array,
    unique: Uint8Array,
    plaintextBytes: number,
  ): Hmac => {
    const inputs = [unique, text.encode(to), prekey?.publicKey ?? new Uint8Array(0), associated];
    const told = inputs.flatMap((input) => [text.encode(`${input.length}:`), input]);
    const key = createHmac("sha256", sealingSecret);
    return key.update(concatBytes([...told, text.encode(`${plaintextBytes}:`)]));
  };
  return {
    keyFor: prekeyOf,
    seal(
      to: NodeId,
      prekey: PrekeyPublic | undefined,
      plaintext: Uint8Array,
      associated: Uint8Array,
      unique: Uint8Array,
    ) {
      const random = derivation(to, prekey, associated, unique, plaintext.length);
      random.update(plaintext);
      const input = { from: identity, to, plaintext, associated };
      return sealTo(prekey === undefined ? input : { ...input, prekey }, derivedRandom(random.digest()));
    },
    /** As `seal`, of a plaintext that is told in parts and then sealed in segments. Undefined: it is too short for those. */
    inSegments(
      to: NodeId,
      prekey: PrekeyPublic | undefined,
      plaintextBytes: number,
      associated: Uint8Array,
      unique: Uint8Array,
    ) {
      if (plaintextBytes <= SEAL_WHOLE_MAX) return undefined;
      const random = derivation(to, prekey, associated, unique, plaintextBytes);
      const input = { from: identity, to, associated };
      return {
        tell: (part: Uint8Array) => void random.update(part),
        sealing: () =>
          sealInSegments(
            prekey === undefined ? input : { ...input, prekey },
            plaintextBytes,
            derivedRandom(random.digest()),
          ),
      };
    },
    open: (from: NodeId, sealed: Uint8Array, associated: Uint8Array) =>
      openSealed({ identity, prekeys, from, sealed, associated }),
    openInSegments: (from: NodeId, opening: Uint8Array, sealedBytes: number, associated: Uint8Array) =>
      openInSegments({ identity, prekeys, from, opening, associated }, sealedBytes),
    segmentsUnder,
  };
}

/** HMAC in counter mode. */
function derivedRandom(secret: Uint8Array): Random {
  let block = 0;
  const bytes = (length: number): Uint8Array => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      const part = createHmac("sha256", secret).update(String(block++)).digest();
      out.set(part.subarray(0, Math.min(32, length - at)), at);
    }
    return out;
  };
  const float = () => Buffer.from(bytes(4)).readUInt32BE() / 2 ** 32;
  return { bytes, float, below: (bound) => Math.floor(float() * bound) };
}
