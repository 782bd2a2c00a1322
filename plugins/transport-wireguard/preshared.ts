/**
 * Preshared keys against a quantum computer of later: two linked nodes agree on 32 bytes by ML-KEM-768 (FIPS 203) inside their link,
 * and WireGuard mixes them into its handshakes. Messages carry a MAC under the X25519 of both WireGuard keys, so that each end proves
 * that its key is its own. Both keep the new key before either uses it; until a handshake went by it, both try old and new in turn.
 *
 *   offer   | 1 | nonce 16 | own key 32 | ML-KEM public key 1184 | mac 32 |     from the smaller node id
 *   answer  | 2 | nonce 16 | own key 32 | ciphertext 1088        | mac 32 |
 *   confirm | 3 | nonce 16 | own key 32 | mac 32 |
 *   want    | 4 | nonce 16 | own key 32 | mac 32 |                              asks the smaller node id for an offer
 */
import { createHmac, hkdfSync, timingSafeEqual, webcrypto } from "node:crypto";
import { BoundedMap, type Clock, type Log, type Random } from "@godwit/sdk";
import { Secret } from "@godwit/sdk/secret";
import { agree, KEY_BYTES, keyText, parseKey, publicKeyOf } from "./keys.ts";

/** First byte of a message; append-only, docs/registry.md. */
export const PresharedKind = { offer: 1, answer: 2, confirm: 3, want: 4 } as const;
const ALGORITHM = "ML-KEM-768";
const NONCE_BYTES = 16;
const MAC_BYTES = 32;
const HEAD_BYTES = 1 + NONCE_BYTES + KEY_BYTES;
const MATERIAL_BYTES = {
  [PresharedKind.offer]: 1_184,
  [PresharedKind.answer]: 1_088,
  [PresharedKind.confirm]: 0,
  [PresharedKind.want]: 0,
} as const;
/** A new key after so long, counted by the wall clock. */
const RENEW_MS = 24 * 3_600_000;
/** An exchange without an end is begun again. */
const RETRY_MS = 15_000;
/** Nodes with which keys are held; the oldest give way. */
export const PAIRS_MAX = 1_024;
/** Without a handshake for so long while two keys are in question, the other one is tried. A session lives for 180 s. */
const DOUBT_MS = 140_000;
/** For how long each end tries one: so different that they meet. */
const TURN_MS = { smaller: 11_000, larger: 27_000 } as const;

export interface StoredPair {
  /** Base64. */
  readonly current?: string | undefined;
  readonly next?: string | undefined;
  /** The other end has it for certain: it is in use. */
  readonly usesNext?: boolean | undefined;
  /** When it was agreed, ms since 1970. */
  readonly atMs: number;
}

export interface PresharedDeps {
  readonly self: string;
  readonly secret: Secret;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** What an earlier life kept, by public key. */
  readonly stored: Readonly<Record<string, StoredPair>>;
  /** Resolves once durable. */
  save(pairs: Readonly<Record<string, StoredPair>>): Promise<void>;
  send(to: string, message: Uint8Array): boolean;
  /** The key of a node by its record. */
  keyOf(id: string): string | undefined;
  /** A node has proven that the key is its own. */
  proven(id: string, publicKey: string): void;
  /** Another key is to be set now. */
  changed(): void;
}

interface Pair {
  current: Secret | undefined;
  next: Secret | undefined;
  usesNext: boolean;
  atMs: number;
  turnAtMs: number;
}

interface Pending {
  readonly nonce: Uint8Array;
  readonly publicKey: string;
  /** Of the initiator. */
  readonly privateKey: webcrypto.CryptoKey | undefined;
  readonly atMs: number;
}

export class Preshared {
  readonly #deps: PresharedDeps;
  readonly #pairs = new BoundedMap<string, Pair>({ name: "pairs", max: PAIRS_MAX });
  readonly #pending = new BoundedMap<string, Pending>({ name: "pending pairs", max: PAIRS_MAX });
  readonly #ownKey: Uint8Array;
  /** Messages are handled one after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(deps: PresharedDeps) {
    this.#deps = deps;
    this.#ownKey = publicKeyOf(deps.secret);
    for (const [publicKey, { current, next, usesNext, atMs }] of Object.entries(deps.stored)) {
      const read = (text: string | undefined) => {
        const bytes = text === undefined ? undefined : parseKey(text);
        return bytes === undefined ? undefined : new Secret(bytes);
      };
      const pair = {
        current: read(current),
        next: read(next),
        usesNext: usesNext === true,
        atMs,
        turnAtMs: deps.clock.monotonicMs(),
      };
      if (parseKey(publicKey) !== undefined && this.#pairs.size < PAIRS_MAX) this.#pairs.set(publicKey, pair);
    }
  }

  /** What to set for a peer now. */
  keyFor(publicKey: string): Secret | undefined {
    const pair = this.#pairs.get(publicKey);
    return pair?.usesNext === true && pair.next !== undefined ? pair.next : pair?.current;
  }

  /** A handshake went by `key`: from here on there is no other. */
  confirmed(publicKey: string, key: Secret): void {
    const pair = this.#pairs.get(publicKey);
    if (pair?.next === undefined || !key.equals(pair.next)) return;
    pair.current = pair.next;
    pair.next = undefined;
    pair.usesNext = false;
    void this.#save().catch(() => {});
  }

  /** Looks after one peer: begins what is due, and tries the other key when in doubt. */
  tend(id: string, publicKey: string, isLinked: boolean, sinceHandshakeMs: number): void {
    const { clock, self } = this.#deps;
    const nowMs = clock.monotonicMs();
    const pair = this.#pairs.get(publicKey);
    if (pair?.next !== undefined && sinceHandshakeMs > DOUBT_MS) {
      const turnMs = self < id ? TURN_MS.smaller : TURN_MS.larger;
      if (nowMs - pair.turnAtMs >= turnMs) {
        pair.usesNext = !pair.usesNext;
        pair.turnAtMs = nowMs;
        this.#deps.changed();
      }
    }
    if (!isLinked) return;
    const ageMs = pair === undefined ? Number.POSITIVE_INFINITY : clock.wallMs() - pair.atMs;
    // A clock that was set back says nothing of the age.
    if (ageMs < RENEW_MS && ageMs > -RENEW_MS) return;
    const pending = this.#pending.get(id);
    if (pending !== undefined && nowMs - pending.atMs < RETRY_MS) return;
    this.#remember(id, publicKey, undefined);
    if (self < id) this.#queue(() => this.#offer(id, publicKey));
    else if (pair === undefined) this.#say(id, PresharedKind.want, publicKey, this.#pending.get(id)!.nonce);
  }

  onMessage(from: string, message: Uint8Array): void {
    this.#queue(() => this.#handle(from, message));
  }

  /** Resolves when all that came is dealt with. */
  settled(): Promise<void> {
    return this.#turn;
  }

  #queue(work: () => Promise<void>): void {
    this.#turn = this.#turn.then(work).catch((error: unknown) => {
      this.#deps.log.warn("preshared key not agreed", {
        reason: error instanceof Error ? error.message : String(error),
      });
    });
  }

  #remember(
    id: string,
    publicKey: string,
    privateKey: webcrypto.CryptoKey | undefined,
    nonce = this.#deps.random.bytes(NONCE_BYTES),
  ): Pending {
    const pending = { nonce, publicKey, privateKey, atMs: this.#deps.clock.monotonicMs() };
    this.#pending.renew(id, pending);
    return pending;
  }

  async #offer(id: string, publicKey: string): Promise<void> {
    const keys = (await webcrypto.subtle.generateKey(ALGORITHM, false, [
      "encapsulateBits",
      "decapsulateBits",
    ])) as webcrypto.CryptoKeyPair;
    const raw = await webcrypto.subtle.exportKey("raw-public", keys.publicKey);
    const { nonce } = this.#remember(id, publicKey, keys.privateKey);
    this.#say(id, PresharedKind.offer, publicKey, nonce, new Uint8Array(raw));
  }

  async #handle(from: string, message: Uint8Array): Promise<void> {
    const kind = message[0];
    if (
      kind !== PresharedKind.offer &&
      kind !== PresharedKind.answer &&
      kind !== PresharedKind.confirm &&
      kind !== PresharedKind.want
    )
      return;
    if (message.length !== HEAD_BYTES + MATERIAL_BYTES[kind] + MAC_BYTES) return;
    const publicKey = keyText(message.subarray(1 + NONCE_BYTES, HEAD_BYTES));
    const known = this.#deps.keyOf(from);
    // What it says of itself in its record counts; a message that overtook the record comes again.
    if (known !== undefined && known !== publicKey) return;
    const body = message.subarray(0, message.length - MAC_BYTES);
    const mac = this.#mac(from, this.#deps.self, publicKey, body);
    if (mac === undefined || !timingSafeEqual(mac, message.subarray(body.length))) return;
    this.#deps.proven(from, publicKey);
    const nonce = message.slice(1, 1 + NONCE_BYTES);
    const material = Uint8Array.from(body.subarray(HEAD_BYTES));
    const isFromSmaller = from < this.#deps.self;
    if (kind === PresharedKind.want) {
      if (!isFromSmaller) await this.#offer(from, publicKey);
    } else if (kind === PresharedKind.offer) {
      if (isFromSmaller) await this.#answer(from, publicKey, nonce, material);
    } else await this.#finish(kind, from, publicKey, nonce, material);
  }

  async #answer(
    from: string,
    publicKey: string,
    nonce: Uint8Array,
    material: Uint8Array<ArrayBuffer>,
  ): Promise<void> {
    const { subtle } = webcrypto;
    const key = await subtle.importKey("raw-public", material, ALGORITHM, true, ["encapsulateBits"]);
    const { sharedKey, ciphertext } = await subtle.encapsulateBits(ALGORITHM, key);
    this.#remember(from, publicKey, undefined, nonce);
    await this.#hold(publicKey, this.#derive(from, this.#deps.self, publicKey, nonce, sharedKey));
    this.#say(from, PresharedKind.answer, publicKey, nonce, new Uint8Array(ciphertext));
  }

  async #finish(
    kind: 2 | 3,
    from: string,
    publicKey: string,
    nonce: Uint8Array,
    material: Uint8Array<ArrayBuffer>,
  ): Promise<void> {
    const pending = this.#pending.get(from);
    if (pending?.publicKey !== publicKey || !timingSafeEqual(pending.nonce, nonce)) return;
    if ((kind === PresharedKind.answer) !== (pending.privateKey !== undefined)) return;
    this.#pending.delete(from);
    if (pending.privateKey !== undefined) {
      const shared = await webcrypto.subtle.decapsulateBits(ALGORITHM, pending.privateKey, material);
      await this.#hold(publicKey, this.#derive(this.#deps.self, from, publicKey, nonce, shared));
      this.#say(from, PresharedKind.confirm, publicKey, nonce);
    }
    const pair = this.#pairs.get(publicKey);
    if (pair?.next === undefined) return;
    pair.usesNext = true;
    pair.turnAtMs = this.#deps.clock.monotonicMs();
    await this.#save();
    this.#deps.log.info("preshared key agreed", { node: from.slice(0, 10) });
    this.#deps.changed();
  }

  /** Durable before anybody may use it. */
  async #hold(publicKey: string, next: Secret): Promise<void> {
    // What is in use now, whether or not a handshake has confirmed it yet.
    const current = this.keyFor(publicKey);
    const pair = { current, next, usesNext: false, atMs: this.#deps.clock.wallMs(), turnAtMs: 0 };
    this.#pairs.renew(publicKey, pair);
    await this.#save();
  }

  #save(): Promise<void> {
    const text = (secret: Secret | undefined) =>
      secret === undefined ? undefined : keyText(secret.reveal());
    const pairs: Record<string, StoredPair> = {};
    for (const [publicKey, { current, next, usesNext, atMs }] of this.#pairs) {
      const [old, fresh] = [text(current), text(next)];
      pairs[publicKey] = {
        ...(old === undefined ? {} : { current: old }),
        ...(fresh === undefined ? {} : { next: fresh, usesNext }),
        atMs,
      };
    }
    return this.#deps.save(pairs);
  }

  #say(to: string, kind: number, publicKey: string, nonce: Uint8Array, material = new Uint8Array(0)): void {
    const body = Buffer.concat([Uint8Array.of(kind), nonce, this.#ownKey, material]);
    const mac = this.#mac(this.#deps.self, to, publicKey, body);
    if (mac !== undefined) this.#deps.send(to, Buffer.concat([body, mac]));
  }

  /** Under what only the holders of either WireGuard key know; undefined for a key with which nothing can be agreed. */
  #mac(from: string, to: string, publicKey: string, body: Uint8Array): Uint8Array | undefined {
    const shared = agree(this.#deps.secret, parseKey(publicKey)!);
    if (shared === undefined) return undefined;
    const key = hkdfSync("sha256", shared, "", "godwit wireguard mac 1", MAC_BYTES);
    return createHmac("sha256", new Uint8Array(key)).update(`${from}\0${to}\0`).update(body).digest();
  }

  #derive(
    smaller: string,
    larger: string,
    publicKey: string,
    nonce: Uint8Array,
    shared: ArrayBuffer,
  ): Secret {
    const keys = [this.#ownKey, parseKey(publicKey)!].map(keyText).sort().join(" ");
    const info = `godwit wireguard psk 1\0${smaller}\0${larger}\0${keys}`;
    return new Secret(new Uint8Array(hkdfSync("sha256", new Uint8Array(shared), nonce, info, KEY_BYTES)));
  }
}
