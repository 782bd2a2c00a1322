/**
 * Setting up a radio that no node has: where it is, what it is, what would change in it, and the change. For a command of a person; the node's own session is
 * none of its business. Specified by docs/radio.md.
 */
import { type Clock, GodwitError, type PluginSerial, type Random } from "@godwit/sdk";
import { formatPlace, parsePlace, type RadioPlace } from "../config.ts";
import { WAKE } from "../frames.ts";
import { openLine, openTcp, type OpenWire } from "../wire.ts";
import { type RadioDoor, unusable } from "./ask.ts";

export { askRadio, type RadioAnswer, type RadioDoor, unusable } from "./ask.ts";
export { changeRadio } from "./change.ts";
export { findPorts, type FoundPort, holdersOf } from "./find.ts";
export { LOCKED, planRadio, type FieldChange, type RadioPlan, type RadioWish } from "./plan.ts";
export { presetNames, presetNumber, regionNames, regionNumber } from "../modem.ts";
export { idOf, whySilent } from "../state.ts";
export { formatPlace, parsePlace, type RadioPlace };

/** Both on is what opening does; boards that hold still then answer when both are off. Never one alone: that restarts them. */
const LINES_OFF = { dtr: false, rts: false } as const;

export interface DoorDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly serial: PluginSerial;
}

export function doorTo(place: RadioPlace, { clock, random, signal, serial }: DoorDeps): RadioDoor {
  const { kind } = place;
  const ways =
    kind === "tcp"
      ? [openTcp(place.host, place.port, clock)]
      : [openLine(place.path, serial), openLine(place.path, serial, LINES_OFF)];
  const wake = kind === "tcp" ? new Uint8Array(0) : WAKE;
  return {
    clock,
    random,
    signal,
    name: formatPlace(place),
    ways: ways.map((way) => plainly(way, place)),
    wake,
  };
}

/** What keeps it closed in words for a person who can do something about it. */
const plainly =
  (open: OpenWire, place: RadioPlace): OpenWire =>
  (handlers, signal) =>
    open(handlers, signal).catch((error: unknown) => {
      if (!(error instanceof GodwitError)) throw error;
      const { cause, message } = error;
      if (!(cause instanceof GodwitError))
        throw unusable(`${message}; is the radio on, and in this network?`);
      throw unusable(
        cause.kind === "permission"
          ? `${formatPlace(place)}: this user may not open it: sudo usermod -aG dialout $USER, and log in again; for this command alone: sudo godwit radio setup`
          : cause.message,
      );
    });
