/**
 * Messages between a client and a radio, over the official definitions. Owns reading what comes without ever throwing, and what of newer firmware
 * is not in the definitions yet; unknown fields of a packet stay in it. Nothing here is believed: callers judge.
 */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Mesh, Mqtt, Telemetry } from "@meshtastic/protobufs";

export type FromRadio = Mesh.FromRadio;
export type MeshPacket = Mesh.MeshPacket;
export type Data = Mesh.Data;

/** `FromRadio.lockdown_status` and `LockdownStatus.state` of 2.8. */
const LOCKDOWN_FIELD = 18;
/** Numbers of fields that may exist. What has others is noise that happens to be a message. */
const FIELDS_MAX = 32;
/** `DeviceMetadata.has_xeddsa` of 2.8. */
const SIGNS_FIELD = 14;
const VARINT = 0;
const BYTES = 2;

interface Unknown {
  readonly no: number;
  readonly wireType: number;
  readonly data: Uint8Array;
}

/** Undefined: no such message. */
export const decodeFromRadio = (body: Uint8Array): FromRadio | undefined => known(Mesh.FromRadioSchema, body);

/** Undefined: nothing that a packet is. The bytes stay the caller's. */
export const decodePacket = (bytes: Uint8Array): MeshPacket | undefined =>
  tryRead(() => fromBinary(Mesh.MeshPacketSchema, bytes));

/** What gateways publish: a packet, and who they are. */
export const decodeEnvelope = (bytes: Uint8Array): Mqtt.ServiceEnvelope | undefined =>
  tryRead(() => fromBinary(Mqtt.ServiceEnvelopeSchema, bytes));

/** What is unknown there stays in it. */
export const decodeData = (bytes: Uint8Array): Data | undefined => known(Mesh.DataSchema, bytes);

export const decodeRouting = (bytes: Uint8Array): Mesh.Routing | undefined =>
  tryRead(() => fromBinary(Mesh.RoutingSchema, bytes));

export const decodeTelemetry = (bytes: Uint8Array): Telemetry.Telemetry | undefined =>
  tryRead(() => fromBinary(Telemetry.TelemetrySchema, bytes));

export const decodeUser = (bytes: Uint8Array): Mesh.User | undefined =>
  tryRead(() => fromBinary(Mesh.UserSchema, bytes));

/** How a packet that did not come by one's own radio came. */
export const MECHANISM = {
  mqtt: Mesh.MeshPacket_TransportMechanism.TRANSPORT_MQTT,
  udp: Mesh.MeshPacket_TransportMechanism.TRANSPORT_MULTICAST_UDP,
} as const;

export const encodePacket = (packet: MeshPacket): Uint8Array => toBinary(Mesh.MeshPacketSchema, packet);

function known<T extends DescMessage>(schema: T, bytes: Uint8Array): MessageShape<T> | undefined {
  const message = tryRead(() => fromBinary(schema, bytes));
  const unknown: readonly Unknown[] = message?.$unknown ?? [];
  return unknown.some(({ no }) => no > FIELDS_MAX) ? undefined : message;
}

function tryRead<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export type Lockdown = "unprovisioned" | "locked" | "unlocked";

/** What a device of 2.8 says of being locked; undefined: nothing. */
export function lockdownOf({ $unknown }: FromRadio): Lockdown | undefined {
  const field = ($unknown as readonly Unknown[] | undefined)?.find(
    ({ no, wireType }) => no === LOCKDOWN_FIELD && wireType === BYTES,
  );
  if (field === undefined) return undefined;
  // The length, then the message: tag 08 and the state, which is 0 where nothing stands.
  const body = field.data.subarray(1);
  const state = body[0] === 0x08 ? body[1] : 0;
  return state === 3 ? "unlocked" : state === 1 ? "unprovisioned" : "locked";
}

/** Its firmware signs what it sends to all. */
export const hasSignatures = ({ $unknown }: Mesh.DeviceMetadata): boolean =>
  ($unknown as readonly Unknown[] | undefined)?.some(
    ({ no, wireType, data }) => no === SIGNS_FIELD && wireType === VARINT && data[0] === 1,
  ) === true;

const toRadio = (payloadVariant: Mesh.ToRadio["payloadVariant"]): Uint8Array =>
  toBinary(Mesh.ToRadioSchema, create(Mesh.ToRadioSchema, { payloadVariant }));

export const encodeWantConfig = (nonce: number): Uint8Array =>
  toRadio({ case: "wantConfigId", value: nonce });

/** Without a nonce: 1 would make the device tell everybody of itself. */
export const encodeHeartbeat = (): Uint8Array =>
  toRadio({ case: "heartbeat", value: create(Mesh.HeartbeatSchema, {}) });

export const encodeDisconnect = (): Uint8Array => toRadio({ case: "disconnect", value: true });

export interface Outgoing {
  readonly id: number;
  readonly to: number;
  /** Index of the channel in the device. */
  readonly channel: number;
  readonly port: number;
  readonly payload: Uint8Array;
  readonly hopLimit: number;
  readonly wantAck: boolean;
}

export const encodeSend = ({ id, to, channel, port, payload, hopLimit, wantAck }: Outgoing): Uint8Array =>
  toRadio({
    case: "packet",
    value: create(Mesh.MeshPacketSchema, {
      id,
      to,
      channel,
      hopLimit,
      wantAck,
      payloadVariant: {
        case: "decoded",
        value: Object.assign(create(Mesh.DataSchema, { payload }), { portnum: port }),
      },
    }),
  });
