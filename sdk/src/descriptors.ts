/**
 * How many descriptors this process has left, told by the number of the newest one: the kernel gives the lowest that is free, so
 * that all below it are taken. Listeners ask before they keep a connection: near the end it is for links, the store and the
 * node's own health; and whoever connects asks as well. Owns nothing; reads one file of the kernel, and opens another to look.
 */
import { closeSync, openSync, readFileSync } from "node:fs";

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

/**
 * Where strangers stop, then what is connected for guests of the node, and then its links: what is above the last mark is for the
 * store, files and health.
 */
export function descriptorMarks(of = descriptorLimit()): {
  readonly strangers: number;
  readonly guests: number;
  readonly all: number;
} {
  const share = (divisor: number, least: number, most: number) =>
    Math.min(most, Math.max(least, Math.floor(of / divisor)));
  const [strangers, all] = [of - share(4, 16, 256), of - share(16, 6, 64)];
  return { strangers, guests: Math.floor((strangers + all) / 2), all };
}

/**
 * What to do with a connection that was just accepted as `descriptor`, on a listener that holds `count` others: keep it, keep it
 * in place of another, or of two. `lastMax`: how many it may hold of what is nobody's, 0 unless it tells health.
 */
export function judgeDescriptor(
  descriptor: number,
  count: number,
  lastMax = 0,
): "keep" | "instead" | "fewer" {
  const marks = descriptorMarks();
  if (descriptor < marks.strangers) return "keep";
  onShortage(descriptor);
  const isLast = descriptor >= marks.all;
  if (count < (isLast ? lastMax : GUARANTEED_CONNECTIONS)) return "keep";
  return isLast && count > lastMax ? "fewer" : "instead";
}

/** Whom a connection of this node's own is for: a link, or a guest, like whoever comes through a forward, and plugins. */
export type ConnectFor = "link" | "guest";

/**
 * Throws where what is left is not for a connection of this node's own. Asked before one is begun, and once more with its `socket`
 * where that tells its descriptor, because many may have begun at once; the socket is ended then.
 */
export function claimDescriptor(whom: ConnectFor, socket?: { terminate(): void }): void {
  const descriptor = socket === undefined ? nextDescriptor() : descriptorOf(socket);
  const marks = descriptorMarks();
  if (descriptor < (whom === "link" ? marks.all : marks.guests)) return;
  socket?.terminate();
  onShortage(descriptor);
  throw new Error("too few descriptors are left");
}

/** What a connection would get now; 0 where nobody tells, the limit where there is none. */
function nextDescriptor(): number {
  try {
    const next = openSync("/dev/null", "r");
    closeSync(next);
    return next;
  } catch (error) {
    return /^(EMFILE|ENFILE)$/.test((error as NodeJS.ErrnoException).code ?? "") ? descriptorLimit() : 0;
  }
}

/** Of a socket as Bun makes it, or as node:net does; 0 where it does not tell. */
export function descriptorOf(socket: object): number {
  const { fd, _handle: handle } = socket as {
    readonly fd?: unknown;
    readonly _handle?: { readonly fd?: unknown } | null;
  };
  const own = fd ?? handle?.fd;
  return typeof own === "number" && own > 0 ? own : 0;
}

/** Called whenever somebody finds few left, with what it was given; one at a time, the last that was set. */
export function onDescriptorShortage(fn: (descriptor: number) => void): void {
  onShortage = fn;
}
