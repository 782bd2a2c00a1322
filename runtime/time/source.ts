/**
 * Who vouches for this machine's clock: its kernel, which a time service keeps synchronised, or PID 1 after a time server's word. The
 * kernel is asked for its own time as well, so that a process whose clock is another one is not vouched for. Reads; never sets a clock.
 */
import { readFileSync } from "node:fs";
import { dlopen } from "bun:ffi";

/** runtime/init/machine-clock.ts writes it. */
const MACHINE_CLOCK_FILE = "/run/godwit/clock";
/** `struct timex` of 64-bit Linux: its size, and where the seconds of its time lie. */
const TIMEX_BYTES = 208;
const SECONDS_AT = 72;
/** What adjtimex answers while nobody synchronises the kernel's clock; negative: it failed. */
const TIME_ERROR = 5;

type Adjtimex = (timex: Uint8Array) => number;

/** A function that answers the vouched-for time, ms since 1970, or undefined. Never throws. */
export function machineTimeSource(
  wallMs: () => number,
  file: string = MACHINE_CLOCK_FILE,
  adjtimex: Adjtimex | undefined = openAdjtimex(),
): () => number | undefined {
  return () => kernelMs(adjtimex) ?? (isServerTime(file) ? wallMs() : undefined);
}

function kernelMs(adjtimex: Adjtimex | undefined): number | undefined {
  if (adjtimex === undefined) return undefined;
  // Zeroed: it asks and changes nothing.
  const timex = new Uint8Array(TIMEX_BYTES);
  const state = adjtimex(timex);
  if (state < 0 || state === TIME_ERROR) return undefined;
  return Number(new DataView(timex.buffer).getBigInt64(SECONDS_AT, true)) * 1_000;
}

function isServerTime(file: string): boolean {
  try {
    return readFileSync(file, "utf8").trim() === "server";
  } catch {
    return false;
  }
}

function openAdjtimex(): Adjtimex | undefined {
  try {
    const { symbols } = dlopen("libc.so.6", { adjtimex: { args: ["ptr"], returns: "i32" } });
    return (timex) => symbols.adjtimex(timex);
  } catch {
    return undefined;
  }
}
