/**
 * The file of the control socket while the node runs. Cleaners of temporary folders and people delete it, and then nobody
 * finds the node any more, though it listens: it is made anew within two seconds. Never touches what somebody else put there.
 */
import { lstatSync, unlinkSync } from "node:fs";
import { type Clock, type Timer, untilMultiple } from "../kernel/clock.ts";
import { asGodwitError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";

export const SOCKET_LOOK_MS = 2_000;

export interface ControlSocketParts<Server> {
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Binds the path; throws where that cannot be. */
  open(): Server;
  /** Accepts nothing more; requests in progress go on. Resolves when the last has been answered. */
  retire(server: Server): Promise<unknown>;
}

export class ControlSocket<Server> {
  readonly #parts: ControlSocketParts<Server>;
  #timer: Timer;
  /** The current one, and those that still answer somebody. */
  readonly servers = new Set<Server>();
  #current: Server | undefined;
  #file: string | undefined;
  #trouble: string | undefined;

  /** Throws what `open` throws. */
  constructor(parts: ControlSocketParts<Server>) {
    this.#parts = parts;
    this.#open();
    this.#timer = this.#lookLater();
  }

  #lookLater(): Timer {
    const { clock } = this.#parts;
    return clock.after(untilMultiple(clock, SOCKET_LOOK_MS), () => {
      this.#timer = this.#lookLater();
      this.#look();
    });
  }

  /** Why nobody finds this node by its socket; undefined: it is there. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** No more looks, and nobody finds it any more. The caller ends the servers. */
  stop(): void {
    this.#timer.cancel();
    const { path } = this.#parts;
    if (this.#file === undefined || fileAt(path) !== this.#file) return;
    try {
      unlinkSync(path);
    } catch {
      // Somebody else was faster.
    }
  }

  #open(): void {
    this.#current = this.#parts.open();
    this.servers.add(this.#current);
    this.#file = fileAt(this.#parts.path);
  }

  #look(): void {
    const { path, log, retire } = this.#parts;
    const found = fileAt(path);
    if (found !== undefined && found === this.#file) return void (this.#trouble = undefined);
    if (found !== undefined) {
      this.#say(`${path} is not this node's socket any more; move away what is there`);
      return;
    }
    const old = this.#current;
    this.#current = undefined;
    // First of all, because ending it removes the file of its path, whoever has made it.
    if (old !== undefined) void retire(old).finally(() => this.servers.delete(old));
    try {
      this.#open();
      if (this.#file === undefined)
        return this.#say(`the control socket ${path} was deleted and cannot be made anew`);
      this.#trouble = undefined;
      log.warn("control socket was deleted and is there again", { socket: path });
    } catch (error) {
      this.#say(asGodwitError(error).message);
    }
  }

  #say(trouble: string): void {
    if (trouble !== this.#trouble)
      this.#parts.log.warn("control socket cannot be found", { reason: trouble });
    this.#trouble = trouble;
  }
}

/** Which file lies there: a number that no other has while it is there. Undefined: none. */
function fileAt(path: string): string | undefined {
  try {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat === undefined ? undefined : `${stat.dev} ${stat.ino}`;
  } catch {
    return undefined;
  }
}
