/** Simulated meshes over emulated radios, run by tests. */
import type { RadioWorldOptions } from "../sim/radio/options.ts";
import { reportLines } from "../sim/radio/report.ts";
import type { RadioResult } from "../sim/radio/result.ts";
import { RadioWorld } from "../sim/radio/world.ts";
import type { Firmware } from "./behaviour.ts";
import { type FirmwareAir, firmwareAir } from "./mesh-air.ts";

/** Every second radio is of the older firmware. */
export const mixed = firmwareAir((node): { firmware: Firmware } => ({
  firmware: node % 2 === 0 ? "2.8" : "2.7",
}));

/** Prints a few lines. */
export function runFirmware(
  name: string,
  options: RadioWorldOptions,
): RadioResult & { readonly air: FirmwareAir } {
  const before = process.cpuUsage();
  const world = new RadioWorld({ newAir: mixed, ...options });
  const result = world.run();
  const { user, system } = process.cpuUsage(before);
  console.log(reportLines(name, result, (user + system) / 1e6).join("\n"));
  return { ...result, air: world.air as FirmwareAir };
}
