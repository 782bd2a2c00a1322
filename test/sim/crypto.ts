/**
 * Signatures and seals for simulated nodes. The cheap schemes are keyed hashes that prove nothing to an attacker, and
 * there is none here; they keep what the mesh relies on: a signature fits one signer and one text, a seal one
 * recipient, and both are functions of their inputs. The real ones run in small meshes.
 */
import type { Clock, Random } from "@godwit/sdk";
import {
  dhKeyFromSecret,
  generateIdentity,
  verifySignature,
  type Identity,
} from "../../runtime/identity/keys.ts";
import { openPrekeys } from "../../runtime/identity/prekeys.ts";
import type { NodeRecord } from "../../runtime/identity/record.ts";
import { createSealer } from "../../runtime/identity/sealer.ts";
import { godwitError } from "../../runtime/kernel/errors.ts";
import { formatNodeId, nodeIdBytes, type NodeId } from "../../runtime/kernel/ids.ts";
import type { MeshIdentity, PrekeySource } from "../../runtime/mesh/deps.ts";
import type { Sealer } from "../../runtime/custody/context.ts";
import type { Store } from "../../runtime/store/types.ts";

export type SealingParts = { readonly sealer: Sealer; readonly prekeys: PrekeySource };

export interface SimIdentity extends MeshIdentity {
  /** It seals to no key. */
  readonly isCheap: boolean;
  /** What a real handshake is made with. */
  readonly keys?: Identity;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  openSealing(
    life: {
      store: Store;
      clock: Clock;
      random: Random;
      network: string;
      callsign: string | undefined;
      onRotate: () => void;
    },
    recordOf: (id: NodeId) => NodeRecord | undefined,
  ): Promise<SealingParts>;
}

export function realIdentity(random: Random): SimIdentity {
  const identity = generateIdentity(random);
  return {
    isCheap: false,
    keys: identity,
    id: identity.id,
    dh: identity.dh,
    sign: (bytes) => identity.sign(bytes),
    verify: verifySignature,
    async openSealing(life, recordOf) {
      const prekeys = await openPrekeys(life);
      return { prekeys, sealer: createSealer({ identity, prekeys, recordOf, sessions: life }) };
    },
  };
}

export function cheapIdentity(random: Random): SimIdentity {
  const raw = random.bytes(32);
  // The sign bit of an Ed25519 key is never set in a node id.
  raw[31] = raw[31]! & 0x7f;
  const id = formatNodeId(raw);
  const prekey = { keyId: 1, publicKey: nodeIdBytes(id) };
  return {
    isCheap: true,
    id,
    dh: dhKeyFromSecret(raw),
    sign: (bytes) => cheapSignature(id, bytes),
    verify: (signer, bytes, signature) => isSame(cheapSignature(signer, bytes), signature),
    async openSealing(_life, recordOf) {
      return { prekeys: { current: () => prekey }, sealer: cheapSealer(id, recordOf) };
    },
  };
}

function cheapSealer(self: NodeId, recordOf: (id: NodeId) => NodeRecord | undefined): Sealer {
  const tagOf = (from: NodeId, to: NodeId, plaintext: Uint8Array, associated: Uint8Array) => {
    const tag = mix(mix(mix(mix(0x9e3779b9, nodeIdBytes(from)), nodeIdBytes(to)), associated), plaintext);
    return new Uint8Array([tag >>> 24, tag >>> 16, tag >>> 8, tag]);
  };
  const seal = (to: NodeId, plaintext: Uint8Array, associated: Uint8Array): Uint8Array => {
    const sealed = new Uint8Array(4 + plaintext.length);
    sealed.set(tagOf(self, to, plaintext, associated));
    sealed.set(plaintext, 4);
    return sealed;
  };
  return {
    keyFor: (to) => recordOf(to)?.prekey,
    seal: (to, _under, plaintext, associated) => seal(to, plaintext, associated),
    sealOnce: seal,
    open(from, sealed, associated) {
      const plaintext = sealed.slice(4);
      if (!isSame(tagOf(from, self, plaintext, associated), sealed.subarray(0, 4)))
        throw godwitError("GODWIT_DECODE", "the seal does not open");
      return { plaintext, forwardSecret: true };
    },
  };
}

function cheapSignature(id: NodeId, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(64);
  const view = new DataView(out.buffer);
  let state = mix(mix(0x811c9dc5, nodeIdBytes(id)), bytes);
  for (let at = 0; at < 64; at += 4) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    view.setUint32(at, state >>> 0);
  }
  return out;
}

function mix(seed: number, bytes: Uint8Array): number {
  let hash = seed ^ bytes.length;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  return (hash ^ (hash >>> 15)) >>> 0;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
