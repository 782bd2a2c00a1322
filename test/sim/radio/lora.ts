/**
 * The modulations that simulated and emulated radios speak, and what the medium below adds to a datagram. The figures are those of Meshtastic; a bare modem
 * adds nothing. Time on air and presets are those of plugins/service-radio, whose test holds them against a table of others.
 */
import type { Modulation } from "../../../plugins/service-radio/lora.ts";
import { PRESETS } from "../../../plugins/service-radio/modem.ts";

export { bitsPerSecond, frameMs, slotMs, symbolMs } from "../../../plugins/service-radio/lora.ts";
export type Lora = Modulation;

export const presets = {
  shortTurbo: PRESETS[8],
  shortFast: PRESETS[6],
  shortSlow: PRESETS[5],
  mediumTurbo: PRESETS[16],
  mediumFast: PRESETS[4],
  mediumSlow: PRESETS[3],
  longTurbo: PRESETS[9],
  longFast: PRESETS[0],
  longModerate: PRESETS[7],
  longSlow: PRESETS[1],
  liteFast: PRESETS[10],
  liteSlow: PRESETS[11],
  narrowFast: PRESETS[12],
  narrowSlow: PRESETS[13],
} as const satisfies Readonly<Record<string, Lora>>;

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
