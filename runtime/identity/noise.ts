/**
 * The Noise Protocol Framework, revision 34, for 25519, AESGCM and SHA256: cipher, symmetric and handshake state
 * (sections 5.1 to 5.3), patterns as tables. Owns nothing but the cryptographic state of one handshake; knows no pipe,
 * no time and no Godwit message. Must never be given a payload in message 1 that may not be replayed. The official
 * vectors (noise-vectors.json) pass for XX, IK, XK, XXpsk3 and IKpsk2. Used as docs/protocol/link.md says.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { assert, godwitError } from "../kernel/errors.ts";
import type { Random } from "../kernel/random.ts";
import { sha256 } from "../kernel/sha256.ts";
import { concatBytes } from "../wire/bytes.ts";
import { generateDhKey, type DhKey } from "./keys.ts";

export const KEY_BYTES = 32;
export const HASH_BYTES = 32;
export const TAG_BYTES = 16;
/** Longest Noise message (section 3). */
export const MESSAGE_BYTES_MAX = 65_535;

type Token = "e" | "s" | "ee" | "es" | "se" | "ss" | "psk";
export type Role = "initiator" | "responder";

interface Pattern {
  /** Whose static key the other end knows beforehand (section 7.1). */
  readonly pre: readonly Role[];
  /** Message patterns in order, the initiator's first. */
  readonly messages: readonly (readonly Token[])[];
}

/** Sections 7.4, 7.5 and 9.4. */
const patterns = {
  K: { pre: ["initiator", "responder"], messages: [["e", "es", "ss"]] },
  Kpsk0: { pre: ["initiator", "responder"], messages: [["psk", "e", "es", "ss"]] },
  XX: {
    pre: [],
    messages: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
  },
  XXpsk3: {
    pre: [],
    messages: [["e"], ["e", "ee", "s", "es"], ["s", "se", "psk"]],
  },
  XK: {
    pre: ["responder"],
    messages: [
      ["e", "es"],
      ["e", "ee"],
      ["s", "se"],
    ],
  },
  IK: {
    pre: ["responder"],
    messages: [
      ["e", "es", "s", "ss"],
      ["e", "ee", "se"],
    ],
  },
  IKpsk2: {
    pre: ["responder"],
    messages: [
      ["e", "es", "s", "ss"],
      ["e", "ee", "se", "psk"],
    ],
  },
} as const satisfies Record<string, Pattern>;

export type PatternName = keyof typeof patterns;

const EMPTY = new Uint8Array(0);

const authenticationFailed = (cause?: unknown) =>
  godwitError("GODWIT_HANDSHAKE_FAILED", "a handshake message failed authentication", cause);

/** AES-256-GCM with Noise's nonce: 32 zero bits, then the counter as 64 bits big-endian (section 12.3). */
export class CipherState {
  readonly #key: Uint8Array;
  readonly #nonce = new Uint8Array(12);
  #counter: number;

  /** `key`: 32 bytes, borrowed for the life of the state. */
  constructor(key: Uint8Array, counter = 0) {
    assert(key.length === KEY_BYTES, "a cipher key has 32 bytes");
    this.#key = key;
    this.#counter = counter;
  }

  clone(): CipherState {
    return new CipherState(this.#key, this.#counter);
  }

  /** Ciphertext and tag, owned by the caller; with `into`, which has room for them, at the beginning of that. */
  encrypt(ad: Uint8Array, plaintext: Uint8Array, into?: Uint8Array): Uint8Array {
    const bytes = plaintext.length + TAG_BYTES;
    const cipher = createCipheriv("aes-256-gcm", this.#key, this.#nextNonce());
    cipher.setAAD(ad);
    const out = into?.subarray(0, bytes) ?? new Uint8Array(bytes);
    out.set(cipher.update(plaintext));
    cipher.final();
    out.set(cipher.getAuthTag(), plaintext.length);
    this.#counter++;
    return out;
  }

  /** The plaintext, owned by the caller. Throws GODWIT_HANDSHAKE_FAILED and changes nothing when the tag is wrong. */
  decrypt(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    const length = ciphertext.length - TAG_BYTES;
    if (length < 0) throw authenticationFailed();
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key, this.#nextNonce(), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(ad);
      decipher.setAuthTag(ciphertext.subarray(length));
      const plaintext = decipher.update(ciphertext.subarray(0, length));
      decipher.final();
      this.#counter++;
      // A Buffer's `slice` shares memory where a Uint8Array's copies.
      return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.length);
    } catch (error) {
      throw authenticationFailed(error);
    }
  }

  #nextNonce(): Uint8Array {
    assert(this.#counter < Number.MAX_SAFE_INTEGER, "a cipher state ran out of nonces");
    let rest = this.#counter;
    for (let at = 11; at >= 4; at--) {
      this.#nonce[at] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    return this.#nonce;
  }
}

const hmac = (key: Uint8Array, first: Uint8Array, second?: Uint8Array): Uint8Array => {
  const mac = new Bun.CryptoHasher("sha256", key);
  mac.update(first);
  if (second !== undefined) mac.update(second);
  return new Uint8Array(mac.digest());
};

/** Section 4.3: `count` outputs of 32 bytes. */
function hkdf(chainingKey: Uint8Array, input: Uint8Array, count: 2 | 3): Uint8Array[] {
  const temporary = hmac(chainingKey, input);
  const outputs: Uint8Array[] = [];
  let previous: Uint8Array = EMPTY;
  for (let i = 1; i <= count; i++) {
    previous = hmac(temporary, previous, Uint8Array.of(i));
    outputs.push(previous);
  }
  return outputs;
}

class SymmetricState {
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #cipher: CipherState | undefined;

  constructor(protocolName: string | SymmetricState) {
    if (typeof protocolName !== "string") {
      this.#chainingKey = protocolName.#chainingKey;
      this.#hash = protocolName.#hash;
      this.#cipher = protocolName.#cipher?.clone();
      return;
    }
    const name = new TextEncoder().encode(protocolName);
    const padded = new Uint8Array(HASH_BYTES);
    if (name.length <= HASH_BYTES) padded.set(name);
    this.#hash = name.length <= HASH_BYTES ? padded : sha256(name);
    this.#chainingKey = this.#hash;
  }

  get hash(): Uint8Array {
    return this.#hash;
  }

  mixKey(input: Uint8Array): void {
    const [chainingKey, key] = hkdf(this.#chainingKey, input, 2);
    this.#chainingKey = chainingKey!;
    this.#cipher = new CipherState(key!);
  }

  mixHash(data: Uint8Array): void {
    this.#hash = sha256(this.#hash, data);
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [chainingKey, hash, key] = hkdf(this.#chainingKey, input, 3);
    this.#chainingKey = chainingKey!;
    this.mixHash(hash!);
    this.#cipher = new CipherState(key!);
  }

  /** Bytes that `encryptAndHash` adds now. */
  get overhead(): number {
    return this.#cipher === undefined ? 0 : TAG_BYTES;
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const out = this.#cipher === undefined ? plaintext : this.#cipher.encrypt(this.#hash, plaintext);
    this.mixHash(out);
    return out;
  }

  decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const out =
      this.#cipher === undefined ? ciphertext.slice() : this.#cipher.decrypt(this.#hash, ciphertext);
    this.mixHash(ciphertext);
    return out;
  }

  split(): [Uint8Array, Uint8Array] {
    const [first, second] = hkdf(this.#chainingKey, EMPTY, 2);
    return [first!, second!];
  }

  /** Independent of the keys of `split`, which start from HMAC(chaining key, empty). */
  exportKey(label: string): Uint8Array {
    return hmac(this.#chainingKey, new TextEncoder().encode(label));
  }
}

export interface HandshakeOptions {
  readonly pattern: PatternName;
  readonly role: Role;
  readonly prologue: Uint8Array;
  /** Our static key. */
  readonly s: DhKey;
  /** The far end's static key where the pattern has it known beforehand. */
  readonly rs?: Uint8Array;
  /** 32 bytes, for the psk patterns. */
  readonly psk?: Uint8Array;
  readonly random: Random;
  /** The ephemeral of a test vector; drawn from `random` in production. */
  readonly e?: DhKey;
}

/** The result of a finished handshake. */
export interface SplitKeys {
  /** Key for what we send, 32 bytes. */
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/**
 * One handshake (section 5.3). A message that fails authentication throws GODWIT_HANDSHAKE_FAILED and leaves the state
 * unusable: read on a `clone` where a forged message must not end the handshake (datagrams).
 */
export class HandshakeState {
  readonly #options: HandshakeOptions;
  readonly #pattern: Pattern;
  readonly #symmetric: SymmetricState;
  #e: DhKey | undefined;
  #rs: Uint8Array | undefined;
  #re: Uint8Array | undefined;
  #step = 0;

  constructor(options: HandshakeOptions, from?: HandshakeState) {
    this.#options = options;
    this.#pattern = patterns[options.pattern];
    if (from !== undefined) {
      this.#symmetric = new SymmetricState(from.#symmetric);
      this.#e = from.#e;
      this.#rs = from.#rs;
      this.#re = from.#re;
      this.#step = from.#step;
      return;
    }
    this.#symmetric = new SymmetricState(`Noise_${options.pattern}_25519_AESGCM_SHA256`);
    this.#symmetric.mixHash(options.prologue);
    this.#e = options.e;
    this.#rs = options.rs;
    for (const role of this.#pattern.pre) {
      const known = role === options.role ? options.s.publicKey : options.rs;
      assert(known !== undefined, `pattern ${options.pattern} needs the far end's static key`);
      this.#symmetric.mixHash(known);
    }
  }

  /** A copy that can be read into without touching this one. */
  clone(): HandshakeState {
    return new HandshakeState(this.#options, this);
  }

  get isComplete(): boolean {
    return this.#step === this.#pattern.messages.length;
  }

  /** The far end's static key once known. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#rs;
  }

  /** Names this handshake and no other (section 11.2). */
  get hash(): Uint8Array {
    return this.#symmetric.hash;
  }

  /** The next message, owned by the caller. */
  writeMessage(payload: Uint8Array = EMPTY): Uint8Array {
    const tokens = this.#nextTokens(true);
    const parts: Uint8Array[] = [];
    for (const token of tokens) {
      if (token === "e") {
        this.#e ??= generateDhKey(this.#options.random);
        parts.push(this.#e.publicKey);
        this.#mixEphemeral(this.#e.publicKey);
      } else if (token === "s") parts.push(this.#symmetric.encryptAndHash(this.#options.s.publicKey));
      else this.#mixToken(token);
    }
    parts.push(this.#symmetric.encryptAndHash(payload));
    this.#step++;
    const message = concatBytes(parts);
    assert(message.length <= MESSAGE_BYTES_MAX, "a Noise message is at most 65,535 bytes");
    return message;
  }

  /** The payload of the next message, owned by the caller. `message` is borrowed. */
  readMessage(message: Uint8Array): Uint8Array {
    const tokens = this.#nextTokens(false);
    let rest = message;
    const take = (length: number): Uint8Array => {
      if (rest.length < length)
        throw godwitError("GODWIT_HANDSHAKE_FAILED", "a handshake message is too short");
      // Uint8Array's slice, because a Buffer's would share the borrowed memory.
      const taken = Uint8Array.prototype.slice.call(rest, 0, length);
      rest = rest.subarray(length);
      return taken;
    };
    for (const token of tokens) {
      if (token === "e") {
        this.#re = take(KEY_BYTES);
        this.#mixEphemeral(this.#re);
      } else if (token === "s")
        this.#rs = this.#symmetric.decryptAndHash(take(KEY_BYTES + this.#symmetric.overhead));
      else this.#mixToken(token);
    }
    const payload = this.#symmetric.decryptAndHash(take(rest.length));
    this.#step++;
    return payload;
  }

  /** Transport keys of a finished handshake, owned by the caller. For one-way patterns only the initiator sends. */
  split(): SplitKeys {
    assert(this.isComplete, "the handshake is not finished");
    const [first, second] = this.#symmetric.split();
    return this.#options.role === "initiator"
      ? { send: first, receive: second }
      : { send: second, receive: first };
  }

  /** 32 secret bytes that both ends share and that say nothing about the transport keys. `label` is not empty. */
  exportKey(label: string): Uint8Array {
    assert(this.isComplete, "the handshake is not finished");
    return this.#symmetric.exportKey(label);
  }

  #nextTokens(isWriting: boolean): readonly Token[] {
    const tokens = this.#pattern.messages[this.#step];
    const isInitiatorsTurn = this.#step % 2 === 0;
    assert(
      tokens !== undefined && isWriting === (isInitiatorsTurn === (this.#options.role === "initiator")),
      "handshake messages are out of turn",
    );
    return tokens;
  }

  /** Section 9.2: with a psk the ephemeral is mixed into the key too, so that a nonce never repeats under a known psk. */
  #mixEphemeral(publicKey: Uint8Array): void {
    this.#symmetric.mixHash(publicKey);
    if (this.#options.pattern.includes("psk")) this.#symmetric.mixKey(publicKey);
  }

  #mixToken(token: Exclude<Token, "e" | "s">): void {
    if (token === "psk") {
      const psk = this.#options.psk;
      assert(psk?.length === KEY_BYTES, "a psk has 32 bytes");
      this.#symmetric.mixKeyAndHash(psk);
      return;
    }
    const isInitiator = this.#options.role === "initiator";
    // The first letter names the initiator's key, the second the responder's.
    const ours = token[isInitiator ? 0 : 1] === "e" ? this.#e : this.#options.s;
    const theirs = token[isInitiator ? 1 : 0] === "e" ? this.#re : this.#rs;
    assert(ours !== undefined && theirs !== undefined, `token ${token} before its keys`);
    this.#symmetric.mixKey(ours.agree(theirs));
  }
}
