/**
 * What a radio has said of itself, as plain data: what a handshake collects, and what users of the session and people are shown of it. Holds no key of a
 * channel beyond the moment in which its hash is made.
 */
import { Channel, Config, Mesh } from "@meshtastic/protobufs";
import { frameMs } from "./lora.ts";
import { channelHash, isPublicPsk, numberOfKey } from "./names.ts";
import {
  type Additions,
  isAmateurRegion,
  type Modem,
  modemOf,
  packetBytes,
  PAYLOAD_BYTES_MAX,
  type Region,
  regionOf,
} from "./modem.ts";
import { hasSignatures } from "./protocol.ts";

/** The words of a radio that stand in table, log and API are cut off here, characters. */
const WORDS_MAX = 40;
/** A number beyond which a port takes three bytes; costs are those of a private one. */
const PRIVATE_PORT = 256;

export interface RadioChannel {
  readonly index: number;
  /** As people see it: a channel without a name has that of the preset. */
  readonly name: string;
  readonly hash: number;
  /** Everybody has its key, or it has none. */
  readonly isPublic: boolean;
  /** Two radios that hear each other on it have the same: 4 hex digits of frequency, modulation and hash. */
  readonly tag: string;
}

export interface RadioFacts {
  readonly number: number;
  readonly longName: string;
  readonly shortName: string;
  readonly firmware: string;
  /** As the definitions call it: HELTEC_V3. */
  readonly board: string;
  /** CLIENT, ROUTER and so on. */
  readonly role: string;
  readonly isLicensed: boolean;
  readonly additions: Additions;
  readonly modem: Modem | undefined;
  readonly region: Region | undefined;
  readonly regionCode: number;
  readonly isTxEnabled: boolean;
  readonly channels: readonly RadioChannel[];
}

/** What a handshake has brought so far. */
export class Draft {
  my: Mesh.MyNodeInfo | undefined;
  self: Mesh.NodeInfo | undefined;
  metadata: Mesh.DeviceMetadata | undefined;
  lora: Config.Config_LoRaConfig | undefined;
  readonly channels = new Map<number, Channel.Channel>();

  /** A word that completes "the radio did not say"; undefined: all is there. */
  get lacks(): string | undefined {
    if (this.my === undefined || this.my.myNodeNum === 0) return "its number";
    if (this.metadata === undefined) return "which firmware it has";
    if (this.lora === undefined) return "how it sends";
    if (this.self?.user === undefined) return "whom it belongs to";
    return undefined;
  }

  /** Of a draft that lacks nothing. */
  facts(): RadioFacts {
    const { my, self, metadata, lora } = this;
    const user = self!.user!;
    const modem = modemOf(lora!);
    return {
      number: my!.myNodeNum,
      longName: words(user.longName),
      shortName: words(user.shortName),
      firmware: words(metadata!.firmwareVersion),
      board: Mesh.HardwareModel[metadata!.hwModel] ?? `number ${metadata!.hwModel}`,
      role: Config.Config_DeviceConfig_Role[metadata!.role] ?? `number ${metadata!.role}`,
      isLicensed: user.isLicensed || isAmateurRegion(lora!.region),
      additions: { hasSignatures: hasSignatures(metadata!), hasPkc: metadata!.hasPKC },
      modem,
      region: regionOf(lora!.region),
      regionCode: lora!.region,
      isTxEnabled: lora!.txEnabled,
      channels: modem === undefined ? [] : channelsOf([...this.channels.values()], modem, lora!),
    };
  }
}

/** Without what would move a terminal. */
export const words = (text: string): string => text.replace(/[\p{Cc}\p{Cf}]/gu, "").slice(0, WORDS_MAX);

function channelsOf(
  channels: readonly Channel.Channel[],
  modem: Modem,
  lora: Config.Config_LoRaConfig,
): RadioChannel[] {
  const nameOf = (channel: Channel.Channel) => channel.settings?.name || modem.name;
  const primary = channels.find(({ role }) => role === Channel.Channel_Role.PRIMARY);
  // Without a slot of its own the frequency follows from the name of the primary channel.
  const frequency =
    lora.overrideFrequency > 0
      ? `${lora.overrideFrequency}`
      : `${lora.region} ${lora.channelNum || (primary === undefined ? "" : nameOf(primary))}`;
  return channels
    .filter(({ role, settings }) => role !== Channel.Channel_Role.DISABLED && settings !== undefined)
    .map((channel) => {
      const psk = channel.settings!.psk;
      const hash = channelHash(nameOf(channel), psk);
      const air = `${modem.spreadingFactor} ${modem.bandwidthHz} ${frequency} ${hash}`;
      return {
        index: channel.index,
        name: words(nameOf(channel)),
        hash,
        isPublic: isPublicPsk(psk),
        tag: (Bun.hash.crc32(air) & 0xffff).toString(16).padStart(4, "0"),
      };
    });
}

/** Milliseconds on the air by bytes of payload, 0 to 233, on a private port. */
export function costsOf({ modem, additions }: RadioFacts, to: "one" | "all"): number[] {
  if (modem === undefined) return [];
  return Array.from({ length: PAYLOAD_BYTES_MAX + 1 }, (_, bytes) =>
    Math.round(frameMs(modem, packetBytes(bytes, PRIVATE_PORT, to, additions))),
  );
}

/** Why this radio may not send what is sealed; undefined: it may. */
export function whySilent(facts: RadioFacts): string | undefined {
  if (facts.isLicensed) return "the radio is in licensed (amateur) mode, where nothing encrypted may be sent";
  if (facts.regionCode === 0) return "the radio has no region yet: set the one you are in";
  if (facts.region === undefined) return `the rules of region ${facts.regionCode} are not known here`;
  if (!facts.isTxEnabled) return "sending is switched off in the radio";
  if (facts.modem === undefined) return "the radio has a preset that is not known here";
  if (facts.channels.length === 0) return "the radio has no channel";
  return undefined;
}

export const idOf = (number: number): string => `!${number.toString(16).padStart(8, "0")}`;

/** Of a node: whether its number is that of its key, which 2.8 does and an earlier one did not. */
export const numberProof = (number: number, publicKey: Uint8Array): "key" | "other" | "unknown" =>
  publicKey.length !== 32 ? "unknown" : numberOfKey(publicKey) === number ? "key" : "other";
