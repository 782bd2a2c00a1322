/**
 * Mail sessions as docs/protocol/sealing.md ("Sessions") tells them, written from the page alone and as plainly as can be: nothing
 * is kept between two calls, nothing is shared with the code that it judges. It makes the vectors of that page, and it is the thief
 * of session-thieves.test.ts, who has some of these secrets and not the others.
 */
import * as crypto from "node:crypto";

const P = 2n ** 255n - 19n;
const SEGMENT = 65_519;
const WHOLE_MAX = 65_487;

/** Who writes to whom with which keys: all that is public of a session. */
export interface ReferenceParties {
  /** Node ids, 32 bytes. */
  readonly sender: Uint8Array;
  readonly recipient: Uint8Array;
  readonly keyId: number;
  /** Public halves. */
  readonly prekey: Uint8Array;
  readonly e: Uint8Array;
}

/** What a message is bound to besides its head. */
export interface ReferencePlace {
  readonly network: string;
  readonly sender: Uint8Array;
  readonly recipient: Uint8Array;
  readonly associated: Uint8Array;
}

/** The head of a message, taken apart. */
export interface ReferenceHead {
  readonly first?: { readonly keyId: number; readonly e: Uint8Array };
  readonly later?: { readonly sessionId: Uint8Array };
  readonly counter: number;
}

function join(...parts: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part, "utf8") : part)));
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}

function fromLittleEndian(bytes: Uint8Array): bigint {
  return [...bytes].reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

function toLittleEndian(value: bigint): Buffer {
  return Buffer.from(Array.from({ length: 32 }, (_, at) => Number((value >> BigInt(8 * at)) & 255n)));
}

function inverse(value: bigint): bigint {
  let [result, base, exponent] = [1n, ((value % P) + P) % P, P - 2n];
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}

/** The X25519 key of a node id (link.md, "Keys"): u = (1 + y) / (1 - y). */
export function referenceKeyOfId(id: Uint8Array): Uint8Array {
  const y = fromLittleEndian(id);
  return toLittleEndian(((1n + y) * inverse(1n - y)) % P);
}

/** The X25519 secret of an identity: the first half of SHA-512(seed). */
export function referenceSecretOfSeed(seed: Uint8Array): Uint8Array {
  return crypto.createHash("sha512").update(seed).digest().subarray(0, 32);
}

/** The X25519 public half of a secret of 32 bytes. */
export function referencePublic(secret: Uint8Array): Uint8Array {
  return referenceDh(secret, toLittleEndian(9n));
}

/** X25519 of a secret and a public half, 32 bytes. Throws if the result is zero. */
export function referenceDh(secret: Uint8Array, publicHalf: Uint8Array): Uint8Array {
  const privateKey = crypto.createPrivateKey({
    key: join(Buffer.from("302e020100300506032b656e04220420", "hex"), secret),
    format: "der",
    type: "pkcs8",
  });
  const publicKey = crypto.createPublicKey({
    key: join(Buffer.from("302a300506032b656e032100", "hex"), publicHalf),
    format: "der",
    type: "spki",
  });
  const shared = crypto.diffieHellman({ privateKey, publicKey });
  if (shared.every((byte) => byte === 0)) throw new Error("zero");
  return shared;
}

/** The root of a session from its four shared secrets, in the order of the page. */
export function referenceRoot(
  parties: ReferenceParties,
  shared: Readonly<Record<"ep" | "ap" | "eb" | "ab", Uint8Array>>,
): Uint8Array {
  const secret = join(shared.ep, shared.ap, shared.eb, shared.ab);
  const info = join(parties.sender, parties.recipient, u32(parties.keyId), parties.prekey, parties.e);
  return new Uint8Array(crypto.hkdfSync("sha256", secret, "godwit mail session 1", info, 32));
}

/** The id of a session, 8 bytes. */
export function referenceSessionId(e: Uint8Array, sender: Uint8Array, keyId: number): Uint8Array {
  return crypto
    .createHash("sha256")
    .update(join("godwit session id 1", e, sender, u32(keyId)))
    .digest()
    .subarray(0, 8);
}

/** HMAC-SHA-256 of a number byte and what follows it. */
export function referenceHash(key: Uint8Array, number: number, ...rest: Uint8Array[]): Uint8Array {
  return crypto
    .createHmac("sha256", key)
    .update(join(Uint8Array.of(number), ...rest))
    .digest();
}

/** The name of a session by what is kept of the message that was sealed under M, 8 bytes. */
export function referenceContextId(
  key: Uint8Array,
  mailEpoch: Uint8Array,
  counter: number,
  createdAtS: number,
  address: string,
): Uint8Array {
  const text = Buffer.from(address, "utf8");
  const rest = join(mailEpoch, varint(counter), u32(createdAtS), varint(text.length), text);
  return referenceHash(key, 9, rest).subarray(0, 8);
}

/** M of a counter from 0 to 65,535, walked from the root. */
export function referenceKey(root: Uint8Array, counter: number): Uint8Array {
  const digits = [12, 8, 4, 0].map((shift) => (counter >> shift) & 15);
  let value = root;
  digits.forEach((digit, level) => {
    if (level > 0) value = referenceHash(value, 2);
    for (let step = 0; step < digit; step++) value = referenceHash(value, 1);
  });
  return referenceHash(value, 3);
}

/** The bytes of a head before its tag. */
export function referenceHead(head: ReferenceHead, isSegmented: boolean): Uint8Array {
  const form = (head.first === undefined ? 4 : 3) + (isSegmented ? 2 : 0);
  const who = head.first === undefined ? head.later!.sessionId : join(u32(head.first.keyId), head.first.e);
  return join(Uint8Array.of(form), who, varint(head.counter));
}

function bound(head: Uint8Array, place: ReferencePlace): Buffer {
  const network = Buffer.from(place.network, "utf8");
  return join(
    "godwit seal 3",
    Uint8Array.of(0),
    varint(network.length),
    network,
    head,
    place.sender,
    place.recipient,
    place.associated,
  );
}

function tagOf(key: Uint8Array, head: Uint8Array, place: ReferencePlace, plain: Uint8Array): Uint8Array {
  const b = bound(head, place);
  return referenceHash(key, 5, u32(b.length), b, plain).subarray(0, 16);
}

/** AES-256-CTR, block by block: the counter block is one number of 128 bits, big-endian, which begins again at 0 after its last. */
export function referenceCounterMode(key: Uint8Array, block: Uint8Array, data: Uint8Array): Uint8Array {
  const aes = crypto.createCipheriv("aes-256-ecb", key, null);
  let counter = BigInt(`0x${Buffer.from(block).toString("hex")}`);
  const out = new Uint8Array(data);
  for (let at = 0; at < data.length; at += 16, counter = (counter + 1n) % 2n ** 128n) {
    const stream = aes.update(Buffer.from(counter.toString(16).padStart(32, "0"), "hex"));
    for (let byte = 0; byte < 16 && at + byte < data.length; byte++) out[at + byte]! ^= stream[byte]!;
  }
  return out;
}

function nonceOf(index: number): Buffer {
  return join(u32(0), u32(0), u32(index));
}

/** Head, tag and ciphertext of `plain`, whatever that is. */
export function referenceSynthetic(
  key: Uint8Array,
  head: Uint8Array,
  place: ReferencePlace,
  plain: Uint8Array,
): Uint8Array {
  const tag = tagOf(key, head, place, plain);
  return join(head, tag, referenceCounterMode(referenceHash(key, 6), tag, plain));
}

/** All bytes of a message that is sealed under M, whole or in segments as its length asks for. */
export function referenceSeal(
  key: Uint8Array,
  head: ReferenceHead,
  place: ReferencePlace,
  plaintext: Uint8Array,
): Uint8Array {
  const isSegmented = plaintext.length > WHOLE_MAX;
  const bytes = referenceHead(head, isSegmented);
  const digest = crypto.createHash("sha256").update(plaintext).digest();
  const inner = isSegmented ? join(u32(plaintext.length), digest) : plaintext;
  const opening = referenceSynthetic(key, bytes, place, inner);
  return isSegmented ? referenceSegments(key, opening, plaintext) : opening;
}

/** Segments of any plaintext behind what stands before them. */
export function referenceSegments(key: Uint8Array, opening: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const tag = opening.subarray(opening.length - 52, opening.length - 36);
  const parts = [opening];
  const count = Math.ceil(plaintext.length / SEGMENT);
  for (let index = 0; index < count; index++) {
    const cipher = crypto.createCipheriv("aes-256-gcm", referenceHash(key, 8, tag), nonceOf(index));
    cipher.setAAD(Uint8Array.of(index === count - 1 ? 1 : 0));
    const segment = plaintext.subarray(index * SEGMENT, (index + 1) * SEGMENT);
    parts.push(cipher.update(segment), cipher.final(), cipher.getAuthTag());
  }
  return join(...parts);
}

/** Opens a message of this head under M. Undefined where anything does not fit. */
export function referenceOpen(
  key: Uint8Array,
  head: ReferenceHead,
  place: ReferencePlace,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const isSegmented = sealed[0] === 5 || sealed[0] === 6;
  const bytes = referenceHead(head, isSegmented);
  if (sealed.length < bytes.length + 16 || !bytes.every((byte, at) => sealed[at] === byte)) return undefined;
  const tag = sealed.subarray(bytes.length, bytes.length + 16);
  const rest = sealed.subarray(bytes.length + 16);
  const inner = referenceCounterMode(referenceHash(key, 6), tag, isSegmented ? rest.subarray(0, 36) : rest);
  if (Buffer.compare(tagOf(key, bytes, place, inner), tag) !== 0) return undefined;
  if (!isSegmented) return inner;
  const plaintext = openSegments(key, tag, Buffer.from(inner).readUInt32BE(0), rest.subarray(36));
  if (plaintext === undefined) return undefined;
  const digest = crypto.createHash("sha256").update(plaintext).digest();
  return digest.equals(inner.subarray(4)) ? plaintext : undefined;
}

function openSegments(
  key: Uint8Array,
  tag: Uint8Array,
  length: number,
  segments: Uint8Array,
): Buffer | undefined {
  const count = Math.ceil(length / SEGMENT);
  if (length <= WHOLE_MAX || segments.length !== length + 16 * count) return undefined;
  const parts: Uint8Array[] = [];
  for (let index = 0; index < count; index++) {
    const start = index * (SEGMENT + 16);
    const end = Math.min(segments.length, start + SEGMENT + 16);
    const cipher = crypto.createDecipheriv("aes-256-gcm", referenceHash(key, 8, tag), nonceOf(index));
    cipher.setAAD(Uint8Array.of(index === count - 1 ? 1 : 0));
    cipher.setAuthTag(segments.subarray(end - 16, end));
    parts.push(cipher.update(segments.subarray(start, end - 16)));
    try {
      cipher.final();
    } catch {
      return undefined;
    }
  }
  return join(...parts);
}
