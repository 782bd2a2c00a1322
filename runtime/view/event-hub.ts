/** Events of the node for whoever subscribes. */
import type { NodeEvent } from "./contract/node.ts";
import { isoTime } from "../kernel/clock.ts";
import type { Clock } from "@godwit/sdk";

export class EventHub {
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  emit(family: NodeEvent["family"], what: string, data: NodeEvent["data"]): void {
    if (this.#listeners.size === 0) return;
    const event: NodeEvent = { family, type: `${family}.${what}`, at: isoTime(this.#clock.wallMs()), data };
    for (const listener of [...this.#listeners]) listener(event);
  }

  subscribe(onEvent: (event: NodeEvent) => void): { close(): void } {
    // A wrapper of its own, so that one function subscribed twice is two subscriptions.
    const listener = (event: NodeEvent) => onEvent(event);
    this.#listeners.add(listener);
    return { close: () => void this.#listeners.delete(listener) };
  }
}
