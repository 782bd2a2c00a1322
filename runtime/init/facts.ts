/** What the image says of itself: /etc/godwit/image.json, written by scripts/images/initramfs.ts. */
import { readFileSync, statSync } from "node:fs";
import { release } from "node:os";
import { PLAUSIBLE_WALL_MS } from "../kernel/clock.ts";

export const IMAGE_FACTS = "/etc/godwit/image.json";
const MODULES_MAX = 512;

export interface ImageFacts {
  /** The earliest that the clock may show. */
  readonly builtMs: number;
  readonly version: string | undefined;
  /** Modules to load, by name. */
  readonly modules: readonly string[];
}

/** Lenient: a machine that was put together by hand has no such file, and then the program's own age counts. */
export function parseImageFacts(text: string | undefined, fallbackMs: number): ImageFacts {
  const found = text === undefined ? {} : parseObject(text);
  const builtS = found["built_at"];
  const builtMs = typeof builtS === "number" && Number.isSafeInteger(builtS) ? builtS * 1_000 : fallbackMs;
  const modules = Array.isArray(found["modules"]) ? (found["modules"] as unknown[]) : [];
  const version = found["version"];
  return {
    builtMs: Math.max(builtMs, PLAUSIBLE_WALL_MS),
    version: typeof version === "string" ? version : undefined,
    modules: modules
      .filter((name): name is string => typeof name === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(name))
      .slice(0, MODULES_MAX),
  };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

export function readImageFacts(): ImageFacts {
  let text: string | undefined;
  let programMs = 0;
  try {
    programMs = statSync(process.execPath).mtimeMs;
    text = readFileSync(IMAGE_FACTS, "utf8");
  } catch {
    // Put together by hand.
  }
  return parseImageFacts(text, programMs);
}

export const kernelRelease = (): string => release();

/** A number of kB by its name, as /proc/meminfo and /proc/PID/status write it; undefined where there is none. */
export function readKilobytes(text: string, name: string): number | undefined {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text);
  return match === null ? undefined : Number(match[1]);
}

/** For the console: what is left of memory, and what PID 1 and `programs` have resident. */
export function memoryLines(
  programs: readonly { readonly name: string; readonly pid: number | undefined }[],
): string[] {
  const mebibytes = (kilobytes: number | undefined) =>
    kilobytes === undefined ? "?" : `${(kilobytes / 1_024).toFixed(1)} MiB`;
  const read = (path: string): string => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  const all = read("/proc/meminfo");
  const total = mebibytes(readKilobytes(all, "MemTotal"));
  return [
    `  machine      ${mebibytes(readKilobytes(all, "MemAvailable"))} available of ${total}`,
    ...[{ name: "pid 1", pid: 1 }, ...programs].map(({ name, pid }) => {
      const status = pid === undefined ? "" : read(`/proc/${pid}/status`);
      return `  ${name.padEnd(12)} ${mebibytes(readKilobytes(status, "VmRSS"))} resident`;
    }),
  ];
}
