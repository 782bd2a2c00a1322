/**
 * The hardware's watchdog: once opened it resets the machine unless it is fed. It is fed only while the machine does what it
 * is for: while the node is healthy, while it is still starting, and while an orderly end is under way. PID 1 itself must be
 * alive to feed it, so that its own hanging ends in a reset too.
 */
import { closeSync, existsSync, openSync, writeSync } from "node:fs";
import type { Clock, Timer } from "../kernel/clock.ts";
import { every } from "../kernel/clock.ts";
import type { Sys } from "./sys.ts";

export const WATCHDOG_DEVICE = "/dev/watchdog";
/** A feed counts for the whole timeout, so several may be missed. */
const FEEDS_PER_TIMEOUT = 4;
/** From boot to the first sign of health. */
export const START_MAX_MS = 180_000;
/** For programs to end, buffers to be written and disks to be unmounted. */
export const END_MAX_MS = 90_000;

export interface WatchdogDevice {
  /** What the hardware made of what was asked for. */
  readonly timeoutMs: number;
  feed(): void;
  /** The machine may go on without being fed. */
  disarm(): void;
}

/** Undefined where there is none; throws SysError where it is taken. */
export function openWatchdog(sys: Sys, timeoutMs: number): WatchdogDevice | undefined {
  if (!existsSync(WATCHDOG_DEVICE)) return undefined;
  const descriptor = openSync(WATCHDOG_DEVICE, "w");
  const seconds = setTimeoutOf(sys, descriptor, Math.ceil(timeoutMs / 1_000));
  const write = (text: string) => {
    try {
      writeSync(descriptor, text);
    } catch {
      // Nothing to be done: the reset will say it.
    }
  };
  return {
    timeoutMs: seconds * 1_000,
    feed: () => write("\0"),
    disarm() {
      // The "magic close" of Documentation/watchdog/watchdog-api.rst.
      write("V");
      closeSync(descriptor);
    },
  };
}

/** Some take no more than a few seconds (bcm2835: 15) and refuse the rest, so less is asked for until one is taken. */
function setTimeoutOf(sys: Pick<Sys, "setWatchdogTimeout">, descriptor: number, wanted: number): number {
  for (let seconds = wanted; seconds >= SECONDS_MIN; seconds = Math.floor(seconds / 2))
    try {
      return sys.setWatchdogTimeout(descriptor, seconds);
    } catch {
      // Less, then.
    }
  return SECONDS_MIN;
}

/** Assumed of a device that takes nothing: it has a timeout of its own, and few are shorter. */
const SECONDS_MIN = 4;

/** Decides when to feed. */
export class Watchdog {
  readonly #device: WatchdogDevice;
  readonly #patienceMs: number;
  readonly #clock: Clock;
  readonly #timer: Timer;
  #fedUntilMs: number;
  #isStarving = false;
  readonly #onStarve: (isStarving: boolean) => void;

  /**
   * Feeds for START_MAX_MS from now on, and for `patienceMs` after each sign of health; `onStarve` hears when it stops and
   * begins again.
   */
  constructor(
    device: WatchdogDevice,
    patienceMs: number,
    clock: Clock,
    onStarve: (isStarving: boolean) => void,
  ) {
    this.#device = device;
    this.#patienceMs = patienceMs;
    this.#clock = clock;
    this.#onStarve = onStarve;
    this.#fedUntilMs = clock.monotonicMs() + START_MAX_MS;
    device.feed();
    this.#timer = every(clock, device.timeoutMs / FEEDS_PER_TIMEOUT, () => this.#tick());
  }

  get timeoutMs(): number {
    return this.#device.timeoutMs;
  }

  get isStarving(): boolean {
    return this.#isStarving;
  }

  /** The node is healthy now. From the first time on only this feeds. */
  healthy(): void {
    this.#fedUntilMs = this.#clock.monotonicMs() + this.#patienceMs;
  }

  /** An orderly end has begun. */
  ending(): void {
    this.#fedUntilMs = this.#clock.monotonicMs() + END_MAX_MS;
    this.#tick();
  }

  /** Feeds once more and no longer: what comes now must not take longer than the timeout. */
  leave(): void {
    this.#timer.cancel();
    this.#device.feed();
  }

  /** The last act before the power goes off. */
  disarm(): void {
    this.#timer.cancel();
    this.#device.disarm();
  }

  #tick(): void {
    const isStarving = this.#clock.monotonicMs() > this.#fedUntilMs;
    if (!isStarving) this.#device.feed();
    if (isStarving === this.#isStarving) return;
    this.#isStarving = isStarving;
    this.#onStarve(isStarving);
  }
}
