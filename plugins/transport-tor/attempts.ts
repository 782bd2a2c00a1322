/**
 * One dial, up to three attempts. Tor can wait for a minute on a meeting point to which nobody comes, because the far end's tor
 * was restarted after it was introduced, and puts every later stream of the same isolation behind it. So an attempt that
 * takes long gets company on circuits of its own, and the first that connects wins; a slow network loses nothing by it.
 */
import type { Socket } from "node:net";
import { BoundedMap, type Clock } from "@godwit/sdk";
import { formatTorEndpoint, type TorTarget } from "./endpoint.ts";
import { pause } from "./wait.ts";

/** When each attempt begins, after the dial did, unless an earlier one ended. */
const STARTS_MS = [0, 12_000, 32_000] as const;
/** Targets whose circuits were found stuck; beyond it the oldest are forgotten. */
const TARGETS_MAX = 4_096;

export interface AttemptDeps {
  readonly clock: Clock;
  /** Under circuits of their own for each `generation` of a target. */
  open(target: TorTarget, generation: number, signal: AbortSignal): Promise<Socket>;
}

export class Attempts {
  readonly #deps: AttemptDeps;
  readonly #generations = new BoundedMap<string, number>({ name: "targets", max: TARGETS_MAX });

  constructor(deps: AttemptDeps) {
    this.#deps = deps;
  }

  /** Rejects with the error of the first attempt that tor refused, or the signal's reason. */
  async dial(target: TorTarget, signal: AbortSignal): Promise<Socket> {
    const { clock, open } = this.#deps;
    const key = formatTorEndpoint(target);
    const first = this.#generations.get(key) ?? 0;
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    let winner: number | undefined;
    const attempt = async (startMs: number, index: number): Promise<Socket> => {
      if (startMs > 0) await pause(clock, startMs, either);
      either.throwIfAborted();
      const socket = await open(target, first + index, either);
      if (winner !== undefined) {
        socket.destroy();
        throw over.signal.reason;
      }
      winner = first + index;
      return socket;
    };
    const running = STARTS_MS.map(attempt);
    try {
      return await Promise.race(running);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      over.abort(new DOMException("another attempt was first", "AbortError"));
      this.#remember(key, winner ?? first + 1);
      // The losers end by the abort; nobody is told.
      await Promise.allSettled(running);
    }
  }

  #remember(key: string, generation: number): void {
    if (generation > 0) this.#generations.renew(key, generation);
    else this.#generations.delete(key);
  }
}
