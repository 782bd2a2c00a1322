/** What a stopped plugin may have left behind: listeners, timers, sockets. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { ManualClock } from "./clock.ts";

/** An AbortController that knows who still listens to its signal. */
export class WatchedAbort {
  readonly #controller = new AbortController();
  readonly #listeners = new Map<unknown, number>();

  constructor() {
    const { signal } = this.#controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (type: string, listener: unknown, options?: unknown) => {
      this.#listeners.set(listener, (this.#listeners.get(listener) ?? 0) + 1);
      add(type, listener as EventListener, options as AddEventListenerOptions);
    };
    signal.removeEventListener = (type: string, listener: unknown, options?: unknown) => {
      this.#listeners.delete(listener);
      remove(type, listener as EventListener, options as EventListenerOptions);
    };
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What listened is told and forgotten: an abort happens once, so nothing can wait for another. */
  abort(reason?: unknown): void {
    this.#controller.abort(reason);
    this.#listeners.clear();
  }

  get listenerCount(): number {
    return this.#listeners.size + (this.signal.onabort === null || this.signal.aborted ? 0 : 1);
  }
}

export const timerLeaks = (clock: ManualClock): string[] =>
  clock.pendingDelays.map((delayMs) => `a timer of ${delayMs} ms is still set`);

const SOCKET_TABLES = ["tcp", "tcp6", "udp", "udp6"] as const;
/** Columns of proc_pid_net(5). */
const COLUMN = { local: 1, remote: 2, state: 3, inode: 9 } as const;
/** Of Linux (include/net/tcp_states.h), from 1. */
const TCP_STATES = [
  "established",
  "SYN sent",
  "SYN received",
  "FIN wait 1",
  "FIN wait 2",
  "time wait",
  "closed",
  "close wait",
  "last ACK",
  "listening",
  "closing",
];

/**
 * What the kernel calls the sockets of this process, as `socket:[4711]`; undefined where there is no /proc. Other
 * descriptors come and go with the runtime.
 */
export function openSockets(): ReadonlySet<string> | undefined {
  try {
    return new Set(readdirSync("/proc/self/fd").map(targetOf).filter(isSocket));
  } catch {
    return undefined;
  }
}

/** Says of a socket, by the kernel's name for it, what is known: `tcp 127.0.0.1:4711 to 127.0.0.1:80, close wait`. */
export function describeSocket(name: string): string {
  const inode = /\d+/.exec(name)?.[0];
  for (const table of SOCKET_TABLES) {
    const row = rowsOf(table).find((columns) => columns[COLUMN.inode] === inode);
    if (row === undefined) continue;
    const [local, remote] = [addressOf(row[COLUMN.local]!), addressOf(row[COLUMN.remote]!)];
    const state = TCP_STATES[Number.parseInt(row[COLUMN.state]!, 16) - 1];
    return table.startsWith("tcp") ? `${table} ${local} to ${remote}, ${state}` : `${table} ${local}`;
  }
  return name;
}

function rowsOf(table: string): string[][] {
  try {
    const lines = readFileSync(`/proc/self/net/${table}`, "utf8").trim().split("\n").slice(1);
    return lines.map((line) => line.trim().split(/\s+/));
  } catch {
    return []; // the kernel has no such protocol
  }
}

/** From "0100007F:1F90": words of 32 bits in the order of the processor, which is little-endian wherever Bun runs; then the port. */
function addressOf(text: string): string {
  const [host = "", port = ""] = text.split(":");
  const bytes = Buffer.from(host, "hex").swap32();
  const address =
    bytes.length === 4 ? bytes.join(".") : `[${bytes.toString("hex").replace(/(....)(?!$)/g, "$1:")}]`;
  return `${address}:${Number.parseInt(port, 16)}`;
}

const isSocket = (target: string): boolean => target.startsWith("socket:");

function targetOf(descriptor: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return ""; // the one that listed the folder is gone by now
  }
}
