/**
 * Stations of a hostile member: each has a radio of no budget, hears everything, and has the key of the channel's beacons, as anybody has in an
 * open mesh. They are no nodes: whom a session proves is hostile-member.ts.
 */
import type { Random } from "@godwit/sdk";
import type { NodeId } from "../../../runtime/kernel/ids.ts";
import { networkKeys } from "../../../runtime/link/hello.ts";
import {
  type ChannelBeacon,
  decodeChannelBeacon,
  encodeChannelBeacon,
  whoIs,
} from "../../../runtime/wire/channel-beacon.ts";
import { NETWORK } from "../node.ts";
import type { SimTime } from "../time.ts";
import type { Frame } from "./channel.ts";
import { BROADCAST } from "./port.ts";
import type { Radio } from "./radio.ts";

export interface HostilePlace {
  readonly radio: Radio;
  readonly time: SimTime;
  readonly random: Random;
}

export interface HostileStation {
  /** A frame of another station was on the air. */
  onSent(frame: Frame): void;
  start(): void;
}

export type MakeHostile = (place: HostilePlace) => HostileStation;

const SHARES = [{ kind: "foreign", part: 1 }] as const;
const KEY = networkKeys(NETWORK, undefined).beaconKey;
/** Behind what any node says. */
export const HIGHEST_NUMBER = 2 ** 48 - 1;

export const nameOf = (id: NodeId): string => whoIs(KEY, id);

export interface Lies {
  readonly everyMs: number;
  /** What it says now, given what it heard last of each name and how often it has spoken. */
  next(heard: ReadonlyMap<string, ChannelBeacon>, times: number, random: Random): ChannelBeacon | undefined;
}

/** Says beacons in anybody's name. */
export const beaconLiar =
  ({ everyMs, next }: Lies): MakeHostile =>
  ({ radio, time, random }) => {
    const heard = new Map<string, ChannelBeacon>();
    let times = 0;
    const say = (): void => {
      const beacon = next(heard, times++, random);
      if (beacon !== undefined)
        radio.sendAs(radio.address, "all", withHead(encodeChannelBeacon(KEY, beacon)), SHARES);
      time.after(everyMs * (0.5 + random.float()), say);
    };
    return {
      onSent({ bytes }) {
        const beacon = bytes[0] === BROADCAST ? decodeChannelBeacon([KEY], bytes.subarray(1)) : undefined;
        if (beacon !== undefined) heard.set(beacon.who, beacon);
      },
      start: () => void time.after(everyMs * random.float(), say),
    };
  };

/** Sends whatever it heard once more, as it was and in the name of whoever sent it, so much later. */
export const replayer =
  (afterMs: number): MakeHostile =>
  ({ radio, time }) => ({
    onSent({ from, to, bytes }) {
      const copy = bytes.slice();
      time.after(afterMs, () => radio.sendAs(from, to, copy, SHARES));
    },
    start() {},
  });

function withHead(beacon: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + beacon.length);
  out[0] = BROADCAST;
  out.set(beacon, 1);
  return out;
}
