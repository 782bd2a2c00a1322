/**
 * What a service manager is told over its notification socket, and what keeps its watchdog quiet: sd_notify(3). Owns the
 * one datagram socket and the loop that feeds it; must never make a node fail because its manager cannot be reached.
 * The same loop feeds whatever else wants to know that the node is well: it is the event loop's own pulse.
 */
import { dlopen, ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import type { Clock, Log, Timer } from "@godwit/sdk";

type Environment = Readonly<Record<string, string | undefined>>;

/** Between looks at what STATUS= says, when no watchdog asks for more. */
const STATUS_EVERY_MS = 2_000;
/** Feeds in one interval of the watchdog: one may be late without harm. */
const FEEDS_PER_INTERVAL = 3;
/** A watchdog of less than this could not be fed in time by a busy node. */
const FEED_EVERY_MIN_MS = 50;
/** sun_path of sockaddr_un(7). */
const SOCKET_PATH_BYTES_MAX = 107;
const STATUS_CHARS_MAX = 500;

const AF_UNIX = 1;
/** SOCK_DGRAM, SOCK_CLOEXEC, SOCK_NONBLOCK: a full queue of the manager must not stop the node. */
const SOCKET_TYPE = 2 | 0o2_000_000 | 0o4_000;
const MSG_NOSIGNAL = 0x4000;
const CLOCK_MONOTONIC = 1;

export interface Notifier {
  /** Whether anybody listens. */
  readonly isHeard: boolean;
  /** One datagram of lines `KEY=value`. False when it could not be handed over. */
  send(lines: readonly string[]): boolean;
  close(): void;
}

const deaf: Notifier = { isHeard: false, send: () => false, close() {} };

/** The notifier of $NOTIFY_SOCKET; one that nobody hears where there is no such socket, or none that we can speak to. */
export function openNotifier(env: Environment, log: Log): Notifier {
  const name = env["NOTIFY_SOCKET"];
  if (name === undefined || name === "") return deaf;
  const address = socketAddress(name);
  if (address === undefined) {
    log.warn("service manager not told anything", { reason: `NOTIFY_SOCKET is no unix socket: ${name}` });
    return deaf;
  }
  try {
    return openSocket(address);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.warn("service manager not told anything", { reason });
    return deaf;
  }
}

/** sockaddr_un: the family, then the path; `@` stands for the NUL of an abstract name. Undefined for anything else. */
export function socketAddress(name: string): Uint8Array<ArrayBuffer> | undefined {
  const path = new TextEncoder().encode(name);
  const isAbstract = name.startsWith("@");
  if ((!isAbstract && !name.startsWith("/")) || path.length > SOCKET_PATH_BYTES_MAX) return undefined;
  if (isAbstract) path[0] = 0;
  // A path ends with a NUL; an abstract name ends with the address.
  const address = new Uint8Array(2 + path.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(path, 2);
  return address;
}

function openLibc() {
  return dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  } as const).symbols;
}

function openSocket(address: Uint8Array<ArrayBuffer>): Notifier {
  const libc = openLibc();
  const descriptor = libc.socket(AF_UNIX, SOCKET_TYPE, 0);
  if (descriptor < 0) throw new Error("no datagram socket of the unix family to be had");
  let isOpen = true;
  return {
    isHeard: true,
    send(lines) {
      if (!isOpen) return false;
      const all = lines.includes("RELOADING=1")
        ? [...lines, `MONOTONIC_USEC=${monotonicMicroseconds(libc)}`]
        : lines;
      const bytes = new TextEncoder().encode(all.join("\n"));
      const sent = libc.sendto(
        descriptor,
        ptr(bytes),
        bytes.length,
        MSG_NOSIGNAL,
        ptr(address),
        address.length,
      );
      return Number(sent) === bytes.length;
    },
    close() {
      if (isOpen) closeSync(descriptor);
      isOpen = false;
    },
  };
}

/** The manager compares it with its own reading of the same clock, which is not the one that Bun counts from. */
function monotonicMicroseconds(libc: ReturnType<typeof openLibc>): bigint {
  const timespec = new BigInt64Array(2);
  libc.clock_gettime(CLOCK_MONOTONIC, ptr(timespec));
  return timespec[0]! * 1_000_000n + timespec[1]! / 1_000n;
}

/** The interval of the watchdog in ms; undefined when there is none, or when it watches another process. */
export function watchdogIntervalMs(env: Environment, pid: number): number | undefined {
  const text = env["WATCHDOG_USEC"] ?? "";
  if (!/^\d{1,15}$/.test(text)) return undefined;
  const owner = env["WATCHDOG_PID"];
  if (owner !== undefined && owner !== "" && owner !== String(pid)) return undefined;
  const intervalMs = Number(text) / 1_000;
  return intervalMs > 0 ? intervalMs : undefined;
}

export interface Pulse {
  /** Whether the node does its work: only then is the watchdog fed. */
  isHealthy(): boolean;
  /** One line for people: who is linked, what waits. */
  status(): string;
}

export interface ServiceOptions {
  readonly notifier: Notifier;
  readonly env: Environment;
  readonly pid: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly pulse: Pulse;
}

/** The node's word to its manager from the moment it is ready. */
export class Service {
  readonly #options: ServiceOptions;
  readonly #everyMs: number;
  readonly #hasWatchdog: boolean;
  #timer: Timer | undefined;
  #said = "";
  #wasHealthy = true;
  #isOver = false;

  constructor(options: ServiceOptions) {
    this.#options = options;
    const intervalMs = watchdogIntervalMs(options.env, options.pid);
    this.#hasWatchdog = intervalMs !== undefined;
    this.#everyMs = Math.max(
      FEED_EVERY_MIN_MS,
      Math.min(STATUS_EVERY_MS, (intervalMs ?? Number.POSITIVE_INFINITY) / FEEDS_PER_INTERVAL),
    );
  }

  /** READY=1, and the pulse begins. Does nothing where nobody listens. */
  ready(): void {
    if (!this.#options.notifier.isHeard) return;
    this.#beat(["READY=1"]);
  }

  /** Runs `work` between RELOADING=1 and READY=1, whatever comes of it. */
  async reloading(work: () => Promise<unknown>): Promise<void> {
    const { notifier } = this.#options;
    notifier.send(["RELOADING=1"]);
    try {
      await work();
    } finally {
      if (!this.#isOver) notifier.send(["READY=1"]);
    }
  }

  /** STOPPING=1, and the pulse ends: a stop has its own time limit. Idempotent. */
  stopping(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    this.#options.notifier.send(["STOPPING=1", "STATUS=stopping"]);
  }

  #beat(first: readonly string[] = []): void {
    if (this.#isOver) return;
    const { notifier, clock, log, pulse } = this.#options;
    const lines = [...first];
    const status = oneLine(pulse.status());
    if (status !== this.#said) lines.push(`STATUS=${status}`);
    if (this.#hasWatchdog) {
      const isHealthy = pulse.isHealthy();
      if (isHealthy) lines.push("WATCHDOG=1");
      else if (this.#wasHealthy)
        log.error("watchdog starved", { reason: "the node is down; see its health" });
      this.#wasHealthy = isHealthy;
    }
    if (lines.length > 0 && notifier.send(lines)) this.#said = status;
    this.#timer = clock.after(this.#everyMs, () => this.#beat());
  }
}

/** Of a line break the manager would make a field of its own. */
const oneLine = (text: string): string => text.replace(/\p{Cc}+/gu, " ").slice(0, STATUS_CHARS_MAX);
