/** What a stopped plugin may have left behind. Every function answers sentences, none when all is well. */
import { readdirSync, readlinkSync } from "node:fs";
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

/** Sockets this process holds; undefined where there is no /proc. Other descriptors come and go with the runtime. */
export function openSockets(): number | undefined {
  try {
    return readdirSync("/proc/self/fd").filter(isSocket).length;
  } catch {
    return undefined;
  }
}

function isSocket(descriptor: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`).startsWith("socket:");
  } catch {
    return false; // the one that listed the folder is gone by now
  }
}
