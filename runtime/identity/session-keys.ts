/**
 * Keys of mail sessions: the root that a pair agrees on, and from it a key for each message. Owns the derivation and who may still derive what;
 * knows no form, no store and no time. Must never keep at the sender what leads back to a key that was taken. Specified by
 * docs/protocol/sealing.md, "Sessions".
 */
import { hkdfSync } from "node:crypto";
import type { Random } from "@godwit/sdk";
import { assert } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { sha256 } from "../kernel/sha256.ts";
import { concatBytes, Writer } from "../wire/bytes.ts";
import { COUNTER_MAX, SESSION_ID_BYTES } from "../wire/sealed.ts";
import { dhPublicKeyOf, type DhKey, generateDhKey, type Identity } from "./keys.ts";
import type { Prekey } from "./record.ts";

const KEY_BYTES = 32;
/** Of a counter, most significant first. */
const DIGITS = 4;
const DIGIT_BITS = 4;
const DIGIT_MAX = 2 ** DIGIT_BITS - 1;

const text = new TextEncoder();
const ROOT_SALT = text.encode("godwit mail session 1");
const ID_LABEL = text.encode("godwit session id 1");

/** What is derived from a key, by one byte; append-only. */
export const Derived = {
  next: 1,
  below: 2,
  message: 3,
  tag: 5,
  cipher: 6,
  receipt: 7,
  segments: 8,
  context: 9,
} as const;
const labels: Readonly<Record<number, Uint8Array>> = Object.fromEntries(
  Object.values(Derived).map((label) => [label, Uint8Array.of(label)]),
);

/** HMAC-SHA-256 under `key` of the label and `parts` one behind the other: 32 bytes, owned by the caller. */
export function derive(key: Uint8Array, label: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const mac = new Bun.CryptoHasher("sha256", key);
  mac.update(labels[label]!);
  for (const part of parts) mac.update(part);
  const digest = mac.digest();
  const derived = new Uint8Array(digest);
  // Or the heap would hold a second one, which nobody can overwrite any more.
  digest.fill(0);
  return derived;
}

/** Who seals and who opens, and the public halves of what they agree with. */
interface Ends {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly keyId: number;
  readonly prekey: Uint8Array;
  readonly ephemeral: Uint8Array;
}

/** The four secrets in the order of the protocol, each 32 bytes. */
interface Secrets {
  readonly ephemeralPrekey: Uint8Array;
  readonly identityPrekey: Uint8Array;
  readonly ephemeralIdentity: Uint8Array;
  readonly identities: Uint8Array;
}

/** Overwrites `secrets`. */
function rootOf(secrets: Secrets, { from, to, keyId, prekey, ephemeral }: Ends): Uint8Array {
  const { ephemeralPrekey, identityPrekey, ephemeralIdentity, identities } = secrets;
  const input = concatBytes([ephemeralPrekey, identityPrekey, ephemeralIdentity, identities]);
  const info = new Writer(160).nodeId(from).nodeId(to).u32(keyId).bytes(prekey).bytes(ephemeral).finish();
  const root = new Uint8Array(hkdfSync("sha256", input, ROOT_SALT, info, KEY_BYTES));
  for (const secret of [input, ...Object.values(secrets)]) secret.fill(0);
  return root;
}

/**
 * Names the session that `from` began with that ephemeral key, to that prekey: two lives of a resumed snapshot may draw one ephemeral key and
 * find another prekey each.
 */
export const sessionIdOf = (ephemeral: Uint8Array, from: NodeId, keyId: number): Uint8Array => {
  const named = new Writer(96).bytes(ID_LABEL).bytes(ephemeral).nodeId(from).u32(keyId).finish();
  return sha256(named).slice(0, SESSION_ID_BYTES);
};

/**
 * Agrees as the sender; `identity.dh` may remember what it agrees with others' lasting keys. The secret half of the ephemeral key is
 * overwritten before this returns. Throws GODWIT_HANDSHAKE_FAILED where a key of the recipient is of small order, GODWIT_ID_INVALID.
 */
export function beginSession(
  identity: Pick<Identity, "id" | "dh">,
  to: NodeId,
  { keyId, publicKey }: Prekey,
  random: Random,
): { readonly id: Uint8Array; readonly root: Uint8Array; readonly ephemeral: Uint8Array } {
  const secret = generateDhKey(random);
  const ephemeral = secret.publicKey;
  const theirs = dhPublicKeyOf(to);
  const secrets = {
    ephemeralPrekey: secret.agree(publicKey),
    identityPrekey: identity.dh.agree(publicKey),
    ephemeralIdentity: secret.agree(theirs),
    identities: identity.dh.agree(theirs),
  };
  secret.secret.fill(0);
  const root = rootOf(secrets, { from: identity.id, to, keyId, prekey: publicKey, ephemeral });
  return { id: sessionIdOf(ephemeral, identity.id, keyId), root, ephemeral };
}

/**
 * Agrees as the recipient, unless `known` has the keys of that session. Both keys may remember what they agree with the sender's lasting key.
 * Throws as `beginSession`.
 */
export function joinSession(
  identity: Pick<Identity, "id" | "dh">,
  prekey: { readonly keyId: number; readonly key: DhKey },
  from: NodeId,
  ephemeral: Uint8Array,
  known: (id: Uint8Array) => Pick<ReceivingKeys, "root" | "key"> | undefined,
): { readonly id: Uint8Array; readonly keys: Pick<ReceivingKeys, "root" | "key"> } {
  const id = sessionIdOf(ephemeral, from, prekey.keyId);
  const held = known(id);
  if (held !== undefined) return { id, keys: held };
  const theirs = dhPublicKeyOf(from);
  const secrets = {
    ephemeralPrekey: prekey.key.agree(ephemeral),
    identityPrekey: prekey.key.agree(theirs),
    ephemeralIdentity: identity.dh.agree(ephemeral),
    identities: identity.dh.agree(theirs),
  };
  const { keyId } = prekey;
  const ends = { from, to: identity.id, keyId, prekey: prekey.key.publicKey, ephemeral };
  return { id, keys: new ReceivingKeys(rootOf(secrets, ends)) };
}

const digitOf = (counter: number, place: number): number =>
  (counter >> (DIGIT_BITS * (DIGITS - 1 - place))) & DIGIT_MAX;

/**
 * The sender's half, in memory alone: keys in their order, each once. Of each digit it keeps what the next one comes from, so that whoever
 * reads this learns keys that were not taken yet, and none that was. What was used is overwritten: nobody knows when the heap would be.
 */
export class SendingKeys {
  /** By place: what its next digit comes from; undefined: there is none. */
  readonly #next: (Uint8Array | undefined)[];
  #counter = 0;

  /** `root`: 32 bytes, taken over and overwritten. */
  constructor(root: Uint8Array) {
    this.#next = [root];
    this.#descend(0);
  }

  /** The next key and its counter; undefined: there are no more. Owned by the caller. */
  take(): { readonly counter: number; readonly key: Uint8Array } | undefined {
    const counter = this.#counter;
    if (counter > COUNTER_MAX) return undefined;
    let place = DIGITS - 1;
    while (this.#next[place] === undefined) place--;
    this.#descend(place);
    const value = this.#next[DIGITS - 1]!;
    this.#step(DIGITS - 1, counter, value);
    this.#counter++;
    const key = derive(value, Derived.message);
    value.fill(0);
    return { counter, key };
  }

  /** From `place` down to the last: what was below is used up. */
  #descend(place: number): void {
    for (let at = place; at < DIGITS - 1; at++) {
      const value = this.#next[at]!;
      this.#step(at, this.#counter, value);
      this.#next[at + 1] = derive(value, Derived.below);
      value.fill(0);
    }
  }

  #step(place: number, counter: number, value: Uint8Array): void {
    this.#next[place] = digitOf(counter, place) === DIGIT_MAX ? undefined : derive(value, Derived.next);
  }
}

/** The recipient's half: the key of any counter, at most 64 steps from what it remembers of the last one. */
export class ReceivingKeys {
  readonly root: Uint8Array;
  /** By place: what the digit of the last counter came from. */
  readonly #path: Uint8Array[] = [];
  #last: number | undefined;

  /** `root`: 32 bytes, borrowed for the life of this. */
  constructor(root: Uint8Array) {
    assert(root.length === KEY_BYTES, "a root has 32 bytes");
    this.root = root;
  }

  /** 32 bytes, owned by the caller. `counter`: 0 to COUNTER_MAX. */
  key(counter: number): Uint8Array {
    assert(counter >= 0 && counter <= COUNTER_MAX, "a counter has 16 bits");
    let isSame = this.#last !== undefined;
    for (let place = 0; place < DIGITS; place++) {
      const digit = digitOf(counter, place);
      const last = isSame ? digitOf(this.#last!, place) : 0;
      // What stands there already, stepped on; or from the beginning of this place.
      const isAhead = isSame && digit >= last;
      let value = isAhead
        ? this.#path[place]!
        : place === 0
          ? this.root
          : derive(this.#path[place - 1]!, Derived.below);
      for (let at = isAhead ? last : 0; at < digit; at++) value = derive(value, Derived.next);
      this.#path[place] = value;
      isSame &&= digit === last;
    }
    this.#last = counter;
    return derive(this.#path[DIGITS - 1]!, Derived.message);
  }
}
