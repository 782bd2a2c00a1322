/**
 * What this node can read beside what a radio decodes by itself: by the keys of channels and the private key that the configuration names, and the public keys of
 * others as they tell them. Owns those keys; must never seal anything, and what it cannot read it leaves as it came. Specified by docs/meshtastic.md.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { openSeal, PrivateKey, readChannel, SEAL_BYTES } from "./ciphers.ts";
import { channelHash, expandPsk, numberOfKey } from "./names.ts";
import { decodeData, decodeUser, type Data, type MeshPacket } from "./protocol.ts";
import { numberProof } from "./state.ts";

const NODE_INFO = 4;
const BROADCAST = 0xffff_ffff;
/** Whose keys are remembered, and with whom there is a secret already. */
const KEYS_MAX = 1_000;
const SECRETS_MAX = 256;

export interface ChannelKey {
  /** As people see it; it is part of what a packet shows of its channel. */
  readonly name: string;
  /** As it is configured: 1 byte, 16 or 32. */
  readonly psk: Uint8Array;
}

export interface KeyringOptions {
  readonly channels: readonly ChannelKey[];
  /** 32 bytes. */
  readonly privateKey?: Uint8Array | undefined;
  /** Whose the private key is, where that is not the number of its public key, as of firmware before 2.8. */
  readonly number?: number | undefined;
}

/** By what a packet was read: its radio's own keys, a channel's by name, or the private key; undefined: it was not. */
export type ReadBy = { readonly by: "channel"; readonly name: string } | { readonly by: "key" };

export interface Read {
  readonly packet: MeshPacket;
  readonly readBy: ReadBy | undefined;
}

/** Why a key that somebody said was not taken; labels. */
export type KeyFault = "key_changed";

interface KnownKey {
  readonly publicKey: Uint8Array;
  readonly isProven: boolean;
}

export class Keyring {
  readonly #channels: readonly { readonly name: string; readonly hash: number; readonly key: Uint8Array }[];
  readonly #own: { readonly key: PrivateKey; readonly number: number } | undefined;
  readonly #keys = new BoundedMap<number, KnownKey>({ name: "keys of radios", max: KEYS_MAX });
  readonly #secrets = new BoundedMap<string, Uint8Array | null>({
    name: "secrets of radios",
    max: SECRETS_MAX,
  });

  constructor({ channels, privateKey, number }: KeyringOptions) {
    this.#channels = channels.map(({ name, psk }) => ({
      name,
      hash: channelHash(name, psk),
      key: expandPsk(psk),
    }));
    const key = privateKey === undefined ? undefined : new PrivateKey(privateKey);
    this.#own = key && { key, number: number ?? numberOfKey(key.publicKey) };
  }

  /** Whether that number is the one of the key that the node is known by. */
  proofOf(number: number): "key" | "other" | "unknown" {
    const known = this.#keys.get(number);
    return known === undefined ? "unknown" : known.isProven ? "key" : "other";
  }

  /**
   * The key that a node says is its own. One whose number is that of the node takes the place of one of which that is not so, else the first stays: anybody can say
   * anything. A word: it was not taken.
   */
  learn(number: number, publicKey: Uint8Array): KeyFault | undefined {
    const proof = numberProof(number, publicKey);
    if (proof === "unknown") return undefined;
    const isProven = proof === "key";
    const known = this.#keys.get(number);
    if (known !== undefined) {
      if (Buffer.compare(known.publicKey, publicKey) === 0) {
        // Who is heard keeps its place.
        this.#keys.renew(number, known);
        return undefined;
      }
      if (known.isProven || !isProven) return "key_changed";
    }
    this.#keys.renew(number, { publicKey: publicKey.slice(), isProven });
    return undefined;
  }

  /** The packet in the clear where a key fits, itself where none does. Hears of keys in what it reads; `fault` is told of those not taken. */
  read(packet: MeshPacket, fault: (reason: KeyFault) => void): Read {
    const { payloadVariant } = packet;
    if (payloadVariant.case !== "encrypted") {
      if (payloadVariant.case === "decoded") this.#hear(packet.from, payloadVariant.value, fault);
      return { packet, readBy: undefined };
    }
    const sealed = this.#readSeal(packet, payloadVariant.value);
    if (sealed !== undefined) return sealed;
    for (const { name, hash, key } of this.#channels) {
      if (hash !== packet.channel) continue;
      const data = readData(readChannel(key, packet.from, packet.id, payloadVariant.value));
      if (data === undefined) continue;
      this.#hear(packet.from, data, fault);
      return { packet: decoded(packet, data), readBy: { by: "channel", name } };
    }
    return { packet, readBy: undefined };
  }

  #readSeal(packet: MeshPacket, bytes: Uint8Array): Read | undefined {
    const { from, to, id, channel } = packet;
    // As the firmware: of no channel, for one alone. The seal does not cover for whom it is.
    const isForUs = this.#own !== undefined && to === this.#own.number && to !== BROADCAST && channel === 0;
    if (!isForUs || bytes.length <= SEAL_BYTES) return undefined;
    const theirs = this.#keys.get(from)?.publicKey;
    const secret = theirs && this.#secretWith(theirs);
    const plain = secret && openSeal(secret, from, id, bytes);
    const data = plain && readData(plain);
    if (data === undefined) return undefined;
    const opened = { ...decoded(packet, data), pkiEncrypted: true, publicKey: theirs!.slice() };
    return { packet: opened, readBy: { by: "key" } };
  }

  #secretWith(theirs: Uint8Array): Uint8Array | undefined {
    const name = Buffer.from(theirs).toString("base64");
    let secret = this.#secrets.get(name);
    if (secret === undefined) {
      secret = this.#own!.key.sharedWith(theirs) ?? null;
      this.#secrets.renew(name, secret);
    }
    return secret ?? undefined;
  }

  #hear(from: number, { portnum, payload }: Data, fault: (reason: KeyFault) => void): void {
    if ((portnum as number) !== NODE_INFO) return;
    const reason = this.learn(from, decodeUser(payload)?.publicKey ?? new Uint8Array(0));
    if (reason !== undefined) fault(reason);
  }
}

/** Undefined: not what a key that fits would make of it. */
function readData(plain: Uint8Array): Data | undefined {
  const data = decodeData(plain);
  return data === undefined || (data.portnum as number) === 0 ? undefined : data;
}

const decoded = (packet: MeshPacket, value: Data): MeshPacket => ({
  ...packet,
  payloadVariant: { case: "decoded", value },
});
