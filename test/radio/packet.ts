/** Packets inside a radio: the protocol's own messages, and the fields that firmware 2.8 has and the published definitions have not. */
import { create, fromBinary, toBinary, type Message, type UnknownField } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Mesh, Portnums } from "@meshtastic/protobufs";
import { BROADCAST, decodeLoraFrame, encodeLoraFrame, FRAME_BYTES_MAX, HEADER_BYTES } from "./lora-frame.ts";
import { SIGNATURE_BYTES } from "./keys.ts";

export type Packet = Mesh.MeshPacket;
export const Port = Portnums.PortNum;
export const RoutingError = Mesh.Routing_Error;
export const Priority = Mesh.MeshPacket_Priority;

/** Payload of `Data` that firmware has room for. */
export const PAYLOAD_BYTES_MAX = 233;
/** A number of an enumeration that the published definitions may not have yet. */
export const unlisted = <E extends number>(value: number): E => value as E;
export type PortNumber = Mesh.Data["portnum"];

const SIGNATURE_FIELD = 10;
const SIGNED_FIELD = 22;

export const newPacket = (fields: Partial<Omit<Packet, "$typeName" | "$unknown">>): Packet =>
  Object.assign(create(Mesh.MeshPacketSchema), fields);

/** Of its own; bytes within are shared. */
export const copyOf = (packet: Packet, changes: Partial<Packet> = {}): Packet => ({
  ...packet,
  payloadVariant:
    packet.payloadVariant.case === "decoded"
      ? { case: "decoded", value: { ...packet.payloadVariant.value } }
      : packet.payloadVariant,
  ...changes,
});

export const dataOf = ({ payloadVariant }: Packet): Mesh.Data | undefined =>
  payloadVariant.case === "decoded" ? payloadVariant.value : undefined;
export const encryptedOf = ({ payloadVariant }: Packet): Uint8Array | undefined =>
  payloadVariant.case === "encrypted" ? payloadVariant.value : undefined;

export const isBroadcast = ({ to }: Packet): boolean => to === BROADCAST;
/** Undefined: its sender does not say where he started. */
export const hopsTaken = ({ hopStart, hopLimit }: Packet): number | undefined =>
  hopStart === 0 || hopLimit > hopStart ? undefined : hopStart - hopLimit;

export const encodeData = (data: Mesh.Data): Uint8Array => toBinary(Mesh.DataSchema, data);
/** Undefined: no message, or one of no port. */
export function decodeData(bytes: Uint8Array): Mesh.Data | undefined {
  try {
    const data = fromBinary(Mesh.DataSchema, bytes);
    return data.portnum === Port.UNKNOWN_APP ? undefined : data;
  } catch {
    return undefined;
  }
}

export const newData = (fields: Partial<Omit<Mesh.Data, "$typeName" | "$unknown">>): Mesh.Data =>
  Object.assign(create(Mesh.DataSchema), fields);

/** As it goes out; the packet has to be encrypted, and its channel is the hash. */
export const frameOf = (packet: Packet): Uint8Array =>
  encodeLoraFrame({
    to: packet.to,
    from: packet.from,
    id: packet.id,
    hopLimit: packet.hopLimit,
    wantAck: packet.wantAck,
    viaMqtt: packet.viaMqtt,
    hopStart: packet.hopStart,
    channelHash: packet.channel,
    nextHop: packet.nextHop,
    relayNode: packet.relayNode,
    encrypted: encryptedOf(packet)!,
  });

/** Undefined: no frame of Meshtastic. */
export function packetOf(bytes: Uint8Array): Packet | undefined {
  const frame = decodeLoraFrame(bytes);
  if (frame === undefined || frame.from === 0) return undefined;
  const { to, from, id, hopLimit, wantAck, viaMqtt, hopStart, channelHash, nextHop, relayNode } = frame;
  return newPacket({
    ...{ to, from, id, hopLimit, wantAck, viaMqtt, hopStart, nextHop, relayNode },
    channel: channelHash,
    payloadVariant: { case: "encrypted", value: frame.encrypted },
    transportMechanism: Mesh.MeshPacket_TransportMechanism.TRANSPORT_LORA,
  });
}

/** Whole frame around so much of `Data`, bytes. */
export const frameBytesOf = (packet: Packet): number =>
  HEADER_BYTES + (encryptedOf(packet)?.length ?? encodeData(dataOf(packet)!).length);

/** Of a signature with its tag and length. */
export const SIGNATURE_FIELD_BYTES = SIGNATURE_BYTES + 2;
export const signedFits = (data: Mesh.Data): boolean =>
  encodeData(data).length + SIGNATURE_FIELD_BYTES + HEADER_BYTES <= FRAME_BYTES_MAX;

export const signatureOf = (data: Mesh.Data): Uint8Array | undefined => bytesField(data, SIGNATURE_FIELD);
export function setSignature(data: Mesh.Data, signature: Uint8Array | undefined): void {
  dropField(data, SIGNATURE_FIELD);
  if (signature !== undefined) addBytes(data, SIGNATURE_FIELD, signature);
}
export const markSigned = (packet: Packet): void => addVarint(packet, SIGNED_FIELD, 1);

/** A field that the published definitions do not have yet. */
export function addVarint(message: Message, no: number, value: number): void {
  add(message, { no, wireType: WireType.Varint, data: new BinaryWriter().uint32(value).finish() });
}

export function addBytes(message: Message, no: number, bytes: Uint8Array): void {
  add(message, { no, wireType: WireType.LengthDelimited, data: new BinaryWriter().bytes(bytes).finish() });
}

export function bytesField(message: Message, no: number): Uint8Array | undefined {
  const field = message.$unknown?.findLast((it) => it.no === no && it.wireType === WireType.LengthDelimited);
  return field === undefined ? undefined : new BinaryReader(field.data).bytes();
}

function dropField(message: Message, no: number): void {
  if (message.$unknown !== undefined) message.$unknown = message.$unknown.filter((it) => it.no !== no);
}

function add(message: Message, field: UnknownField): void {
  message.$unknown = [...(message.$unknown ?? []), field];
}

/** Of a payload: undefined where it does not decode. */
export function decodeUser(bytes: Uint8Array): Mesh.User | undefined {
  try {
    return fromBinary(Mesh.UserSchema, bytes);
  } catch {
    return undefined;
  }
}
