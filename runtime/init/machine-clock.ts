/**
 * The machine's clock as PID 1 keeps it: set forward to its floor at boot, right after a time server's word, saved where it
 * lasts, and told to whoever must not start before it can be believed. What is decided, time.ts decides.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "@godwit/sdk";
import { type Clock, isoTime } from "../kernel/clock.ts";
import { writeWhole } from "../kernel/whole-file.ts";
import type { Sys } from "./sys.ts";
import { type ClockSource, decideClock, isBelievable, parseSavedClock } from "./time.ts";

/** Of the step that a server's word makes, what is not worth a line. */
const STEP_TOLD_MS = 1_000;

export interface MachineClockDeps {
  readonly sys: Pick<Sys, "setClock">;
  readonly clock: Clock;
  readonly log: Log;
  readonly builtMs: number;
  /** Where it is saved. */
  readonly file: string;
  /** Where programs read whether it can be believed. */
  readonly stateFile: string;
  /** Whether that lasts. */
  isLasting(): boolean;
  onSource(source: ClockSource): void;
}

export class MachineClock {
  readonly #deps: MachineClockDeps;
  #source: ClockSource = "hardware";

  constructor(deps: MachineClockDeps) {
    this.#deps = deps;
  }

  get source(): ClockSource {
    return this.#source;
  }

  /** Not before a time server has spoken, unless the machine has a clock of its own. */
  get isHeld(): boolean {
    return this.#source === "floor";
  }

  /** Twice: before the state's disk is there, and with what it saved. Throws SysError. */
  setFloor(): void {
    const { sys, clock, log, builtMs, file } = this.#deps;
    let saved: number | undefined;
    try {
      saved = parseSavedClock(readFileSync(file, "utf8"));
    } catch {
      // The first boot, or no disk yet.
    }
    const start = decideClock(clock.wallMs(), builtMs, saved);
    if (start.isSet) sys.setClock(start.wallMs);
    // Once set to a floor it stays one, although it is not before it any more.
    this.#become(start.source === "floor" || this.isHeld ? "floor" : "hardware");
    if (start.isSet) log.info("clock set to the last time known", { saved: saved !== undefined });
  }

  /** Nobody vouches for a time server, but what is before the image or in another age is wrong. Throws SysError. */
  setByServer(wallMs: number, server: string): void {
    const { sys, clock, log, builtMs } = this.#deps;
    if (!isBelievable(wallMs, builtMs))
      return log.warn("a time server is wrong", { server, says: isoTime(wallMs) });
    const stepMs = wallMs - clock.wallMs();
    sys.setClock(wallMs);
    if (this.#source !== "server" || Math.abs(stepMs) > STEP_TOLD_MS)
      log.info("clock", { server, step_seconds: Math.round(stepMs / 1_000) });
    if (this.#source !== "server") this.#become("server");
    this.save();
  }

  /** Throws where the disk does. */
  save(): void {
    const { clock, file, isLasting } = this.#deps;
    if (isLasting()) writeWhole(file, `${Math.floor(clock.wallMs())}\n`, 0o644);
  }

  #become(source: ClockSource): void {
    this.#source = source;
    try {
      mkdirSync(dirname(this.#deps.stateFile), { recursive: true });
      writeFileSync(this.#deps.stateFile, `${source}\n`);
    } catch (error) {
      this.#deps.log.warn("clock state not written", {
        error: error instanceof Error ? error : String(error),
      });
    }
    this.#deps.onSource(source);
  }
}
