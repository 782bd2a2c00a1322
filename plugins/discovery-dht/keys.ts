/**
 * What the nodes of one mesh have in common and nobody else: made of a seed of one network secret (`ctx.self.meshSeeds`). Under which label a node's
 * item stands, what its content is sealed with, and the keys under which members meet, one for each week and one without a date. Pure but for
 * the nonce. docs/protocol/dht.md
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  type KeyObject,
  sign,
} from "node:crypto";
import type { Random } from "@godwit/sdk";

export const SEED_PURPOSE = "rendezvous 1";
/** This plugin as `Self.signItem` names it. */
export const PLUGIN = "discovery.dht";
export const LABEL_BYTES = 8;
const WEEK_MS = 604_800_000;
/** No machine's clock was right before this, 2026-01-01. */
const PLAUSIBLE_WALL_MS = 1_767_225_600_000;

/** Number of a week since 1970, or the key without a date. */
export type Period = number | "always";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;

const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_BYTES = 12;
/** Weeks that are looked at, and one without a date, twice over. */
const KEYS_MAX = 8;

/** A key that every member can make. */
export interface MeetingKey {
  /** 32 bytes. Shared: never write to them. */
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array;
}

const derive = (seed: Uint8Array, info: string, bytes: number): Buffer =>
  Buffer.from(hkdfSync("sha256", seed, new Uint8Array(0), `godwit dht 1 ${info}`, bytes));

export class MeshKeys {
  /** Names the seed in a salt, and gives nothing of it away. */
  readonly label: Uint8Array;
  readonly #seed: Uint8Array;
  readonly #seal: Buffer;
  readonly #meeting = new Map<Period, MeetingKey>();

  constructor(seed: Uint8Array) {
    this.#seed = seed.slice();
    this.label = new Uint8Array(derive(seed, "label", LABEL_BYTES));
    this.#seal = derive(seed, "seal", 32);
  }

  meeting(period: Period): MeetingKey {
    const known = this.#meeting.get(period);
    if (known !== undefined) return known;
    const secret = derive(this.#seed, `meeting ${period}`, 32);
    const key = createPrivateKey({ key: Buffer.concat([PKCS8, secret]), format: "der", type: "pkcs8" });
    const made = { publicKey: rawPublic(key), sign: (message: Uint8Array) => signed(message, key) };
    const [oldest] = this.#meeting.keys();
    if (this.#meeting.size >= KEYS_MAX && oldest !== undefined) this.#meeting.delete(oldest);
    this.#meeting.set(period, made);
    return made;
  }

  /** AES-256-GCM for a place: what stands at another one does not open. Nonce first. */
  seal(place: Uint8Array, plain: Uint8Array, random: Random): Uint8Array {
    const nonce = random.bytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#seal, nonce).setAAD(place);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** Undefined: it was sealed by somebody else, or for another place. */
  open(place: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < SEAL_BYTES) return undefined;
    const decipher = createDecipheriv("aes-256-gcm", this.#seal, sealed.subarray(0, NONCE_BYTES))
      .setAAD(place)
      .setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    try {
      const plain = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES));
      return Buffer.concat([plain, decipher.final()]);
    } catch {
      return undefined;
    }
  }
}

const rawPublic = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }).subarray(SPKI_BYTES));

const signed = (message: Uint8Array, key: KeyObject): Uint8Array => new Uint8Array(sign(null, message, key));

export const isPlausible = (wallMs: number): boolean => wallMs >= PLAUSIBLE_WALL_MS;

/** Where a node publishes that it is there. Whose clock is not set knows no week. */
export function publishedPeriods(wallMs: number): readonly Period[] {
  const week = Math.floor(wallMs / WEEK_MS);
  return isPlausible(wallMs) ? [week, week - 1, week + 1, "always"] : ["always"];
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** 32 bytes as a node id. */
export function formatId(bytes: Uint8Array): string {
  let value = BigInt(`0x${Buffer.from(bytes).toString("hex")}`) << 4n;
  let text = "";
  for (; text.length < 52; value >>= 5n) text = BASE32[Number(value & 31n)]! + text;
  return text;
}

/** Undefined: it is none. */
export function idBytes(id: string): Uint8Array | undefined {
  if (!/^[a-z2-7]{51}[aq]$/.test(id)) return undefined;
  let value = 0n;
  for (const char of id) value = (value << 5n) | BigInt(BASE32.indexOf(char));
  return new Uint8Array(Buffer.from((value >> 4n).toString(16).padStart(64, "0"), "hex"));
}
