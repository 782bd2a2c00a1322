/**
 * How many descriptors the node has left, and that it says so once. What runs into the limit in the kernel's accept is told by
 * nobody and tried again without a pause, so this looks by itself, and keeps a few in hand: given back when there are none left,
 * they let listeners accept, and close at once, what would otherwise be knocking for ever. Where others take these too, it
 * makes each turn of the event loop last for a moment, which is the pause that no listener can be given. How late its own looks come is
 * how late everything on this thread comes: the one timer that always runs tells that, too. Owns nothing else.
 */
import { closeSync, openSync } from "node:fs";
import type { Clock, Log, Timer } from "@godwit/sdk";
import { descriptorLimit, descriptorMarks, onDescriptorShortage } from "@godwit/sdk/places";
import { lengthenTurns, untilMultiple } from "../kernel/clock.ts";
import type { Metrics } from "../kernel/metrics.ts";

const LOOK_EVERY_MS = 1_000;
/** The same while none is left. */
const LOOK_OUT_EVERY_MS = 100;
/** What a turn of the event loop lasts longer while none is left. */
const PAUSE_MS = 5;
/** Looks without a shortage until it is over. */
const CALM_LOOKS = 5;
/** Kept in hand. */
const SPARES = 3;
/** A shortage that comes and goes is told this often at most. */
const WARN_EVERY_MS = 60_000;
const NOWHERE = "/dev/null";

export interface DescriptorWatchDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export class DescriptorWatch {
  readonly #deps: DescriptorWatchDeps;
  readonly #spares: number[] = [];
  readonly #lag;
  #timer: Timer;
  #used = 0;
  /** Not even a spare one is left. */
  #isOut = false;
  /** Of the last look or refusal that found too few left. */
  #usedWhenShort = 0;
  /** Looks until it is over; 0: there is no shortage. */
  #shortFor = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: DescriptorWatchDeps) {
    this.#deps = deps;
    deps.metrics.observedGauge("godwit_descriptors", () => this.#used);
    deps.metrics.observedGauge("godwit_descriptors_limit", descriptorLimit);
    this.#lag = deps.metrics.histogram("godwit_event_loop_lag_seconds");
    onDescriptorShortage((descriptor) => this.#short(descriptor));
    this.#look();
    this.#timer = this.#lookLater();
  }

  /** For health; undefined: enough are left. */
  get trouble(): string | undefined {
    if (this.#shortFor === 0) return undefined;
    return `descriptors run out: ${this.#usedWhenShort} of ${descriptorLimit()} were in use within the last ${CALM_LOOKS} s, ${this.#used} are now, and new connections are refused; raise the limit (LimitNOFILE, ulimit -n) if they are not an attack`;
  }

  stop(): void {
    this.#timer.cancel();
    this.#isOut = false;
    onDescriptorShortage(() => {});
    this.#giveBack();
  }

  #lookLater(): Timer {
    const { clock } = this.#deps;
    const delayMs = this.#isOut ? LOOK_OUT_EVERY_MS : untilMultiple(clock, LOOK_EVERY_MS);
    const dueAtMs = clock.monotonicMs() + delayMs;
    return clock.after(delayMs, () => {
      this.#lag.observe(Math.max(0, clock.monotonicMs() - dueAtMs) / 1_000);
      this.#look();
      this.#timer = this.#lookLater();
    });
  }

  #look(): void {
    const newest = open();
    if (newest === undefined) {
      this.#giveBack();
      if (!this.#isOut) lengthenTurns(PAUSE_MS, () => this.#isOut);
      this.#isOut = true;
      return this.#short(descriptorLimit());
    }
    this.#isOut = false;
    closeSync(newest);
    this.#used = newest;
    if (newest >= descriptorMarks().strangers) return this.#short(newest);
    while (this.#spares.length < SPARES) {
      const spare = open();
      if (spare === undefined) break;
      this.#spares.push(spare);
    }
    if (this.#shortFor === 0 || --this.#shortFor > 0) return;
    this.#deps.log.info("descriptors free again", { used: newest, limit: descriptorLimit() });
  }

  #short(used: number): void {
    this.#used = used;
    this.#usedWhenShort = used;
    const isNew = this.#shortFor === 0;
    this.#shortFor = CALM_LOOKS;
    const nowMs = this.#deps.clock.monotonicMs();
    if (!isNew || nowMs - this.#warnedAtMs < WARN_EVERY_MS) return;
    this.#warnedAtMs = nowMs;
    this.#deps.log.warn("descriptors run out", {
      used: this.#used,
      limit: descriptorLimit(),
      advice:
        "new connections are refused; raise the limit (LimitNOFILE, ulimit -n) if they are not an attack",
    });
  }

  #giveBack(): void {
    for (const spare of this.#spares.splice(0)) closeSync(spare);
  }
}

/** The lowest descriptor that is free; undefined: there is none. */
function open(): number | undefined {
  try {
    return openSync(NOWHERE, "r");
  } catch {
    return undefined;
  }
}
