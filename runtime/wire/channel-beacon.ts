/**
 * The beacon that everybody in earshot hears: who is there, and whether he leads further. Pure. Its tag keeps other meshes apart and
 * casual forgers out, and proves nothing. docs/protocol/slow.md "Beacons" draws it:
 *
 *   | 0x01 | who 6 | number 6 | flags 1 | earshot 2 | [asks 6] | ... | tag 6 |      22 to 40 bytes
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type NodeId, nodeIdBytes } from "../kernel/ids.ts";
import { Reader, Writer } from "./bytes.ts";

/** First byte of what is sent to all. Others are passed over. */
export const BroadcastType = { beacon: 1 } as const;

export const CHANNEL_BEACON_BYTES = 22;
export const CHANNEL_BEACON_BYTES_MAX = 40;
/** Of a name on the channel. */
export const WHO_BYTES = 6;
/** One that asks for somebody. */
export const CHANNEL_ASK_BYTES = CHANNEL_BEACON_BYTES + WHO_BYTES;
/** Asked for: whoever leads further, and nobody else. */
export const ANY_GATEWAY = "000000000000";
const TAG_BYTES = 6;
const FLAG_GATEWAY = 1;
const CODE_SHIFT = 1;
const FLAG_ASKS = 0x40;
export const GATEWAY_CODE_MAX = 31;

export interface ChannelBeacon {
  /** The sender's name on the channel, 12 hex digits. */
  readonly who: string;
  /** Boot epoch (24 bits) and counter (24 bits): larger is newer. */
  readonly number: number;
  /** Cost of the sender's way into the faster mesh, as `gatewayCode`; undefined: it is no gateway. */
  readonly gateway: number | undefined;
  /** Of the names of all it hears and its own: the sum of them, modulo 2^16. */
  readonly earshot: number;
  /** Who shall say that he is there, besides gateways; undefined: nobody is asked. */
  readonly asks?: string | undefined;
}

const mac = (key: Uint8Array, ...parts: (Uint8Array | string)[]): Buffer => {
  const hmac = createHmac("sha256", key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
};

/** What a node is called on channels under that key: it says nothing of the node to whoever has not the key. */
export const whoIs = (key: Uint8Array, id: NodeId): string =>
  mac(key, "who", nodeIdBytes(id)).subarray(0, WHO_BYTES).toString("hex");

/** Of a sum over names. */
export const earshotOf = (who: string): number => Number.parseInt(who.slice(0, 4), 16);

/** 0 to 31: the power of two that the metric lies below, so that little changes of it are none. */
export const gatewayCode = (metric: number): number =>
  Math.min(GATEWAY_CODE_MAX, Math.ceil(Math.log2(Math.max(1, metric) + 1)));

export function encodeChannelBeacon(
  key: Uint8Array,
  { who, number, gateway, earshot, asks }: ChannelBeacon,
): Uint8Array {
  const role = gateway === undefined ? 0 : FLAG_GATEWAY | (gateway << CODE_SHIFT);
  const head = new Writer(CHANNEL_ASK_BYTES)
    .u8(BroadcastType.beacon)
    .bytes(Buffer.from(who, "hex"))
    .u48(number)
    .u8(role | (asks === undefined ? 0 : FLAG_ASKS))
    .u16(earshot)
    .bytes(Buffer.from(asks ?? "", "hex"))
    .finish();
  return new Writer(CHANNEL_ASK_BYTES).bytes(head).bytes(mac(key, head).subarray(0, TAG_BYTES)).finish();
}

/** Undefined: no beacon, or not of this mesh. `keys`: any of them. Throws nothing, whatever comes. */
export function decodeChannelBeacon(
  keys: readonly Uint8Array[],
  bytes: Uint8Array,
): ChannelBeacon | undefined {
  const { length } = bytes;
  if (length < CHANNEL_BEACON_BYTES || length > CHANNEL_BEACON_BYTES_MAX) return undefined;
  if (bytes[0] !== BroadcastType.beacon) return undefined;
  const [said, tag] = [bytes.subarray(0, -TAG_BYTES), bytes.subarray(-TAG_BYTES)];
  if (!keys.some((key) => timingSafeEqual(mac(key, said).subarray(0, TAG_BYTES), tag))) return undefined;
  const reader = new Reader(said.subarray(1));
  const who = Buffer.from(reader.bytes(WHO_BYTES)).toString("hex");
  const number = reader.u48();
  const flags = reader.u8();
  const gateway = (flags & FLAG_GATEWAY) === 0 ? undefined : (flags >> CODE_SHIFT) & GATEWAY_CODE_MAX;
  const earshot = reader.u16();
  if ((flags & FLAG_ASKS) === 0 || length < CHANNEL_ASK_BYTES) return { who, number, gateway, earshot };
  return { who, number, gateway, earshot, asks: Buffer.from(reader.bytes(WHO_BYTES)).toString("hex") };
}
