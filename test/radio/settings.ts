/** What a radio is set to, as its clients see and change it: configuration, modules, channels, owner. Kept over a reboot. */
import { create } from "@bufbuild/protobuf";
import { Channel, Config, Mesh, ModuleConfig } from "@meshtastic/protobufs";
import type { Role } from "./router.ts";
import { DEFAULT_PSK, type KeyPair } from "./keys.ts";
import { unlisted } from "./packet.ts";
import { presets, regions, type PresetName, type RegionName } from "./plan.ts";
import { CHANNELS_MAX } from "./sealing.ts";

export interface ChannelOptions {
  /** Empty: that of the preset. */
  readonly name: string;
  /** Nothing, one byte for a well-known one, 16 or 32 bytes. */
  readonly psk: Uint8Array;
}

export interface SettingsOptions {
  readonly preset: PresetName;
  readonly region: RegionName;
  readonly role: Role;
  readonly hopLimit: number;
  readonly channels: readonly ChannelOptions[];
  readonly keys: KeyPair;
  readonly okToMqtt: boolean;
}

const roles = {
  client: Config.Config_DeviceConfig_Role.CLIENT,
  clientMute: Config.Config_DeviceConfig_Role.CLIENT_MUTE,
  router: Config.Config_DeviceConfig_Role.ROUTER,
  routerLate: Config.Config_DeviceConfig_Role.ROUTER_LATE,
} as const satisfies Readonly<Record<Role, number>>;

const roleOf = new Map<number, Role>(Object.entries(roles).map(([name, number]) => [number, name as Role]));

/** Where they stand among all, which is their order in the handshake. */
const DEVICE_AT = 0;
const LORA_AT = 5;
const dutyCycleOf = new Map<number, number>(Object.values(regions).map((it) => [it.number, it.dutyCycle]));

export const defaultChannel: ChannelOptions = { name: "", psk: DEFAULT_PSK };

export class Settings {
  readonly configs: Config.Config[];
  readonly modules: ModuleConfig.ModuleConfig[];
  readonly channels: Channel.Channel[];

  constructor(options: SettingsOptions) {
    this.configs = newConfigs(options);
    this.modules = moduleCases.map((it) =>
      create(ModuleConfig.ModuleConfigSchema, { payloadVariant: { case: it, value: {} } }),
    );
    this.channels = Array.from({ length: CHANNELS_MAX }, (_, index) =>
      newChannel(index, options.channels[index]),
    );
  }

  get lora(): Config.Config_LoRaConfig {
    const { payloadVariant } = this.configs[LORA_AT]!;
    return payloadVariant.value as Config.Config_LoRaConfig;
  }

  /** Nothing goes out: its region is not chosen, or its owner switched that off. */
  get isMute(): boolean {
    const { region, txEnabled } = this.lora;
    return region === Config.Config_LoRaConfig_RegionCode.UNSET || !txEnabled;
  }

  get device(): Config.Config_DeviceConfig {
    const { payloadVariant } = this.configs[DEVICE_AT]!;
    return payloadVariant.value as Config.Config_DeviceConfig;
  }

  get role(): Role {
    return roleOf.get(this.device.role) ?? "client";
  }

  /** Of the region it is set to; one that is not known here has none. */
  get dutyCycle(): number {
    const { region, overrideDutyCycle } = this.lora;
    if (overrideDutyCycle) return 1;
    return dutyCycleOf.get(region) ?? 1;
  }

  setConfig(config: Config.Config): void {
    const at = this.configs.findIndex((it) => it.payloadVariant.case === config.payloadVariant.case);
    if (at >= 0) this.configs[at] = config;
  }

  setModule(config: ModuleConfig.ModuleConfig): void {
    const at = this.modules.findIndex((it) => it.payloadVariant.case === config.payloadVariant.case);
    if (at >= 0) this.modules[at] = config;
  }

  /** There is one primary one; out of range changes nothing. */
  setChannel(channel: Channel.Channel): void {
    if (channel.index < 0 || channel.index >= CHANNELS_MAX) return;
    const { PRIMARY, SECONDARY } = Channel.Channel_Role;
    if (channel.role === PRIMARY)
      for (const other of this.channels) if (other.role === PRIMARY) other.role = SECONDARY;
    this.channels[channel.index] = channel;
  }
}

function newConfigs({ preset, region, role, hopLimit, keys, okToMqtt }: SettingsOptions): Config.Config[] {
  const config = (payloadVariant: Config.Config["payloadVariant"]) =>
    Object.assign(create(Config.ConfigSchema), { payloadVariant });
  return [
    config({
      case: "device",
      value: create(Config.Config_DeviceConfigSchema, { role: roles[role], nodeInfoBroadcastSecs: 10_800 }),
    }),
    config({
      case: "position",
      value: create(Config.Config_PositionConfigSchema, { positionBroadcastSecs: 900 }),
    }),
    config({ case: "power", value: create(Config.Config_PowerConfigSchema, { lsSecs: 300 }) }),
    config({ case: "network", value: create(Config.Config_NetworkConfigSchema) }),
    config({ case: "display", value: create(Config.Config_DisplayConfigSchema) }),
    config({
      case: "lora",
      value: create(Config.Config_LoRaConfigSchema, {
        usePreset: true,
        modemPreset: unlisted<Config.Config_LoRaConfig_ModemPreset>(presets[preset].number),
        region: unlisted<Config.Config_LoRaConfig_RegionCode>(regions[region].number),
        hopLimit,
        txEnabled: true,
        txPower: 20,
        configOkToMqtt: okToMqtt,
      }),
    }),
    config({ case: "bluetooth", value: create(Config.Config_BluetoothConfigSchema) }),
    config({
      case: "security",
      value: create(Config.Config_SecurityConfigSchema, {
        publicKey: keys.publicKey,
        privateKey: keys.secretKey,
        serialEnabled: true,
      }),
    }),
    config({ case: "sessionkey", value: create(Config.Config_SessionkeyConfigSchema) }),
  ];
}

const moduleCases = [
  "mqtt",
  "serial",
  "externalNotification",
  "storeForward",
  "rangeTest",
  "telemetry",
  "cannedMessage",
  "audio",
  "remoteHardware",
  "neighborInfo",
  "ambientLighting",
  "detectionSensor",
  "paxcounter",
] as const;

function newChannel(index: number, options: ChannelOptions | undefined): Channel.Channel {
  const { PRIMARY, SECONDARY, DISABLED } = Channel.Channel_Role;
  if (options === undefined) return create(Channel.ChannelSchema, { index, role: DISABLED, settings: {} });
  const { name, psk } = options;
  return create(Channel.ChannelSchema, {
    index,
    role: index === 0 ? PRIMARY : SECONDARY,
    settings: { name, psk, moduleSettings: { positionPrecision: index === 0 ? 13 : 0 } },
  });
}

/** How others are told of it. */
export function newUser(
  number: number,
  names: { readonly longName: string; readonly shortName: string },
  mac: Uint8Array,
  publicKey: Uint8Array,
  isLicensed: boolean,
): Mesh.User {
  return create(Mesh.UserSchema, {
    id: `!${number.toString(16).padStart(8, "0")}`,
    ...names,
    macaddr: mac,
    hwModel: Mesh.HardwareModel.HELTEC_V3,
    publicKey: isLicensed ? new Uint8Array() : publicKey,
    isLicensed,
  });
}
