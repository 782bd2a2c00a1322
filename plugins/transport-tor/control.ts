/**
 * One connection to a control port: commands in order, each with its reply, and events in between. Ends as soon as
 * anything is odd; whoever owns it opens another. Nothing that is sent or answered is ever logged: keys are in it.
 */
import { createConnection, type Socket } from "node:net";
import type { Clock } from "@godwit/sdk";
import { type Door, formatDoor } from "./endpoint.ts";
import { type Reply, ReplyParser } from "./control-reply.ts";
import { reasonOf } from "./wait.ts";

/** tor answers at once; a process that is stopped answers never. */
const REPLY_TIMEOUT_MS = 10_000;
const PENDING_MAX = 64;

export class ControlError extends Error {
  /** Of the reply; 0 when there was none. */
  readonly code: number;

  constructor(message: string, code = 0) {
    super(message);
    this.code = code;
  }
}

interface Pending {
  /** The command's first word: all that an error may say of it. */
  readonly name: string;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

export interface ControlHandlers {
  /** Of an event (650), one call each. */
  event(lines: Reply["lines"]): void;
  /** Once; after it every command rejects. */
  closed(reason: string): void;
}

export class ControlConnection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #handlers: ControlHandlers;
  readonly #parser = new ReplyParser();
  readonly #pending: Pending[] = [];
  #timer: { cancel(): void } | undefined;
  #isClosed = false;

  private constructor(socket: Socket, clock: Clock, handlers: ControlHandlers) {
    this.#socket = socket;
    this.#clock = clock;
    this.#handlers = handlers;
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    socket.on("error", (error) => this.#close(reasonOf(error)));
    socket.on("close", () => this.#close("it closed the connection"));
  }

  /** Rejects with ControlError, or the signal's reason. The signal counts for the opening only. */
  static open(
    door: Door,
    { clock, signal, handlers }: { clock: Clock; signal: AbortSignal; handlers: ControlHandlers },
  ): Promise<ControlConnection> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const socket = createConnection(door);
      const settle = (act: () => void) => {
        timer.cancel();
        signal.removeEventListener("abort", onAbort);
        socket.removeAllListeners();
        // Whatever it still says is nobody's.
        socket.on("error", () => {});
        act();
      };
      const fail = (error: Error) =>
        settle(() => {
          socket.destroy();
          reject(error);
        });
      const onAbort = () => fail(signal.reason as Error);
      const timer = clock.after(REPLY_TIMEOUT_MS, () =>
        fail(new ControlError(`${formatDoor(door)} does not answer`)),
      );
      signal.addEventListener("abort", onAbort, { once: true });
      socket.once("error", (error) =>
        fail(new ControlError(`${formatDoor(door)} cannot be reached: ${reasonOf(error)}`)),
      );
      socket.once("connect", () =>
        settle(() => {
          resolve(new ControlConnection(socket, clock, handlers));
        }),
      );
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** One line, without its end. Rejects with ControlError for every reply but 250. */
  async command(line: string): Promise<Reply> {
    const reply = await this.#send(line);
    if (reply.code === 250) return reply;
    const name = line.split(" ", 1)[0]!;
    throw new ControlError(
      `tor answers ${name} with ${reply.code} ${(reply.lines.at(-1)?.text ?? "").slice(0, 200)}`,
      reply.code,
    );
  }

  close(): void {
    this.#close("we closed it");
  }

  #send(line: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (/[\r\n\0]/.test(line)) return reject(new ControlError("a command of several lines"));
      if (this.#isClosed) return reject(new ControlError("the control connection is gone"));
      if (this.#pending.length >= PENDING_MAX) return reject(new ControlError("too many commands at once"));
      this.#pending.push({ name: line.split(" ", 1)[0]!, resolve, reject });
      this.#timer ??= this.#watch();
      this.#socket.write(`${line}\r\n`);
    });
  }

  #watch(): { cancel(): void } {
    return this.#clock.after(REPLY_TIMEOUT_MS, () =>
      this.#close(`no answer to ${this.#pending[0]?.name ?? "a command"} in ${REPLY_TIMEOUT_MS / 1_000} s`),
    );
  }

  #onData(bytes: Uint8Array): void {
    let replies: Reply[];
    try {
      replies = this.#parser.push(bytes);
    } catch (error) {
      return this.#close(`it speaks no control protocol: ${reasonOf(error)}`);
    }
    for (const reply of replies) {
      if (this.#isClosed) return;
      if (reply.code === 650) this.#handlers.event(reply.lines);
      else this.#onReply(reply);
    }
  }

  #onReply(reply: Reply): void {
    const pending = this.#pending.shift();
    if (pending === undefined) return this.#close("it answers what was not asked");
    this.#timer?.cancel();
    this.#timer = this.#pending.length > 0 ? this.#watch() : undefined;
    pending.resolve(reply);
  }

  #close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#socket.destroy();
    for (const { reject } of this.#pending.splice(0)) reject(new ControlError(reason));
    this.#handlers.closed(reason);
  }
}
