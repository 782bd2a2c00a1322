/**
 * A channel between a consumer and a provider: two ends in memory, each with a window of what waits for its reader. Owns that bound,
 * order and endings; must never run one plugin's code within a call of the other's, nor keep the node from its other work.
 */
import {
  type Clock,
  SERVICE_LIMITS,
  type ServiceChannel,
  type ServiceChannelHandlers,
  type ServiceSending,
} from "@godwit/sdk";
import { type GodwitError, godwitError } from "../../kernel/errors.ts";
import { BoundedQueue } from "../../kernel/queue.ts";
import { openMessage, type SealedMessage, sealMessage } from "./message.ts";

/** What one end hands over before the event loop has its turn: two plugins that only answer each other must not hold it. */
const TURN_MESSAGES = 64;
/** What an empty message costs of the window, so that many cannot fill memory. */
const MESSAGE_COST_BYTES = 64;

export interface ChannelHooks {
  readonly clock: Clock;
  sent(): void;
  /** There was no room. */
  refused(): void;
  /** A handler of that end's plugin threw. */
  failed(end: "consumer" | "provider", error: unknown): void;
  /** Once, when it is over for both. */
  over(): void;
}

export interface ChannelPair {
  /** The consumer's end. */
  readonly near: ServiceChannel;
  readonly far: ServiceChannel;
  /** Ends it at once, whatever waits. Idempotent. */
  fail(error: GodwitError): void;
}

export function openChannelPair(consumer: string, provider: string, hooks: ChannelHooks): ChannelPair {
  let left = 2;
  const over = () => {
    if (--left === 0) hooks.over();
  };
  const near = new End(provider, "consumer", hooks, over);
  const far = new End(consumer, "provider", hooks, over);
  near.other = far;
  far.other = near;
  return {
    near,
    far,
    fail(error) {
      near.fail(error);
      far.fail(error);
    },
  };
}

/** For whoever stands for a plugin outside of the node's thread, which failed over there: both ends end with that error, whatever waits. */
export function failChannel(channel: ServiceChannel, error: GodwitError): void {
  if (channel instanceof End) channel.breakOff(error);
  else channel.close();
}

class End implements ServiceChannel {
  readonly peer: string;
  other: End | undefined;
  readonly #role: "consumer" | "provider";
  readonly #hooks: ChannelHooks;
  readonly #onOver: () => void;
  readonly #queue = new BoundedQueue<SealedMessage>({
    itemsMax: SERVICE_LIMITS.windowMessages,
    bytesMax: SERVICE_LIMITS.windowBytes,
    whenFull: "refuse",
  });
  #handlers: ServiceChannelHandlers | undefined;
  #isPaused = false;
  #isScheduled = false;
  /** Whoever sends to here was refused and waits. */
  #owesDrain = false;
  /** The other end sends no more: what waits is still handed over. */
  #isEnding = false;
  #isOver = false;
  #error: GodwitError | undefined;
  #turnLeft = TURN_MESSAGES;
  #isTurnOver = false;

  constructor(peer: string, role: "consumer" | "provider", hooks: ChannelHooks, onOver: () => void) {
    this.peer = peer;
    this.#role = role;
    this.#hooks = hooks;
    this.#onOver = onOver;
  }

  open(handlers: ServiceChannelHandlers): void {
    if (this.#handlers !== undefined) throw godwitError("GODWIT_REQUEST_INVALID", "a channel is opened once");
    this.#handlers = handlers;
    if (this.#isOver) queueMicrotask(() => this.#tellClosed());
    else this.#schedule();
  }

  send(message: ServiceSending): boolean {
    const sealed = sealMessage(message);
    const { other } = this;
    if (this.#isOver || this.#isEnding || other === undefined) return true;
    if (!other.#queue.push(sealed, sealed.size + MESSAGE_COST_BYTES)) {
      other.#owesDrain = true;
      this.#hooks.refused();
      return false;
    }
    this.#hooks.sent();
    other.#schedule();
    return true;
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    this.#schedule();
  }

  close(): void {
    if (this.#isOver) return;
    const { other } = this;
    this.#finish(undefined);
    if (other === undefined) return;
    other.#isEnding = true;
    // Who has not opened it hears of the end when it does.
    if (other.#queue.length === 0 && other.#handlers === undefined) other.#finish(undefined);
    else other.#schedule();
  }

  fail(error: GodwitError): void {
    this.#finish(error);
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isOver || this.#handlers === undefined) return;
    if (this.#isPaused && this.#queue.length > 0) return;
    if (this.#queue.length === 0 && !this.#isEnding) return;
    this.#isScheduled = true;
    const run = () => {
      this.#isScheduled = false;
      this.#deliver();
    };
    if (this.#turnLeft > 0) queueMicrotask(run);
    else this.#hooks.clock.after(0, run);
  }

  #deliver(): void {
    if (this.#turnLeft <= 0) this.#turnLeft = TURN_MESSAGES;
    while (!this.#isPaused && !this.#isOver && this.#turnLeft > 0) {
      const sealed = this.#queue.shift();
      if (sealed === undefined) break;
      this.#countTurn();
      this.#guarded(() => this.#handlers?.message(openMessage(sealed)));
      this.#giveRoom();
    }
    if (this.#isOver) return;
    if (this.#queue.length === 0 && this.#isEnding) return this.#finish(undefined);
    this.#schedule();
  }

  #countTurn(): void {
    this.#turnLeft--;
    if (this.#isTurnOver) return;
    this.#isTurnOver = true;
    this.#hooks.clock.after(0, () => {
      this.#isTurnOver = false;
      this.#turnLeft = TURN_MESSAGES;
      this.#schedule();
    });
  }

  /** At half a window, so that whatever is allowed has room. */
  #giveRoom(): void {
    const { length, bytes } = this.#queue;
    if (!this.#owesDrain || length * 2 > SERVICE_LIMITS.windowMessages) return;
    if (bytes * 2 > SERVICE_LIMITS.windowBytes) return;
    this.#owesDrain = false;
    const { other } = this;
    if (other !== undefined) queueMicrotask(() => other.#drain());
  }

  #drain(): void {
    if (!this.#isOver && !this.#isEnding) this.#guarded(() => this.#handlers?.drain());
  }

  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#hooks.failed(this.#role, error);
      this.breakOff(godwitError("GODWIT_PLUGIN_FAILED", `the ${this.#role} failed at a message`, error));
    }
  }

  breakOff(error: GodwitError): void {
    if (this.#isOver) return;
    this.other?.fail(error);
    this.fail(error);
  }

  #finish(error: GodwitError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#queue.clear();
    this.#onOver();
    queueMicrotask(() => this.#tellClosed());
  }

  #tellClosed(): void {
    const handlers = this.#handlers;
    if (handlers === undefined) return;
    this.#handlers = { message() {}, drain() {}, closed() {} };
    try {
      handlers.closed(this.#error);
    } catch (error) {
      this.#hooks.failed(this.#role, error);
    }
  }
}
