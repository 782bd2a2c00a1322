/** Presets and regions of Meshtastic: their numbers and names in the protocol, and what they allow on the air. */
import { PREAMBLE_SYMBOLS } from "../../plugins/service-radio/lora.ts";
import { presets as modems, symbolMs, type Lora } from "../sim/radio/lora.ts";

export type PresetName = keyof typeof modems;

export interface Preset {
  /** Config.LoRaConfig.ModemPreset; those above 9 are newer than the published definitions. */
  readonly number: number;
  /** What a channel without a name is called, which is in its hash. */
  readonly channelName: string;
  readonly lora: Lora;
}

const preset = (name: PresetName, number: number, channelName: string): Preset => ({
  number,
  channelName,
  lora: modems[name],
});

export const presets: Readonly<Record<PresetName, Preset>> = {
  longFast: preset("longFast", 0, "LongFast"),
  longSlow: preset("longSlow", 1, "LongSlow"),
  mediumSlow: preset("mediumSlow", 3, "MediumSlow"),
  mediumFast: preset("mediumFast", 4, "MediumFast"),
  shortSlow: preset("shortSlow", 5, "ShortSlow"),
  shortFast: preset("shortFast", 6, "ShortFast"),
  longModerate: preset("longModerate", 7, "LongMod"),
  shortTurbo: preset("shortTurbo", 8, "ShortTurbo"),
  longTurbo: preset("longTurbo", 9, "LongTurbo"),
  liteFast: preset("liteFast", 10, "LiteFast"),
  liteSlow: preset("liteSlow", 11, "LiteSlow"),
  narrowFast: preset("narrowFast", 12, "NarrowFast"),
  narrowSlow: preset("narrowSlow", 13, "NarrowSlow"),
  mediumTurbo: preset("mediumTurbo", 16, "MediumTurbo"),
};

export interface Region {
  /** Config.LoRaConfig.RegionCode. */
  readonly number: number;
  /** Of an hour, 0 to 1. */
  readonly dutyCycle: number;
  readonly presets: "standard" | "eu868" | "lite" | "narrow" | "none";
}

export const regions = {
  UNSET: { number: 0, dutyCycle: 1, presets: "none" },
  US: { number: 1, dutyCycle: 1, presets: "standard" },
  EU_433: { number: 2, dutyCycle: 0.1, presets: "standard" },
  EU_868: { number: 3, dutyCycle: 0.1, presets: "eu868" },
  TH: { number: 12, dutyCycle: 0.1, presets: "standard" },
  UA_433: { number: 14, dutyCycle: 0.1, presets: "standard" },
  EU_866: { number: 29, dutyCycle: 0.025, presets: "lite" },
  EU_N_868: { number: 32, dutyCycle: 0.1, presets: "narrow" },
} as const satisfies Readonly<Record<string, Region>>;
export type RegionName = keyof typeof regions;

/** Presets by their numbers that a profile of regions allows, the default first. */
export const profiles: Readonly<Record<Region["presets"], readonly number[]>> = {
  standard: [0, 1, 3, 4, 5, 6, 7, 8, 9, 16],
  eu868: [0, 1, 3, 4, 5, 6, 7],
  lite: [10, 11],
  narrow: [13, 12],
  none: [0],
};

/** What a spreading factor needs above the noise, dB: its datasheet's limit of demodulation. */
const SNR_LIMIT_DB: Readonly<Record<number, number>> = {
  7: -7.5,
  8: -10,
  9: -12.5,
  10: -15,
  11: -17.5,
  12: -20,
};
/** What chips of this family tell at most, however near the sender is. */
const SNR_MAX_DB = 12;
const NOISE_FIGURE_DB = 6;

export const snrLimitDb = ({ spreadingFactor }: Lora): number => SNR_LIMIT_DB[spreadingFactor]!;
const noiseDbm = ({ bandwidthHz }: Lora): number => -174 + 10 * Math.log10(bandwidthHz) + NOISE_FIGURE_DB;
/** What a radio tells of a frame that it heard so many dB above what it needs: in quarters of a dB, and whole dBm. */
export const snrOf = (lora: Lora, dB: number): number =>
  Math.round(4 * Math.min(SNR_MAX_DB, snrLimitDb(lora) + dB)) / 4;
export const rssiOf = (lora: Lora, dB: number): number => Math.round(noiseDbm(lora) + snrLimitDb(lora) + dB);

const TX_DBM = 20;
/** At one metre and 868 MHz, and how fast it gets worse over rolling ground with the antenna low. */
const LOSS_AT_METRE_DB = 31.2;
const LOSS_EXPONENT = 3.3;
/** dB above what is needed over so many metres; negative: nothing is heard. */
export const strengthAtDb = (lora: Lora, metres: number): number =>
  TX_DBM -
  LOSS_AT_METRE_DB -
  10 * LOSS_EXPONENT * Math.log10(Math.max(1, metres)) -
  noiseDbm(lora) -
  snrLimitDb(lora);

/** Slots that a station waits in, two to the power of so many: between the faintest and the loudest frame, or an idle and a full channel. */
export const CW_MIN = 3;
export const CW_MAX = 8;
/** Between reading a frame and what follows from it, in the firmware's timer of repeats, ms. */
export const PROCESSING_MS = 4_500;
/** As Arduino's `map` on whole numbers. */
const scaled = (value: number, from: number, to: number): number =>
  CW_MIN + Math.trunc((Math.trunc(value - from) * (CW_MAX - CW_MIN)) / (to - from));
export const windowOfUtilisation = (percent: number): number => scaled(percent, 0, 100);
export const windowOfSnr = (snr: number): number => Math.max(0, scaled(snr, -20, 10));

export const preambleMs = (lora: Lora): number => PREAMBLE_SYMBOLS * symbolMs(lora);
