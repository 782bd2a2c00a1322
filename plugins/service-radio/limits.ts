/**
 * How often a port may be used. The firmware drops what comes sooner and says that it was queued, of all but text; so the limits are kept here, of all
 * users together, with a little added because its clock is not ours. Source: PhoneAPI.cpp of 2.8.0.
 */
import { Portnums } from "@meshtastic/protobufs";
import type { Clock } from "@godwit/sdk";

const { PortNum } = Portnums;

export const PORT = {
  text: PortNum.TEXT_MESSAGE_APP,
  position: PortNum.POSITION_APP,
  nodeInfo: PortNum.NODEINFO_APP,
  routing: PortNum.ROUTING_APP,
  admin: PortNum.ADMIN_APP,
  waypoint: PortNum.WAYPOINT_APP,
  alert: PortNum.ALERT_APP,
  telemetry: PortNum.TELEMETRY_APP,
  traceroute: PortNum.TRACEROUTE_APP,
} as const;

const PAUSES_MS: Readonly<Record<number, number>> = {
  [PORT.text]: 2_100,
  [PORT.position]: 10_500,
  [PORT.waypoint]: 10_500,
  [PORT.alert]: 10_500,
  [PORT.telemetry]: 10_500,
  [PORT.traceroute]: 31_000,
};

const FORBIDDEN: ReadonlySet<number> = new Set([PORT.admin, PORT.nodeInfo, PORT.routing]);

/** The firmware refuses it without a word. */
const NOT_TO_ALL: ReadonlySet<number> = new Set([PORT.traceroute]);

/** Ports whose packets change the device, or what it says of itself, and a traceroute to everybody: nobody sends there by this door. */
export const isForbiddenPort = (port: number, isToAll: boolean): boolean =>
  FORBIDDEN.has(port) || (isToAll && NOT_TO_ALL.has(port));

export class PortLimits {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #usedAtMs = new Map<number, number>();

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** False: too early. */
  take(port: number): boolean {
    const pauseMs = PAUSES_MS[port];
    if (pauseMs === undefined) return true;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - (this.#usedAtMs.get(port) ?? Number.NEGATIVE_INFINITY) < pauseMs) return false;
    this.#usedAtMs.set(port, nowMs);
    return true;
  }
}
