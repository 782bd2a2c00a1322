/**
 * How many descriptors this process has left, told by the number of the newest one: the kernel gives the lowest that is free, so
 * that all below it are taken. Listeners ask before they keep a connection: near the end it is for links, the store and the
 * node's own health. Owns nothing; reads one file of the kernel.
 */
import { readFileSync } from "node:fs";

/** How long what the kernel said of the limit is believed, ms. */
const LIMIT_FRESH_MS = 1_000;
/** Where the kernel does not tell. */
const LIMIT_UNKNOWN = 1_024;
/** What every listener may hold when others have taken what strangers may have. */
export const GUARANTEED_CONNECTIONS = 8;

let limit = LIMIT_UNKNOWN;
let readAtMs = Number.NEGATIVE_INFINITY;
let onShortage: (descriptor: number) => void = () => {};

/** Soft limit of open descriptors. */
export function descriptorLimit(): number {
  const nowMs = performance.now();
  if (nowMs - readAtMs < LIMIT_FRESH_MS) return limit;
  readAtMs = nowMs;
  try {
    const [, soft] = /^Max open files +(\w+)/m.exec(readFileSync("/proc/self/limits", "latin1")) ?? [];
    if (soft !== undefined) limit = soft === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(soft);
  } catch {
    // The file itself needs a descriptor: what was known before still stands.
  }
  return limit;
}

/** Where strangers stop, and where everybody does: what is above the second is for the store and the node itself. */
export function descriptorMarks(of = descriptorLimit()): {
  readonly strangers: number;
  readonly all: number;
} {
  const share = (divisor: number, least: number, most: number) =>
    Math.min(most, Math.max(least, Math.floor(of / divisor)));
  return { strangers: of - share(4, 16, 256), all: of - share(16, 6, 64) };
}

/**
 * What to do with a connection that was just accepted as `descriptor`, on a listener that holds `count` others: keep it, keep it
 * in place of another, or refuse it and end another.
 */
export function judgeDescriptor(descriptor: number, count: number): "keep" | "instead" | "fewer" {
  const marks = descriptorMarks();
  if (descriptor < marks.strangers) return "keep";
  onShortage(descriptor);
  if (descriptor >= marks.all) return "fewer";
  return count < GUARANTEED_CONNECTIONS ? "keep" : "instead";
}

/** Whether a connection of ours that became `descriptor` has to go again: what is left is for the store and health. */
export const isLastDescriptor = (descriptor: number): boolean => descriptor >= descriptorMarks().all;

/** Of a socket as Bun makes it, or as node:net does; 0 where it does not tell. */
export function descriptorOf(socket: object): number {
  const { fd, _handle: handle } = socket as {
    readonly fd?: unknown;
    readonly _handle?: { readonly fd?: unknown } | null;
  };
  const own = fd ?? handle?.fd;
  return typeof own === "number" && own > 0 ? own : 0;
}

/** Called whenever a listener finds few left, with what it was given; one at a time, the last that was set. */
export function onDescriptorShortage(fn: (descriptor: number) => void): void {
  onShortage = fn;
}
