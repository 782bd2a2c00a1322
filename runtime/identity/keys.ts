/**
 * Identity keys: Ed25519 signatures, and the X25519 key derived from the same seed that link handshakes and sealing use.
 * Owns every conversion between a node id and a key, and the rule which encodings are ids at all. Must never touch the
 * disk (keystore.ts does) or let a secret reach a log: secrets are getters, so that serialising an identity shows none.
 *
 * A point and its negative share one X25519 key, so a usable id has sign bit 0; then id and X25519 key determine each
 * other, and a handshake that proves the X25519 key proves the id. Specified by docs/protocol/link.md, "Keys".
 *
 * Whatever else is ever derived from the seed must go through HKDF with its own label: the SHA-512 of the seed itself
 * belongs to Ed25519 (both halves) and X25519 (the first half), and to nothing else.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import type * as Curves from "@noble/curves/ed25519.js";
import { godwitError } from "../kernel/errors.ts";
import { formatNodeId, nodeIdBytes, shortId, type NodeId } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";

export const SEED_BYTES = 32;
export const SIGNATURE_BYTES = 64;
export const DH_KEY_BYTES = 32;

/** One end of X25519 (RFC 7748). */
export interface DhKey {
  /** 32 bytes. Shared: never write to them. */
  readonly publicKey: Uint8Array;
  /** 32 fresh bytes, owned by the caller. Throws GODWIT_HANDSHAKE_FAILED when the result would be all zero. */
  agree(remotePublic: Uint8Array): Uint8Array;
}

/** A node's own key. */
export interface Identity {
  readonly id: NodeId;
  /** The 32 bytes of the id. Shared: never write to them. */
  readonly publicKey: Uint8Array;
  /** 32 bytes, secret (RFC 8032 section 5.1.5). Shared: never write to them. */
  readonly seed: Uint8Array;
  /** Ed25519 signature, 64 bytes, owned by the caller. */
  sign(bytes: Uint8Array): Uint8Array;
  /** The X25519 key of the same secret; its public half equals `dhPublicKeyOf(id)`. */
  readonly dh: DhKey;
}

/** DER prefixes of RFC 8410 before the 32 raw bytes. */
const ED25519_PRIVATE_DER = Buffer.from("302e020100300506032b657004220420", "hex");
const ED25519_PUBLIC_DER = Buffer.from("302a300506032b6570032100", "hex");
const X25519_PRIVATE_DER = Buffer.from("302e020100300506032b656e04220420", "hex");
const X25519_PUBLIC_DER = Buffer.from("302a300506032b656e032100", "hex");

function importPrivate(prefix: Buffer, secret: Uint8Array): KeyObject {
  const der = Buffer.concat([prefix, secret]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  der.fill(0);
  return key;
}
const importPublic = (prefix: Buffer, raw: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });

function exportPublic(key: KeyObject): Uint8Array {
  const der = createPublicKey(key).export({ format: "der", type: "spki" });
  return new Uint8Array(der.subarray(der.length - DH_KEY_BYTES));
}

class X25519Key implements DhKey {
  readonly publicKey: Uint8Array;
  readonly #secret: Uint8Array;
  readonly #key: KeyObject;

  constructor(secret: Uint8Array) {
    if (secret.length !== DH_KEY_BYTES)
      throw godwitError("GODWIT_BUG", `an X25519 secret has 32 bytes, got ${secret.length}`);
    this.#secret = secret.slice();
    this.#key = importPrivate(X25519_PRIVATE_DER, secret);
    this.publicKey = exportPublic(this.#key);
  }

  get secret(): Uint8Array {
    return this.#secret;
  }

  agree(remotePublic: Uint8Array): Uint8Array {
    if (remotePublic.length !== DH_KEY_BYTES)
      throw godwitError("GODWIT_HANDSHAKE_FAILED", "the far end's key does not have 32 bytes");
    let shared: Uint8Array;
    try {
      shared = diffieHellman({
        privateKey: this.#key,
        publicKey: importPublic(X25519_PUBLIC_DER, remotePublic),
      });
    } catch (error) {
      throw godwitError("GODWIT_HANDSHAKE_FAILED", "the far end's key is of small order", error);
    }
    // The library refuses an all-zero result (RFC 7748 section 6.1); relying on that alone would hang a proof on it.
    if (shared.every((byte) => byte === 0))
      throw godwitError("GODWIT_HANDSHAKE_FAILED", "the far end's key is of small order");
    const secret = new Uint8Array(shared);
    shared.fill(0);
    return secret;
  }
}

class Ed25519Identity implements Identity {
  readonly id: NodeId;
  readonly publicKey: Uint8Array;
  readonly dh: DhKey;
  readonly #seed: Uint8Array;
  readonly #key: KeyObject;

  constructor(seed: Uint8Array) {
    this.#seed = seed.slice();
    this.#key = importPrivate(ED25519_PRIVATE_DER, seed);
    this.publicKey = exportPublic(this.#key);
    this.id = formatNodeId(this.publicKey);
    // X25519 clamps its secret exactly as Ed25519 clamps this half, so the two public keys map onto each other.
    this.dh = new X25519Key(createHash("sha512").update(seed).digest().subarray(0, 32));
  }

  get seed(): Uint8Array {
    return this.#seed;
  }

  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, bytes, this.#key));
  }
}

const hasSignBit = (publicKey: Uint8Array): boolean => (publicKey[31]! & 0x80) !== 0;

/** A new identity whose id has sign bit 0. Half of all seeds do, so this tries twice on average. */
export function generateIdentity(random: Random): Identity {
  // A source of randomness that fails this 128 times in a row is broken, and no key must come from it.
  for (let attempt = 0; attempt < 128; attempt++) {
    const identity = new Ed25519Identity(random.bytes(SEED_BYTES));
    if (!hasSignBit(identity.publicKey)) return asChecked(identity);
  }
  throw godwitError("GODWIT_BUG", "the source of randomness repeats itself; no key was made");
}

/** Throws GODWIT_KEY_CORRUPT when the length is wrong or the key has sign bit 1: no such seed was ever generated here. */
export function identityFromSeed(seed: Uint8Array): Identity {
  if (seed.length !== SEED_BYTES)
    throw godwitError("GODWIT_KEY_CORRUPT", `an identity seed has ${SEED_BYTES} bytes, got ${seed.length}`);
  const identity = new Ed25519Identity(seed);
  if (hasSignBit(identity.publicKey))
    throw godwitError("GODWIT_KEY_CORRUPT", "the seed's public key has sign bit 1, so it is no node's key");
  return asChecked(identity);
}

/** A key made from a seed is a multiple of the base point: the check, which costs a cold start milliseconds, finds nothing. */
function asChecked(identity: Identity): Identity {
  noteChecked(identity.id, USABLE);
  dhKeys.set(identity.id, identity.dh.publicKey);
  return identity;
}

/** 32 bytes for `label`, owned by the caller: HKDF-SHA256 (RFC 5869) of the seed, of no use for finding it. */
export const deriveSeed = ({ seed }: Identity, label: string): Uint8Array =>
  new Uint8Array(hkdfSync("sha256", seed, new Uint8Array(0), `godwit ${label}`, SEED_BYTES));

/** What was found out about one id: it is usable, or why not. */
interface CheckedId {
  readonly problem: string | undefined;
}
const USABLE: CheckedId = { problem: undefined };

/**
 * A check costs about 100 us, and ids repeat endlessly. Good and bad ids are kept apart, so that a stranger who sends
 * bad ones cannot push out those of real neighbours; each cache forgets its oldest entry when full.
 */
const CHECKED_IDS_MAX = 16_384;
const REFUSED_IDS_MAX = 1_024;
/** X25519 keys of those written to or linked with lately; of the thousands that are only heard of nobody needs one. */
const DH_KEYS_MAX = 1_024;
/** A key of the library holds some kilobytes and is made in a fraction of a verification, so only recent ones stay. */
const VERIFY_KEYS_MAX = 512;
/** Which stays: a table of thousands of destinations uses each twice, for its proof and its record, and then never again. */
const USES_BEFORE_KEPT = 3;
const verifyKeys = new BoundedMap<NodeId, KeyObject>({ name: "verification keys", max: VERIFY_KEYS_MAX });
const keyUses = new BoundedMap<NodeId, number>({ name: "uses of verification keys", max: VERIFY_KEYS_MAX });
const checkedIds = new BoundedMap<NodeId, CheckedId>({ name: "checked ids", max: CHECKED_IDS_MAX });
const dhKeys = new BoundedMap<NodeId, Uint8Array>({ name: "X25519 keys", max: DH_KEYS_MAX });
const refusedIds = new BoundedMap<NodeId, CheckedId>({ name: "refused ids", max: REFUSED_IDS_MAX });

function lookUp(id: NodeId): CheckedId {
  const known = checkedIds.get(id) ?? refusedIds.get(id);
  if (known !== undefined) return known;
  const fresh = examine(nodeIdBytes(id));
  noteChecked(id, fresh);
  return fresh;
}

function noteChecked(id: NodeId, fresh: CheckedId): void {
  (fresh.problem === undefined ? checkedIds : refusedIds).set(id, fresh);
}

/**
 * The X25519 scalar 5 * L - 1, L the order of the base point. It is a multiple of 8 with bit 254 set, so clamping leaves
 * it alone: it kills every small-order part and negates the rest, and an X25519 key does not change by negation. So it
 * maps onto itself the keys of points without a torsion component, and no others. On the twist nothing maps onto
 * itself: the twist's order is 4 times a prime that divides neither 5 * L nor 5 * L - 2.
 */
const CLEARING_SCALAR = 5n * (2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n) - 1n;
/** 2^255 - 19. */
const FIELD = 2n ** 255n - 19n;
let clearing: DhKey | undefined;

/** Undefined for what is no field element or maps to none. */
function montgomeryOf(publicKey: Uint8Array): Uint8Array | undefined {
  const y = BigInt(`0x${Buffer.from(publicKey).reverse().toString("hex")}`);
  if (y >= FIELD || y === 1n) return undefined;
  return littleEndian(((1n + y) * inverse(1n - y + FIELD)) % FIELD);
}

/** Whether the point is a usable id. A fraction of the cost of the plain check. */
function isCleared(publicKey: Uint8Array): boolean {
  const u = montgomeryOf(publicKey);
  if (u === undefined) return false;
  clearing ??= new X25519Key(littleEndian(CLEARING_SCALAR));
  try {
    return Buffer.from(u).equals(clearing.agree(u));
  } catch {
    return false;
  }
}

/** 1 / a in the field, a no multiple of it. Public values only; cold, many times as fast as the library's. */
function inverse(a: bigint): bigint {
  let [high, low, before, at] = [FIELD, a % FIELD, 0n, 1n];
  while (low > 1n) {
    const quotient = high / low;
    [high, low, before, at] = [low, high - quotient * low, at, before - quotient * at];
  }
  return ((at % FIELD) + FIELD) % FIELD;
}

const littleEndian = (value: bigint): Uint8Array =>
  new Uint8Array(Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse());

function examine(publicKey: Uint8Array): CheckedId {
  if (hasSignBit(publicKey)) return { problem: "its sign bit is 1" };
  return isCleared(publicKey) ? USABLE : { problem: problemOf(publicKey) };
}

/** What is wrong with an id that the quick check refused. */
function problemOf(publicKey: Uint8Array): string {
  // Making its tables takes a millisecond, which only a node that meets such an id has to spend.
  const { ed25519 } = require("@noble/curves/ed25519.js") as typeof Curves;
  let point;
  try {
    // Strict RFC 8032 decoding: refuses y >= p and what is not on the curve.
    point = ed25519.Point.fromBytes(publicKey, false);
  } catch {
    return "it is not a canonical point of the curve";
  }
  return point.isSmallOrder() ? "it is a point of small order" : "it has a torsion component";
}

/**
 * Throws GODWIT_ID_INVALID unless the id is the one accepted encoding of a point of prime order: sign bit 0, canonical,
 * on the curve, no small order, no torsion component. Cached.
 */
export function checkNodeId(id: NodeId): void {
  const { problem } = lookUp(id);
  if (problem !== undefined)
    throw godwitError("GODWIT_ID_INVALID", `${shortId(id)} is no usable node id: ${problem}`);
}

/** The id's X25519 public key (birational map, RFC 7748 section 4.1). Shared: never write to it. Throws GODWIT_ID_INVALID. */
export function dhPublicKeyOf(id: NodeId): Uint8Array {
  let key = dhKeys.get(id);
  if (key === undefined) {
    checkNodeId(id);
    key = montgomeryOf(nodeIdBytes(id))!;
    dhKeys.set(id, key);
  }
  return key;
}

/**
 * The id that owns an X25519 public key met in a handshake. Throws GODWIT_ID_INVALID when no usable id maps onto
 * exactly these bytes.
 */
export function nodeIdOfDh(dhPublicKey: Uint8Array): NodeId {
  const id = formatNodeId(edwardsOf(dhPublicKey));
  // Mapping back refuses every second encoding of the same field element.
  if (!Buffer.from(dhPublicKeyOf(id)).equals(dhPublicKey))
    throw godwitError("GODWIT_ID_INVALID", "the far end's key is not in its one accepted encoding");
  return id;
}

/** y = (u - 1) / (u + 1), little-endian, sign bit 0. */
function edwardsOf(dhPublicKey: Uint8Array): Uint8Array {
  if (dhPublicKey.length !== DH_KEY_BYTES)
    throw godwitError("GODWIT_ID_INVALID", "an X25519 key has 32 bytes");
  const u = BigInt(`0x${Buffer.from(dhPublicKey).reverse().toString("hex")}`) % FIELD;
  const divisor = (u + 1n) % FIELD;
  if (divisor === 0n) throw godwitError("GODWIT_ID_INVALID", "the far end's key maps to no point");
  return littleEndian(((u - 1n + FIELD) * inverse(divisor)) % FIELD);
}

/**
 * Whether `signature` (64 bytes) is the node's Ed25519 signature over `message` (RFC 8032). Never throws: an unusable
 * id or a malformed signature is false.
 */
export function verifySignature(id: NodeId, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false;
  try {
    if (lookUp(id).problem !== undefined) return false;
    return verify(null, message, verifyKeyOf(id), signature);
  } catch {
    return false;
  }
}

function verifyKeyOf(id: NodeId): KeyObject {
  const kept = verifyKeys.get(id);
  if (kept !== undefined) return kept;
  const key = importPublic(ED25519_PUBLIC_DER, nodeIdBytes(id));
  const uses = (keyUses.get(id) ?? 0) + 1;
  if (uses < USES_BEFORE_KEPT) keyUses.set(id, uses);
  else {
    keyUses.delete(id);
    verifyKeys.set(id, key);
  }
  return key;
}

/** A fresh X25519 key: an ephemeral of a handshake, or a prekey. */
export function generateDhKey(random: Random): DhKey & { readonly secret: Uint8Array } {
  const secret = random.bytes(DH_KEY_BYTES);
  const key = new X25519Key(secret);
  secret.fill(0);
  return key;
}

/** From 32 secret bytes (copied; clamped as RFC 7748 section 5 says). */
export function dhKeyFromSecret(secret: Uint8Array): DhKey & { readonly secret: Uint8Array } {
  return new X25519Key(secret);
}
