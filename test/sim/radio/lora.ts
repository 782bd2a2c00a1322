/**
 * How long a frame is on the air (Semtech AN1200.13, "LoRa Modem Designer's Guide", time on air), and what the medium below adds to
 * a datagram. The figures are those of Meshtastic; a bare modem adds nothing.
 */

export interface Lora {
  /** 7 to 12. */
  readonly spreadingFactor: number;
  readonly bandwidthHz: number;
  /** Of 4/5 to 4/8 the 5 to 8. */
  readonly codingRate: number;
  readonly preambleSymbols: number;
}

const preset = (spreadingFactor: number, bandwidthHz: number, codingRate: number): Lora => ({
  spreadingFactor,
  bandwidthHz,
  codingRate,
  preambleSymbols: 16,
});

/** Presets of Meshtastic. */
export const presets = {
  shortTurbo: preset(7, 500_000, 5),
  shortFast: preset(7, 250_000, 5),
  shortSlow: preset(8, 250_000, 5),
  mediumTurbo: preset(9, 500_000, 5),
  mediumFast: preset(9, 250_000, 5),
  mediumSlow: preset(10, 250_000, 5),
  longTurbo: preset(11, 500_000, 8),
  longFast: preset(11, 250_000, 5),
  longModerate: preset(11, 125_000, 8),
  longSlow: preset(12, 125_000, 8),
  liteFast: preset(9, 125_000, 5),
  liteSlow: preset(10, 125_000, 5),
  narrowFast: preset(7, 62_500, 6),
  narrowSlow: preset(8, 62_500, 6),
} as const satisfies Readonly<Record<string, Lora>>;

/** Symbols longer than this are sent with the low data rate optimisation, ms. */
const LONG_SYMBOL_MS = 16;
/** Of the header of the physical layer, which has symbols of its own coding. */
const HEADER_SYMBOLS = 8;
const SYNC_SYMBOLS = 4.25;
/** Detecting activity takes two symbols and a half, and so long for propagation and turning round, ms: a slot of the firmware. */
const DETECT_SYMBOLS = 2.5;
const TURNAROUND_MS = 7.6;

export const symbolMs = ({ spreadingFactor, bandwidthHz }: Lora): number =>
  (2 ** spreadingFactor * 1_000) / bandwidthHz;

export const bitsPerSecond = (lora: Lora): number =>
  (lora.spreadingFactor * 4 * 1_000) / (lora.codingRate * symbolMs(lora));

/** Of a frame of `bytes`, 0 to 255, whole on the air: with checksum and explicit header. */
export function frameMs(lora: Lora, bytes: number): number {
  const { spreadingFactor, codingRate, preambleSymbols } = lora;
  const perBlock = 4 * (spreadingFactor - (symbolMs(lora) > LONG_SYMBOL_MS ? 2 : 0));
  const blocks = Math.ceil(Math.max(0, 8 * bytes - 4 * spreadingFactor + 28 + 16) / perBlock);
  return (preambleSymbols + SYNC_SYMBOLS + HEADER_SYMBOLS + blocks * codingRate) * symbolMs(lora);
}

/** What a station waits in, and how long it needs to notice that another one has begun, ms. */
export const slotMs = (lora: Lora): number => DETECT_SYMBOLS * symbolMs(lora) + TURNAROUND_MS;

/** What is around a datagram on the air. */
export interface Overhead {
  readonly headerBytes: number;
  /** Type and length of the payload in a protobuf. */
  readonly isProtobuf: boolean;
  /** More on what goes to all: a signature. */
  readonly broadcastBytes: number;
  /** Largest frame on the air, all in. */
  readonly frameBytesMax: number;
}

export const bareModem: Overhead = {
  headerBytes: 4,
  isProtobuf: false,
  broadcastBytes: 0,
  frameBytesMax: 512,
};
/** Header of 16 bytes; port (3), tag and length of the payload; what goes to all is signed where that fits. */
export const meshtastic: Overhead = {
  headerBytes: 16,
  isProtobuf: true,
  broadcastBytes: 66,
  frameBytesMax: 255,
};

/** Whole frame of a datagram of `bytes`. */
export function frameBytes(overhead: Overhead, bytes: number, to: "one" | "all"): number {
  const plain = overhead.headerBytes + bytes + (overhead.isProtobuf ? (bytes < 128 ? 5 : 6) : 0);
  const signed = plain + overhead.broadcastBytes;
  return to === "all" && signed <= overhead.frameBytesMax ? signed : plain;
}
