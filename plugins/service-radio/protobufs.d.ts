/**
 * What is used of `@meshtastic/protobufs`: its own declarations name a file that it does not have, and that file exports names that it never declares. Field by
 * field as meshtastic/protobufs 2.7.18 has them; a field that is used and missing here does not compile.
 */
declare module "@meshtastic/protobufs" {
  import type { Message } from "@bufbuild/protobuf";
  import type { GenMessage } from "@bufbuild/protobuf/codegenv1";

  export namespace Mesh {
    type Data = Message<"meshtastic.Data"> & {
      portnum: number;
      payload: Uint8Array;
      wantResponse: boolean;
      dest: number;
      source: number;
      requestId: number;
      replyId: number;
      emoji: number;
      bitfield?: number;
    };
    type MeshPacket = Message<"meshtastic.MeshPacket"> & {
      from: number;
      to: number;
      channel: number;
      payloadVariant:
        | { case: "decoded"; value: Data }
        | { case: "encrypted"; value: Uint8Array }
        | { case: undefined; value?: undefined };
      id: number;
      rxTime: number;
      rxSnr: number;
      hopLimit: number;
      wantAck: boolean;
      priority: number;
      rxRssi: number;
      viaMqtt: boolean;
      hopStart: number;
      publicKey: Uint8Array;
      pkiEncrypted: boolean;
      nextHop: number;
      relayNode: number;
      transportMechanism: number;
    };
    type QueueStatus = Message<"meshtastic.QueueStatus"> & {
      res: number;
      free: number;
      maxlen: number;
      meshPacketId: number;
    };
    type MyNodeInfo = Message<"meshtastic.MyNodeInfo"> & {
      myNodeNum: number;
      rebootCount: number;
      minAppVersion: number;
      deviceId: Uint8Array;
      pioEnv: string;
      nodedbCount: number;
    };
    type User = Message<"meshtastic.User"> & {
      id: string;
      longName: string;
      shortName: string;
      macaddr: Uint8Array;
      hwModel: number;
      isLicensed: boolean;
      role: number;
      publicKey: Uint8Array;
      isUnmessagable?: boolean;
    };
    type NodeInfo = Message<"meshtastic.NodeInfo"> & {
      num: number;
      user?: User;
      snr: number;
      lastHeard: number;
      deviceMetrics?: Telemetry.DeviceMetrics;
      channel: number;
      viaMqtt: boolean;
      hopsAway?: number;
      isFavorite: boolean;
    };
    type DeviceMetadata = Message<"meshtastic.DeviceMetadata"> & {
      firmwareVersion: string;
      deviceStateVersion: number;
      role: number;
      hwModel: number;
      hasPKC: boolean;
    };
    type Heartbeat = Message<"meshtastic.Heartbeat"> & { nonce: number };
    type Routing = Message<"meshtastic.Routing"> & {
      variant:
        | { case: "routeRequest"; value: Message }
        | { case: "routeReply"; value: Message }
        | { case: "errorReason"; value: number }
        | { case: undefined; value?: undefined };
    };
    type FromRadio = Message<"meshtastic.FromRadio"> & {
      id: number;
      payloadVariant:
        | { case: "packet"; value: MeshPacket }
        | { case: "myInfo"; value: MyNodeInfo }
        | { case: "nodeInfo"; value: NodeInfo }
        | { case: "config"; value: Config.Config }
        | { case: "configCompleteId"; value: number }
        | { case: "rebooted"; value: boolean }
        | { case: "channel"; value: Channel.Channel }
        | { case: "queueStatus"; value: QueueStatus }
        | { case: "metadata"; value: DeviceMetadata }
        | {
            case:
              | "logRecord"
              | "moduleConfig"
              | "xmodemPacket"
              | "mqttClientProxyMessage"
              | "fileInfo"
              | "clientNotification"
              | "deviceuiConfig";
            value: Message;
          }
        | { case: undefined; value?: undefined };
    };
    type ToRadio = Message<"meshtastic.ToRadio"> & {
      payloadVariant:
        | { case: "packet"; value: MeshPacket }
        | { case: "wantConfigId"; value: number }
        | { case: "disconnect"; value: boolean }
        | { case: "heartbeat"; value: Heartbeat }
        | { case: undefined; value?: undefined };
    };
    const DataSchema: GenMessage<Data>;
    const MeshPacketSchema: GenMessage<MeshPacket>;
    const QueueStatusSchema: GenMessage<QueueStatus>;
    const MyNodeInfoSchema: GenMessage<MyNodeInfo>;
    const UserSchema: GenMessage<User>;
    const NodeInfoSchema: GenMessage<NodeInfo>;
    const DeviceMetadataSchema: GenMessage<DeviceMetadata>;
    const HeartbeatSchema: GenMessage<Heartbeat>;
    const RoutingSchema: GenMessage<Routing>;
    const FromRadioSchema: GenMessage<FromRadio>;
    const ToRadioSchema: GenMessage<ToRadio>;
  }

  export namespace Channel {
    type ChannelSettings = Message<"meshtastic.ChannelSettings"> & {
      psk: Uint8Array;
      name: string;
      id: number;
      uplinkEnabled: boolean;
      downlinkEnabled: boolean;
    };
    type Channel = Message<"meshtastic.Channel"> & {
      index: number;
      settings?: ChannelSettings;
      role: number;
    };
    const ChannelSettingsSchema: GenMessage<ChannelSettings>;
    const ChannelSchema: GenMessage<Channel>;
    const Channel_Role: { readonly DISABLED: 0; readonly PRIMARY: 1; readonly SECONDARY: 2 };
  }

  export namespace Config {
    type Config_LoRaConfig = Message<"meshtastic.Config.LoRaConfig"> & {
      usePreset: boolean;
      modemPreset: number;
      bandwidth: number;
      spreadFactor: number;
      codingRate: number;
      frequencyOffset: number;
      region: number;
      hopLimit: number;
      txEnabled: boolean;
      txPower: number;
      channelNum: number;
      overrideDutyCycle: boolean;
      overrideFrequency: number;
    };
    type Config = Message<"meshtastic.Config"> & {
      payloadVariant:
        | { case: "lora"; value: Config_LoRaConfig }
        | {
            case:
              | "device"
              | "position"
              | "power"
              | "network"
              | "display"
              | "bluetooth"
              | "security"
              | "sessionkey"
              | "deviceUi";
            value: Message;
          }
        | { case: undefined; value?: undefined };
    };
    const ConfigSchema: GenMessage<Config>;
    const Config_LoRaConfigSchema: GenMessage<Config_LoRaConfig>;
  }

  export namespace Telemetry {
    type DeviceMetrics = Message<"meshtastic.DeviceMetrics"> & {
      batteryLevel?: number;
      voltage?: number;
      channelUtilization?: number;
      airUtilTx?: number;
      uptimeSeconds?: number;
    };
    type Telemetry = Message<"meshtastic.Telemetry"> & {
      time: number;
      variant:
        | { case: "deviceMetrics"; value: DeviceMetrics }
        | { case: "localStats" | "environmentMetrics"; value: Message }
        | { case: undefined; value?: undefined };
    };
    const TelemetrySchema: GenMessage<Telemetry>;
    const DeviceMetricsSchema: GenMessage<DeviceMetrics>;
  }
}
