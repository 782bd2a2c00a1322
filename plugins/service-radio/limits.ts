/**
 * How often a port may be used. The firmware drops what comes sooner and says that it was queued, of all but text; so the limits are kept here, of all
 * users together, with a little added because its clock is not ours. Source: PhoneAPI.cpp of 2.8.0.
 */
import type { Clock } from "@godwit/sdk";

export const PORT = {
  text: 1,
  position: 3,
  nodeInfo: 4,
  routing: 5,
  admin: 6,
  waypoint: 8,
  alert: 11,
  telemetry: 67,
  traceroute: 70,
} as const;

const PAUSES_MS: Readonly<Record<number, number>> = {
  [PORT.text]: 2_100,
  [PORT.position]: 10_500,
  [PORT.waypoint]: 10_500,
  [PORT.alert]: 10_500,
  [PORT.telemetry]: 10_500,
  [PORT.traceroute]: 31_000,
};

/** Ports whose packets change the device, or what it says of itself: nobody sends there by this door. */
export const isForbiddenPort = (port: number): boolean =>
  port === PORT.admin || port === PORT.nodeInfo || port === PORT.routing;

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
