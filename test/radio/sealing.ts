/**
 * From a packet in the clear to one on the air and back: which channel or key of two ends, what is signed, and what is refused. As
 * perhapsEncode and perhapsDecode of the firmware.
 */
import type { Channel, Mesh } from "@meshtastic/protobufs";
import { Channel as Channels } from "@meshtastic/protobufs";
import type { Random } from "@godwit/sdk";
import type { Behaviour } from "./behaviour.ts";
import {
  channelHash,
  cryptChannel,
  expandPsk,
  isSameKey,
  isSigned,
  openFrom,
  PKC_BYTES,
  sealFor,
  sharedKey,
  signPacket,
  type KeyPair,
} from "./keys.ts";
import { FRAME_BYTES_MAX, HEADER_BYTES } from "./lora-frame.ts";
import type { NodeDb } from "./nodes.ts";
import * as packets from "./packet.ts";
import { Port, RoutingError, type Packet } from "./packet.ts";

/** `opaque`: of a channel that it has no key of. `refused`: a policy forbids it, or it does not decode. */
export type Opened = Packet | "opaque" | "refused";

interface ChannelKey {
  readonly hash: number;
  readonly key: Uint8Array;
}

export interface SealingOptions {
  readonly random: Random;
  readonly nodes: NodeDb;
  readonly keys: KeyPair;
  readonly number: () => number;
  readonly behaviour: () => Behaviour;
  /** Amateurs may not encrypt. */
  readonly isLicensed: () => boolean;
  readonly okToMqtt: () => boolean;
  readonly channels: () => readonly Channel.Channel[];
  readonly channelName: () => string;
  readonly verified: Verified;
  readonly opened: OpenedFrames;
}

/** What signatures of one ether came to: every radio hears the same frames, and a check takes milliseconds. */
export class Verified {
  readonly #known = new Map<string, boolean>();

  isSigned(publicKey: Uint8Array, { from, id }: Packet, data: Mesh.Data, signature: Uint8Array): boolean {
    const key = `${from} ${id} ${data.portnum} ${[publicKey, data.payload, signature].map((it) => Buffer.from(it).toString("base64")).join(" ")}`;
    let known = this.#known.get(key);
    if (known !== undefined) return known;
    known = isSigned(publicKey, from, id, data.portnum, data.payload, signature);
    if (this.#known.size >= VERIFIED_MAX) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, known);
    return known;
  }
}
const VERIFIED_MAX = 1_024;

/** What frames of one ether say under a channel's key: all in earshot are given the same bytes. */
export class OpenedFrames {
  readonly #known = new WeakMap<
    Uint8Array,
    { readonly key: Uint8Array; readonly data: Mesh.Data | undefined }[]
  >();

  /** Shared: copy it. */
  read(key: Uint8Array, { from, id }: Packet, encrypted: Uint8Array): Mesh.Data | undefined {
    const known = this.#known.get(encrypted) ?? [];
    const found = known.find((it) => isSameKey(it.key, key));
    if (found !== undefined) return found.data;
    const data = packets.decodeData(cryptChannel(key, from, id, encrypted));
    known.push({ key, data });
    this.#known.set(encrypted, known);
    return data;
  }
}

const BITFIELD_MQTT = 1;
const BITFIELD_RESPONSE = 2;

/** Ports that go by the channel even to one. */
const PLAIN_PORTS: ReadonlySet<number> = new Set([
  Port.TRACEROUTE_APP,
  Port.NODEINFO_APP,
  Port.ROUTING_APP,
  Port.POSITION_APP,
]);

export class Sealing {
  readonly #options: SealingOptions;
  readonly #shared = new Map<string, Uint8Array>();
  /** Null: there is none. */
  readonly #channels: (ChannelKey | null | undefined)[] = [];

  constructor(options: SealingOptions) {
    this.#options = options;
  }

  /** Of a channel by its index; undefined: there is none. */
  channelAt(index: number): ChannelKey | undefined {
    const known = this.#channels[index];
    if (known !== undefined) return known ?? undefined;
    const made = this.#newChannel(index);
    this.#channels[index] = made ?? null;
    return made;
  }

  /** Channels were changed. */
  forgetChannels(): void {
    this.#channels.length = 0;
  }

  #newChannel(index: number): ChannelKey | undefined {
    const { channels, channelName } = this.#options;
    const channel = channels()[index];
    const { DISABLED, SECONDARY } = Channels.Channel_Role;
    if (channel === undefined || channel.role === DISABLED || channel.settings === undefined)
      return undefined;
    // Without a key of its own a further channel has the first one's.
    const psk =
      channel.role === SECONDARY && channel.settings.psk.length === 0
        ? (channels().find(({ role }) => role === Channels.Channel_Role.PRIMARY)?.settings?.psk ??
          new Uint8Array())
        : channel.settings.psk;
    const key = this.#options.isLicensed() ? new Uint8Array() : expandPsk(psk);
    const name = channel.settings.name === "" ? channelName() : channel.settings.name;
    return { hash: channelHash(name, key), key };
  }

  /** In place; the error is that of Routing. What is of others and was opened here goes out as it came. */
  seal(packet: Packet): Mesh.Routing_Error {
    const data = packets.dataOf(packet);
    if (data === undefined) return RoutingError.NONE;
    const { number, behaviour, okToMqtt, keys, random } = this.#options;
    const isOwn = packet.from === number();
    if (isOwn) {
      data.bitfield =
        (data.bitfield ?? 0) | (okToMqtt() ? BITFIELD_MQTT : 0) | (data.wantResponse ? BITFIELD_RESPONSE : 0);
      packets.setSignature(data, undefined);
      if (
        behaviour().signs &&
        !packet.pkiEncrypted &&
        packets.isBroadcast(packet) &&
        packets.signedFits(data)
      ) {
        const { from, id } = packet;
        packets.setSignature(
          data,
          signPacket(keys.secretKey, from, id, data.portnum, data.payload, random.bytes(64)),
        );
      }
    }
    const plain = packets.encodeData(data);
    if (plain.length + HEADER_BYTES > FRAME_BYTES_MAX) return RoutingError.TOO_LARGE;
    return isOwn && this.#isForKeys(packet, data)
      ? this.#sealForOne(packet, plain)
      : this.#sealForChannel(packet, plain);
  }

  open(packet: Packet): Opened {
    const encrypted = packets.encryptedOf(packet);
    if (encrypted === undefined) return packet;
    const { number } = this.#options;
    const isForKeys =
      packet.channel === 0 &&
      packet.to === number() &&
      !packets.isBroadcast(packet) &&
      encrypted.length > PKC_BYTES;
    const byKeys = isForKeys ? this.#openOfOne(packet, encrypted) : undefined;
    if (byKeys !== undefined) return byKeys;
    const byChannel = this.#openOfChannel(packet, encrypted);
    return byChannel === "opaque" && isForKeys ? "refused" : byChannel;
  }

  /** Whether two ends' keys are what it goes by. */
  #isForKeys(packet: Packet, data: Mesh.Data): boolean {
    const { isLicensed, behaviour, nodes } = this.#options;
    if (isLicensed() || packets.isBroadcast(packet) || PLAIN_PORTS.has(data.portnum)) return false;
    return behaviour().textNeedsKey || packet.pkiEncrypted || nodes.keyOf(packet.to) !== undefined;
  }

  #sealForOne(packet: Packet, plain: Uint8Array): Mesh.Routing_Error {
    const { random, nodes } = this.#options;
    if (plain.length + HEADER_BYTES + PKC_BYTES > FRAME_BYTES_MAX) return RoutingError.TOO_LARGE;
    const theirs = nodes.keyOf(packet.to);
    if (theirs === undefined) return RoutingError.PKI_SEND_FAIL_PUBLIC_KEY;
    const isOther = packet.publicKey.length === 32 && !isSameKey(packet.publicKey, theirs);
    if (packet.pkiEncrypted && isOther) return RoutingError.PKI_FAILED;
    const sealed = sealFor(this.#sharedWith(theirs), packet.from, packet.id, random.below(2 ** 32), plain);
    packet.payloadVariant = { case: "encrypted", value: sealed };
    packet.channel = 0;
    packet.pkiEncrypted = true;
    return RoutingError.NONE;
  }

  #sealForChannel(packet: Packet, plain: Uint8Array): Mesh.Routing_Error {
    const isOwn = packet.from === this.#options.number();
    if (isOwn && packet.pkiEncrypted) return RoutingError.PKI_FAILED;
    const channel = this.channelAt(packet.channel);
    if (channel === undefined) return RoutingError.NO_CHANNEL;
    packet.payloadVariant = {
      case: "encrypted",
      value: cryptChannel(channel.key, packet.from, packet.id, plain),
    };
    packet.channel = channel.hash;
    return RoutingError.NONE;
  }

  #openOfOne(packet: Packet, encrypted: Uint8Array): Opened | undefined {
    const theirs = this.#options.nodes.keyOf(packet.from);
    if (theirs === undefined) return undefined;
    const plain = openFrom(this.#sharedWith(theirs), packet.from, packet.id, encrypted);
    if (plain === undefined) return undefined;
    const data = packets.decodeData(plain);
    if (data === undefined) return "refused";
    return packets.copyOf(packet, {
      payloadVariant: { case: "decoded", value: withResponse(data) },
      channel: 0,
      pkiEncrypted: true,
      publicKey: theirs,
    });
  }

  #openOfChannel(packet: Packet, encrypted: Uint8Array): Opened {
    const { number, behaviour, isLicensed } = this.#options;
    let isMatched = false;
    for (let index = 0; index < CHANNELS_MAX; index++) {
      const channel = this.channelAt(index);
      if (channel === undefined || channel.hash !== packet.channel) continue;
      isMatched = true;
      const shared = this.#options.opened.read(channel.key, packet, encrypted);
      if (shared === undefined) continue;
      const data = { ...shared };
      const isTextToUs = packet.to === number() && data.portnum === Port.TEXT_MESSAGE_APP;
      if (isTextToUs && behaviour().textNeedsKey && !isLicensed()) return "refused";
      const opened = packets.copyOf(packet, {
        payloadVariant: { case: "decoded", value: data },
        channel: index,
      });
      if (!this.#isAllowed(opened, data)) return "refused";
      withResponse(data);
      return opened;
    }
    return isMatched && behaviour().handshake === "2.8" ? "refused" : "opaque";
  }

  /** The policy of signatures; marks what is signed. */
  #isAllowed(packet: Packet, data: Mesh.Data): boolean {
    const { behaviour, nodes, verified } = this.#options;
    const { signs, signatures } = behaviour();
    if (!signs) return true;
    const signature = packets.signatureOf(data);
    const node = nodes.get(packet.from);
    const key = nodes.keyOf(packet.from) ?? keyWithin(data);
    if (signature !== undefined) {
      if (signature.length !== 64) return false;
      if (key === undefined) return signatures !== "strict";
      if (!verified.isSigned(key, packet, data, signature)) return false;
      packets.markSigned(packet);
      if (node !== undefined) node.hasSigned = true;
      return true;
    }
    if (signatures === "strict") return false;
    // Whoever signs, and could have signed this one, did not send it.
    const isDowngrade = node?.hasSigned === true && packets.isBroadcast(packet) && packets.signedFits(data);
    return signatures === "compatible" || !isDowngrade;
  }

  #sharedWith(theirs: Uint8Array): Uint8Array {
    const name = Buffer.from(theirs).toString("base64");
    let key = this.#shared.get(name);
    if (key === undefined) {
      if (this.#shared.size >= SHARED_MAX) this.#shared.clear();
      this.#shared.set(name, (key = sharedKey(this.#options.keys.secretKey, theirs)));
    }
    return key;
  }
}
const SHARED_MAX = 256;
export const CHANNELS_MAX = 8;

function withResponse(data: Mesh.Data): Mesh.Data {
  if (((data.bitfield ?? 0) & BITFIELD_RESPONSE) !== 0) data.wantResponse = true;
  return data;
}

/** Who tells his key for the first time signs by it. */
function keyWithin(data: Mesh.Data): Uint8Array | undefined {
  if (data.portnum !== Port.NODEINFO_APP) return undefined;
  const key = packets.decodeUser(data.payload)?.publicKey;
  return key?.length === 32 ? key : undefined;
}
