/**
 * How long LoRa keeps a channel busy with a frame, and how long a station waits. Pure. Sources: Semtech AN1200.13 ("LoRa Modem Designer's Guide") for the time
 * on air, RadioInterface of Meshtastic 2.8.0 for the slot. docs/meshtastic.md has what comes out of it for each preset.
 */

export interface Modulation {
  /** 7 to 12. */
  readonly spreadingFactor: number;
  readonly bandwidthHz: number;
  /** Of 4/5 to 4/8 the 5 to 8. */
  readonly codingRate: number;
}

/** Of Meshtastic, on every preset. */
export const PREAMBLE_SYMBOLS = 16;
const SYNC_SYMBOLS = 4.25;
/** The header of the physical layer has symbols of its own coding. */
const HEADER_SYMBOLS = 8;
/** Symbols longer than this are sent with the low data rate optimisation, ms. */
const LONG_SYMBOL_MS = 16;
/** A slot of the firmware: detecting activity, propagation and turning round. */
const DETECT_SYMBOLS = 2.5;
const TURNAROUND_MS = 7.6;

export const symbolMs = ({ spreadingFactor, bandwidthHz }: Modulation): number =>
  (2 ** spreadingFactor * 1_000) / bandwidthHz;

/** Of the bits that are no coding, per second. */
export const bitsPerSecond = (of: Modulation): number =>
  (of.spreadingFactor * 4_000) / (of.codingRate * symbolMs(of));

/** What a station waits in, and how long it needs to notice that another one has begun, ms. */
export const slotMs = (of: Modulation): number => DETECT_SYMBOLS * symbolMs(of) + TURNAROUND_MS;

/** Of a frame of `bytes`, 0 to 255, as it is on the air: with checksum and explicit header. */
export function frameMs(of: Modulation, bytes: number): number {
  const perBlock = 4 * (of.spreadingFactor - (symbolMs(of) > LONG_SYMBOL_MS ? 2 : 0));
  const blocks = Math.ceil(Math.max(0, 8 * bytes - 4 * of.spreadingFactor + 28 + 16) / perBlock);
  return (PREAMBLE_SYMBOLS + SYNC_SYMBOLS + HEADER_SYMBOLS + blocks * of.codingRate) * symbolMs(of);
}
