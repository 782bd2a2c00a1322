/** The orderly end of the machine: programs first, then what they wrote, then the power. Each step may fail; the next is taken. */
import type { Log } from "@godwit/sdk";
import { MountFlag, type Sys } from "./sys.ts";

export type End = "powerOff" | "restart";

export interface EndSteps {
  readonly log: Log;
  readonly sys: Sys;
  /** Programs, network and what else holds on to something. */
  stop(): Promise<void>;
  /** Writes the clock where it lasts. */
  saveClock(): void;
  /** Where the state's disk is mounted; undefined: there is none. */
  readonly stateTarget: string | undefined;
  /** What is left of other programs. */
  killAll(): void;
  /** The last word of the watchdog. */
  leaveWatchdog(end: End): void;
}

const MS_REMOUNT = 32;

/** Does not come back where the kernel does as it is told. Never throws. */
export async function endMachine(end: End, steps: EndSteps): Promise<void> {
  const { log, sys, stateTarget } = steps;
  const attempt = async (doing: string, step: () => void | Promise<void>): Promise<boolean> => {
    try {
      await step();
      return true;
    } catch (error) {
      log.error("ending", { doing, error: error instanceof Error ? error : String(error) });
      return false;
    }
  };
  await attempt("stop programs", () => steps.stop());
  await attempt("save the clock", () => steps.saveClock());
  await attempt("end what is left", () => steps.killAll());
  await attempt("sync", () => sys.sync());
  if (stateTarget !== undefined && !(await attempt("unmount the state", () => sys.unmount(stateTarget))))
    // Somebody still holds a file: no more writing is what matters.
    await attempt("make the state read-only", () =>
      sys.mount({ source: "", target: stateTarget, type: "", flags: MS_REMOUNT | MountFlag.readOnly }),
    );
  await attempt("sync", () => sys.sync());
  await attempt("leave the watchdog", () => steps.leaveWatchdog(end));
  log.info(end === "powerOff" ? "power off" : "restart");
  if (!(await attempt(end, () => sys.reboot(end)))) await attempt("restart", () => sys.reboot("restart"));
}
