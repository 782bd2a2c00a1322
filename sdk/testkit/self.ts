import {
  createHash,
  createPrivateKey,
  createPublicKey,
  sign,
  verify,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import {
  GodwitError,
  ITEM_LABEL_BYTES_MAX,
  ITEM_VALUE_BYTES_MAX,
  itemMessage,
  itemSalt,
  SELF_MESSAGE_BYTES_MAX,
  type Self,
  type SelfItem,
} from "../src/index.ts";

/** RFC 8410: what stands before 32 bytes of an Ed25519 key. */
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI = Buffer.from("302a300506032b6570032100", "hex");
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const SIGN_BIT = 0x80;

/** A node with a real key of its own; two of one `network` and `plugin` verify each other. */
export class FakeSelf implements Self {
  readonly id: string;
  readonly callsign: string | undefined;
  readonly network: string;
  readonly tags: readonly string[];
  readonly plugin: string;
  /** The live network secrets, the preferred first; none: an open mesh. A test may replace them. */
  secrets: readonly string[] = [];
  readonly #key: KeyObject;
  readonly #prefix: Uint8Array;
  readonly protocols = { min: 1, max: 1 } as const;
  #endpoints: readonly string[] = [];
  #sockets: readonly string[] = [];
  readonly #changed = new Set<() => void>();

  /** `plugin`: `<namespace>.<id>`. */
  constructor(
    facts: { callsign?: string; network?: string; tags?: readonly string[]; plugin?: string } = {},
  ) {
    this.callsign = facts.callsign;
    this.network = facts.network ?? "test";
    this.tags = facts.tags ?? [];
    this.plugin = facts.plugin ?? "test";
    this.#prefix = createHash("sha256").update(`${this.network}\0${this.plugin}`).digest();
    let key: KeyObject;
    let publicKey: Uint8Array;
    // As a node's own: an id has sign bit 0.
    do {
      key = createPrivateKey({
        key: Buffer.concat([PKCS8, randomBytes(32)]),
        format: "der",
        type: "pkcs8",
      });
      publicKey = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(SPKI.length);
    } while ((publicKey[31]! & SIGN_BIT) !== 0);
    this.#key = key;
    this.id = idOf(publicKey);
  }

  get listenerCount(): number {
    return this.#changed.size;
  }

  endpoints(): readonly string[] {
    return this.#endpoints;
  }

  listening(): readonly string[] {
    return this.#sockets;
  }

  onChange(fn: () => void): void {
    this.#changed.add(fn);
  }

  async sign(message: Uint8Array): Promise<Uint8Array> {
    if (message.length > SELF_MESSAGE_BYTES_MAX)
      throw new GodwitError("GODWIT_TOO_BIG", `a message has at most ${SELF_MESSAGE_BYTES_MAX} bytes`, {
        kind: "capacity",
      });
    return new Uint8Array(sign(null, Buffer.concat([this.#prefix, message]), this.#key));
  }

  async verify(id: string, message: Uint8Array, signature: Uint8Array): Promise<boolean> {
    const publicKey = keyOf(id);
    if (publicKey === undefined || signature.length !== 64 || message.length > SELF_MESSAGE_BYTES_MAX)
      return false;
    try {
      const key = createPublicKey({
        key: Buffer.concat([SPKI, publicKey]),
        format: "der",
        type: "spki",
      });
      return verify(null, Buffer.concat([this.#prefix, message]), key, signature);
    } catch {
      return false;
    }
  }

  async signItem({ label, seq, value }: SelfItem): Promise<Uint8Array> {
    const isBounded =
      label.length <= ITEM_LABEL_BYTES_MAX && value.length > 0 && value.length <= ITEM_VALUE_BYTES_MAX;
    if (!isBounded || !Number.isSafeInteger(seq) || seq < 0)
      throw new GodwitError("GODWIT_REQUEST_INVALID", "an item out of bounds", { kind: "protocol" });
    return new Uint8Array(sign(null, itemMessage(itemSalt(this.plugin, label), seq, value), this.#key));
  }

  async meshSeeds(purpose: string): Promise<readonly Uint8Array[]> {
    return (this.secrets.length === 0 ? [""] : this.secrets).map(
      (secret) =>
        new Uint8Array(
          createHash("sha256").update([secret, this.network, this.plugin, purpose].join("\0")).digest(),
        ),
    );
  }

  /** Replaces the endpoints, and the sockets behind them, and tells who listens. */
  set(endpoints: readonly string[], sockets: readonly string[] = []): void {
    this.#endpoints = endpoints;
    this.#sockets = sockets;
    for (const listener of [...this.#changed]) listener();
  }

  /** The plugin stopped: the host forgets its listeners. */
  stop(): void {
    this.#changed.clear();
  }
}

/** RFC 4648 base32 in lower case without padding, 52 characters of 32 bytes. */
function idOf(publicKey: Uint8Array): string {
  const bits = [...publicKey].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return (bits.match(/.{1,5}/g) ?? [])
    .map((five) => BASE32[Number.parseInt(five.padEnd(5, "0"), 2)])
    .join("");
}

function keyOf(id: string): Uint8Array | undefined {
  if (!/^[a-z2-7]{51}[aq]$/.test(id)) return undefined;
  const bits = id
    .split("")
    .map((char) => BASE32.indexOf(char).toString(2).padStart(5, "0"))
    .join("");
  return Uint8Array.from((bits.slice(0, 256).match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}
