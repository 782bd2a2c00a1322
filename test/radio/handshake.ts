/** What a radio tells a client that asks for its configuration, in the firmware's order, and the cached packets that 2.8 sends after it. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { Channel, Config, Mesh, Telemetry } from "@meshtastic/protobufs";
import { BROADCAST } from "./lora-frame.ts";
import type { KnownNode } from "./nodes.ts";
import { addBytes, newData, newPacket, Port } from "./packet.ts";
import type { PhoneOptions } from "./phone.ts";
import { profiles, regions } from "./plan.ts";

const ONLY_CONFIG = 69_420;
const ONLY_NODES = 69_421;
const LOCKDOWN_STATUS = 18;
const REGION_PRESETS = 19;
/** FromRadio with field 17 of no bytes. */
const EMPTY_UI_CONFIG = Uint8Array.of(0x8a, 0x01, 0x00);
export const LockdownState = { locked: 2, unlocked: 3, unlockFailed: 4 } as const;

export type FromRadio = Mesh.FromRadio["payloadVariant"];

export const encode = (payloadVariant: FromRadio): Uint8Array =>
  toBinary(Mesh.FromRadioSchema, Object.assign(create(Mesh.FromRadioSchema), { payloadVariant }));

export function* handshake(
  options: PhoneOptions,
  nonce: number,
  isOpen: boolean,
): Generator<Uint8Array, undefined> {
  const { settings, behaviour, metadata, nodes, number, rebootCount } = options;
  const is28 = behaviour().handshake === "2.8";
  if (nonce !== ONLY_NODES) {
    const myInfo = create(Mesh.MyNodeInfoSchema, {
      myNodeNum: number(),
      rebootCount: rebootCount(),
      nodedbCount: nodes.size,
      ...(isOpen ? { minAppVersion: 30_200, pioEnv: "heltec-v3", deviceId: deviceIdOf(number()) } : {}),
    });
    yield encode({ case: "myInfo", value: myInfo });
    yield encode({
      case: "deviceuiConfig",
      value: newUiConfig(),
    });
  }
  yield encode({ case: "nodeInfo", value: ownInfo(options) });
  if (nonce !== ONLY_NODES) {
    yield encode({ case: "metadata", value: isOpen ? metadata() : create(Mesh.DeviceMetadataSchema) });
    if (is28) yield regionPresets();
    for (const value of settings.channels)
      yield encode({ case: "channel", value: isOpen ? value : create(Channel.ChannelSchema) });
    for (const value of settings.configs)
      yield encode({ case: "config", value: isOpen ? value : redacted(value) });
    for (const value of settings.modules) yield encode({ case: "moduleConfig", value });
  }
  if (nonce !== ONLY_CONFIG && isOpen)
    for (const { num } of nodes.all)
      if (num !== number()) yield encode({ case: "nodeInfo", value: infoOf(nodes.get(num)!, !is28) });
  if (nonce !== ONLY_NODES)
    for (const fileName of ["/prefs/config.proto", "/prefs/channels.proto"])
      yield encode({ case: "fileInfo", value: create(Mesh.FileInfoSchema, { fileName, sizeBytes: 128 }) });
  yield encode({ case: "configCompleteId", value: nonce });
  if (!isOpen) yield lockdown(LockdownState.locked, "needs_auth");
  if (is28 && isOpen && nonce !== ONLY_CONFIG) yield* replay(options);
  return undefined;
}

function ownInfo({ number, user, position, metrics, wallSeconds }: PhoneOptions): Mesh.NodeInfo {
  const told = position();
  return create(Mesh.NodeInfoSchema, {
    num: number(),
    user: user(),
    lastHeard: wallSeconds(),
    isFavorite: true,
    deviceMetrics: metrics(),
    ...(told === undefined ? {} : { position: told }),
  });
}

function infoOf(node: KnownNode, isWhole: boolean): Mesh.NodeInfo {
  const { num, user, snr, lastHeard, hopsAway, viaMqtt, channel, isFavorite, position, metrics } = node;
  return create(Mesh.NodeInfoSchema, {
    ...{ num, snr, lastHeard, viaMqtt, channel, isFavorite },
    ...(user === undefined ? {} : { user }),
    ...(hopsAway === undefined ? {} : { hopsAway }),
    ...(isWhole && position !== undefined ? { position } : {}),
    ...(isWhole && metrics !== undefined ? { deviceMetrics: metrics } : {}),
  });
}

/** What was heard before, as packets that look as if they came now. */
function* replay({ nodes, settings }: PhoneOptions): Generator<Uint8Array, void> {
  const { hopLimit } = settings.lora;
  for (const { num, position, metrics, lastHeard, hopsAway = 0, channel } of nodes.all) {
    const said = [
      ...(position === undefined
        ? []
        : [[Port.POSITION_APP, toBinary(Mesh.PositionSchema, position)] as const]),
      ...(metrics === undefined
        ? []
        : [
            [
              Port.TELEMETRY_APP,
              toBinary(
                Telemetry.TelemetrySchema,
                create(Telemetry.TelemetrySchema, {
                  time: lastHeard,
                  variant: { case: "deviceMetrics", value: metrics },
                }),
              ),
            ] as const,
          ]),
    ];
    for (const [portnum, payload] of said)
      yield encode({
        case: "packet",
        value: newPacket({
          from: num,
          to: BROADCAST,
          id: (Math.imul(num, 2_654_435_761) + lastHeard + portnum) >>> 0 || 1,
          channel,
          rxTime: lastHeard,
          hopStart: hopLimit,
          hopLimit: Math.max(0, hopLimit - hopsAway),
          payloadVariant: { case: "decoded", value: newData({ portnum, payload }) },
        }),
      });
  }
}

/** Its definition is not exported. */
function newUiConfig(): Extract<FromRadio, { case: "deviceuiConfig" }>["value"] {
  const { payloadVariant } = fromBinary(Mesh.FromRadioSchema, EMPTY_UI_CONFIG);
  if (payloadVariant.case !== "deviceuiConfig") throw new Error("the definitions have changed");
  return payloadVariant.value;
}

const deviceIdOf = (number: number): Uint8Array =>
  Uint8Array.from({ length: 16 }, (_, at) => (number >>> (8 * (at % 4))) & 0xff);

export function lockdown(state: number, reason: string): Uint8Array {
  const status = new BinaryWriter().uint32(0x08).uint32(state);
  if (reason !== "") status.uint32(0x12).string(reason);
  return withBytes(LOCKDOWN_STATUS, status.finish());
}

/** LoRaRegionPresetMap: groups of presets, and which of them a region has. */
function regionPresets(): Uint8Array {
  const names = Object.keys(profiles) as (keyof typeof profiles)[];
  const map = new BinaryWriter();
  for (const name of names) {
    const group = new BinaryWriter();
    const numbers = profiles[name];
    const packed = new BinaryWriter();
    for (const number of numbers) packed.uint32(number);
    group.uint32(0x0a).bytes(packed.finish()).uint32(0x10).uint32(numbers[0]!);
    map.uint32(0x0a).bytes(group.finish());
  }
  for (const { number, presets } of Object.values(regions)) {
    const region = new BinaryWriter().uint32(0x08).uint32(number).uint32(0x10).uint32(names.indexOf(presets));
    map.uint32(0x12).bytes(region.finish());
  }
  return withBytes(REGION_PRESETS, map.finish());
}

function withBytes(no: number, bytes: Uint8Array): Uint8Array {
  const message = create(Mesh.FromRadioSchema);
  addBytes(message, no, bytes);
  return toBinary(Mesh.FromRadioSchema, message);
}

/** What may be told of a setting to who has not unlocked the radio. */
function redacted(config: Config.Config): Config.Config {
  const { payloadVariant: it } = config;
  if (it.case === "lora") {
    const { usePreset, modemPreset, region, channelNum, hopLimit } = it.value;
    const value = { usePreset, modemPreset, region, channelNum, hopLimit };
    return create(Config.ConfigSchema, { payloadVariant: { case: "lora", value } });
  }
  if (it.case === "security" || it.case === "network")
    return create(Config.ConfigSchema, { payloadVariant: { case: it.case, value: {} } });
  return config;
}
