/**
 * Messages that cannot be sealed yet, by the address that they wait for, and the ends of their lives: they are in no
 * forwarder, so nothing else watches these. Reads no directory and changes no message.
 */
import type { Clock, Timer } from "@godwit/sdk";
import type { MessageId } from "../../kernel/ids.ts";
import { Alarms } from "../alarms.ts";
import type { AwaitedAddresses } from "../context.ts";

export class Waiting implements AwaitedAddresses {
  readonly #clock: Clock;
  readonly #onExpired: (id: MessageId) => void;
  readonly #byAddress = new Map<string, Set<MessageId>>();
  readonly #ends = new Alarms<MessageId>();
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;

  /** `onExpired`: it waits no more, because its life is over. */
  constructor(clock: Clock, onExpired: (id: MessageId) => void) {
    this.#clock = clock;
    this.#onExpired = onExpired;
  }

  get addresses(): string[] {
    return [...this.#byAddress.keys()];
  }

  /** That message, or any. */
  has(address: string, id?: MessageId): boolean {
    const ids = this.#byAddress.get(address);
    return ids !== undefined && (id === undefined || ids.has(id));
  }

  /** In the order in which they began to wait. */
  under(address: string): MessageId[] {
    return [...(this.#byAddress.get(address) ?? [])];
  }

  /** `deadlineMs`: monotonic. */
  add(address: string, id: MessageId, deadlineMs: number): void {
    const ids = this.#byAddress.get(address);
    if (ids === undefined) this.#byAddress.set(address, new Set([id]));
    else ids.add(id);
    this.#ends.set(id, deadlineMs);
    this.#watch();
  }

  delete(address: string, id: MessageId): void {
    const ids = this.#byAddress.get(address);
    if (ids?.delete(id) !== true) return;
    if (ids.size === 0) this.#byAddress.delete(address);
    this.#ends.delete(id);
  }

  /** Its life ends sooner, if it waits here. */
  bringForward(address: string, id: MessageId, deadlineMs: number): void {
    if (this.#byAddress.get(address)?.has(id) !== true) return;
    this.#ends.set(id, deadlineMs);
    this.#watch();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #watch(): void {
    const atMs = this.#ends.nextMs;
    if (atMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#clock.after(Math.max(1, atMs - this.#clock.monotonicMs()), () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      for (const id of this.#ends.takeDue(this.#clock.monotonicMs())) this.#onExpired(id);
      this.#watch();
    });
  }
}
