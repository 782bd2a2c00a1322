/**
 * What a radio's settings mean on the air: presets, regions, and what the firmware adds to a packet of ours. Pure. Sources:
 * Meshtastic's RadioInterface, MeshRadio and Router of 2.8.0 for presets, duty cycles and what is added to a packet; lora.ts has the time on air.
 */
import type { Modulation } from "./lora.ts";

export interface Modem extends Modulation {
  readonly name: string;
}

const modem = (name: string, spreadingFactor: number, bandwidthHz: number, codingRate: number): Modem => ({
  name,
  spreadingFactor,
  bandwidthHz,
  codingRate,
});

/** By the number of Config.LoRaConfig.ModemPreset; the name is the one of a channel without a name. */
export const PRESETS = {
  0: modem("LongFast", 11, 250_000, 5),
  1: modem("LongSlow", 12, 125_000, 8),
  3: modem("MediumSlow", 10, 250_000, 5),
  4: modem("MediumFast", 9, 250_000, 5),
  5: modem("ShortSlow", 8, 250_000, 5),
  6: modem("ShortFast", 7, 250_000, 5),
  7: modem("LongMod", 11, 125_000, 8),
  8: modem("ShortTurbo", 7, 500_000, 5),
  9: modem("LongTurbo", 11, 500_000, 8),
  10: modem("LiteFast", 9, 125_000, 5),
  11: modem("LiteSlow", 10, 125_000, 5),
  12: modem("NarrowFast", 7, 62_500, 6),
  13: modem("NarrowSlow", 8, 62_500, 6),
  16: modem("MediumTurbo", 9, 500_000, 5),
} as const satisfies Readonly<Record<number, Modem>>;

/** Undefined: one that is not known here. */
export const presetOf = (number: number): Modem | undefined =>
  (PRESETS as Readonly<Record<number, Modem>>)[number];

/** By its name or that of the definitions: LongFast, LONG_FAST, in any case. Undefined: none is called so. */
export const presetNumber = (name: string): number | undefined => numberOf(PRESETS, name);

export const presetNames = (): string[] => Object.values(PRESETS).map(({ name }) => name);

export interface Region {
  readonly name: string;
  /** Share of any hour that a station may send, 0 to 1. */
  readonly dutyCycle: number;
}

const region = (name: string, dutyCycle = 1): Region => ({ name, dutyCycle });

/** By the number of Config.LoRaConfig.RegionCode. 0, unset, is none. */
const REGIONS: Readonly<Record<number, Region>> = {
  1: region("US"),
  2: region("EU_433", 0.1),
  3: region("EU_868", 0.1),
  4: region("CN"),
  5: region("JP"),
  6: region("ANZ"),
  7: region("KR"),
  8: region("TW"),
  9: region("RU"),
  10: region("IN"),
  11: region("NZ_865"),
  12: region("TH", 0.1),
  13: region("LORA_24"),
  14: region("UA_433", 0.1),
  15: region("UA_868", 0.01),
  16: region("MY_433"),
  17: region("MY_919"),
  18: region("SG_923"),
  19: region("PH_433"),
  20: region("PH_868"),
  21: region("PH_915"),
  22: region("ANZ_433"),
  23: region("KZ_433"),
  24: region("KZ_863"),
  25: region("NP_865"),
  26: region("BR_902"),
  29: region("EU_866", 0.025),
  32: region("EU_N_868", 0.1),
};

/** Undefined: none is called so, or its rules are not known here. */
export const regionNumber = (name: string): number | undefined => numberOf(REGIONS, name);

export const regionNames = (): string[] => Object.values(REGIONS).map(({ name }) => name);

function numberOf(
  rows: Readonly<Record<number, { readonly name: string }>>,
  name: string,
): number | undefined {
  const plain = (text: string) => text.replaceAll(/[_ -]/g, "").toLowerCase();
  const found = Object.entries(rows).find(([, row]) => plain(row.name) === plain(name));
  return found === undefined ? undefined : Number(found[0]);
}

/** Region of 2.4 GHz, where a preset has another bandwidth by the same name. */
const LORA_24 = 13;
const WIDE_HZ: Readonly<Record<number, number>> = {
  500_000: 1_625_000,
  250_000: 812_500,
  125_000: 406_250,
  62_500: 203_125,
};
/** Bands of amateurs, which have numbers of their own since 2.8: nothing sealed there. */
const AMATEUR_REGIONS: ReadonlySet<number> = new Set([27, 28, 33, 34, 35, 36, 37]);

export const isAmateurRegion = (code: number): boolean => AMATEUR_REGIONS.has(code);

/** Undefined: unset, or one whose rules are not known here. */
export const regionOf = (code: number): Region | undefined => REGIONS[code];

/** What of a radio's settings is on the air. */
export interface LoraSettings {
  readonly usePreset: boolean;
  readonly modemPreset: number;
  /** kHz as the firmware writes it: 31, 62, 200, 400, 800 and 1600 stand for what a chip really has. */
  readonly bandwidth: number;
  readonly spreadFactor: number;
  readonly codingRate: number;
  readonly region: number;
}

const ODD_BANDWIDTHS_HZ: Readonly<Record<number, number>> = {
  31: 31_250,
  62: 62_500,
  200: 203_125,
  400: 406_250,
  800: 812_500,
  1600: 1_625_000,
};

/** Undefined: a preset that is not known here, or settings that no chip has. */
export function modemOf(settings: LoraSettings): Modem | undefined {
  if (settings.usePreset) {
    const preset = (PRESETS as Readonly<Record<number, Modem>>)[settings.modemPreset];
    const isWide = settings.region === LORA_24;
    return preset && { ...preset, bandwidthHz: isWide ? WIDE_HZ[preset.bandwidthHz]! : preset.bandwidthHz };
  }
  const { bandwidth, spreadFactor, codingRate } = settings;
  const bandwidthHz = ODD_BANDWIDTHS_HZ[bandwidth] ?? bandwidth * 1_000;
  const isSane =
    bandwidthHz >= 7_800 &&
    bandwidthHz <= 1_625_000 &&
    spreadFactor >= 7 &&
    spreadFactor <= 12 &&
    codingRate >= 5 &&
    codingRate <= 8;
  return isSane ? modem("Custom", spreadFactor, bandwidthHz, codingRate) : undefined;
}

export const FRAME_BYTES_MAX = 255;
export const HEADER_BYTES = 16;
/** Largest `Data.payload`. */
export const PAYLOAD_BYTES_MAX = 233;
/** XEdDSA since 2.8: 64 bytes, tag and length. */
const SIGNATURE_BYTES = 66;
/** Tag and extra nonce of a packet that is sealed for one node. */
const PKC_BYTES = 12;

/** What the firmware adds. */
export interface Additions {
  /** It signs what goes to all. */
  readonly hasSignatures: boolean;
  /** It seals what goes to one for that one's key. */
  readonly hasPkc: boolean;
}

/** Frame of a packet with a payload of `bytes` on `port`, as the firmware of the sender makes it. */
export function packetBytes(bytes: number, port: number, to: "one" | "all", additions: Additions): number {
  // Port, payload, and the bit field that the firmware puts into each packet of its own.
  const data = 1 + varintBytes(port) + (bytes === 0 ? 0 : 1 + varintBytes(bytes) + bytes) + 2;
  const plain = HEADER_BYTES + data;
  const isSigned = to === "all" && additions.hasSignatures && plain + SIGNATURE_BYTES <= FRAME_BYTES_MAX;
  const added = isSigned ? SIGNATURE_BYTES : to === "one" && additions.hasPkc ? PKC_BYTES : 0;
  return Math.min(FRAME_BYTES_MAX, plain + added);
}

const varintBytes = (value: number): number => (value < 0x80 ? 1 : value < 0x4000 ? 2 : 3);
