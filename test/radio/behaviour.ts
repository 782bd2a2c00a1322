/** What firmware 2.7 and 2.8 do differently, each by a switch of its own, so that a test can have any mixture. */

export type Firmware = "2.7" | "2.8";

export interface Behaviour {
  readonly version: string;
  /** Regions' presets in the handshake, and nodes' positions and metrics after it as packets rather than within it. */
  readonly handshake: Firmware;
  /** Broadcasts bear a signature where it fits: 66 bytes more. */
  readonly signs: boolean;
  /** Packets that do not say where they started are dropped. */
  readonly dropsPreHop: boolean;
  /** The node number is the CRC-32 of the public key; else the end of the MAC address. */
  readonly numbersByKey: boolean;
  /** Text to one is neither sent nor taken without a key between the two ends. */
  readonly textNeedsKey: boolean;
  /** A packet of a channel that it has no key of is repeated at each copy that it hears, not once. */
  readonly repeatsOpaqueAlways: boolean;
  /** A next hop is believed only if one neighbour alone has that last byte. */
  readonly checksNextHop: boolean;
  /** Of packets that it hears it hands so many to its client twice, 0 to 1. */
  readonly deliversTwice: number;
  /** Position and metrics go to the mesh only when somebody wanted it. */
  readonly telemetryIsOptIn: boolean;
  /** A heartbeat with nonce 1 makes it tell the mesh who it is. */
  readonly heartbeatTells: boolean;
  /** What a signature has to be for a packet to be taken. */
  readonly signatures: "compatible" | "balanced" | "strict";
}

const v27: Behaviour = {
  version: "2.7.15.567b8ea",
  handshake: "2.7",
  signs: false,
  dropsPreHop: false,
  numbersByKey: false,
  textNeedsKey: false,
  repeatsOpaqueAlways: false,
  checksNextHop: false,
  deliversTwice: 0,
  telemetryIsOptIn: false,
  heartbeatTells: false,
  signatures: "compatible",
};

export const behaviours: Readonly<Record<Firmware, Behaviour>> = {
  "2.7": v27,
  "2.8": {
    version: "2.8.0.7754068",
    handshake: "2.8",
    signs: true,
    dropsPreHop: true,
    numbersByKey: true,
    textNeedsKey: true,
    repeatsOpaqueAlways: true,
    checksNextHop: true,
    deliversTwice: 0,
    telemetryIsOptIn: true,
    heartbeatTells: true,
    signatures: "balanced",
  },
};
