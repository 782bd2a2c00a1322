/**
 * Text of endpoints: `meshtastic://0a1b2c3d/5f21`: the number of a radio, and the tag of the channel on which it is heard. Without a tag: on whichever
 * radio of this node. Pure.
 */
import { GodwitError } from "@godwit/sdk";

export interface MeshtasticEndpoint {
  /** Of the radio, 1 to 2^32 - 2. */
  readonly number: number;
  readonly tag: string | undefined;
}

const BROADCAST = 0xffff_ffff;

/** Throws GODWIT_ENDPOINT_INVALID. */
export function parseMeshtasticEndpoint(endpoint: string): MeshtasticEndpoint {
  const match = /^meshtastic:\/\/!?([0-9a-f]{8})(?:\/([0-9a-f]{4}))?$/.exec(endpoint);
  const number = Number.parseInt(match?.[1] ?? "0", 16);
  if (number > 0 && number < BROADCAST) return { number, tag: match![2] };
  throw new GodwitError(
    "GODWIT_ENDPOINT_INVALID",
    `${endpoint.slice(0, 100)} is no radio: expected "meshtastic://", its number of 8 hex digits, and perhaps "/" and the tag of its channel`,
    { kind: "config" },
  );
}

export const formatMeshtasticEndpoint = (number: number, tag: string): string =>
  `meshtastic://${number.toString(16).padStart(8, "0")}/${tag}`;
